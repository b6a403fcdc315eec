//! `mirror`: copies of requests, whose answers nobody sees.

use super::Place::Route;
use super::{Args, Argument, Entry, Keyword, Property, Repeats, Symbol, to};
use crate::model::Mirror;
use crate::value;

pub(super) static MIRROR: Keyword = Keyword {
    args: Args::optional(&[Argument::new("NAME", &value::NAME).refers(Symbol::Destination)]),
    repeats: Repeats::Many,
    props: &[
        to::SERVICE,
        to::SUBSET,
        to::PORT,
        Property::new(
            "share",
            &value::PERCENT,
            "How many requests; all if unsaid.",
        ),
    ],
    ..Keyword::new(
        "mirror",
        &[Route],
        "Sends copies elsewhere, named as in `to`; nobody waits for their answers.",
    )
};

pub(super) fn decode(entry: Entry<'_>) -> Mirror {
    Mirror {
        target: to::target(entry),
        share: entry
            .prop("share", value::percent)
            .map_or(10_000, |share| share.value),
        span: entry.span(),
    }
}
