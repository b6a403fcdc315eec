//! The lines below the findings: how many there are, what somebody answers for, what was not looked for.

use std::collections::BTreeSet;

use mesh_syntax::{Level, SourceSet};

use super::super::counted;
use super::super::shown::escaped;
use crate::compile::Compiled;

/// What `check` found, counted.
pub(super) fn summary(sources: &SourceSet, compiled: &Compiled) -> String {
    let [errors, warnings, notes] =
        [Level::Error, Level::Warning, Level::Note].map(|level| compiled.count(level));
    let read = counted(compiled.files, "file");
    let found = if errors + warnings + notes == 0 {
        let new = if compiled.compared.is_some() {
            "new "
        } else {
            ""
        };
        format!("No {new}findings in {read}")
    } else {
        format!(
            "{}, {}, {} in {read}",
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(notes, "note")
        )
    };
    let is_comparing = |code: &str| {
        let mut all = mesh_lint::COMPARISONS.iter();
        !compiled.not_compared.is_empty() && all.any(|rule| rule.page.code == code)
    };
    // Those that compare are told with what keeps them from it.
    let all = compiled.skipped.iter();
    let (compare, lack): (Vec<_>, Vec<_>) = all.partition(|skipped| is_comparing(skipped.code));
    let skipped = match lack.as_slice() {
        [] => String::new(),
        [only] => format!("\n1 check skipped: {} {}", only.code, only.reason),
        several => {
            let codes: BTreeSet<&str> = several.iter().map(|skipped| skipped.code).collect();
            let codes: Vec<&str> = codes.into_iter().collect();
            format!(
                "\n{} skipped for want of data: {} (`--format json` says what each needs)",
                counted(codes.len(), "check"),
                codes.join(", ")
            )
        }
    };
    let not_compared = compiled.not_compared().map(|why| {
        let text = format!("\nNothing was compared, so what this change does is not known: {why}.");
        escaped(&text).into_owned()
    });
    let mut not_compared: String = not_compared.collect();
    let compare: BTreeSet<&str> = compare.into_iter().map(|skipped| skipped.code).collect();
    if !compare.is_empty() {
        let codes: Vec<&str> = compare.iter().copied().collect();
        not_compared.extend([
            format!("\n{} not made for that: ", counted(codes.len(), "check")),
            codes.join(", "),
        ]);
    }
    let suppressed = suppressed(sources, compiled);
    let mesh = compiled.mesh().map_or_else(String::new, |mesh| {
        format!(
            " ({}, {})",
            counted(mesh.services.len(), "service"),
            counted(mesh.edges.len(), "edge")
        )
    });
    let accepted = accepted(compiled);
    format!("{found}{mesh}.{not_compared}{accepted}{suppressed}{skipped}\n")
}

/// What a baseline accepts, and what of it nothing matches any more.
fn accepted(compiled: &Compiled) -> String {
    let Some(compared) = &compiled.compared else {
        return String::new();
    };
    let count = counted(compared.accepted.len(), "finding");
    let mut text = format!("\n{count} accepted by {}", compared.file);
    if compared.unmatched.is_empty() {
        return escaped(&text).into_owned();
    }
    let missing = compared.unmatched.iter().map(|entry| entry.count).sum();
    let (count, file) = (counted(missing, "finding"), &compared.file);
    text = format!(
        "{text}\n{count} listed there and no longer found; `--write-baseline {file}` writes the list again:"
    );
    for entry in &compared.unmatched {
        text.extend(["\n  ", &entry.code, " ", &entry.place, ": ", &entry.message]);
    }
    escaped(&text).into_owned()
}

/// What somebody answers for, with who, why and until when: a list of it, since frames would be read as complaints.
fn suppressed(sources: &SourceSet, compiled: &Compiled) -> String {
    if compiled.suppressed.is_empty() {
        return String::new();
    }
    let each = compiled.suppressed.iter().map(|one| {
        let finding = &one.finding;
        let (line, _) = sources.line_column(finding.span);
        let text = format!(
            "\n  {} {}:{line}: {}\n    {} ({}, until {})",
            finding.code,
            sources.path(finding.span.file),
            finding.message,
            one.reason,
            one.owner,
            one.until
        );
        escaped(&text).into_owned()
    });
    let count = counted(compiled.suppressed.len(), "finding");
    format!("\n{count} suppressed:{}", each.collect::<String>())
}
