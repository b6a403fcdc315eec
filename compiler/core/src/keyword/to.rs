//! `to` and `else`: where a route sends its requests.

use super::Place::{Route, To};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats};
use crate::model::{Destination, Target};
use crate::value;

pub(super) static TO: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME)]),
    repeats: Repeats::Many,
    props: &[
        Property::new("subset", &value::NAME, "The same as the argument."),
        Property::new("weight", &value::WEIGHT, "Share among the branches."),
    ],
    block: Some(To),
    alone: true,
    ..Keyword::new(
        "to",
        &[Route],
        "A subset that takes the requests, or a share of them.",
    )
};

pub(super) static ELSE: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME)]),
    repeats: Repeats::Many,
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
        port: None,
        span: entry.span(),
    }
}
