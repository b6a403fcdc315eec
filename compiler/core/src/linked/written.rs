//! Conditions as policy writes them, for fixes that add one.

use mesh_bundle::slice::{Condition, FieldMatch, StringMatchKind};

use crate::trial::quoted;

/// A condition on a header, query parameter, cookie or claim as a line of policy; fixes write no other.
pub fn condition_text(condition: &Condition) -> Option<String> {
    match condition {
        Condition::Header(field) => field_text("header", field),
        Condition::Query(field) => field_text("query", field),
        Condition::Cookie(field) => field_text("cookie", field),
        Condition::Claim(field) => field_text("claim", field),
        Condition::Method(_)
        | Condition::Path(_)
        | Condition::Host(_)
        | Condition::Port(_)
        | Condition::ClientIp(_)
        | Condition::PeerIp(_)
        | Condition::From(_)
        | Condition::Not(_) => None,
    }
}

fn field_text(word: &str, field: &FieldMatch) -> Option<String> {
    // A bare name is a word; what is none is better left to its author.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_word = field
        .name
        .starts_with(|first: char| first.is_ascii_alphabetic())
        && field.name.bytes().all(is_plain);
    if !is_word || field.values.iter().any(|value| value.ignore_case) {
        return None;
    }
    let mut text = format!("{word} {}", field.name);
    for value in &field.values {
        let value = match &value.kind {
            StringMatchKind::Exact(value) => quoted(value),
            StringMatchKind::Prefix(value) => format!("prefix={}", quoted(value)),
            StringMatchKind::Suffix(value) => format!("suffix={}", quoted(value)),
            StringMatchKind::Contains(value) => format!("contains={}", quoted(value)),
            StringMatchKind::Regex(value) => format!("regex={}", quoted(value)),
        };
        text = format!("{text} {value}");
    }
    Some(text)
}
