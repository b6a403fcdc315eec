//! What became of tests: for people, for programs, and for whatever reads JUnit's XML.

use mesh_compiler::trial::{Expectation, Outcome};
use mesh_syntax::SourceSet;

use super::effective;
use crate::commands::test::Tested;

mod human;
mod json;
mod junit;

pub(crate) use human::human;
pub(crate) use json::json;
pub(crate) use junit::junit;

/// `teams/a/a.test.kdl:12`.
fn place(sources: &SourceSet, test: &Tested) -> String {
    let (line, _) = sources.line_column(test.span);
    format!("{}:{line}", sources.path(test.span.file))
}

/// The environments in which alone a test failed, as it fits behind its name; nothing: in all.
fn only_in(test: &Tested) -> String {
    let failed: Vec<&str> = test.failed().map(|run| run.environment.as_str()).collect();
    if failed.len() == test.runs.len() {
        String::new()
    } else {
        format!(" (only in {})", failed.join(", "))
    }
}

/// Why a test failed, in a line; nothing if it passed.
fn because(outcome: &Outcome, failures: &[Expectation]) -> Option<String> {
    let refusal = outcome.refusal.as_ref();
    let each = failures.iter().map(|failure| {
        let Expectation {
            field,
            expected,
            actual,
            ..
        } = failure;
        match (*field, refusal) {
            ("decision", Some(refusal)) => {
                format!("expected {expected}, got {actual} ({})", refusal.reason)
            }
            ("decision", None) => format!("expected {expected}, got {actual}"),
            ("split", _) => format!("expected the split {expected}, got {actual}"),
            (field, _) => format!("expected {field} {expected}, got {actual}"),
        }
    });
    let text = each.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

/// Why what was expected lost, each with its place.
fn reasons(sources: &SourceSet, failure: &Expectation) -> Vec<String> {
    let reason = |reason: &mesh_compiler::trial::Reason| match reason.span {
        Some(span) => format!("{} ({})", reason.text, effective::place_of(sources, span)),
        None => reason.text.clone(),
    };
    failure.because.iter().map(reason).collect()
}
