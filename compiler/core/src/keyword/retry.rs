//! `retry`

use mesh_bundle::slice::RetryCause;
use mesh_syntax::{Diagnostic, Value};

use super::Place::{self, Calls, Defaults, External, Policy, Route, Service};
use super::{Args, Argument, Entry, Keyword, Property, Reader};
use crate::code;
use crate::model::{Retry, Setting, Spanned};
use crate::suggest;
use crate::value::{self, Kind, Wrong};

pub(super) static RETRY: Keyword = Keyword {
    args: Args::list("CAUSE", &CAUSE, 0),
    props: &[
        Property::new(
            "attempts",
            &value::ATTEMPTS_OR_NONE,
            "All calls, the first included; `none` is one.",
        ),
        Property::new("per-try", &value::TIME_OR_NONE, "Longest time of one try."),
        Property::new(
            "methods",
            &METHODS,
            "`any`: every cause also for methods that are not idempotent.",
        ),
    ],
    block: Some(Place::Retry),
    ..Keyword::new(
        "retry",
        &[Defaults, Policy, Service, External, Route, Calls],
        "What is tried again, and how often.",
    )
};

pub(super) static BACKOFF: Keyword = Keyword {
    args: Args::required(&[Argument::new("TIME", &value::TIME)]),
    props: &[Property::new("max", &value::TIME, "Longest pause.")],
    ..Keyword::new(
        "backoff",
        &[Place::Retry],
        "Pause before a retry: at random, and longer each time.",
    )
};

const FAILURES: [(&str, RetryCause); 5] = [
    ("connect-failure", RetryCause::ConnectFailure),
    ("refused", RetryCause::Refused),
    ("reset", RetryCause::Reset),
    ("reset-before-request", RetryCause::ResetBeforeRequest),
    ("per-try-timeout", RetryCause::PerTryTimeout),
];

static CAUSE: Kind = Kind {
    expected: "a cause: `connect-failure`, `refused`, `reset`, `reset-before-request`, `per-try-timeout`, `gateway`, \"5xx\", a status such as 503, or a gRPC status such as `grpc-14`",
    words: &[],
    check: |value| cause(value).map(drop),
};

static METHODS: Kind = Kind {
    expected: "any",
    words: &["any"],
    check: |value| value::one_of(value, &[("any", ())]),
};

/// A cause, or `none`.
fn cause(value: &Value) -> Result<Setting<RetryCause>, Wrong> {
    let found = match value {
        Value::Integer(_) => {
            return value::status(value)
                .map(RetryCause::Status)
                .map(Setting::Value);
        }
        Value::Word(word) if word == "none" => return Ok(Setting::Removed),
        Value::Word(word) => failure(word)?,
        Value::Text(text) if text == "5xx" => RetryCause::ServerError,
        Value::Text(text) if known(text) => {
            return Err(Wrong::kind()
                .help("words of the language are bare")
                .instead(text));
        }
        _ => return Err(Wrong::kind()),
    };
    Ok(Setting::Value(found))
}

fn known(word: &str) -> bool {
    failure(word).is_ok() || word.parse::<u16>().is_ok()
}

fn failure(word: &str) -> Result<RetryCause, Wrong> {
    if let Some((_, cause)) = FAILURES.iter().find(|(name, _)| *name == word) {
        return Ok(*cause);
    }
    if word == "gateway" {
        return Ok(RetryCause::Gateway);
    }
    if let Some(status) = word.strip_prefix("grpc-") {
        return grpc_status(status);
    }
    let words = FAILURES.iter().map(|(name, _)| *name).chain(["gateway"]);
    let wrong = Wrong::because(format!("`{word}` is not a cause of a retry"));
    Err(match suggest::nearest(word, words) {
        Some(near) => wrong.help(format!("did you mean `{near}`?")).instead(near),
        None => wrong,
    })
}

fn grpc_status(text: &str) -> Result<RetryCause, Wrong> {
    match text.parse::<u8>() {
        Ok(status @ 1..=16) => Ok(RetryCause::GrpcStatus(status)),
        _ => Err(
            Wrong::because(format!("`grpc-{text}` is not a gRPC status"))
                .help("gRPC statuses that can be retried are `grpc-1` to `grpc-16`"),
        ),
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, entry: Entry<'_>) -> Retry {
    let mut retry = Retry {
        attempts: entry.prop("attempts", value::attempts_or_none),
        per_try: entry.prop("per-try", value::time_or_none),
        any_method: entry
            .prop("methods", value::label_value)
            .map(|any| any.map(|_| Setting::Value(true))),
        ..Retry::default()
    };
    for child in reader.block(entry) {
        retry.backoff_base = child
            .arg(0, value::time)
            .map(|time| time.map(Setting::Value));
        retry.backoff_max = child
            .prop("max", value::time)
            .map(|time| time.map(Setting::Value));
        check_backoff(reader, &retry);
    }
    causes(reader, entry, &mut retry);
    retry
}

fn causes(reader: &mut Reader<'_>, entry: Entry<'_>, retry: &mut Retry) {
    let given = entry.args(0, cause);
    let Some(first) = given.first() else {
        return;
    };
    let mut causes = Vec::new();
    let mut none = None;
    for cause in &given {
        match &cause.value {
            Setting::Removed => none = Some(cause.span),
            Setting::Value(cause) => causes.push(*cause),
        }
    }
    let span = given
        .iter()
        .fold(first.span, |span, cause| span.to(cause.span));
    let Some(none) = none else {
        causes.sort_unstable();
        causes.dedup();
        retry.causes = Some(Spanned::new(Setting::Value(causes), span));
        return;
    };
    if given.len() > 1 || !entry.node.props.is_empty() || entry.node.has_block {
        reader.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                none,
                "`retry none` is not combined with anything else",
            )
            .help("`none` takes retries away; name the causes instead, or remove the rest"),
        );
    }
    retry.causes = Some(Spanned::new(Setting::Removed, none));
    retry.attempts = Some(Spanned::new(Setting::Removed, none));
    retry.per_try = Some(Spanned::new(Setting::Removed, none));
    retry.any_method = Some(Spanned::new(Setting::Removed, none));
}

fn check_backoff(reader: &mut Reader<'_>, retry: &Retry) {
    if let (
        Some(Spanned {
            value: Setting::Value(base),
            span: first,
        }),
        Some(Spanned {
            value: Setting::Value(max),
            span,
        }),
    ) = (&retry.backoff_base, &retry.backoff_max)
        && max < base
    {
        reader.report(
            Diagnostic::error(
                code::OUT_OF_RANGE,
                *span,
                "`max=` is shorter than the first pause",
            )
            .label(*first, "the first pause"),
        );
    }
}
