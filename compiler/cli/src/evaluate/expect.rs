//! What a test expects, compared with what the engine decided.

use mesh_compiler::model::{Expect, Verdict};

use super::{Decision, EffectiveValue, Outcome, Share};

/// An expectation, or a decision in the same words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) decision: &'static str,
    pub(crate) route: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) attempts: Option<u32>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    /// Subset (none: all endpoints) and share of 10,000.
    pub(crate) shares: Vec<(Option<String>, u32)>,
}

/// What a test says.
pub(crate) fn expected(expect: &Expect) -> Expected {
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

/// What the engine decided, in the words of an expectation.
pub(crate) fn actual(outcome: &Outcome) -> Expected {
    let single = single(&outcome.destinations);
    Expected {
        decision: decision(outcome.decision),
        route: outcome.route.clone(),
        to: single.and_then(|share| share.subset.clone()),
        service: single.map(|share| share.service.clone()),
        attempts: attempts(outcome),
        status: outcome.status,
        reason: outcome.reason.clone(),
        shares: taken(&outcome.destinations)
            .map(|share| (share.subset.clone(), ten_thousandths(share)))
            .collect(),
    }
}

/// The word that outputs have for a decision.
pub(crate) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
        Decision::NoRoute => "no_route",
    }
}

/// Why an outcome is not what a test expects; nothing if it is.
pub(crate) fn mismatch(expect: &Expect, outcome: &Outcome) -> Option<String> {
    let (wanted, got) = (expected(expect), actual(outcome));
    let wants_split = wanted.decision == "split";
    let wanted_decision = if wants_split {
        "allowed"
    } else {
        wanted.decision
    };
    if wanted_decision != got.decision {
        let why = got
            .reason
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        return Some(format!(
            "expected {wanted_decision}, got {}{why}",
            got.decision
        ));
    }
    let fields = [
        differs("route", wanted.route.as_ref(), got.route.as_ref()),
        differs("to", wanted.to.as_ref(), got.to.as_ref()),
        differs("service", wanted.service.as_ref(), got.service.as_ref()),
        differs("attempts", wanted.attempts.as_ref(), got.attempts.as_ref()),
        differs("status", wanted.status.as_ref(), got.status.as_ref()),
        differs("reason", wanted.reason.as_ref(), got.reason.as_ref()),
    ];
    let field = fields.into_iter().flatten().next();
    field.or_else(|| {
        if wants_split {
            split_differs(wanted.shares, got.shares)
        } else {
            None
        }
    })
}

fn differs<T: PartialEq + std::fmt::Display>(
    name: &str,
    wanted: Option<&T>,
    got: Option<&T>,
) -> Option<String> {
    let wanted = wanted?;
    (got != Some(wanted)).then(|| {
        let got = got.map_or_else(|| "none or several".to_owned(), ToString::to_string);
        format!("expected {name} {wanted}, got {got}")
    })
}

fn split_differs(
    mut wanted: Vec<(Option<String>, u32)>,
    mut got: Vec<(Option<String>, u32)>,
) -> Option<String> {
    wanted.retain(|(_, share)| *share > 0);
    wanted.sort();
    got.sort();
    (wanted != got).then(|| format!("expected the split {}, got {}", split(&wanted), split(&got)))
}

fn split(shares: &[(Option<String>, u32)]) -> String {
    let share = |(subset, share): &(Option<String>, u32)| {
        format!(
            "{} {}",
            subset.as_deref().unwrap_or("all endpoints"),
            percent(*share)
        )
    };
    shares.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// A share of 10,000 as policy writes it.
pub(crate) fn percent(share: u32) -> String {
    let text = format!("{}.{:02}", share / 100, share % 100);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn taken(shares: &[Share]) -> impl Iterator<Item = &Share> {
    shares.iter().filter(|share| share.weight > 0)
}

/// The only branch that requests take.
fn single(shares: &[Share]) -> Option<&Share> {
    let mut taken = taken(shares);
    taken.next().filter(|_| taken.next().is_none())
}

/// Rounded to the nearest, as a test can't write more.
pub(crate) fn ten_thousandths(share: &Share) -> u32 {
    let total = u128::from(share.total.max(1));
    let scaled = (u128::from(share.weight) * 10_000 + total / 2) / total;
    u32::try_from(scaled).unwrap_or(10_000)
}

fn attempts(outcome: &Outcome) -> Option<u32> {
    outcome
        .effective
        .iter()
        .find(|field| field.name == "attempts")
        .and_then(|field| match field.value {
            EffectiveValue::Number(number) => Some(number),
            EffectiveValue::Text(_) | EffectiveValue::List(_) | EffectiveValue::None => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_policy_writes_them() {
        assert_eq!(percent(9000), "90%");
        assert_eq!(percent(50), "0.5%");
        assert_eq!(percent(3333), "33.33%");
        assert_eq!(percent(10_000), "100%");
        assert_eq!(percent(0), "0%");
    }
}
