//! `expect`: what should become of a test's request.

use mesh_syntax::{Diagnostic, Value};

use super::Place::{Expect, Test};
use super::{Args, Argument, Entry, Keyword, Property, Reader, Repeats, Symbol, fault};
use crate::code;
use crate::model::{self, ExpectedHeader, HeaderValue, Share, Spanned, Verdict};
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
            "rule",
            &value::PROSE,
            "The access rule that decides, as it is written: `\"allow productpage\"`.",
        ),
        Property::new(
            "attempts",
            &value::ATTEMPTS,
            "Attempts that it has, the first included.",
        ),
        Property::new(
            "timeout",
            &value::TIME_OR_NONE,
            "Longest time of the whole exchange.",
        ),
        Property::new("per-try", &value::TIME_OR_NONE, "Longest time of one try."),
        Property::new("path", &value::REQUEST_PATH, "Path as it arrives."),
        Property::new("host", &value::EXACT_HOST, "Host as it arrives."),
        Property::new(
            "status",
            &value::STATUS,
            "Status of the answer that the proxy itself gives.",
        ),
        Property::new(
            "reason",
            &REASON,
            "Reason of the answer when it is refused.",
        ),
        Property::new("location", &value::TEXT, "Where a redirect leads."),
        Property::new(
            "body",
            &value::TEXT,
            "What an answer says that a route itself gives.",
        ),
        Property::new(
            "authorizer",
            &value::NAME,
            "The authorizer that is asked; what it answers, no test knows.",
        )
        .refers(Symbol::Authorizer),
    ],
    block: Some(Expect),
    ..Keyword::new("expect", &[Test], "What should become of the request.")
};

pub(super) static TO: Keyword = Keyword {
    args: Args::optional(&[Argument::new("SUBSET", &value::NAME).refers(Symbol::Subset)]),
    repeats: Repeats::Many,
    props: &[
        Property::new("share", &value::PERCENT, "Its share.").required(),
        Property::new(
            "service",
            &value::NAME,
            "The service, where the split is over several.",
        )
        .refers(Symbol::Service),
    ],
    ..Keyword::new("to", &[Expect], "A branch of the split, and its share.")
};

pub(super) static REQUEST_HEADER: Keyword = header(
    "request-header",
    "A header of the request as it arrives; `none`: not there; without a value: there.",
);

pub(super) static RESPONSE_HEADER: Keyword = header(
    "response-header",
    "A header of the answer as policy edits it; `none`: taken away; without a value: there.",
);

const NAME_AND_VALUE: &[Argument] = &[
    Argument::new("NAME", &value::FIELD_NAME),
    Argument::new("VALUE", &HEADER_VALUE),
];

const fn header(name: &'static str, summary: &'static str) -> Keyword {
    Keyword {
        args: Args {
            required: 1,
            ..Args::required(NAME_AND_VALUE)
        },
        repeats: Repeats::Many,
        ..Keyword::new(name, &[Expect], summary)
    }
}

const VERDICTS: [(&str, Verdict); 5] = [
    ("allowed", Verdict::Allowed),
    ("denied", Verdict::Denied),
    ("no-route", Verdict::NoRoute),
    ("limited", Verdict::Limited),
    ("split", Verdict::Split),
];

static VERDICT: Kind = Kind {
    expected: "a verdict",
    words: &["allowed", "denied", "no-route", "limited", "split"],
    check: |value| verdict(value).map(drop),
};

static ROUTE_NAME: Kind = Kind {
    expected: value::NAME.expected,
    words: &[],
    check: |value| route_name(value).map(drop),
};

static REASON: Kind = Kind {
    expected: "a reason",
    words: &REASON_WORDS,
    check: |value| reason(value).map(drop),
};

/// Of a bad request, which rule it broke is not compared.
const REASON_WORDS: [&str; 5] = [
    "authz_denied",
    "no_route",
    "jwt_invalid",
    "rate_limited",
    "bad_request",
];

static HEADER_VALUE: Kind = Kind {
    expected: "a value in quotes, or none",
    words: &[],
    check: |value| header_value(value).map(drop),
};

fn header_value(value: &Value) -> Result<HeaderValue, Wrong> {
    match value {
        Value::Word(word) if word == "none" => Ok(HeaderValue::Absent),
        other => value::text(other).map(HeaderValue::Is),
    }
}

fn verdict(value: &Value) -> Result<Verdict, Wrong> {
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
    value::one_of(value, &REASON_WORDS.map(|word| (word, word)))
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<model::Expect> {
    let children = reader.block(entry);
    let of = |word: &'static str| children.iter().filter(move |child| child.word() == word);
    let shares: Vec<Share> = of("to").filter_map(share).collect();
    let verdict = entry.arg(0, verdict)?;
    let span = entry.node.name.span;
    if verdict.value == Verdict::Split && of("to").next().is_none() {
        reader.report(
            Diagnostic::error(code::MISSING, span, "`expect split` needs its branches")
                .help("write `expect split { to v1 share=\"90%\"; to v2 share=\"10%\" }`"),
        );
    }
    if verdict.value != Verdict::Split
        && let Some(first) = of("to").next()
    {
        let first = first.node.name.span;
        reader.report(
            Diagnostic::error(code::EXCLUSIVE, first, "only `expect split` has branches")
                .help("name the one subset with `to=`"),
        );
    }
    Some(model::Expect {
        verdict,
        route: entry.prop("route", route_name),
        to: entry.prop("to", value::name),
        service: entry.prop("service", value::name),
        rule: entry.prop("rule", value::text),
        attempts: entry.prop("attempts", value::attempts),
        timeout: entry.prop("timeout", value::time_or_none),
        per_try: entry.prop("per-try", value::time_or_none),
        path: entry.prop("path", value::request_path),
        host: entry.prop("host", value::exact_host),
        status: entry.prop("status", value::status),
        reason: entry.prop("reason", reason),
        location: entry.prop("location", value::text),
        body: entry.prop("body", value::text),
        authorizer: entry.prop("authorizer", value::name),
        delay: of("delay").find_map(|child| fault::delay(*child)),
        abort: of("abort").find_map(|child| fault::abort(*child)),
        request_headers: of("request-header").filter_map(expected_header).collect(),
        response_headers: of("response-header").filter_map(expected_header).collect(),
        shares,
        span: entry.span(),
    })
}

fn share(child: &Entry<'_>) -> Option<Share> {
    Some(Share {
        service: child.prop("service", value::name),
        subset: child.arg(0, value::name),
        share: child.prop("share", value::percent)?,
    })
}

fn expected_header(child: &Entry<'_>) -> Option<Spanned<ExpectedHeader>> {
    let name = child.arg(0, value::field_name)?.value.to_ascii_lowercase();
    let value = if child.node.args.len() < 2 {
        HeaderValue::Present
    } else {
        child.arg(1, header_value)?.value
    };
    Some(Spanned::new(ExpectedHeader { name, value }, child.span()))
}
