//! `test`

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Test, TestFile};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats, Symbol, expect, request};
use crate::DEFAULT_ENVIRONMENT;
use crate::code;
use crate::model;
use crate::value::{self, Kind, Wrong};

pub(super) static TEST: Keyword = Keyword {
    args: Args::required(&[Argument::new("TEXT", &value::PROSE)]),
    repeats: Repeats::Many,
    block: Some(Test),
    ..Keyword::new(
        "test",
        &[TestFile],
        "A request, and what should become of it.",
    )
};

pub(super) static ENVIRONMENT: Keyword = Keyword {
    args: Args::list("NAME", &ENVIRONMENT_NAME, 1).refers(Symbol::Environment),
    ..Keyword::new(
        "environment",
        &[Test],
        "The environments that the test is for, where it is not for all; `default` is the one without overrides.",
    )
};

static ENVIRONMENT_NAME: Kind = Kind {
    expected: "an environment",
    words: &[DEFAULT_ENVIRONMENT],
    check: |value| environment(value).map(drop),
};

/// Unlike in `mesh`, the one that nobody declares may be named.
fn environment(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Word(word) if word == DEFAULT_ENVIRONMENT => Ok(word.clone()),
        other => value::name(other),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Test> {
    let (mut asked, mut sent) = (None, None);
    let mut expect = Vec::new();
    let mut environments = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "request" | "connect" => {
                if let Some(first) = sent {
                    reader.report(
                        Diagnostic::error(
                            code::EXCLUSIVE,
                            child.node.name.span,
                            "a test sends one `request` or makes one `connect`",
                        )
                        .label(first, "the other one")
                        .help("write a test for each"),
                    );
                    continue;
                }
                sent = Some(child.node.name.span);
                asked = request::decode(reader, child);
            }
            "expect" => expect.extend(expect::decode(reader, child)),
            "environment" => environments = child.args(0, environment),
            _ => {}
        }
    }
    let has = |words: &[&str]| {
        let mut children = entry.node.children.iter();
        children.any(|child| words.contains(&child.name.text.as_str()))
    };
    for (words, missing) in [
        (&["request", "connect"][..], "request"),
        (&["expect"][..], "expect"),
    ] {
        if !has(words) {
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    entry.node.name.span,
                    format!("a test needs `{missing}`"),
                )
                .help("a test is one `request` or `connect`, and what to `expect`"),
            );
        }
    }
    Some(model::Test {
        name: entry.arg(0, value::text)?,
        environments,
        request: asked?,
        expect,
        span: entry.span(),
    })
}
