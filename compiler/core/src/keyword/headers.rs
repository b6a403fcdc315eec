//! `request-headers` and `response-headers`: edits of headers on their way.

use std::collections::BTreeMap;

use mesh_bundle::slice::{HeaderEdits, HeaderLine};
use mesh_syntax::{Diagnostic, Span};

use super::Place::{self, Route, To};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats};
use crate::code;
use crate::secrets;
use crate::value;

pub(super) static REQUEST_HEADERS: Keyword = Keyword {
    block: Some(Place::HeaderEdits),
    ..Keyword::new(
        "request-headers",
        &[Route, To],
        "Edits the headers of requests, after their path is rewritten.",
    )
};

pub(super) static RESPONSE_HEADERS: Keyword = Keyword {
    block: Some(Place::HeaderEdits),
    ..Keyword::new(
        "response-headers",
        &[Route, To],
        "Edits the headers of answers.",
    )
};

pub(super) static SET: Keyword = Keyword {
    args: Args::required(&LINE),
    repeats: Repeats::Many,
    ..Keyword::new(
        "set",
        &[Place::HeaderEdits],
        "This line instead of all of that name.",
    )
};

pub(super) static ADD: Keyword = Keyword {
    args: Args::required(&LINE),
    repeats: Repeats::Many,
    ..Keyword::new(
        "add",
        &[Place::HeaderEdits],
        "This line besides those of that name.",
    )
};

pub(super) static REMOVE: Keyword = Keyword {
    args: Args::list("NAME", &value::EDITED_HEADER, 1),
    repeats: Repeats::Many,
    ..Keyword::new("remove", &[Place::HeaderEdits], "No line of these names.")
};

static LINE: [Argument; 2] = [
    Argument::new("NAME", &value::EDITED_HEADER),
    Argument::new("VALUE", &value::HEADER_VALUE),
];

/// Sorted by name, but lines that are added keep their order within a name.
pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let mut given: BTreeMap<String, (&str, Span)> = BTreeMap::new();
    for child in reader.block(entry) {
        let word = child.word();
        if word == "remove" {
            for name in child.args(0, value::edited_header) {
                once(reader, &mut given, (word, &name.value, name.span));
                edits.remove.push(name.value);
            }
            continue;
        }
        let (Some(name), Some(value)) = (
            child.arg(0, value::edited_header),
            child.arg(1, value::header_value),
        ) else {
            continue;
        };
        once(reader, &mut given, (word, &name.value, name.span));
        credential(reader, &name.value, value.span);
        let line = HeaderLine {
            name: name.value,
            value: value.value,
        };
        match word {
            "set" => edits.set.push(line),
            _ => edits.add.push(line),
        }
    }
    if entry.node.has_block && entry.node.children.is_empty() {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                format!("`{}` edits nothing", entry.word()),
            )
            .help("say what changes: `set NAME \"…\"`, `add NAME \"…\"` or `remove NAME`"),
        );
    }
    edits.set.sort_by(|a, b| a.name.cmp(&b.name));
    edits.add.sort_by(|a, b| a.name.cmp(&b.name));
    edits.remove.sort_unstable();
    edits.set.dedup_by(|later, first| later.name == first.name);
    edits.remove.dedup();
    edits
}

/// A credential that the proxy adds to every request is one that every reader of the repository has.
pub(super) fn credential(reader: &mut Reader<'_>, name: &str, span: Span) {
    if secrets::is_credential(name) {
        let message = format!(
            "the value of `{name}` is a credential, for everybody who reads the repository"
        );
        reader.report(
            Diagnostic::warning(code::SECRET, span, message)
                .possible()
                .help(secrets::HELP),
        );
    }
}

/// A header is set, added to or removed; only what is added may be there several times.
fn once<'w>(
    reader: &mut Reader<'_>,
    given: &mut BTreeMap<String, (&'w str, Span)>,
    (word, name, span): (&'w str, &str, Span),
) {
    match given.get(name) {
        Some(("add", _)) if word == "add" => {}
        Some((first_word, first)) => {
            let (code, message) = if *first_word == word {
                (
                    mesh_syntax::code::DUPLICATE_SETTING,
                    format!("`{word} {name}` is given twice"),
                )
            } else {
                (
                    code::EXCLUSIVE,
                    format!("`{name}` has both `{first_word}` and `{word}`"),
                )
            };
            reader.report(
                Diagnostic::error(code, span, message)
                    .label(*first, "the first time")
                    .help("keep one: `set` replaces every line, `add` keeps them, `remove` drops them"),
            );
        }
        None => {
            given.insert(name.to_owned(), (word, span));
        }
    }
}
