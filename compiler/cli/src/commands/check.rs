//! `meshc check`

use mesh_compiler::progress::{Observer, Stage};
use mesh_syntax::{Level, SourceSet};

use super::{Failure, folder};
use crate::args::{Check, CheckFormat, Deny, Place};
use crate::base::Base;
use crate::compile::{Compiled, compile_observed};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::progress::Progress;
use crate::render::{github, human, json, sarif};
use crate::timing::{self, Stopwatch};

mod watch;

/// Parts of a run that are no rule: reading, parsing and so on, as they are named in timings.
const OTHER_PARTS: usize = 10;

pub(super) fn run(args: &Check, place: &Place) -> Result<Exit, Failure> {
    let folder = folder(place, args.folder.as_deref());
    if args.watch {
        watch::run(args, place, &folder)?;
        return Ok(Exit::Clean);
    }
    let mut waiting = waiting();
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
        None,
        &mut waiting,
    );
    waiting.next("render");
    let text = rendered(args.format, &loaded.sources, &compiled)?;
    let Waiting { watch, progress } = waiting;
    drop(progress);
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

fn rendered(
    format: CheckFormat,
    sources: &SourceSet,
    compiled: &Compiled,
) -> Result<String, Failure> {
    Ok(match format {
        CheckFormat::Human => human::check(sources, compiled),
        CheckFormat::Json => json::check(sources, compiled)?,
        CheckFormat::Sarif => sarif::check(sources, compiled)?,
        CheckFormat::Github => github::check(sources, compiled),
    })
}

/// Begins to watch a run.
fn waiting() -> Waiting {
    Waiting {
        watch: Stopwatch::begin("read"),
        progress: Progress::of(OTHER_PARTS + mesh_lint::RULES.len()),
    }
}

/// Tells people and `--timings` what a run is doing.
struct Waiting {
    watch: Stopwatch,
    progress: Progress,
}

impl Waiting {
    fn next(&mut self, name: &str) {
        self.watch.next(name);
        self.progress.next(name);
    }
}

impl Observer for Waiting {
    fn begin(&mut self, stage: Stage) {
        self.next(&timing::name(stage));
    }
}

/// Levels compare from the gravest on.
fn level(deny: Deny) -> Level {
    match deny {
        Deny::Error => Level::Error,
        Deny::Warning => Level::Warning,
        Deny::Note => Level::Note,
    }
}
