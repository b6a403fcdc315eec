//! `calls`: a fact about the caller, and the caller's own tightening. It grants nothing.

use mesh_syntax::Value;

use super::Place::{Calls, Service};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, defaults};
use crate::model::{self, CallMode, Exchange};
use crate::value::{self, Kind, Wrong};

pub(super) static CALLS: Keyword = Keyword {
    merge: Some(Merge::Named),
    args: Args::required(&[Argument::new("SERVICE", &value::NAME)]),
    repeats: Repeats::Many,
    props: &[
        Property::new(
            "per-request",
            &value::CALLS,
            "Calls for each request handled; 1 if unsaid.",
        ),
        Property::new(
            "share",
            &value::PERCENT,
            "How many requests make the call at all.",
        ),
        Property::new(
            "mode",
            &MODE,
            "Whether several calls run one after the other or at once.",
        ),
        Property::new(
            "route",
            &value::NAME,
            "The route of the called service that the calls take.",
        ),
    ],
    block: Some(Calls),
    ..Keyword::new(
        "calls",
        &[Service],
        "A service that this one calls, and how much at most.",
    )
};

const MODES: [(&str, CallMode); 2] = [
    ("sequential", CallMode::Sequential),
    ("parallel", CallMode::Parallel),
];

static MODE: Kind = Kind {
    expected: "sequential or parallel",
    words: &["sequential", "parallel"],
    check: |value| mode(value).map(drop),
};

fn mode(value: &Value) -> Result<CallMode, Wrong> {
    value::one_of(value, &MODES)
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Call> {
    let mut exchange = Exchange::default();
    for child in reader.block(entry) {
        defaults::exchange(reader, child, &mut exchange);
    }
    Some(model::Call {
        callee: entry.arg(0, value::name)?,
        route: entry.prop("route", value::name),
        per_request: entry.prop("per-request", value::calls),
        share: entry.prop("share", value::percent),
        mode: entry.prop("mode", mode),
        exchange,
        span: entry.span(),
    })
}
