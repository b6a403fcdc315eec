//! The checks on a linked mesh, and a page for every code that any stage of the compiler reports.
//!
//! A rule sees facts and says what is wrong; it cannot change what is emitted. Pure: no files, no
//! clock, no randomness.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod checker;
mod facts;
mod features;
mod needs;
mod page;
mod pages;
mod rule;
mod rules;
#[cfg(test)]
mod soundness;
mod suppress;
#[cfg(test)]
mod tester;
mod unexpressed;

use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::date::Date;
use mesh_compiler::keep_gravest;
use mesh_compiler::progress::{Observer, Stage};
use mesh_compiler::{Analysed, LinkedMesh, Unchanged};
use mesh_syntax::Diagnostic;
use rayon::prelude::*;

pub use checker::{Checked, Checker, Retired, Subject};
use facts::{Facts, ServiceFacts};
pub use features::not_carried;
pub use page::Page;
pub use pages::{page, pages, unexpressed};
use rule::RuleContext;
pub use rule::{Rule, Skipped};
pub use rules::{COMPARISONS, RULES};
pub use suppress::Suppressed;

/// What the checks say about a mesh on some day.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What counts, in the order of outputs: by file and position.
    pub findings: Vec<Diagnostic>,
    /// What somebody answers for, in the same order.
    pub suppressed: Vec<Suppressed>,
    /// Checks that could not be made, ascending by code.
    pub skipped: Vec<Skipped>,
}

/// Checks a mesh and, where `base` is what is deployed, what changes from it; then leaves out what somebody
/// answers for on this day. Takes the findings of loading out of `analysed` and judges them together with its own.
pub fn judge(analysed: &mut Analysed, base: Option<&LinkedMesh>, today: Date) -> Judgement {
    judge_observed(analysed, base, today, &mut ())
}

/// [`judge`] for somebody who watches.
pub fn judge_observed(
    analysed: &mut Analysed,
    base: Option<&LinkedMesh>,
    today: Date,
    observer: &mut dyn Observer,
) -> Judgement {
    judge_since(analysed, None, base, today, observer).judgement
}

/// What was said of a mesh, and what it was said from.
#[derive(Debug, Default)]
struct Judged {
    judgement: Judgement,
    facts: ServiceFacts,
    graphs: [Option<CallGraph>; 2],
}

/// The same, knowing what is as it was in an earlier mesh and what was known of that; with what is known of this one.
fn judge_since(
    analysed: &mut Analysed,
    earlier: Option<(&Unchanged, &ServiceFacts)>,
    base: Option<&LinkedMesh>,
    today: Date,
    observer: &mut dyn Observer,
) -> Judged {
    let mut judgement = Judgement::default();
    let Some(mesh) = &analysed.mesh else {
        judgement.findings = std::mem::take(&mut analysed.diagnostics);
        return Judged {
            judgement,
            ..Judged::default()
        };
    };
    let mut facts = Facts::new(mesh).on(today);
    if let Some((unchanged, known)) = earlier {
        facts = facts.since(unchanged, known);
    }
    // Every rule is checked anyway, and what several ask for belongs to none of them.
    facts.compute(observer);
    let (lints, skipped) = run(RULES, &facts, observer);
    judgement.skipped = skipped;
    judgement.skipped.extend(needs::skipped(mesh));
    judgement.findings = std::mem::take(&mut analysed.diagnostics);
    judgement.findings.extend(lints);
    if let Some(base) = base {
        facts = facts.against(base);
        let (changes, skipped) = run_in_turn(COMPARISONS, &facts, observer);
        facts.show_what_was_let_in(&mut judgement.findings);
        judgement.findings.extend(changes);
        judgement.skipped.extend(skipped);
    }
    judgement.suppressed = suppress::apply(mesh, today, &mut judgement.findings);
    keep_gravest(&mut judgement.findings);
    judgement
        .suppressed
        .sort_by(|a, b| a.finding.sort_key().cmp(&b.finding.sort_key()));
    judgement.skipped.sort_by_key(|skipped| skipped.code);
    let (facts, graphs) = facts.into_parts();
    Judged {
        judgement,
        facts,
        graphs,
    }
}

/// Checks a mesh, whatever anybody answers for. Findings are in the order of outputs: by file and position.
pub fn lint(mesh: &LinkedMesh) -> Vec<Diagnostic> {
    let facts = Facts::new(mesh);
    facts.compute(&mut ());
    let mut findings = run(RULES, &facts, &mut ()).0;
    keep_gravest(&mut findings);
    findings
}

/// Checks what changes from what is deployed, `base`, to what would replace it, `head`. Findings lie in
/// the files of `head` and are in the order of outputs.
pub fn compare(base: &LinkedMesh, head: &LinkedMesh) -> Vec<Diagnostic> {
    run_in_turn(COMPARISONS, &Facts::new(head).against(base), &mut ()).0
}

/// Checks rules beside each other. What they ask for in common has been computed.
fn run(
    rules: &[&Rule],
    facts: &Facts<'_>,
    observer: &mut dyn Observer,
) -> (Vec<Diagnostic>, Vec<Skipped>) {
    if observer.is_measuring() {
        return run_in_turn(rules, facts, observer);
    }
    let mut announced = rules.iter().map(|rule| Stage::Lint(rule.page.code));
    announced
        .next()
        .into_iter()
        .for_each(|first| observer.begin(first));
    let found: Vec<_> = rules
        .par_iter()
        .map(|rule| {
            let mut cx = RuleContext::new(facts);
            rule.check(&mut cx);
            cx.into_parts()
        })
        .collect();
    announced.for_each(|stage| observer.begin(stage));
    let (findings, skipped): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let mut findings = findings.concat();
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    (findings, skipped.concat())
}

/// Checks rules one after the other, each of which may be the first to ask for something costly.
fn run_in_turn(
    rules: &[&Rule],
    facts: &Facts<'_>,
    observer: &mut dyn Observer,
) -> (Vec<Diagnostic>, Vec<Skipped>) {
    let mut cx = RuleContext::new(facts);
    for rule in rules {
        observer.begin(Stage::Lint(rule.page.code));
        rule.check(&mut cx);
    }
    let (mut findings, skipped) = cx.into_parts();
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    (findings, skipped)
}
