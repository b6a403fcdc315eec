//! Tests of the new behaviour, made from the requests that show it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mesh_compiler::diff::Change;
use mesh_compiler::trial::{Call, Outcome, Trial};
use mesh_syntax::Witness;

use super::Difference;

/// A test for each request that ends otherwise than before; nothing where there is none. Such a test passes with the
/// new policies and fails with the old.
pub(crate) fn tests(change: Change<'_>, found: &Difference) -> Option<String> {
    let mut trials = (Trial::new(change.base), Trial::new(change.head));
    let mut text = String::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let routes = found.routes.iter().map(|each| &each.witness);
    let access = found.access.iter().map(|each| &each.witness);
    for witness in access.chain(routes).flatten() {
        let call = Call::from(witness);
        let after = trials.1.run(&call).ok();
        let before = trials.0.run(&call).ok();
        let Some(after) = after.filter(|after| before.as_ref().map(shown) != Some(shown(after)))
        else {
            continue;
        };
        let name = unique(&mut seen, &named(witness, &after));
        let test = mesh_compiler::trial::test_text(&name, witness, &after);
        let written = write!(text, "{}{test}", if text.is_empty() { "" } else { "\n" });
        written.expect("a string takes everything that is written to it");
    }
    (!text.is_empty()).then_some(text)
}

/// What a test can tell apart.
fn shown(outcome: &Outcome) -> String {
    let route = outcome
        .route
        .as_ref()
        .map(|route| (&route.name, &route.branches));
    let refusal = outcome.refusal.as_ref();
    format!(
        "{:?} {route:?} {refusal:?} {:?}",
        outcome.decision, outcome.answer
    )
}

fn named(witness: &Witness, outcome: &Outcome) -> String {
    let from = witness.from.as_deref().unwrap_or("unauthenticated");
    let end = outcome.decision.as_str().replace('_', " ");
    format!(
        "{} {} from {from} to {}: {end}",
        witness.method, witness.path, witness.to
    )
}

fn unique(seen: &mut BTreeSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut number = 1;
    while !seen.insert(candidate.clone()) {
        number += 1;
        candidate = format!("{name} ({number})");
    }
    candidate
}
