//! What a finding measures, of what can get worse while everything that it is known by stays: whoever accepted 27 calls
//! has not accepted 125.

use std::collections::BTreeMap;
use std::fmt;

use mesh_syntax::Diagnostic;
use serde::{Deserialize, Serialize};

/// Numbers of findings that are the worse the greater they are. Limits and what is measured of the load are none of them.
const WORSE_ABOVE: &[&str] = &[
    "abandoned",
    "amplification",
    "attempts",
    "budgeted",
    "calls",
    "calls_then",
    "dead_attempts",
    "fast",
    "gain",
    "in_flight",
    "slow",
    "slow_propagated",
    "spectral_radius",
    "tries",
];

/// Those that are the worse the smaller they are.
const WORSE_BELOW: &[&str] = &["safe_load", "safe_utilisation", "slack_ms"];

/// What floating-point numbers of equal policies may differ by.
const NEAR: f64 = 1e-6;

/// The numbers of one finding, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Measures(BTreeMap<String, f64>);

impl Measures {
    pub(super) fn of(finding: &Diagnostic) -> Self {
        let numbers = finding.numbers.iter();
        let kept = numbers.filter(|(name, value)| {
            let name = name.as_str();
            value.is_finite() && (WORSE_ABOVE.contains(&name) || WORSE_BELOW.contains(&name))
        });
        // In a file as people read it, and with nothing that another processor rounds otherwise.
        let rounded = kept.map(|(name, value)| (name.clone(), (value * 1e3).round() / 1e3));
        Self(rounded.collect())
    }

    /// Whether nothing is worse than in others. What only one of them measures can't be compared.
    pub(super) fn are_no_worse_than(&self, others: &Self) -> bool {
        self.0.iter().all(|(name, value)| {
            let Some(other) = others.0.get(name) else {
                return true;
            };
            let slack = NEAR * other.abs().max(1.0);
            if WORSE_BELOW.contains(&name.as_str()) {
                *value >= other - slack
            } else {
                *value <= other + slack
            }
        })
    }
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, "{name}={value:015.3} ")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mesh_syntax::{SourceSet, Span, code};

    use super::*;

    fn measured(numbers: &[(&str, f64)]) -> Measures {
        let mut sources = SourceSet::new();
        let file = sources.add("a.kdl", b"a".to_vec());
        let found = Diagnostic::warning(code::SYNTAX_ERROR, Span::new(file, 0, 1), "m");
        let add = |found: Diagnostic, (name, value): &(&str, f64)| found.number(*name, *value);
        Measures::of(&numbers.iter().fold(found, add))
    }

    #[test]
    fn what_grew_is_worse_and_what_shrank_is_not() {
        let storm = measured(&[("calls", 27.0), ("limit", 10.0), ("slow", f64::NAN)]);
        let grown = measured(&[("calls", 125.0), ("limit", 10.0), ("slow", f64::NAN)]);
        assert!(!grown.are_no_worse_than(&storm));
        assert!(storm.are_no_worse_than(&grown));
        assert!(storm.are_no_worse_than(&storm));
    }

    #[test]
    fn of_slack_less_is_worse_and_a_limit_is_no_measure() {
        let tight = measured(&[("slack_ms", -500.0), ("limit", 10.0)]);
        let tighter = measured(&[("slack_ms", -1500.0), ("limit", 5.0)]);
        assert!(!tighter.are_no_worse_than(&tight));
        assert!(tight.are_no_worse_than(&tighter));
        let lower = measured(&[("slack_ms", -500.0), ("limit", 20.0)]);
        assert!(lower.are_no_worse_than(&tight) && tight.are_no_worse_than(&lower));
    }
}
