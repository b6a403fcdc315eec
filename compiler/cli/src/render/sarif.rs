//! Findings as SARIF 2.1.0, for code scanning.

use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, Level, SourceSet, Span};
use serde_json::{Value, json};

use super::json::line;
use crate::compile::Compiled;

/// One run with every finding.
pub(crate) fn check(sources: &SourceSet, compiled: &Compiled) -> serde_json::Result<String> {
    let rules: BTreeMap<&str, &str> = compiled
        .findings
        .iter()
        .chain(compiled.suppressed.iter().map(|one| &one.finding))
        .map(|found| (found.code, found.name))
        .collect();
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(code, name)| json!({ "id": code, "name": name }))
        .collect();
    let results = compiled.shown().map(|found| result(sources, &found));
    // Code scanning shows them as closed, with the reason.
    let suppressed = compiled.suppressed.iter().map(|one| {
        let mut result = result(sources, &one.finding);
        let why = format!("{} (`{}`, until {})", one.reason, one.owner, one.until);
        result["suppressions"] = json!([{ "kind": "inSource", "justification": why }]);
        result
    });
    let results: Vec<Value> = results.chain(suppressed).collect();
    line(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "meshc", "version": mesh_compiler::RELEASE, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(sources: &SourceSet, found: &Diagnostic) -> Value {
    let level = match found.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    };
    let text = match &found.help {
        Some(help) => format!("{}\n{help}", found.message),
        None => found.message.clone(),
    };
    let related: Vec<Value> = found
        .labels
        .iter()
        .enumerate()
        .map(|(id, label)| {
            let mut place = location(sources, label.span);
            place["id"] = json!(id);
            place["message"] = json!({ "text": label.message });
            place
        })
        .collect();
    json!({
        "ruleId": found.code,
        "level": level,
        "message": { "text": text },
        "locations": [location(sources, found.span)],
        "relatedLocations": related,
    })
}

fn location(sources: &SourceSet, span: Span) -> Value {
    let (line, column) = sources.line_column(span);
    let (end_line, end_column) = sources.line_column(Span {
        start: span.end,
        ..span
    });
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(sources.path(span.file)) },
        "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
    } })
}

/// A relative path as a URI reference.
fn uri(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
