//! Conditions of routes. A route of Envoy has one path and no "or", so one of ours may become several.

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, StringMatch, StringMatchKind,
};
use mesh_tests::Failure;
use serde_json::{Value, json};

use super::{template, untranslated};

/// One thing that a match asks for.
#[derive(Clone, Debug)]
enum Piece {
    /// Fields of the match itself.
    Path(Vec<(&'static str, Value)>),
    Header(Value),
    Query(Value),
}

/// The matches that together are these conditions.
pub(super) fn matches(conditions: &[Condition]) -> Result<Vec<Value>, Failure> {
    let mut all: Vec<Vec<Piece>> = vec![Vec::new()];
    for condition in conditions {
        let choices = choices(condition)?;
        all = all
            .iter()
            .flat_map(|before| {
                choices
                    .iter()
                    .map(|choice| [before.as_slice(), choice.as_slice()].concat())
            })
            .collect();
    }
    Ok(all.into_iter().map(assemble).collect())
}

fn assemble(pieces: Vec<Piece>) -> Value {
    let mut text = json!({});
    let (mut headers, mut queries) = (Vec::new(), Vec::new());
    let mut has_path = false;
    for piece in pieces {
        match piece {
            Piece::Path(fields) => {
                has_path = true;
                for (name, value) in fields {
                    text[name] = value;
                }
            }
            Piece::Header(header) => headers.push(header),
            Piece::Query(query) => queries.push(query),
        }
    }
    if !has_path {
        text["prefix"] = "/".into();
    }
    text["headers"] = headers.into();
    text["query_parameters"] = queries.into();
    text
}

/// Or, of and.
fn choices(condition: &Condition) -> Result<Vec<Vec<Piece>>, Failure> {
    let alone = |pieces: Vec<Piece>| pieces.into_iter().map(|piece| vec![piece]).collect();
    Ok(match condition {
        Condition::Path(patterns) => alone(patterns.iter().map(path).map(Piece::Path).collect()),
        Condition::Query(field) => {
            let named = |value: Value| {
                let mut value = value;
                value["name"] = field.name.clone().into();
                Piece::Query(value)
            };
            alone(values(field)?.into_iter().map(named).collect())
        }
        Condition::Not(inner) => {
            let mut pieces = Vec::new();
            for mut header in headers(inner)? {
                header["invert_match"] = true.into();
                header["treat_missing_header_as_empty"] = true.into();
                pieces.push(Piece::Header(header));
            }
            vec![pieces]
        }
        other => alone(headers(other)?.into_iter().map(Piece::Header).collect()),
    })
}

/// Header matches of which one is enough.
pub(super) fn headers(condition: &Condition) -> Result<Vec<Value>, Failure> {
    match condition {
        Condition::Method(methods) => Ok(methods
            .iter()
            .map(|method| json!({ "name": ":method", "string_match": { "exact": method } }))
            .collect()),
        Condition::Host(hosts) => Ok(hosts
            .iter()
            .map(|host| json!({ "name": ":authority", "string_match": { "safe_regex": { "regex": authority(host) } } }))
            .collect()),
        Condition::Header(field) => {
            let mut all = values(field)?;
            for value in &mut all {
                value["name"] = field.name.clone().into();
            }
            Ok(all)
        }
        Condition::Cookie(field) => cookies(field),
        other => Err(untranslated(format_args!("{other:?}"))),
    }
}

/// A host of any port: one label for `*`, one or more for `**`.
fn authority(host: &str) -> String {
    let (labels, rest) = if let Some(rest) = host.strip_prefix("**.") {
        (r"([^.]+\.)+", rest)
    } else if let Some(rest) = host.strip_prefix("*.") {
        (r"[^.]+\.", rest)
    } else if host == "**" {
        return ".*".to_owned();
    } else {
        ("", host)
    };
    format!("(?i){labels}{}(:[0-9]+)?", template::escaped(rest))
}

/// There is no match for cookies, but their header has one form.
fn cookies(field: &FieldMatch) -> Result<Vec<Value>, Failure> {
    let name = template::escaped(&field.name);
    let mut patterns = Vec::new();
    for value in &field.values {
        match &value.kind {
            StringMatchKind::Exact(value) => patterns.push(template::escaped(value)),
            other => return Err(untranslated(format_args!("a cookie {other:?}"))),
        }
    }
    if patterns.is_empty() {
        patterns.push("[^;]*".to_owned());
    }
    Ok(patterns
        .iter()
        .map(|value| {
            let regex = format!("(.*; ?)?{name}={value}(;.*)?");
            json!({ "name": "cookie", "string_match": { "safe_regex": { "regex": regex } } })
        })
        .collect())
}

fn values(field: &FieldMatch) -> Result<Vec<Value>, Failure> {
    if field.values.is_empty() {
        return Ok(vec![json!({ "present_match": true })]);
    }
    let values = field.values.iter();
    values
        .map(|value| Ok(json!({ "string_match": string(value)? })))
        .collect()
}

fn string(value: &StringMatch) -> Result<Value, Failure> {
    let mut text = match &value.kind {
        StringMatchKind::Exact(text) => json!({ "exact": text }),
        StringMatchKind::Prefix(text) => json!({ "prefix": text }),
        StringMatchKind::Suffix(text) => json!({ "suffix": text }),
        StringMatchKind::Contains(text) => json!({ "contains": text }),
        StringMatchKind::Regex(regex) => {
            if value.ignore_case {
                return Err(untranslated("a regular expression in either case"));
            }
            return Ok(json!({ "safe_regex": { "regex": regex } }));
        }
    };
    text["ignore_case"] = value.ignore_case.into();
    Ok(text)
}

/// The fields of a match that say which paths.
fn path(pattern: &PathPattern) -> Vec<(&'static str, Value)> {
    let (name, value) = match &pattern.kind {
        PathPatternKind::Template(text) if text == "/**" => ("prefix", json!("/")),
        PathPatternKind::Template(text) if template::is_literal(text) => ("path", json!(text)),
        PathPatternKind::Template(text) => match text.strip_suffix("/**") {
            Some(prefix) if template::is_literal(prefix) => {
                ("path_separated_prefix", json!(prefix))
            }
            _ => return vec![safe_regex(&template::regex(text).0, pattern.ignore_case)],
        },
        PathPatternKind::Regex(regex) => return vec![safe_regex(regex, pattern.ignore_case)],
    };
    vec![
        (name, value),
        ("case_sensitive", (!pattern.ignore_case).into()),
    ]
}

fn safe_regex(regex: &str, ignore_case: bool) -> (&'static str, Value) {
    let flags = if ignore_case { "(?i)" } else { "" };
    ("safe_regex", json!({ "regex": format!("{flags}{regex}") }))
}

/// A path as access rules ask for it.
pub(super) fn of_access(pattern: &PathPattern) -> Value {
    let regex = match &pattern.kind {
        PathPatternKind::Template(text) => template::regex(text).0,
        PathPatternKind::Regex(regex) => regex.clone(),
    };
    let flags = if pattern.ignore_case { "(?i)" } else { "" };
    json!({ "url_path": { "path": { "safe_regex": { "regex": format!("{flags}{regex}") } } } })
}
