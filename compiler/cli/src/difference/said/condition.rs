//! Who and which requests are meant, as one line of text.

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, Principal, StringMatchKind,
};
use mesh_compiler::trial::quoted;

pub(super) fn principal(who: &Principal) -> String {
    match who {
        Principal::SpiffeId(id) => id.to_string(),
        Principal::SpiffePrefix(prefix) => format!("{prefix}**"),
        Principal::Any => "any".to_owned(),
        Principal::Unauthenticated => "unauthenticated".to_owned(),
    }
}

pub(super) fn pattern(pattern: &PathPattern) -> String {
    let text = match &pattern.kind {
        PathPatternKind::Template(text) => quoted(text),
        PathPatternKind::Regex(text) => format!("regex={}", quoted(text)),
    };
    cased(text, pattern.ignore_case)
}

fn cased(text: String, ignore_case: bool) -> String {
    if ignore_case {
        format!("{text} ignore-case")
    } else {
        text
    }
}

fn field(word: &str, field: &FieldMatch) -> String {
    let values = field.values.iter().map(|value| {
        let text = match &value.kind {
            StringMatchKind::Exact(text) => quoted(text),
            StringMatchKind::Prefix(text) => format!("prefix={}", quoted(text)),
            StringMatchKind::Suffix(text) => format!("suffix={}", quoted(text)),
            StringMatchKind::Contains(text) => format!("contains={}", quoted(text)),
            StringMatchKind::Regex(text) => format!("regex={}", quoted(text)),
        };
        cased(text, value.ignore_case)
    });
    let mut text = format!("{word} {}", field.name);
    for value in values {
        text = format!("{text} {value}");
    }
    text
}

fn condition(one: &Condition) -> String {
    fn all<T>(word: &str, of: &[T], text: impl Fn(&T) -> String) -> String {
        let of: Vec<String> = of.iter().map(text).collect();
        format!("{word} {}", of.join(" "))
    }
    match one {
        Condition::Method(methods) => all("method", methods, Clone::clone),
        Condition::Path(paths) => all("path", paths, pattern),
        Condition::Host(hosts) => all("host", hosts, |host| quoted(host)),
        Condition::Port(ports) => all("port", ports, ToString::to_string),
        Condition::Header(of) => field("header", of),
        Condition::Query(of) => field("query", of),
        Condition::Cookie(of) => field("cookie", of),
        Condition::Claim(of) => field("claim", of),
        Condition::ClientIp(nets) => all("client-ip", nets, ToString::to_string),
        Condition::PeerIp(nets) => all("peer-ip", nets, ToString::to_string),
        Condition::From(who) => all("from", who, principal),
        Condition::Not(one) => format!("not {}", condition(one)),
    }
}

/// ` { … }`, or nothing where every request is meant.
pub(super) fn conditions<'c>(all: impl Iterator<Item = &'c Condition>) -> String {
    let mut all: Vec<String> = all.map(condition).collect();
    all.sort();
    if all.is_empty() {
        String::new()
    } else {
        format!(" {{ {} }}", all.join("; "))
    }
}
