//! `respond`: the proxy answers itself.

use mesh_bundle::slice::{HeaderLine, Respond};
use mesh_syntax::Value;

use super::Place::{self, Route};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats};
use crate::limits;
use crate::value::{self, Kind, Wrong};

pub(super) static RESPOND: Keyword = Keyword {
    args: Args::required(&[Argument::new("STATUS", &FINAL_STATUS)]),
    props: &[Property::new("body", &BODY, "What the answer says.")],
    merge: Some(Merge::Whole),
    block: Some(Place::Respond),
    ..Keyword::new(
        "respond",
        &[Route, Place::RateLimit],
        "Answers with a status.",
    )
};

pub(super) static HEADER: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("NAME", &value::EDITED_HEADER),
        Argument::new("VALUE", &value::HEADER_VALUE),
    ]),
    repeats: Repeats::Many,
    ..Keyword::new("header", &[Place::Respond], "A header of the answer.")
};

pub(super) static FINAL_STATUS: Kind = Kind {
    expected: "a status from 200 to 599",
    words: &[],
    check: |value| final_status(value).map(drop),
};

/// A status that ends an exchange.
pub(super) fn final_status(value: &Value) -> Result<u16, Wrong> {
    value::integer(value, 200, 599).and_then(|number| u16::try_from(number).or(Err(Wrong::kind())))
}

static BODY: Kind = Kind {
    expected: "a text in quotes",
    words: &[],
    check: |value| body(value).map(drop),
};

fn body(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Text(text) if text.len() > limits::RESPOND_BYTES_MAX => Err(Wrong::range(format!(
            "this answer is longer than {} bytes",
            limits::RESPOND_BYTES_MAX
        ))),
        Value::Text(text) => Ok(text.clone()),
        other => value::text(other),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Respond> {
    let headers = reader.block(entry).into_iter().filter_map(|child| {
        Some(HeaderLine {
            name: child.arg(0, value::edited_header)?.value,
            value: child.arg(1, value::header_value)?.value,
        })
    });
    let headers = headers.collect();
    Some(Respond {
        status: entry.arg(0, final_status)?.value,
        body: entry
            .prop("body", body)
            .map(|body| body.value)
            .unwrap_or_default(),
        headers,
    })
}
