//! Tests of the new behaviour, made from the requests that show it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use mesh_compiler::LinkedMesh;
use mesh_compiler::diff::Change;
use mesh_compiler::trial::{
    Call, Outcome, Trial, changed_expect_text, laid_out, quoted, sent_text,
};
use mesh_syntax::Witness;

use super::Difference;

/// Requests that end otherwise than before: tests of them pass with the new policies and fail with the old.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Vec<Proof>);

#[derive(Debug)]
struct Proof {
    witness: Witness,
    /// In words.
    name: String,
    sent: String,
    expect: String,
    /// What became of it before; none: it could not even be sent.
    before: Option<Outcome>,
    /// Where it was found.
    environments: BTreeSet<String>,
}

impl Proofs {
    /// Adds what an environment shows.
    pub(crate) fn add(&mut self, environment: &str, change: Change<'_>, found: &Difference) {
        let mut trials = (Trial::new(change.base), Trial::new(change.head));
        let access = found.access.iter().map(|each| &each.witness);
        let routes = found.routes.iter().map(|each| &each.witness);
        let times = found.timeouts.iter().map(|each| &each.witness);
        for witness in access.chain(routes).chain(times).flatten() {
            let call = Call::from(witness);
            let before = trials.0.run(&call).ok();
            let Ok(after) = trials.1.run(&call) else {
                continue;
            };
            let Some(expect) = changed_expect_text(witness, &after, before.as_ref()) else {
                continue;
            };
            let sent = sent_text(witness, &after);
            let mut known = self.0.iter_mut();
            match known.find(|known| known.sent == sent && known.expect == expect) {
                Some(known) => drop(known.environments.insert(environment.to_owned())),
                None => self.0.push(Proof {
                    witness: witness.clone(),
                    name: named(witness, &after),
                    sent,
                    expect,
                    before,
                    environments: BTreeSet::from([environment.to_owned()]),
                }),
            }
        }
    }

    /// The tests, for every environment that there now is: one that does not pass in all of them says in which.
    pub(crate) fn text(&self, meshes: &[(String, LinkedMesh)]) -> String {
        let tests = meshes.iter().flat_map(|(_, mesh)| &mesh.tests);
        let mut names: BTreeSet<String> = tests.map(|test| test.name.value.clone()).collect();
        let trials = meshes.iter().map(|(name, mesh)| (name, Trial::new(mesh)));
        let mut trials: Vec<_> = trials.collect();
        let mut text = String::new();
        for proof in &self.0 {
            let holds = trials.iter_mut().filter_map(|(name, trial)| {
                let is_so = proof.environments.contains(*name) || proof.holds(trial);
                is_so.then_some(name.as_str())
            });
            let holds: Vec<&str> = holds.collect();
            let only = if holds.len() == meshes.len() {
                String::new()
            } else {
                format!("    environment {}\n", holds.join(" "))
            };
            let name = quoted(&unique(&mut names, &proof.name));
            let (sent, expect) = (&proof.sent, &proof.expect);
            let blank = if text.is_empty() { "" } else { "\n" };
            let test = laid_out(format!(
                "test {name} {{\n{only}    {sent}\n    {expect}\n}}\n"
            ));
            let written = write!(text, "{blank}{test}");
            written.expect("a string takes everything that is written to it");
        }
        text
    }
}

impl Proof {
    /// Whether the test passes there too, and says something new. Of what could not even be sent before, that was
    /// looked for everywhere.
    fn holds(&self, trial: &mut Trial<'_>) -> bool {
        if self.before.is_none() {
            return false;
        }
        let Ok(outcome) = trial.run(&Call::from(&self.witness)) else {
            return false;
        };
        let expect = changed_expect_text(&self.witness, &outcome, self.before.as_ref());
        expect.as_ref() == Some(&self.expect)
    }
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
