//! `policy` and `use`: settings with a name.

use super::Place::{Defaults, External, Gateway, Policy, Root, Service};
use super::{Args, Argument, Entry, Keyword, Merge, Reader, Repeats, Symbol, defaults};
use crate::model::{self, Spanned};
use crate::value;

pub(super) static POLICY: Keyword = Keyword {
    args: Args::required(&[Argument::new("NAME", &value::NAME).defines(Symbol::Policy)]),
    repeats: Repeats::Many,
    block: Some(Policy),
    ..Keyword::new(
        "policy",
        &[Root],
        "Settings with a name, for services to `use`.",
    )
};

// Not in `policy` itself: one level of names is all there is, so nothing can go in circles.
pub(super) static USE: Keyword = Keyword {
    merge: Some(Merge::List),
    args: Args::list("NAME", &value::NAME, 1).refers(Symbol::Policy),
    repeats: Repeats::Many,
    ..Keyword::new(
        "use",
        &[Defaults, Service, External, Gateway],
        "Takes the settings of named policies.",
    )
};

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Policy> {
    let settings = defaults::decode(reader, entry);
    Some(model::Policy {
        name: entry.arg(0, value::name)?,
        settings,
        span: entry.span(),
    })
}

pub(super) fn uses(entry: Entry<'_>) -> Vec<Spanned<String>> {
    entry.args(0, value::name)
}
