//! `meshc check`

use std::path::Path;

use mesh_compiler::progress::{Observer, Stage};
use mesh_lint::Checker;
use mesh_syntax::Level;

use super::{Failure, folder};
use crate::args::{Check, CheckFormat, Deny, Place};
use crate::base::Base;
use crate::baseline::Baseline;
use crate::compile::{Compiled, Subject, compile_observed, together};
use crate::exit_code::Exit;
use crate::load::{Loaded, load};
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
    let mut waiting = waiting(args);
    let loaded = load(&folder)?;
    let mut checker = Checker::once();
    let compiled = compiled(args, place, &folder, &loaded, &mut checker, &mut waiting)?;
    waiting.next("render");
    let text = rendered(args, &loaded, &compiled)?;
    let Waiting {
        watch, progress, ..
    } = waiting;
    drop(progress);
    output::data(&text)?;
    for note in loaded.notes().iter().chain(&compiled.base_note) {
        output::note(note);
    }
    if let Some(file) = &args.timings {
        watch.write(file)?;
    }
    if let Some(file) = &args.write_baseline {
        say_what_was_accepted(file, &compiled);
    }
    let denied = compiled
        .findings
        .iter()
        .any(|finding| finding.level <= level(args.deny));
    // Whoever mends a base that can't be understood must get through, so that by itself it is no error.
    let mut not_compared = compiled.not_compared.iter();
    let denied =
        denied || level(args.deny) >= Level::Warning && not_compared.any(|(not, _)| not.is_wrong);
    let exit = Exit::from_findings(!denied, &compiled.findings);
    // The program ends here, and gives back its memory whole, which is sooner than value by value.
    std::mem::forget((loaded, checker, compiled));
    Ok(exit)
}

/// What is wrong, as far as no baseline accepts it.
fn compiled(
    args: &Check,
    place: &Place,
    folder: &Path,
    loaded: &Loaded,
    checker: &mut Checker,
    waiting: &mut Waiting,
) -> Result<Compiled, Failure> {
    // A baseline that can't be read is said before anything is waited for.
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let mut compiled = in_environments(args, place, folder, loaded, checker, waiting)?;
    let sources = &loaded.sources;
    if args.formatting {
        waiting.next("formatting");
        let files = sources.files();
        let found = files.filter_map(|file| mesh_syntax::not_formatted(sources, file));
        compiled.add(found.collect());
    }
    if let Some(baseline) = baseline {
        baseline.apply(loaded, &mut compiled);
    } else if let Some(file) = &args.write_baseline {
        let baseline = Baseline::of(file, loaded, &compiled);
        baseline.write()?;
        baseline.apply(loaded, &mut compiled);
    }
    Ok(compiled)
}

/// Accepting an error makes a check pass, and nothing else.
fn say_what_was_accepted(file: &Path, compiled: &Compiled) {
    let accepted = compiled
        .compared
        .iter()
        .flat_map(|compared| &compared.accepted);
    let errors = accepted.filter(|accepted| accepted.finding.level == Level::Error);
    if let count @ 1.. = errors.count() {
        output::note(&format!(
            "{}: {count} of these findings stop `meshc build` still, for they are errors",
            file.display()
        ));
    }
}

/// What is wrong in the environment that was asked for; without one, in every declared one and `default`.
fn in_environments(
    args: &Check,
    place: &Place,
    folder: &Path,
    loaded: &Loaded,
    checker: &mut Checker,
    waiting: &mut Waiting,
) -> Result<Compiled, Failure> {
    let mut first: Option<Compiled> = None;
    let mut runs = Vec::new();
    let mut names = vec![place.environment().to_owned()];
    while let Some(environment) = names.pop() {
        let base = match &args.base {
            Some(name) => Some(Base::read(folder, name, loaded, &environment)?),
            None => None,
        };
        let subject = Subject {
            environment: &environment,
            ..Subject::new(loaded, place)
        };
        let mut run = compile_observed(checker, base.as_ref(), subject, waiting);
        if first.is_none() {
            run.has_environment(&environment)?;
            if place.environment.is_none() {
                names.clone_from(&run.environments);
                names.reverse();
            }
            first = Some(run);
            continue;
        }
        // The summary counts the first alone.
        run.forget_mesh();
        runs.push((environment, run));
    }
    let first = first.ok_or("no environment was checked")?;
    if runs.is_empty() {
        return Ok(first);
    }
    runs.insert(0, (place.environment().to_owned(), first));
    Ok(together(&loaded.sources, &loaded.root_path, runs).ok_or("no environment was checked")?)
}

fn rendered(args: &Check, loaded: &Loaded, compiled: &Compiled) -> Result<String, Failure> {
    let sources = &loaded.sources;
    Ok(match args.format {
        CheckFormat::Human if args.all => human::check_at_most(sources, compiled, usize::MAX),
        CheckFormat::Human => human::check(sources, compiled),
        CheckFormat::Json => json::check(sources, compiled)?,
        CheckFormat::Sarif => sarif::check(loaded, compiled)?,
        CheckFormat::Github => github::check(sources, compiled),
    })
}

/// Begins to watch a run.
fn waiting(args: &Check) -> Waiting {
    Waiting {
        watch: Stopwatch::begin("read"),
        progress: Progress::of(OTHER_PARTS + mesh_lint::RULES.len()),
        is_measuring: args.timings.is_some(),
    }
}

/// Tells people and `--timings` what a run is doing.
struct Waiting {
    watch: Stopwatch,
    progress: Progress,
    /// Whether somebody wants to know how long each part takes.
    is_measuring: bool,
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

    fn is_measuring(&self) -> bool {
        self.is_measuring
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
