//! `require` and `accept`: what a request must bring beyond an `allow`.

use mesh_syntax::Value;

use super::Place::{Defaults, Gateway, Policy, Requirement, Route, Service};
use super::{Args, Argument, Entry, Keyword, Place, Reader, Repeats, Symbol, condition};
use crate::model::{self, RequirementKind};
use crate::value::{self, Kind, Wrong};

const PLACES: &[Place] = &[Defaults, Policy, Service, Gateway, Route];

pub(super) static REQUIRE: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("KIND", &REQUIRED),
        Argument::new("NAME", &value::NAME).refers(Symbol::OfKind),
    ]),
    repeats: Repeats::Many,
    block: Some(Requirement),
    ..Keyword::new(
        "require",
        PLACES,
        "A valid token of a `jwt`, or the word of an `authorizer`; with conditions, only for such requests.",
    )
};

pub(super) static ACCEPT: Keyword = Keyword {
    args: Args::required(&[
        Argument::new("KIND", &ACCEPTED),
        Argument::new("NAME", &value::NAME).refers(Symbol::OfKind),
    ]),
    repeats: Repeats::Many,
    block: Some(Requirement),
    ..Keyword::new(
        "accept",
        PLACES,
        "A token of a `jwt` is verified when there is one; then its claims can be asked for.",
    )
};

const REQUIREMENTS: [(&str, RequirementKind); 2] = [
    ("jwt", RequirementKind::RequireJwt),
    ("authorizer", RequirementKind::RequireAuthorizer),
];

static REQUIRED: Kind = Kind {
    expected: "jwt or authorizer",
    words: &["jwt", "authorizer"],
    check: |value| required(value).map(drop),
};

static ACCEPTED: Kind = Kind {
    expected: "jwt",
    words: &["jwt"],
    check: |value| accepted(value).map(drop),
};

fn required(value: &Value) -> Result<RequirementKind, Wrong> {
    value::one_of(value, &REQUIREMENTS)
}

fn accepted(value: &Value) -> Result<RequirementKind, Wrong> {
    value::one_of(value, &[("jwt", RequirementKind::AcceptJwt)])
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Requirement> {
    let conditions = condition::decode_block(reader, entry);
    let read = if entry.word() == "accept" {
        accepted
    } else {
        required
    };
    Some(model::Requirement {
        kind: entry.arg(0, read)?.value,
        name: entry.arg(1, value::name)?,
        conditions,
        span: entry.span(),
        head: entry.head(),
    })
}
