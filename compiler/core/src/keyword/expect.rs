//! `expect`: what should become of a test's request.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Expect, Test};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol};
use crate::code;
use crate::model::{self, Share, Verdict};
use crate::value::{self, Kind, Wrong};

pub(super) static EXPECT: Keyword = Keyword {
    args: Args::required(&[Argument::new("VERDICT", &VERDICT)]),
    repeats: Repeats::Many,
    props: &[
        Property::new(
            "route",
            &ROUTE_NAME,
            "The route that takes it; `default` for the implicit one.",
        )
        .refers(Symbol::Route),
        Property::new("to", &value::NAME, "The one subset that takes it.").refers(Symbol::Subset),
        Property::new("service", &value::NAME, "The one service that takes it.")
            .refers(Symbol::Service),
        Property::new(
            "attempts",
            &value::ATTEMPTS,
            "Attempts that it has, the first included.",
        ),
        Property::new(
            "status",
            &value::STATUS,
            "Status of the answer when it is refused.",
        ),
        Property::new(
            "reason",
            &REASON,
            "Reason of the answer when it is refused.",
        ),
    ],
    block: Some(Expect),
    ..Keyword::new("expect", &[Test], "What should become of the request.")
};

pub(super) static TO: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME).refers(Symbol::Subset)]),
    repeats: Repeats::Many,
    props: &[Property::new("share", &value::PERCENT, "Its share.").required()],
    ..Keyword::new("to", &[Expect], "A branch of the split, and its share.")
};

const VERDICTS: [(&str, Verdict); 4] = [
    ("allowed", Verdict::Allowed),
    ("denied", Verdict::Denied),
    ("no-route", Verdict::NoRoute),
    ("split", Verdict::Split),
];

static VERDICT: Kind = Kind {
    expected: "a verdict",
    words: &["allowed", "denied", "no-route", "split"],
    check: |value| verdict(value).map(drop),
};

static ROUTE_NAME: Kind = Kind {
    expected: value::NAME.expected,
    words: &[],
    check: |value| route_name(value).map(drop),
};

static REASON: Kind = Kind {
    expected: "a reason",
    words: &["authz_denied", "no_route", "jwt_invalid"],
    check: |value| reason(value).map(drop),
};

fn verdict(value: &Value) -> Result<Verdict, Wrong> {
    if matches!(value, Value::Word(word) if word == "limited") {
        return Err(Wrong::later(
            "`expect limited` is not supported by this release",
        ));
    }
    value::one_of(value, &VERDICTS)
}

/// Unlike a definition, an expectation may name the implicit route.
fn route_name(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Word(word) if word == "default" => Ok(word.clone()),
        other => value::name(other),
    }
}

fn reason(value: &Value) -> Result<&'static str, Wrong> {
    value::one_of(
        value,
        &[
            ("authz_denied", "authz_denied"),
            ("no_route", "no_route"),
            ("jwt_invalid", "jwt_invalid"),
        ],
    )
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Expect> {
    let shares: Vec<Share> = reader
        .block(entry)
        .into_iter()
        .filter_map(|child| {
            let share = child.prop("share", value::percent)?;
            Some(Share {
                subset: child.arg(0, value::name),
                share,
            })
        })
        .collect();
    let verdict = entry.arg(0, verdict)?;
    let span = entry.node.name.span;
    if verdict.value == Verdict::Split && entry.node.children.is_empty() {
        reader.report(
            Diagnostic::error(code::MISSING, span, "`expect split` needs its branches")
                .help("write `expect split { to v1 share=\"90%\"; to v2 share=\"10%\" }`"),
        );
    }
    if verdict.value != Verdict::Split && entry.node.has_block {
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, span, "only `expect split` has branches")
                .help("name the one subset with `to=`"),
        );
    }
    Some(model::Expect {
        verdict,
        route: entry.prop("route", route_name),
        to: entry.prop("to", value::name),
        service: entry.prop("service", value::name),
        attempts: entry.prop("attempts", value::attempts),
        status: entry.prop("status", value::status),
        reason: entry.prop("reason", reason),
        shares,
        span: entry.span(),
    })
}
