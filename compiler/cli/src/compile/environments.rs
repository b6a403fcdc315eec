//! Several environments in one report: what all have is said once, what some have is said with their names.

use std::collections::{BTreeMap, BTreeSet};

use mesh_syntax::{Diagnostic, SourceSet, Span};

use super::Compiled;
use crate::base::NotCompared;

/// What tells findings apart, wherever they were found.
type Key = (Span, &'static str, String);

/// What was found in each environment, as one. The first one's mesh is what the summary counts.
pub(crate) fn together(
    sources: &SourceSet,
    root_path: &str,
    runs: Vec<(String, Compiled)>,
) -> Option<Compiled> {
    let all: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
    let mut found: BTreeMap<Key, (Diagnostic, Vec<String>)> = BTreeMap::new();
    let mut suppressed = BTreeMap::new();
    let mut skipped = BTreeSet::new();
    let mut not_compared: Vec<(NotCompared, Vec<String>)> = Vec::new();
    let mut first = None;
    for (environment, mut run) in runs {
        for finding in std::mem::take(&mut run.findings) {
            let entry = found.entry(key(&finding));
            let (_, environments) = entry.or_insert_with(|| (finding, Vec::new()));
            // One environment may have two findings that read the same.
            if environments.last() != Some(&environment) {
                environments.push(environment.clone());
            }
        }
        for one in std::mem::take(&mut run.suppressed) {
            suppressed.entry(key(&one.finding)).or_insert(one);
        }
        for one in std::mem::take(&mut run.skipped) {
            skipped.insert((one.code, one.reason));
        }
        for (not, _) in std::mem::take(&mut run.not_compared) {
            let mut known = not_compared.iter_mut();
            match known.find(|(known, _)| known.why == not.why) {
                Some((_, environments)) => environments.push(environment.clone()),
                None => not_compared.push((not, vec![environment.clone()])),
            }
        }
        first.get_or_insert(run);
    }
    let mut compiled = first?;
    found.retain(|(span, code, _), (_, environments)| {
        let own = mesh_compiler::environment_of(sources.path(span.file), root_path);
        // A suppression or definition that any environment needs is needed.
        let is_in_all = environments.len() == all.len();
        // That nothing changes is news only where nothing changes anywhere.
        (*code != "MSH1109" || is_in_all)
            && (!matches!(*code, "MSH0016" | "MSH0018") || own.is_some() || is_in_all)
    });
    for (index, (_, (finding, environments))) in found.into_iter().enumerate() {
        compiled.findings.push(finding);
        if environments.len() < all.len() {
            compiled.only_in.insert(index, environments);
        }
    }
    for (_, environments) in &mut not_compared {
        if environments.len() == all.len() {
            environments.clear();
        }
    }
    compiled.not_compared = not_compared;
    compiled.checked_in = all;
    compiled.suppressed = suppressed.into_values().collect();
    compiled.skipped = skipped
        .into_iter()
        .map(|(code, reason)| mesh_lint::Skipped { code, reason })
        .collect();
    Some(compiled)
}

fn key(finding: &Diagnostic) -> Key {
    (finding.span, finding.code, finding.message.clone())
}
