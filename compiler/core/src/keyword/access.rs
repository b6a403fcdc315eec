//! `allow` and `deny`

use mesh_syntax::Value;

use super::Place::{Allow, Defaults, Deny, Policy, Service};
use super::{Args, Entry, Keyword, Property, Reader, Repeats, condition};
use crate::model::{Access, Effect, Enforcement};
use crate::value::{self, Kind, Wrong};

pub(super) static ALLOW: Keyword = Keyword {
    args: Args::list("WHO", &value::WHO, 1),
    repeats: Repeats::Many,
    props: &[MODE],
    block: Some(Allow),
    ..Keyword::new(
        "allow",
        &[Defaults, Policy, Service],
        "Who may call; what nothing allows is denied.",
    )
};

pub(super) static DENY: Keyword = Keyword {
    args: Args::list("WHO", &value::WHO, 0),
    repeats: Repeats::Many,
    props: &[MODE],
    block: Some(Deny),
    alone: true,
    ..Keyword::new(
        "deny",
        &[Defaults, Policy, Service],
        "Who may not call, whatever allows it; without a who, everyone.",
    )
};

const MODE: Property = Property::new(
    "mode",
    &AUDIT,
    "`audit`: what the rule says is logged and decides nothing.",
);

static AUDIT: Kind = Kind {
    expected: "audit",
    words: &["audit"],
    check: audit,
};

fn audit(value: &Value) -> Result<(), Wrong> {
    value::one_of(value, &[("audit", ())])
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>, effect: Effect) -> Access {
    let enforcement = match entry.node.prop("mode") {
        Some(_) => Enforcement::Audit,
        None => Enforcement::Enforce,
    };
    Access {
        effect,
        enforcement,
        who: entry.args(0, value::who),
        conditions: condition::decode_block(reader, entry),
        span: entry.span(),
        head: entry.node.args.last().map_or(entry.node.name.span, |last| {
            entry.node.name.span.to(last.span)
        }),
    }
}
