//! What may stand at a place: words and properties from their declarations, names from the files.

use std::collections::BTreeMap;
use std::ops::Range;

use mesh_compiler::keyword::{Keyword, Naming, Property, Repeats, Symbol};
use mesh_compiler::library::LIBRARY;
use mesh_syntax::{FileId, Node};

use crate::name::{self, Kind, Role};
use crate::outline::{self, Outline};
use crate::policies::Policies;
use crate::walk::{Places, Step};

/// What kind of thing is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionKind {
    /// A word of the language.
    Word,
    /// A property.
    Property,
    /// One of a closed list of values.
    Value,
    /// A name of this kind.
    Name(Kind),
}

/// Something that may stand at a place.
#[derive(Clone, Debug)]
pub struct Completion {
    /// What is offered, as it is written.
    pub label: String,
    /// What it is.
    pub kind: CompletionKind,
    /// What it is, in a few words.
    pub detail: String,
    /// What it does, as Markdown; may be empty.
    pub documentation: String,
    /// With the places of its values, for editors that can jump between them.
    pub snippet: Option<String>,
    /// What it replaces.
    pub replace: Range<usize>,
}

/// What may stand at an offset.
pub fn complete(policies: &Policies, file: FileId, offset: usize) -> Vec<Completion> {
    let Some(text) = policies.sources().text(file) else {
        return Vec::new();
    };
    let Some(outline) = outline::at(text, file, offset) else {
        return Vec::new();
    };
    let mut places = policies.top(file);
    let mut chain = Vec::new();
    for node in &outline.open {
        let keyword = places.find(&node.name.text);
        let step = Step { keyword, node };
        chain.push(step);
        places = Places::of_block(step);
    }
    let token = text.get(outline.token.clone()).unwrap_or_default();
    let Some(node) = &outline.node else {
        let rest = text.get(outline.token.end..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default().trim_start();
        let alone = line.is_empty() || line.starts_with(['}', ';', '/']);
        return words(places, &outline, alone);
    };
    let Some(keyword) = places.find(&node.name.text) else {
        return Vec::new();
    };
    chain.push(Step {
        keyword: Some(keyword),
        node,
    });
    let offered = Offered {
        policies,
        chain: &chain,
    };
    if let Some((name, _)) = outline::split(token) {
        let value = outline.token.start + name.len() + 1..outline.token.end;
        let declared = keyword.props.iter().find(|prop| prop.name == name);
        return declared
            .filter(|_| value.start <= offset)
            .map(|prop| offered.values(prop.kind.words, prop.names, prop.kind.expected, &value))
            .unwrap_or_default();
    }
    let mut found = keyword
        .args
        .at(node.args.len())
        .map(|arg| offered.values(arg.kind.words, arg.names, arg.kind.expected, &outline.token))
        .unwrap_or_default();
    if node.args.len() >= keyword.args.required {
        let missing = keyword
            .props
            .iter()
            .filter(|prop| node.prop(prop.name).is_none());
        found.extend(missing.map(|prop| property(prop, &outline.token)));
    }
    found
}

fn words(places: Places, outline: &Outline, alone: bool) -> Vec<Completion> {
    let siblings = outline
        .open
        .last()
        .map_or(&outline.before, |open| &open.children);
    let is_there = |keyword: &Keyword| {
        keyword.repeats == Repeats::Once
            && siblings.iter().any(|node| node.name.text == keyword.name)
    };
    let mut found: BTreeMap<&str, Completion> = BTreeMap::new();
    for keyword in places.words().filter(|keyword| !is_there(keyword)) {
        found.entry(keyword.name).or_insert_with(|| Completion {
            label: keyword.name.to_owned(),
            kind: CompletionKind::Word,
            detail: signature(keyword),
            documentation: keyword.summary.to_owned(),
            snippet: alone.then(|| word_snippet(keyword)),
            replace: outline.token.clone(),
        });
    }
    found.into_values().collect()
}

/// A word with what follows it, as the grammar writes it.
pub(crate) fn signature(keyword: &Keyword) -> String {
    let mut text = keyword.name.to_owned();
    for (index, arg) in keyword.args.leading.iter().enumerate() {
        text.extend([if index < keyword.args.required {
            format!(" {}", arg.name)
        } else {
            format!(" [{}]", arg.name)
        }]);
    }
    if let Some(rest) = keyword.args.rest {
        text.extend([format!(" {}…", rest.name)]);
    }
    if keyword.block.is_some() {
        text.push_str(" { … }");
    }
    text
}

fn word_snippet(keyword: &'static Keyword) -> String {
    let mut text = keyword.name.to_owned();
    let required = (0..keyword.args.required).filter_map(|index| keyword.args.at(index));
    let mut place = 0;
    for arg in required {
        place += 1;
        text.push(' ');
        text.push_str(&placeholder(
            place,
            arg.kind.words,
            arg.kind.expected,
            arg.name,
        ));
    }
    for prop in keyword.props.iter().filter(|prop| prop.required) {
        place += 1;
        let value = placeholder(place, prop.kind.words, prop.kind.expected, prop.name);
        text.extend([format!(" {}={value}", prop.name)]);
    }
    let defines = |naming: Option<Naming>| matches!(naming, Some(Naming::Defines(_)));
    let is_definition = keyword.args.leading.iter().any(|arg| defines(arg.names));
    let has_values = !keyword.args.leading.is_empty() || keyword.args.rest.is_some();
    if keyword.block.is_some() && (is_definition || !has_values) {
        text.push_str(" {\n\t$0\n}");
    }
    text
}

/// The place of a value in a snippet, with an example of it.
fn placeholder(place: usize, words: &[&str], expected: &str, name: &str) -> String {
    if !words.is_empty() {
        return format!("${{{place}|{}|}}", words.join(","));
    }
    if expected.contains("in quotes") {
        let example = expected.split('"').nth(1).unwrap_or_default();
        return format!("\"${{{place}:{}}}\"", escaped(example));
    }
    format!("${{{place}:{}}}", escaped(name))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '$' | '}' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

fn property(prop: &Property, token: &Range<usize>) -> Completion {
    let value = placeholder(1, prop.kind.words, prop.kind.expected, "");
    // What is no quoted text and no closed list is better completed by itself.
    let value = if value == "${1:}" { "$1" } else { &value };
    Completion {
        label: format!("{}=", prop.name),
        kind: CompletionKind::Property,
        detail: prop.kind.expected.to_owned(),
        documentation: prop.summary.to_owned(),
        snippet: Some(format!("{}={value}", prop.name)),
        replace: token.clone(),
    }
}

struct Offered<'p> {
    policies: &'p Policies,
    chain: &'p [Step<'p>],
}

