//! What a test expects and what became of its request, in the same words.

use mesh_compiler::model::{Expect, Verdict};
use mesh_compiler::trial::{Branch, Outcome, TakenRoute};

/// An expectation, or a decision in the same words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) decision: &'static str,
    pub(super) route: Option<String>,
    pub(super) to: Option<String>,
    pub(super) service: Option<String>,
    pub(super) attempts: Option<u32>,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<String>,
    /// Subset (none: all endpoints) and share of 10,000.
    pub(super) shares: Vec<(Option<String>, u32)>,
}

/// What a test says.
pub(super) fn expected(expect: &Expect) -> Expected {
    let text = |value: &Option<mesh_compiler::model::Spanned<String>>| {
        value.as_ref().map(|value| value.value.clone())
    };
    Expected {
        decision: match expect.verdict.value {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::NoRoute => "no_route",
            Verdict::Split => "split",
        },
        route: text(&expect.route),
        to: text(&expect.to),
        service: text(&expect.service),
        attempts: expect.attempts.map(|attempts| attempts.value),
        status: expect.status.map(|status| status.value),
        reason: expect.reason.map(|reason| reason.value.to_owned()),
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
    Expected {
        decision: outcome.decision.as_str(),
        route: route.map(|route| route.name.clone()),
        to: single.and_then(|branch| branch.subset.clone()),
        service: single.map(|branch| branch.service.clone()),
        attempts: route.map(|route| route.exchange.attempts.value),
        status: refusal.map(|refusal| refusal.status),
        reason: refusal.map(|refusal| refusal.reason.clone()),
        shares: taken
            .iter()
            .map(|branch| (branch.subset.clone(), branch.ten_thousandths()))
            .collect(),
    }
}

/// Where the requests of a route go.
pub(super) fn branches(route: Option<&TakenRoute>) -> &[Branch] {
    route.map_or(&[], |route| &route.branches)
}
