//! What `meshc fmt` did, or would do.

use std::time::Duration;

use mesh_syntax::SourceSet;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::counted;
use super::json::{self, Finding};
use super::shown::escaped;
use crate::commands::fmt::{Formatted, Run};
use crate::limits;
use crate::render::human as people;
use crate::terminal;

/// Lines around a change that are shown with it.
const CONTEXT: usize = 2;
/// Comparing two long files takes no longer; what is shown is then less exact.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Out<'a> {
    files: Vec<File<'a>>,
    findings: Vec<Finding<'a>>,
    summary: Summary,
}

#[derive(Serialize)]
struct File<'a> {
    file: &'a str,
    /// Whether it is, or was, anything else than formatted.
    changed: bool,
}

#[derive(Serialize)]
struct Summary {
    files: usize,
    changed: usize,
    /// Whether the changes were made.
    written: bool,
}

/// `meshc fmt --format json`
pub(crate) fn json(run: &Run) -> serde_json::Result<String> {
    let sources = &run.sources;
    json::line(&Out {
        files: run
            .formatted
            .iter()
            .map(|each| File {
                file: sources.path(each.file),
                changed: each.text.is_some(),
            })
            .collect(),
        findings: run
            .findings
            .iter()
            .map(|found| json::finding(sources, found))
            .collect(),
        summary: Summary {
            files: run.formatted.len(),
            changed: changed(run),
            written: !run.check,
        },
    })
}

/// What was done, or with `--check` a difference for each file, and a line that counts.
pub(crate) fn human(run: &Run) -> String {
    let mut text = people::findings(&run.sources, &run.findings);
    for each in &run.formatted {
        let Some(after) = &each.text else { continue };
        if run.check {
            text.push_str(&difference(&run.sources, each, after));
            text.push('\n');
        } else {
            let path = escaped(run.sources.path(each.file));
            text.extend(["formatted ", &path, "\n"]);
        }
    }
    let (files, changed) = (run.formatted.len(), changed(run));
    let sum = match (run.check, changed) {
        (_, 0) if files == 1 => "1 file is formatted.".to_owned(),
        (_, 0) => format!("{files} files are formatted."),
        (true, _) => format!(
            "{changed} of {} would change; `meshc fmt` changes them.",
            counted(files, "file")
        ),
        (false, _) => format!("{changed} of {} changed.", counted(files, "file")),
    };
    let faulty = match run.sources.files().len() - files {
        0 => String::new(),
        faulty => format!(" {} with mistakes left alone.", counted(faulty, "file")),
    };
    text.extend([&sum, &*faulty, "\n"]);
    text
}

fn changed(run: &Run) -> usize {
    run.formatted
        .iter()
        .filter(|each| each.text.is_some())
        .count()
}

/// The lines that change, as a patch shows them.
fn difference(sources: &SourceSet, each: &Formatted, after: &str) -> String {
    let path = escaped(sources.path(each.file));
    let before = sources.text(each.file).unwrap_or_default();
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(before, after);
    let colour = terminal::wants_colour();
    let paint = |line: &str, code: &str| {
        if colour {
            format!("\x1b[{code}m{line}\x1b[0m\n")
        } else {
            format!("{line}\n")
        }
    };
    let mut lines = vec![
        paint(&format!("--- {path}"), "1"),
        paint(&format!("+++ {path}"), "1"),
    ];
    for group in diff.grouped_ops(CONTEXT) {
        let Some(first) = group.first() else { continue };
        let at = format!("@@ line {} @@", first.old_range().start + 1);
        lines.push(paint(&at, "36"));
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = escaped(change.value().trim_end_matches(['\n', '\r'])).into_owned();
            lines.push(match change.tag() {
                ChangeTag::Equal => format!(" {line}\n"),
                ChangeTag::Delete => paint(&format!("-{line}"), "31"),
                ChangeTag::Insert => paint(&format!("+{line}"), "32"),
            });
        }
    }
    let more = lines.len().saturating_sub(limits::DIFFERENCE_LINES_MAX);
    lines.truncate(limits::DIFFERENCE_LINES_MAX);
    if more > 0 {
        lines.push(format!("… {} more\n", counted(more, "line")));
    }
    lines.concat()
}
