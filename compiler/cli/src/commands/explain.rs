//! `meshc explain`: what becomes of a request and why, or what a code means.

use mesh_compiler::Trial;
use mesh_compiler::trial::Call;

use super::{Failure, folder};
use crate::args::{Explain, Format, Place};
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::explanation::{self, Retries};
use crate::render::shown::escaped;
use crate::render::{human, json};

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("no code {0}; codes look like MSH0401")]
    UnknownCode(String),
    #[error("a request is a method and a path, as in 'GET /reviews/7'")]
    Request,
    #[error("the policies have errors; `meshc check` shows them")]
    Findings,
}

pub(super) fn run(args: &Explain, place: &Place) -> Result<Exit, Failure> {
    if let Some(code) = &args.code {
        return page(code, args.format);
    }
    let request = spec(args).ok_or(ExplainError::Request)?;
    let loaded = load(&folder(place, None))?;
    let compiled = compile(Subject::new(&loaded, place));
    compiled.has_environment(place.environment())?;
    let checked = compiled.checked.as_ref().ok_or(ExplainError::Findings)?;
    let outcome = Trial::new(checked.mesh()).run(&request)?;
    let retries = Retries::of(checked.mesh(), &outcome, &request.to);
    let text = match args.format {
        Format::Human => {
            let text = explanation::human(&loaded.sources, &request, &outcome, &retries);
            escaped(&text).into_owned()
        }
        Format::Json => json::explanation(&loaded.sources, &outcome, &retries)?,
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn page(code: &str, format: Format) -> Result<Exit, Failure> {
    let page = mesh_lint::page(code).ok_or_else(|| ExplainError::UnknownCode(code.to_owned()))?;
    let text = match format {
        Format::Human => human::page(&page),
        Format::Json => json::page(&page)?,
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

/// The request of the command line.
fn spec(args: &Explain) -> Option<Call> {
    let (method, target) = args.request.as_ref()?.trim().split_once(' ')?;
    let (path, query) = match target.trim().split_once('?') {
        Some((path, query)) => (path, query),
        None => (target.trim(), ""),
    };
    Some(Call {
        is_connection: false,
        method: method.to_uppercase(),
        path: path.to_owned(),
        query: query.to_owned(),
        from: args.from.clone().filter(|from| from != "unauthenticated"),
        to: args.to.clone()?,
        host: args.host.clone(),
        port: args.port,
        headers: args.header.clone(),
        client_ip: args.client_ip,
        peer_ip: args.peer_ip,
        claims: args.claim.clone(),
    })
}
