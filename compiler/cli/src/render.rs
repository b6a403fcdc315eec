//! What commands found, as text for people and programs. The types that reach a program are of their own, so that no
//! inner change alters an output.

use mesh_compiler::trial::{Expectation, Outcome};

pub(crate) mod difference;
mod effective;
mod expectation;
pub(crate) mod github;
pub(crate) mod graph;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod picture;
pub(crate) mod sarif;
pub(crate) mod shown;

/// Why a test failed; nothing if it passed.
fn because(outcome: &Outcome, failures: &[Expectation]) -> Option<String> {
    let refusal = outcome.refusal.as_ref();
    let each = failures.iter().map(|failure| {
        let Expectation {
            field,
            expected,
            actual,
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

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
