//! What a finding is known by when it is met again: its code, the definitions that it stands in, and the names in its
//! text. Not its file, line or numbers, which change with what is around it.

use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_syntax::{Diagnostic, FileId, Node, Span, parse_file};

use crate::load::Loaded;

/// Hexadecimal digits of a fingerprint: 96 bits, for lists of thousands.
const DIGITS: usize = 24;

/// Makes fingerprints, reading each file once.
#[derive(Debug)]
pub(crate) struct Fingerprints<'l> {
    loaded: &'l Loaded,
    files: BTreeMap<FileId, Vec<Node>>,
}

/// What one finding is known by.
#[derive(Debug)]
pub(crate) struct Fingerprint {
    /// As outputs show it.
    pub(crate) text: String,
    /// The definitions around it, or its file.
    pub(crate) place: String,
}

impl<'l> Fingerprints<'l> {
    pub(crate) fn new(loaded: &'l Loaded) -> Self {
        Self {
            loaded,
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn of(&mut self, finding: &Diagnostic) -> Fingerprint {
        let place = self.place(finding.span);
        let mut text = format!("{}\0{place}", finding.code);
        for name in names(&finding.message) {
            text.push('\0');
            text.push_str(name);
        }
        let mut hex = Digest::of(text.as_bytes()).to_hex();
        hex.truncate(DIGITS);
        Fingerprint { text: hex, place }
    }

    /// The definitions around a place, outermost first, behind the environment that they are for. Which file holds
    /// them means nothing to the language, unless there is nothing else to go by.
    fn place(&mut self, span: Span) -> String {
        let Loaded {
            sources, root_path, ..
        } = self.loaded;
        let nodes = self
            .files
            .entry(span.file)
            .or_insert_with(|| parse_file(sources, span.file).0);
        let mut around = Vec::new();
        let mut inner: &[Node] = nodes;
        loop {
            let at = inner.partition_point(|node| node.span.end <= span.start);
            let Some(node) = inner.get(at).filter(|node| node.span.start <= span.start) else {
                break;
            };
            around.push(label(node));
            inner = &node.children;
        }
        let path = sources.path(span.file);
        if around.is_empty() {
            return path.to_owned();
        }
        let environment = mesh_compiler::environment_of(path, root_path);
        let environment = environment.map(|name| format!("environment {name}"));
        let parts: Vec<String> = environment.into_iter().chain(around).collect();
        parts.join(" / ")
    }
}

/// A node's kind with its name, if it has one: names are bare, or stand before a block. Values are no names.
fn label(node: &Node) -> String {
    let kind = node.name.text.as_str();
    let names = if matches!(kind, "override" | "remove") {
        2
    } else {
        1
    };
    let named = node
        .args
        .iter()
        .take(names)
        .map_while(|arg| match &arg.value {
            mesh_syntax::Value::Word(word) => Some(word.clone()),
            mesh_syntax::Value::Text(text) if node.has_block => Some(format!("\"{text}\"")),
            _ => None,
        });
    let words: Vec<String> = std::iter::once(kind.to_owned()).chain(named).collect();
    words.join(" ")
}

/// What a text names, between backticks. A number is no name.
fn names(message: &str) -> impl Iterator<Item = &str> {
    let quoted = message.split('`').skip(1).step_by(2);
    quoted.filter(|name| !name.starts_with(|char: char| char.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use mesh_syntax::{SourceSet, code};

    use super::*;

    fn fingerprint(path: &str, text: &str, at: &str, message: &str) -> Fingerprint {
        let mut sources = SourceSet::new();
        let file = sources.add(path, text.as_bytes().to_vec());
        let start = text.find(at).unwrap();
        let span = Span::new(file, start, start + at.len());
        let loaded = Loaded {
            sources,
            root_path: String::new(),
            ignored: Vec::new(),
        };
        Fingerprints::new(&loaded).of(&Diagnostic::warning(code::SYNTAX_ERROR, span, message))
    }

    const TEXT: &str = "service a {\n    route b { timeout \"2s\" }\n}\n";

    #[test]
    fn a_finding_is_known_again_where_only_what_is_around_it_changed() {
        let before = fingerprint("a.kdl", TEXT, "timeout", "`a` waits 3 times, `5s`");
        assert_eq!(before.place, "service a / route b / timeout");
        let moved = format!("// new\nservice z {{ }}\n\n{}", TEXT.replace("2s", "3s"));
        let after = fingerprint("teams/x.kdl", &moved, "timeout", "`a` waits 27 times, `6s`");
        assert_eq!(after.text, before.text);
    }

    #[test]
    fn another_place_name_or_environment_is_another_finding() {
        let before = fingerprint("a.kdl", TEXT, "timeout", "`a` waits").text;
        let route = TEXT.replace("route b", "route c");
        assert_ne!(
            fingerprint("a.kdl", &route, "timeout", "`a` waits").text,
            before
        );
        assert_ne!(
            fingerprint("a.kdl", TEXT, "timeout", "`b` waits").text,
            before
        );
        let there = fingerprint("environments/prod/a.kdl", TEXT, "timeout", "`a` waits");
        assert_ne!(there.text, before);
        assert!(there.place.starts_with("environment prod / "));
    }

    #[test]
    fn without_a_definition_around_it_a_finding_is_its_file_s() {
        assert_eq!(fingerprint("a.kdl", "// x\n", "x", "m").place, "a.kdl");
    }
}