impl Offered<'_> {
    fn values(
        &self,
        words: &[&str],
        names: Option<Naming>,
        expected: &str,
        token: &Range<usize>,
    ) -> Vec<Completion> {
        let word = |word: &str| Completion {
            label: word.to_owned(),
            kind: CompletionKind::Value,
            detail: expected.to_owned(),
            documentation: String::new(),
            snippet: None,
            replace: token.clone(),
        };
        let mut found: Vec<Completion> = words.iter().map(|text| word(text)).collect();
        if words.is_empty() {
            found.extend(named_in(expected).map(word));
        }
        // A definition's own name is new.
        let Some(Naming::Refers(symbol)) = names else {
            return found;
        };
        found.extend(special(symbol).iter().map(|text| word(text)));
        found.extend(self.names(symbol, token));
        let given = self.chain.last().map(|step| step.node);
        let is_given = |label: &str| {
            let args = given.into_iter().flat_map(|node: &Node| &node.args);
            args.into_iter()
                .any(|arg| arg.value.as_str() == Some(label))
        };
        found.retain(|completion| !is_given(&completion.label));
        found
    }

    fn names(&self, symbol: Symbol, token: &Range<usize>) -> Vec<Completion> {
        let Some(kind) = name::kind(symbol, self.chain) else {
            return Vec::new();
        };
        let completion = |label: String, detail: String, documentation: String| Completion {
            label,
            kind: CompletionKind::Name(kind),
            detail,
            documentation,
            snippet: None,
            replace: token.clone(),
        };
        if kind == Kind::Code {
            let pages = mesh_lint::pages();
            return pages
                .into_iter()
                .map(|page| {
                    completion(
                        page.code.to_owned(),
                        page.name.to_owned(),
                        page.summary.to_owned(),
                    )
                })
                .collect();
        }
        let owner = match kind {
            Kind::Subset | Kind::Route => match name::owner(self.chain) {
                Some(owner) => owner,
                None => return Vec::new(),
            },
            _ => String::new(),
        };
        let mut found: BTreeMap<String, Completion> = BTreeMap::new();
        if kind == Kind::Policy {
            for entry in LIBRARY {
                let label = format!("std.{}", entry.name);
                let text = format!("```kdl\n{}```", entry.text);
                let detail = "policy of the standard library".to_owned();
                found.insert(label.clone(), completion(label, detail, text));
            }
        }
        for mention in self.policies.mentions() {
            let id = &mention.id;
            let fits = mention.role != Role::Reference
                && id.kind == kind
                && id.owner == owner
                && (symbol != Symbol::Gateway || mention.word == "gateway");
            if fits && !found.contains_key(&id.name) {
                let path = self.policies.sources().path(mention.span.file);
                let detail = format!("{} · {path}", mention.word);
                found.insert(
                    id.name.clone(),
                    completion(id.name.clone(), detail, String::new()),
                );
            }
        }
        found.into_values().collect()
    }
}

