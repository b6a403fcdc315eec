//! Fixes of findings as code actions: one for each fix, and one for all safe ones of a file.

use lsp_types::{CodeActionParams, Range};
use mesh_syntax::{Edit, FileId, Fix};
use serde_json::{Value, json};

use super::convert::Places;
use super::session::Session;
use super::workspace::{Found, Root};

const QUICK_FIX: &str = "quickfix";
const FIX_ALL: &str = "source.fixAll";

/// What can be done about the findings in a range.
pub(super) fn actions(session: &Session<'_>, root: &Root, params: &CodeActionParams) -> Value {
    let Some(found) = &root.found else {
        return json!([]);
    };
    let uri = params.text_document.uri.as_str();
    let uri_of = |file: FileId| {
        let path = root.path_of(found.sources.path(file));
        session.workspace.uri_of(&path)
    };
    let places = Places {
        sources: &found.sources,
        encoding: session.workspace.encoding,
        client: session.client,
        uri: &uri_of,
    };
    let wants = |kind: &str| match &params.context.only {
        Some(only) => only.iter().any(|wanted| {
            let wanted = wanted.as_str();
            kind == wanted
                || kind
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with('.'))
        }),
        None => true,
    };
    let here = found
        .findings
        .iter()
        .filter(|finding| uri_of(finding.span.file) == uri);
    let mut actions = Vec::new();
    let mut all: Vec<Edit> = Vec::new();
    for finding in here {
        let diagnostic = places.diagnostic(finding);
        for fix in finding
            .fixes
            .iter()
            .filter(|fix| is_current(fix, found, root))
        {
            if fix.safe && !fix.edits.iter().any(|edit| overlaps(edit, &all)) {
                all.extend(fix.edits.iter().cloned());
            }
            if wants(QUICK_FIX) && touches(&diagnostic.range, &params.range) {
                actions.push(json!({
                    "title": fix.title,
                    "kind": QUICK_FIX,
                    "diagnostics": [diagnostic],
                    "isPreferred": fix.safe,
                    "edit": session.edit(places.edits(&fix.edits)),
                }));
            }
        }
    }
    // Without being asked for, it would stand in every menu.
    if wants(FIX_ALL) && !all.is_empty() {
        all.sort_by_key(|edit| edit.span);
        actions.push(json!({
            "title": "Apply every safe fix of this file",
            "kind": FIX_ALL,
            "edit": session.edit(places.edits(&all)),
        }));
    }
    Value::Array(actions)
}

/// Whether what a fix edits is still what was checked.
fn is_current(fix: &Fix, found: &Found, root: &Root) -> bool {
    fix.edits
        .iter()
        .all(|edit| root.sources.is_same(&found.sources, edit.span.file))
}

fn overlaps(edit: &Edit, others: &[Edit]) -> bool {
    others.iter().any(|other| {
        edit.span.file == other.span.file
            && edit.span.start <= other.span.end
            && other.span.start <= edit.span.end
    })
}

fn touches(a: &Range, b: &Range) -> bool {
    a.start <= b.end && b.start <= a.end
}
