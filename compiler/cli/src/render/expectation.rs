//! What a test expects and what became of its request, in the same words.

use std::time::Duration;

use mesh_compiler::model::{Expect, ExpectedHeader, HeaderValue, Setting, Spanned, Verdict};
use mesh_compiler::trial::{Branch, Outcome, TakenRoute, percent};
use mesh_compiler::value::duration_text;
use serde_json::{Value, json};

/// An expectation, or a decision in the same words.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expected {
    pub(super) decision: &'static str,
    /// Whatever else is said.
    pub(super) fields: Vec<(&'static str, Value)>,
    /// Subset (none: all endpoints) and share of 10,000.
    pub(super) shares: Vec<(Option<String>, u32)>,
}

/// What a test says.
pub(crate) fn expected(expect: &Expect) -> Expected {
    let text =
        |value: &Option<Spanned<String>>| value.as_ref().map(|value| value.value.clone().into());
    let time = |value: &Option<Spanned<Setting<Duration>>>| {
        value.as_ref().map(|value| match &value.value {
            Setting::Removed => Value::Null,
            Setting::Value(time) => duration_text(*time).into(),
        })
    };
    let fields = [
        ("route", text(&expect.route)),
        ("to", text(&expect.to)),
        ("service", text(&expect.service)),
        ("rule", text(&expect.rule)),
        (
            "attempts",
            expect.attempts.map(|attempts| attempts.value.into()),
        ),
        ("timeout", time(&expect.timeout)),
        ("per_try", time(&expect.per_try)),
        ("path", text(&expect.path)),
        ("host", text(&expect.host)),
        ("status", expect.status.map(|status| status.value.into())),
        ("reason", expect.reason.map(|reason| reason.value.into())),
        ("location", text(&expect.location)),
        ("body", text(&expect.body)),
        ("authorizer", text(&expect.authorizer)),
        (
            "delay",
            expect
                .delay
                .map(|delay| delay_value(delay.value.0, delay.value.1)),
        ),
        (
            "abort",
            expect
                .abort
                .map(|abort| abort_value(abort.value.0, abort.value.1)),
        ),
        ("request_headers", headers(&expect.request_headers)),
        ("response_headers", headers(&expect.response_headers)),
    ];
    Expected {
        decision: match expect.verdict.value {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::NoRoute => "no_route",
            Verdict::Split => "split",
            Verdict::Limited => "limited",
        },
        fields: said(fields),
        shares: expect
            .shares
            .iter()
            .map(|share| {
                (
                    share.subset.as_ref().map(|subset| subset.value.clone()),
                    share.share.value,
                )
            })
            .collect(),
    }
}

/// What became of a request.
pub(super) fn actual(outcome: &Outcome) -> Expected {
    let route = outcome.route.as_ref();
    let taken: Vec<&Branch> = branches(route)
        .iter()
        .filter(|branch| branch.weight > 0)
        .collect();
    let single = match taken.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let refusal = outcome.refusal.as_ref();
    let answer = outcome.answer.as_ref();
    let exchange = route.map(|route| &route.exchange);
    let one = |values: Vec<&str>| match values.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => Some(Value::from(*first)),
        _ => None,
    };
    let time = |time: Option<Duration>| time.map(|time| duration_text(time).into());
    let asked: Vec<&str> = outcome
        .asked
        .iter()
        .map(|asked| asked.authorizer.as_str())
        .collect();
    let limits = outcome.limits.iter().map(|limit| limit.rate.as_str());
    let limits: Vec<&str> = limits.collect();
    let delay = outcome.faults.iter().find_map(|fault| fault.delay);
    let abort = outcome.faults.iter().find_map(|fault| fault.abort);
    let fields = [
        ("route", route.map(|route| route.name.clone().into())),
        (
            "to",
            single
                .and_then(|branch| branch.subset.clone())
                .map(Value::from),
        ),
        (
            "service",
            single.map(|branch| branch.service.clone().into()),
        ),
        (
            "rule",
            outcome.rule.as_ref().map(|rule| rule.name.clone().into()),
        ),
        (
            "attempts",
            exchange.map(|exchange| exchange.attempts.value.into()),
        ),
        (
            "timeout",
            exchange.and_then(|exchange| time(exchange.timeout.value)),
        ),
        (
            "per_try",
            exchange.and_then(|exchange| time(exchange.per_try.value)),
        ),
        (
            "path",
            one(outcome
                .arrivals
                .iter()
                .map(|arrival| arrival.path.as_str())
                .collect()),
        ),
        (
            "host",
            one(outcome
                .arrivals
                .iter()
                .map(|arrival| arrival.host.as_str())
                .collect()),
        ),
        (
            "status",
            refusal
                .and_then(|refusal| refusal.status)
                .or(answer.map(|answer| answer.status))
                .map(Value::from),
        ),
        (
            "reason",
            refusal.map(|refusal| refusal.reason.clone().into()),
        ),
        (
            "location",
            answer
                .and_then(|answer| answer.location.clone())
                .map(Value::from),
        ),
        (
            "body",
            answer
                .filter(|answer| answer.location.is_none())
                .map(|answer| answer.body.clone().into()),
        ),
        ("authorizer", asked.first().map(|first| Value::from(*first))),
        ("rate_limits", (!limits.is_empty()).then(|| limits.into())),
        ("delay", delay.map(|(by, share)| delay_value(by, share))),
        (
            "abort",
            abort.map(|(status, share)| abort_value(status, share)),
        ),
    ];
    Expected {
        decision: outcome.decision.as_str(),
        fields: said(fields),
        shares: taken
            .iter()
            .map(|branch| (branch.subset.clone(), branch.ten_thousandths()))
            .collect(),
    }
}

fn said<const N: usize>(fields: [(&'static str, Option<Value>); N]) -> Vec<(&'static str, Value)> {
    let said = fields.into_iter();
    said.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn delay_value(by: Duration, share: u32) -> Value {
    json!({ "by": duration_text(by), "share": percent(share) })
}

fn abort_value(status: u16, share: u32) -> Value {
    json!({ "status": status, "share": percent(share) })
}

fn headers(headers: &[Spanned<ExpectedHeader>]) -> Option<Value> {
    let each = headers.iter().map(|header| match &header.value.value {
        HeaderValue::Present => json!([header.value.name, true]),
        HeaderValue::Absent => json!([header.value.name, null]),
        HeaderValue::Is(value) => json!([header.value.name, value]),
    });
    (!headers.is_empty()).then(|| each.collect())
}

/// Where the requests of a route go.
pub(super) fn branches(route: Option<&TakenRoute>) -> &[Branch] {
    route.map_or(&[], |route| &route.branches)
}
