//! `to` and `else`: where a route sends its requests.

use mesh_bundle::slice::HeaderEdits;

use super::Place::{Route, To};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol, headers};
use crate::model::{Destination, Target};
use crate::value;

pub(super) static TO: Keyword = Keyword {
    args: Args::optional(&[Argument::new("NAME", &value::NAME).refers(Symbol::Destination)]),
    repeats: Repeats::Many,
    props: &[
        SERVICE,
        SUBSET,
        PORT,
        Property::new("weight", &value::WEIGHT, "Share among the branches."),
    ],
    block: Some(To),
    alone: true,
    ..Keyword::new(
        "to",
        &[Route],
        "Who takes the requests, or a share of them: a subset, in a gateway a service.",
    )
};

pub(super) const SERVICE: Property = Property::new(
    "service",
    &value::NAME,
    "Another service: its endpoints, with the times and retries of this route.",
)
.refers(Symbol::Service);
pub(super) const SUBSET: Property = Property::new(
    "subset",
    &value::NAME,
    "A subset of the service; without a service the same as the argument.",
)
.refers(Symbol::Subset);
pub(super) const PORT: Property = Property::new(
    "port",
    &value::PORT,
    "Port of the service; without it the one that the request asked for, of another service the only one.",
);

pub(super) static ELSE: Keyword = Keyword {
    args: Args::optional(&[Argument::new("NAME", &value::NAME).refers(Symbol::Destination)]),
    repeats: Repeats::Many,
    props: &[SERVICE, SUBSET, PORT],
    alone: true,
    ..Keyword::new(
        "else",
        &[To],
        "Who takes over when none before it has a healthy endpoint; named as in `to`.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Destination {
    let mut otherwise = Vec::new();
    let mut request_headers = HeaderEdits::default();
    let mut response_headers = HeaderEdits::default();
    for child in reader.block(entry) {
        match child.word() {
            "request-headers" => request_headers = headers::decode(reader, child),
            "response-headers" => response_headers = headers::decode(reader, child),
            _ => otherwise.push(target(child)),
        }
    }
    Destination {
        target: target(entry),
        weight: entry.prop("weight", value::weight),
        otherwise,
        request_headers,
        response_headers,
        span: entry.span(),
    }
}

pub(super) fn target(entry: Entry<'_>) -> Target {
    Target {
        name: entry.arg(0, value::name),
        service: entry.prop("service", value::name),
        subset: entry.prop("subset", value::name),
        port: entry.prop("port", value::port),
        span: entry.span(),
    }
}
