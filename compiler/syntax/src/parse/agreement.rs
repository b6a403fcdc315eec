//! Whether the short way and the long way through a text agree: for tests and fuzzing.

use super::lower::{lower_exactly, lower_plain};
use super::plain::plain;
use super::scan::scan;
use crate::{Diagnostic, Node, SourceSet};

/// How the two ways differ on a text; none if they agree, or if the short way gives up.
pub fn disagreement(text: &str) -> Option<String> {
    let mut sources = SourceSet::new();
    let file = sources.add("a.kdl", text.as_bytes().to_vec());
    let scan = scan(file, text, &[]);
    let mut exact = Vec::new();
    let mut findings: Vec<Diagnostic> = scan.diagnostics.clone();
    for chunk in &scan.chunks {
        let (nodes, found) = lower_exactly(file, &scan, chunk);
        if let Some(plain) = lower_plain(file, &scan, chunk)
            && let Some(difference) = differ(&plain, &nodes, &found)
        {
            return Some(format!("{:?}: {difference}", chunk.range));
        }
        exact.extend(nodes);
        findings.extend(found);
    }
    let plain = plain(file, text, 0..text.len())?;
    if plain.items != scan.items {
        return Some(format!("{} items, not {}", plain.items, scan.items));
    }
    differ(&plain.nodes, &exact, &findings)
}

fn differ(plain: &[Node], exact: &[Node], findings: &[Diagnostic]) -> Option<String> {
    if let Some(finding) = findings.first() {
        return Some(format!("accepted in spite of {finding:?}"));
    }
    let shorter = plain.len() != exact.len();
    let first = plain
        .iter()
        .zip(exact)
        .find(|(plain, exact)| plain != exact);
    (shorter || first.is_some()).then(|| {
        format!(
            "{} nodes, not {}; first difference {first:#?}",
            plain.len(),
            exact.len()
        )
    })
}
