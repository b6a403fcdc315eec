//! `allow` and `deny`

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Allow, Defaults, Deny, External, Gateway, Policy, Service};
use super::{Args, Entry, Keyword, Property, Reader, Repeats, Symbol, condition};
use crate::code;
use crate::model::{Access, Effect, Enforcement, Spanned, Who};
use crate::value::{self, Kind, Wrong};

pub(super) static ALLOW: Keyword = Keyword {
    args: Args::list("WHO", &value::WHO, 0).refers(Symbol::Who),
    repeats: Repeats::Many,
    props: &[TEAM, MODE],
    block: Some(Allow),
    alone: true,
    ..Keyword::new(
        "allow",
        &[Defaults, Policy, Service, External, Gateway],
        "Who may call; what nothing allows is denied.",
    )
};

pub(super) static DENY: Keyword = Keyword {
    args: Args::list("WHO", &value::WHO, 0).refers(Symbol::Who),
    repeats: Repeats::Many,
    props: &[TEAM, MODE],
    block: Some(Deny),
    alone: true,
    ..Keyword::new(
        "deny",
        &[Defaults, Policy, Service, External, Gateway],
        "Who may not call, whatever allows it; without a who, everyone.",
    )
};

pub(super) const TEAM: Property =
    Property::new("team", &value::NAME, "Every service of this team.").refers(Symbol::Team);

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

/// Whom the arguments and `team=` name.
pub(super) fn who(entry: Entry<'_>) -> Vec<Spanned<Who>> {
    let mut who = entry.args(0, value::who);
    who.extend(entry.prop("team", |value| value::name(value).map(Who::Team)));
    who
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>, effect: Effect) -> Access {
    let enforcement = match entry.node.prop("mode") {
        Some(_) => Enforcement::Audit,
        None => Enforcement::Enforce,
    };
    if effect == Effect::Allow && entry.node.args.is_empty() && entry.node.prop("team").is_none() {
        reader.report(
            Diagnostic::error(
                code::MISSING,
                entry.node.name.span,
                format!("`allow` needs its WHO: {}", value::WHO.expected),
            )
            .help("`any` is everyone with an identity, `team=NAME` every service of a team"),
        );
    }
    Access {
        effect,
        enforcement,
        who: who(entry),
        conditions: condition::decode_block(reader, entry),
        span: entry.span(),
        head: entry.node.args.last().map_or(entry.node.name.span, |last| {
            entry.node.name.span.to(last.span)
        }),
    }
}
