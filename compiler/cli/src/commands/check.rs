//! `meshc check`

use mesh_syntax::Level;

use super::{Failure, folder};
use crate::args::{Check, CheckFormat, Deny, Place};
use crate::base::Base;
use crate::compile::compile_observed;
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::{github, human, json, sarif};
use crate::timing::Stopwatch;

pub(super) fn run(args: &Check, place: &Place) -> Result<Exit, Failure> {
    let mut watch = Stopwatch::begin("read");
    let folder = folder(place, args.folder.as_deref());
    let loaded = load(&folder)?;
    let base = match &args.base {
        Some(name) => Some(Base::read(&folder, name, &loaded, &place.environment)?),
        None => None,
    };
    let compiled = compile_observed(
        base.as_ref(),
        &loaded.sources,
        &place.environment,
        &loaded.root_path,
        &mut watch,
    );
    watch.next("render");
    let text = match args.format {
        CheckFormat::Human => human::check(&loaded.sources, &compiled),
        CheckFormat::Json => json::check(&loaded.sources, &compiled)?,
        CheckFormat::Sarif => sarif::check(&loaded.sources, &compiled)?,
        CheckFormat::Github => github::check(&loaded.sources, &compiled),
    };
    output::data(&text)?;
    if let Some(file) = &args.timings {
        watch.write(file)?;
    }
    let denied = compiled
        .findings
        .iter()
        .any(|finding| finding.level <= level(args.deny));
    Ok(Exit::from_clean(!denied))
}

/// Levels compare from the gravest on.
fn level(deny: Deny) -> Level {
    match deny {
        Deny::Error => Level::Error,
        Deny::Warning => Level::Warning,
        Deny::Note => Level::Note,
    }
}
