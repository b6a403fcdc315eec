//! The checks on a linked mesh, and a page for every code that any stage of the compiler reports.
//!
//! A rule sees facts and says what is wrong; it cannot change what is emitted. Pure: no files, no
//! clock, no randomness.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod facts;
mod needs;
mod page;
mod pages;
mod rule;
mod rules;
#[cfg(test)]
mod soundness;
#[cfg(test)]
mod tester;

use mesh_compiler::LinkedMesh;
use mesh_compiler::progress::{Observer, Stage};
use mesh_syntax::Diagnostic;

use facts::Facts;
pub use needs::{Skipped, skipped};
pub use page::Page;
pub use pages::{page, pages};
pub use rule::Rule;
use rule::RuleContext;
pub use rules::{COMPARISONS, RULES};

/// Checks a mesh. Findings are in the order of outputs: by file and position.
pub fn lint(mesh: &LinkedMesh) -> Vec<Diagnostic> {
    lint_observed(mesh, &mut ())
}

/// [`lint`] for somebody who watches.
pub fn lint_observed(mesh: &LinkedMesh, observer: &mut dyn Observer) -> Vec<Diagnostic> {
    let facts = Facts::new(mesh);
    // Every rule is checked anyway, and what several ask for belongs to none of them.
    facts.compute(observer);
    run(RULES, &facts, observer)
}

/// Checks what changes from what is deployed, `base`, to what would replace it, `head`. Findings lie in
/// the files of `head` and are in the order of outputs.
pub fn compare(base: &LinkedMesh, head: &LinkedMesh) -> Vec<Diagnostic> {
    run(COMPARISONS, &Facts::new(head).against(base), &mut ())
}

fn run(rules: &[&Rule], facts: &Facts<'_>, observer: &mut dyn Observer) -> Vec<Diagnostic> {
    let mut cx = RuleContext::new(facts);
    for rule in rules {
        observer.begin(Stage::Lint(rule.page.code));
        rule.check(&mut cx);
    }
    let mut findings = cx.into_findings();
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    findings
}