/// Words that the description of an open list names: those in backticks, and `none`.
fn named_in(expected: &str) -> impl Iterator<Item = &str> {
    let none = expected.ends_with("or none").then_some("none");
    expected.split('`').skip(1).step_by(2).chain(none)
}

/// Names that mean something by themselves.
fn special(symbol: Symbol) -> &'static [&'static str] {
    match symbol {
        Symbol::Who => &["any", "unauthenticated"],
        Symbol::Caller => &["unauthenticated"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{Case, MESH};

    /// Labels in their order.
    fn labels(text: &str) -> Vec<String> {
        let found = Case::one(text).complete().into_iter();
        found.map(|completion| completion.label).collect()
    }

    fn has(text: &str, expected: &[&str]) {
        let found = labels(text);
        for label in expected {
            assert!(
                found.iter().any(|found| found == label),
                "{text}: {label} in {found:?}"
            );
        }
    }

    #[test]
    fn words_are_those_of_the_place() {
        has("¦", &["service", "gateway", "policy", "suppress"]);
        has("service a {\n    ti¦\n}", &["timeout", "route", "allow"]);
        has("service a { route r {\n ¦", &["match", "to", "timeout"]);
        has(
            "service a { route r { match { ¦",
            &["header", "path", "not"],
        );
        assert!(!labels("service a { route r { ¦").contains(&"port".to_owned()));
        assert!(!labels("service a { timeout \"1s\"\n ¦").contains(&"timeout".to_owned()));
        assert!(labels("// ¦").is_empty());
        assert!(labels("nonsense { ¦").is_empty());
    }

    #[test]
    fn other_kinds_of_files_have_other_words() {
        let at = |path: &str, text: &str| {
            let case = Case::new(&[("mesh.kdl", MESH), (path, text)]);
            let found = case.complete().into_iter();
            found.map(|completion| completion.label).collect::<Vec<_>>()
        };
        assert_eq!(at("a.test.kdl", "¦"), ["test"]);
        assert_eq!(at("inventory.kdl", "¦"), ["inventory"]);
        let environment = at("environments/prod/a.kdl", "¦");
        assert!(
            environment.contains(&"override".to_owned()),
            "{environment:?}"
        );
        let overriding = at("environments/prod/a.kdl", "override service a { ¦");
        for word in ["remove", "timeout", "route"] {
            assert!(overriding.contains(&word.to_owned()), "{overriding:?}");
        }
    }

    #[test]
    fn values_are_words_of_the_language_and_names_in_scope() {
        let other =
            "\nservice b { port 80; subset v1 { labels v=a }; subset v2 { labels v=b }; route r }
gateway g\njwt id\nauthorizer z\npolicy own\n";
        for (text, expected) in [
            ("service a { calls ¦ }", &["a", "b", "g"][..]),
            ("service b { route x { to ¦ } }", &["v1", "v2"]),
            ("gateway g { route x { to ¦ } }", &["b", "g"]),
            (
                "service a { route x { to service=b subset=¦ } }",
                &["v1", "v2"],
            ),
            ("service a { calls b route=¦ }", &["r"]),
            ("service a { allow b ¦ }", &["any", "unauthenticated", "a"]),
            ("service a { allow team=¦ }", &["shop"]),
            (
                "service a { use ¦ }",
                &["own", "std.retries", "std.timeouts"],
            ),
            ("service a { require ¦ }", &["jwt", "authorizer"]),
            ("service a { require jwt ¦ }", &["id"]),
            ("service a { require authorizer ¦ }", &["z"]),
            (
                "service a { port 80 protocol=¦ }",
                &["http", "grpc", "tcp", "tls"],
            ),
            ("route x gateway=¦", &["g"]),
            ("suppress ¦", &["MSH0403", "MSH0001"]),
            ("suppress MSH0403 at=b route=¦", &["r"]),
            ("service a { retry ¦ }", &["reset", "connect-failure"]),
        ] {
            let text = format!("{text}{other}");
            has(&text, expected);
        }
        assert_eq!(labels(&format!("route x gateway=¦{other}")), ["g"]);
        assert!(!labels(&format!("service a {{ allow b ¦ }}{other}")).contains(&"b".to_owned()));
    }

    #[test]
    fn properties_come_once_the_values_are_there() {
        has("service a { port 80 ¦ }", &["protocol="]);
        has("service a { timeout \"1s\" conn¦ }", &["connect="]);
        assert!(
            !labels("service a { timeout \"1s\" connect=\"1s\" ¦").contains(&"connect=".to_owned())
        );
        assert!(!labels("service a { calls ¦").contains(&"share=".to_owned()));
    }

    #[test]
    fn what_is_inserted_has_places_for_its_values() {
        let snippet = |text: &str, label: &str| {
            let found = Case::one(text).complete();
            let found = found.into_iter().find(|found| found.label == label);
            found.and_then(|found| found.snippet)
        };
        assert_eq!(
            snippet("¦", "service").as_deref(),
            Some("service ${1:NAME} {\n\t$0\n}")
        );
        assert_eq!(
            snippet("service a { ¦", "timeout").as_deref(),
            Some("timeout")
        );
        assert_eq!(
            snippet("service a { timeout \"1s\" ¦", "connect=").as_deref(),
            Some("connect=\"${1:2s}\"")
        );
        assert_eq!(
            snippet("service a { port 80 ¦", "protocol=").as_deref(),
            Some("protocol=${1|http,grpc,tcp,tls|}")
        );
        assert_eq!(snippet("ser¦ reviews {", "service"), None);
    }

    #[test]
    fn only_the_token_is_replaced() {
        let found = Case::one("service a { port 80 proto¦col=http }").complete();
        assert!(found.is_empty(), "{found:?}");
        let found = Case::one("service a { calls re¦v route=x }").complete();
        assert!(
            found.iter().all(|found| found.replace == (18..21)),
            "{found:?}"
        );
    }
}
