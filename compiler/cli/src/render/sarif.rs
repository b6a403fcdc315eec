//! Findings as SARIF 2.1.0, for code scanning.

use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, Level, SourceSet, Span};
use serde_json::{Value, json};

use super::json::line;
use super::uri;
use crate::baseline::Fingerprints;
use crate::compile::Compiled;
use crate::load::Loaded;

/// One run with every finding.
pub(crate) fn check(loaded: &Loaded, compiled: &Compiled) -> serde_json::Result<String> {
    let sources = &loaded.sources;
    let compared = compiled.compared.as_ref();
    let accepted = compared.map_or(&[][..], |compared| &compared.accepted);
    let rules: BTreeMap<&str, &str> = compiled
        .findings
        .iter()
        .chain(compiled.suppressed.iter().map(|one| &one.finding))
        .chain(accepted.iter().map(|one| &one.finding))
        .map(|found| (found.code, found.name))
        .collect();
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(code, name)| json!({ "id": code, "name": name }))
        .collect();
    let mut fingerprints = Fingerprints::new(loaded);
    let shown = compiled.findings.iter().zip(compiled.shown());
    let mut results: Vec<Value> = shown
        .map(|(finding, shown)| {
            let fingerprint = fingerprints.of(finding).text;
            known_by(
                result(sources, &shown),
                &fingerprint,
                compared.map(|_| "new"),
            )
        })
        .collect();
    results.extend(accepted.iter().map(|one| {
        known_by(
            result(sources, &one.finding),
            &one.fingerprint,
            Some("unchanged"),
        )
    }));
    let unmatched = compared.map_or(&[][..], |compared| &compared.unmatched);
    results.extend(unmatched.iter().map(|entry| {
        let text = format!("{} ({})", entry.message, entry.place);
        let gone = json!({ "ruleId": entry.code, "message": { "text": text } });
        known_by(gone, &entry.fingerprint, Some("absent"))
    }));
    // Code scanning shows them as closed, with the reason.
    let suppressed = compiled.suppressed.iter().map(|one| {
        let fingerprint = fingerprints.of(&one.finding).text;
        let mut result = known_by(result(sources, &one.finding), &fingerprint, None);
        let why = format!("{} (`{}`, until {})", one.reason, one.owner, one.until);
        result["suppressions"] = json!([{ "kind": "inSource", "justification": why }]);
        result
    });
    results.extend(suppressed);
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

/// A result with what it is known by, and what a baseline makes of it.
fn known_by(mut result: Value, fingerprint: &str, state: Option<&str>) -> Value {
    result["partialFingerprints"] = json!({ "meshc/v1": fingerprint });
    if let Some(state) = state {
        result["baselineState"] = json!(state);
    }
    result
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
