//! `override` and `remove`: what an environment changes about what all of them share.

use mesh_syntax::Value;

use super::Place::{Environment, Override};
use super::{Args, Argument, Keyword, Property, Repeats, Symbol};
use crate::value::{self, Kind, Wrong};

pub(super) static OVERRIDE: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("KIND", &KIND),
        Argument::new("NAME", &value::NAME).refers(Symbol::OfKind),
    ]),
    repeats: Repeats::Many,
    props: &[OF_GATEWAY],
    block: Some(Override),
    ..Keyword::new(
        "override",
        &[Environment],
        "Changes a definition for this environment, field by field; it holds what the definition holds.",
    )
};

pub(super) static REMOVE: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("KIND", &WORD),
        Argument::new("NAME", &NAME_OR_NUMBER).refers(Symbol::OfKind),
    ]),
    repeats: Repeats::Many,
    props: &[OF_GATEWAY],
    ..Keyword::new(
        "remove",
        &[Environment, Override],
        "Takes a definition away in this environment.",
    )
};

const OF_GATEWAY: Property = Property::new(
    "gateway",
    &value::NAME,
    "The gateway of a `route` that stands outside of it; of nothing else.",
)
.refers(Symbol::Gateway);

/// The definitions that an environment may change.
pub(crate) const KINDS: &[&str] = &[
    "mesh",
    "service",
    "gateway",
    "external",
    "policy",
    "jwt",
    "authorizer",
    "route",
];

static KIND: Kind = Kind {
    expected: "a kind of definition",
    words: KINDS,
    check: |value| kind(value).map(drop),
};

static WORD: Kind = Kind {
    expected: "a kind of definition, such as route",
    words: &[],
    check: |value| match value {
        Value::Word(_) => Ok(()),
        _ => Err(Wrong::kind()),
    },
};

static NAME_OR_NUMBER: Kind = Kind {
    expected: "the name of what is taken away",
    words: &[],
    check: |value| match value {
        Value::Integer(_) => Ok(()),
        other => value::name(other).map(drop),
    },
};

pub(crate) fn kind(value: &Value) -> Result<&'static str, Wrong> {
    let pairs: Vec<(&'static str, &'static str)> =
        KINDS.iter().map(|kind| (*kind, *kind)).collect();
    value::one_of(value, &pairs)
}
