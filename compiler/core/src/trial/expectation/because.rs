//! Why what a test expects did not come to be: the rules and routes that lost, and where each stands.

use super::Reason;
use crate::model::{Expect, Spanned, Verdict};
use crate::trial::{Decision, LosingRule, Outcome};

/// As many as a person reads.
const REASONS_MAX: usize = 5;

/// Why a request ends otherwise.
pub(super) fn decision(expect: &Expect, outcome: &Outcome) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match (expect.verdict.value, outcome.decision) {
        (Verdict::Limited, Decision::Allowed) => {
            reasons.push(Reason {
                text: "no rate limit counts this request".to_owned(),
                span: None,
            });
        }
        (_, Decision::Denied) => reasons.extend(denied(outcome)),
        (_, Decision::NoRoute) => reasons.extend(outcome.losers.iter().map(|route| Reason {
            text: format!("route `{}` {}", route.name, route.because),
            span: route.span,
        })),
        (_, Decision::Allowed) => reasons.extend(allowed(outcome)),
    }
    reasons.truncate(REASONS_MAX);
    reasons
}

/// The rule that refuses; without one, why nobody's rule admits.
fn denied(outcome: &Outcome) -> Vec<Reason> {
    if let Some(rule) = &outcome.rule {
        return vec![Reason {
            text: format!("`{}` refuses it", rule.name),
            span: rule.source.span(),
        }];
    }
    let is_ordinary = |refusal: &crate::trial::Refusal| refusal.reason == "authz_denied";
    if let Some(refusal) = outcome
        .refusal
        .as_ref()
        .filter(|refusal| !is_ordinary(refusal))
    {
        let text = match refusal.reason.split_once(':') {
            Some((_, rule)) => format!("no proxy takes such a request ({rule})"),
            None => "it has no verified token, and must bring one: `claim` gives it one".to_owned(),
        };
        return vec![Reason { text, span: None }];
    }
    let admitting = |rule: &&LosingRule| rule.name.starts_with("allow");
    let mut rules: Vec<&LosingRule> = outcome.other_rules.iter().filter(admitting).collect();
    // What speaks of the caller came nearest.
    rules.sort_by_key(|rule| !rule.concerns_peer);
    if rules.is_empty() {
        return vec![Reason {
            text: if outcome.is_identified {
                "the caller's slice does not hold the service: no `calls` names it, and no `allow` admits the caller"
            } else {
                "no `allow` admits peers without an identity, such as clients from outside: `allow unauthenticated` would"
            }
            .to_owned(),
            span: None,
        }];
    }
    rules.into_iter().map(lost).collect()
}

/// The rule that admits, and why no `deny` speaks of it.
fn allowed(outcome: &Outcome) -> Vec<Reason> {
    let admits = outcome.rule.iter().map(|rule| Reason {
        text: format!("`{}` admits it", rule.name),
        span: rule.source.span(),
    });
    let refusing = outcome
        .other_rules
        .iter()
        .filter(|rule| rule.name.starts_with("deny"));
    admits.chain(refusing.map(lost)).collect()
}

fn lost(rule: &LosingRule) -> Reason {
    Reason {
        text: format!("`{}` {}", rule.name, rule.because),
        span: rule.source.span(),
    }
}

/// Why another rule decides.
pub(super) fn rule(name: &Spanned<String>, outcome: &Outcome) -> Vec<Reason> {
    let named = outcome
        .other_rules
        .iter()
        .filter(|rule| rule.name == name.value);
    let reasons: Vec<Reason> = named.map(lost).take(REASONS_MAX).collect();
    if reasons.is_empty() {
        let text = format!("no rule that was asked is called `{}`", name.value);
        return vec![Reason { text, span: None }];
    }
    reasons
}

/// Why another route takes it.
pub(super) fn route(name: &str, outcome: &Outcome) -> Vec<Reason> {
    let behind = outcome.behind.iter().flat_map(|behind| &behind.losers);
    let mut losers = outcome.losers.iter().chain(behind);
    let reason = match losers.find(|route| route.name == name) {
        Some(route) => Reason {
            text: format!("route `{name}` {}", phrase(&route.because)),
            span: route.span,
        },
        None => Reason {
            text: format!("no route that was asked is called `{name}`"),
            span: None,
        },
    };
    vec![reason]
}

/// As it fits after a name.
fn phrase(because: &str) -> String {
    if because.starts_with("less specific") {
        format!("is {because}")
    } else {
        because.to_owned()
    }
}
