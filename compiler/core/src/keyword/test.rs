//! `test`

use mesh_syntax::Diagnostic;

use super::Place::{Test, TestFile};
use super::{Args, Argument, Entry, Keyword, Reader, Repeats, expect, request};
use crate::code;
use crate::model;
use crate::value;

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

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Test> {
    let (mut asked, mut sent) = (None, None);
    let mut expect = Vec::new();
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
        request: asked?,
        expect,
        span: entry.span(),
    })
}
