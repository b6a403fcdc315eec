//! `to` and `else`: where a route sends its requests.

use super::Place::{Route, To};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats};
use crate::model::{Destination, Target};
use crate::value;

pub(super) static TO: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME)]),
    repeats: Repeats::Many,
    props: &[
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

const SUBSET: Property = Property::new(
    "subset",
    &value::NAME,
    "The same as the argument; in a gateway, a subset of the service.",
);
const PORT: Property = Property::new(
    "port",
    &value::PORT,
    "Port of the service; without it the one that the request asked for, in a gateway the only one.",
);

pub(super) static ELSE: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME)]),
    repeats: Repeats::Many,
    props: &[SUBSET, PORT],
    alone: true,
    ..Keyword::new(
        "else",
        &[To],
        "The subset that takes over when none before it has a healthy endpoint.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Destination {
    let otherwise = reader.block(entry).into_iter().map(target).collect();
    Destination {
        target: target(entry),
        weight: entry.prop("weight", value::weight),
        otherwise,
        span: entry.span(),
    }
}

fn target(entry: Entry<'_>) -> Target {
    Target {
        name: entry.arg(0, value::name),
        service: None,
        subset: entry.prop("subset", value::name),
        port: entry.prop("port", value::port),
        span: entry.span(),
    }
}
