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
    let mut asked = None;
    let mut expect = Vec::new();
    for child in reader.block(entry) {
        match child.word() {
            "request" => asked = request::decode(reader, child),
            "expect" => expect.extend(expect::decode(reader, child)),
            _ => {}
        }
    }
    for word in ["request", "expect"] {
        if !entry
            .node
            .children
            .iter()
            .any(|child| child.name.text == word)
        {
            reader.report(
                Diagnostic::error(
                    code::MISSING,
                    entry.node.name.span,
                    format!("a test needs `{word}`"),
                )
                .help("a test is one `request` and what to `expect`"),
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
