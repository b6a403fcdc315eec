//! `meshc check --watch`: the findings again whenever a policy file changes, until it is interrupted.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mesh_lint::Checker;

use super::{Failure, compiled, rendered, waiting};
use crate::args::{Check, CheckFormat, Place};
use crate::load::{State, load};
use crate::{output, terminal};

/// How often the folder is looked at. Looking is not asking the system to be told: it works the same on every system,
/// on network drives and in containers.
const LOOKS_EVERY: Duration = Duration::from_millis(20);
/// Looking may take this share of the time, so that a folder of ten thousand files keeps no processor busy.
const LOOKING_SHARE: u32 = 10;

pub(super) fn run(args: &Check, place: &Place, folder: &Path) -> Result<(), Failure> {
    let mut checker = Checker::new();
    let mut shown = None;
    loop {
        let state = settled(folder, shown.as_ref());
        let text = findings(args, place, folder, &mut checker);
        match text {
            Ok(text) => show(args.format, &text)?,
            // The folder is in the middle of a change, or was; the next one may mend it.
            Err(failure) => output::error(failure.as_ref()),
        }
        shown = Some(state);
        // After the findings: nobody waits for it.
        drop(checker.retired());
    }
}

fn findings(
    args: &Check,
    place: &Place,
    folder: &Path,
    checker: &mut Checker,
) -> Result<String, Failure> {
    let loaded = load(folder)?;
    let mut waiting = waiting(args);
    let compiled = compiled(args, place, folder, &loaded, checker, &mut waiting)?;
    drop(waiting);
    rendered(args, &loaded, &compiled)
}

fn show(format: CheckFormat, text: &str) -> Result<(), Failure> {
    if format == CheckFormat::Human && terminal::redraws() {
        // The newest findings alone, from the top.
        output::data(&format!("\x1b[2J\x1b[H{text}"))?;
    } else {
        output::data(text)?;
    }
    Ok(())
}

/// Waits until the folder is not what it was, and for it to stay so: editors write in several steps.
fn settled(folder: &Path, shown: Option<&State>) -> State {
    loop {
        let begun = Instant::now();
        let state = State::of(folder);
        let pause = (begun.elapsed() * (LOOKING_SHARE - 1)).max(LOOKS_EVERY);
        if shown.is_none() {
            return state;
        }
        let changed = shown != Some(&state);
        thread::sleep(pause.min(if changed { LOOKS_EVERY } else { pause }));
        if changed && State::of(folder) == state {
            return state;
        }
    }
}
