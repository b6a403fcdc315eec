//! `meshc explain`: what becomes of a request and why, or what a code means.

use mesh_compiler::trial::Call;
use mesh_compiler::value::is_token;
use mesh_compiler::{LinkedMesh, Trial};

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
    #[error("methods are case-sensitive, and `{method}` is none: write {}", .method.to_uppercase())]
    Method { method: String },
    #[error("{0:?} is not a path: a path begins with '/', and has no blanks and no '#'")]
    Path(String),
    #[error("`{service}` has no port {port}; it has {}", .ports.join(" "))]
    NoPort {
        service: String,
        port: u16,
        ports: Vec<String>,
    },
    #[error("the policies can't be understood")]
    Findings,
}

pub(super) fn run(args: &Explain, place: &Place) -> Result<Exit, Failure> {
    if let Some(code) = &args.code {
        return page(code, args.format);
    }
    let request = spec(args)?;
    let loaded = load(&folder(place, None))?;
    let compiled = compile(Subject::new(&loaded, place));
    compiled.has_environment(place.environment())?;
    // What checks find is no obstacle, as in `test` and `graph`: here one looks to understand it.
    let Some(mesh) = compiled.mesh() else {
        output::note(human::check(&loaded.sources, &compiled).trim_end());
        return Err(ExplainError::Findings.into());
    };
    if let Some(error) = unknown_port(mesh, &request) {
        return Err(error.into());
    }
    let outcome = Trial::new(mesh).run(&request)?;
    let retries = Retries::of(mesh, &outcome, &request.to);
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

/// Why nobody can send the request to the port that it names.
fn unknown_port(mesh: &LinkedMesh, request: &Call) -> Option<ExplainError> {
    let service = mesh.service(mesh.service_named(&request.to)?);
    let ports = service.ports.iter().map(|port| port.number.value);
    let port = request
        .port
        .filter(|port| !ports.clone().any(|own| own == *port))?;
    Some(ExplainError::NoPort {
        service: service.name.value.clone(),
        port,
        ports: ports.map(|port| port.to_string()).collect(),
    })
}

/// The request of the command line.
fn spec(args: &Explain) -> Result<Call, ExplainError> {
    let line = args.request.as_deref().unwrap_or_default().trim();
    let parts = line.split_once(' ').zip(args.to.clone());
    let Some(((method, target), to)) = parts else {
        return Err(ExplainError::Request);
    };
    // What a test refuses is refused here too.
    if !is_token(method) {
        return Err(ExplainError::Request);
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(ExplainError::Method {
            method: method.to_owned(),
        });
    }
    let target = target.trim();
    let is_visible =
        |letter: char| letter != '#' && !letter.is_whitespace() && !letter.is_control();
    if !target.starts_with('/') || !target.chars().all(is_visible) {
        return Err(ExplainError::Path(target.to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Call {
        is_connection: false,
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        from: args.from.clone().filter(|from| from != "unauthenticated"),
        to,
        host: args.host.clone(),
        port: args.port,
        headers: args.header.clone(),
        client_ip: args.client_ip,
        peer_ip: args.peer_ip,
        claims: args.claim.clone(),
    })
}
