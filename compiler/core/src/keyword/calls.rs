//! `calls`: a fact about the caller, and the caller's own tightening. It grants nothing.

use std::net::SocketAddr;

use mesh_bundle::slice::EndpointAddress;
use mesh_syntax::Value;

use super::Place::{Calls, Service};
use super::{Args, Argument, Entry, Keyword, Merge, Property, Reader, Repeats, Symbol, defaults};
use crate::model::{self, CallMode, Exchange};
use crate::value::{self, Kind, Wrong};

pub(super) static CALLS: Keyword = Keyword {
    merge: Some(Merge::Named),
    args: Args::required(&[Argument::new("SERVICE", &value::NAME).refers(Symbol::Service)]),
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
        )
        .refers(Symbol::Route),
    ],
    block: Some(Calls),
    ..Keyword::new(
        "calls",
        &[Service],
        "A service that this one calls, and how much at most.",
    )
};

pub(super) static LISTEN: Keyword = Keyword {
    args: Args::required(&[Argument::new("ADDRESS", &LISTEN_ADDRESS)]),
    ..Keyword::new(
        "listen",
        &[Calls],
        "Where the caller's proxy takes connections for a service of `protocol=tcp`, which no host names.",
    )
};

static LISTEN_ADDRESS: Kind = Kind {
    expected: "an address of this host with a port in quotes, such as \"127.0.0.1:15432\"",
    words: &[],
    check: |value| listen_address(value).map(drop),
};

fn listen_address(value: &Value) -> Result<SocketAddr, Wrong> {
    let EndpointAddress::Static(address) = value::socket(value)? else {
        return Err(Wrong::kind());
    };
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(
        Wrong::range(format!("others could reach \"{address}\" too"))
            .help("what connects there has this workload's rights: listen on 127.0.0.1 or [::1]"),
    )
}

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
    let mut listen = None;
    for child in reader.block(entry) {
        match child.word() {
            "listen" => listen = child.arg(0, listen_address),
            _ => defaults::exchange(reader, child, &mut exchange),
        }
    }
    Some(model::Call {
        callee: entry.arg(0, value::name)?,
        route: entry.prop("route", value::name),
        per_request: entry.prop("per-request", value::calls),
        share: entry.prop("share", value::percent),
        mode: entry.prop("mode", mode),
        exchange,
        listen,
        span: entry.span(),
    })
}
