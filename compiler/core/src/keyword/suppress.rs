//! `suppress`: a finding that somebody answers for, until a day.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Environment, Root};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol};
use crate::code;
use crate::model::{Spanned, SuppressedAt, Suppression};
use crate::value::{self, Kind, Wrong};

pub(super) static SUPPRESS: Keyword = Keyword {
    args: Args::required(&[Argument::new("CODE", &CODE).refers(Symbol::Code)]),
    repeats: Repeats::Many,
    props: &[
        Property::new(
            "at",
            &SUBJECT,
            "The service, gateway or external that the finding lies in or is about, or in quotes the file that it lies in; \
             without it, all.",
        )
        .refers(Symbol::Service),
        Property::new(
            "route",
            &value::NAME,
            "The route that the finding is about.",
        )
        .refers(Symbol::Route),
        Property::new(
            "reason",
            &value::PROSE,
            "Why it is right as it is; required.",
        ),
        Property::new(
            "owner",
            &value::NAME,
            "The team that answers for it; required.",
        )
        .refers(Symbol::Team),
        Property::new(
            "until",
            &value::DATE,
            "The last day that it holds; required.",
        ),
    ],
    ..Keyword::new(
        "suppress",
        &[Root, Environment],
        "Takes a finding out of the gate, in somebody's name and for a time.",
    )
};

/// What names of policy files end in.
const POLICY_SUFFIX: &str = ".kdl";

static SUBJECT: Kind = Kind {
    expected: "the name of a service, gateway or external, or a file in quotes such as \"teams/pay.kdl\"",
    words: &[],
    check: |value| subject(value).map(drop),
};

fn subject(value: &Value) -> Result<SuppressedAt, Wrong> {
    match value {
        Value::Text(path) if path.ends_with(POLICY_SUFFIX) => Ok(SuppressedAt::File {
            path: path.clone(),
            file: None,
        }),
        _ => value::name(value).map(SuppressedAt::Definition),
    }
}

static CODE: Kind = Kind {
    expected: "a code such as MSH0403",
    words: &[],
    check: |value| code_of(value).map(drop),
};

fn code_of(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Word(word) => match word.strip_prefix("MSH") {
            Some(digits) if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(word.clone())
            }
            _ => Err(Wrong::kind()),
        },
        Value::Text(text) if text.starts_with("MSH") => Err(Wrong::kind()
            .help("names and words of the language are bare")
            .instead(text)),
        _ => Err(Wrong::kind()),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Suppression> {
    let missing: Vec<&str> = ["reason", "owner", "until"]
        .into_iter()
        .filter(|name| entry.node.prop(name).is_none())
        .collect();
    if !missing.is_empty() {
        let list: Vec<String> = missing.iter().map(|name| format!("`{name}=`")).collect();
        reader.report(
            Diagnostic::error(
                code::UNANSWERED_SUPPRESSION,
                entry.node.name.span,
                format!("a suppression needs {}", list.join(" and ")),
            )
            .help("say why, who answers for it, and until when: `reason=\"…\" owner=TEAM until=\"2027-03-01\"`"),
        );
    }
    let at = entry.prop("at", subject);
    let is_definition =
        |at: &Spanned<SuppressedAt>| matches!(at.value, SuppressedAt::Definition(_));
    if let Some(route) = entry.node.prop("route")
        && (entry.node.prop("at").is_none() || at.as_ref().is_some_and(|at| !is_definition(at)))
    {
        reader.report(
            Diagnostic::error(code::MISSING, route.span, "`route=` needs `at=`")
                .help("a route belongs to a service; name it"),
        );
    }
    Some(Suppression {
        code: entry.arg(0, code_of)?,
        at,
        route: entry.prop("route", value::name),
        reason: entry.prop("reason", value::text)?.value,
        owner: entry.prop("owner", value::name)?,
        until: entry.prop("until", value::date)?,
        span: entry.span(),
    })
}
