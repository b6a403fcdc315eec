//! Who may enter: default deny, and deny beats allow.

use std::fmt;

use mesh_bundle::slice::{AccessRule, Effect, Enforcement, Principal};

use crate::condition::{ConditionError, ConditionMatcher, Reading, admits, check_principal};
use crate::request::{Peer, Request};

/// The access rules of one service, compiled.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Box<[Rule]>,
}

/// One access rule, compiled.
#[derive(Clone, Debug)]
pub struct Rule {
    name: Box<str>,
    position: usize,
    effect: Effect,
    enforcement: Enforcement,
    who: Box<[Principal]>,
    conditions: Box<[ConditionMatcher]>,
}

/// Whether a request may enter, and who says so.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'t> {
    /// It may.
    Allowed {
        /// The first rule that admits it.
        rule: &'t Rule,
    },
    /// It may not.
    Denied {
        /// The first `deny` that takes it; `None`: no rule admits it.
        rule: Option<&'t Rule>,
    },
}

impl<'t> Verdict<'t> {
    /// Whether the request may enter.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The rule that decided; `None`: denied by default.
    pub fn rule(&self) -> Option<&'t Rule> {
        match *self {
            Self::Allowed { rule } => Some(rule),
            Self::Denied { rule } => rule,
        }
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// One of its conditions or principals.
    #[error("rule {rule:?}")]
    Condition {
        /// Name of the rule.
        rule: String,
        /// Why.
        source: ConditionError,
    },
    /// `allow` without a who.
    #[error("rule {rule:?} allows without saying whom")]
    AllowsNobody {
        /// Name of the rule.
        rule: String,
    },
}

impl Rules {
    /// Compiles rules.
    pub fn build(rules: &[AccessRule]) -> Result<Self, RuleError> {
        let rules = rules
            .iter()
            .enumerate()
            .map(|(position, rule)| Rule::build(position, rule));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the request may enter.
    pub fn authorise(&self, request: &Request<'_>) -> Verdict<'_> {
        let first = |effect| {
            self.rules.iter().find(|rule| {
                rule.effect == effect
                    && rule.enforcement == Enforcement::Enforce
                    && rule.takes(request)
            })
        };
        if let Some(rule) = first(Effect::Deny) {
            return Verdict::Denied { rule: Some(rule) };
        }
        match first(Effect::Allow) {
            Some(rule) => Verdict::Allowed { rule },
            None => Verdict::Denied { rule: None },
        }
    }

    /// The rules that only log and that take the request.
    pub fn audit_hits<'t>(&'t self, request: &Request<'t>) -> impl Iterator<Item = &'t Rule> {
        let request = *request;
        self.rules
            .iter()
            .filter(move |rule| rule.enforcement == Enforcement::Audit && rule.takes(&request))
    }

    /// All rules, in the order of the slice.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }
}

impl<'t> IntoIterator for &'t Rules {
    type Item = &'t Rule;
    type IntoIter = std::slice::Iter<'t, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Rule {
    fn build(position: usize, rule: &AccessRule) -> Result<Self, RuleError> {
        let failed = |source| RuleError::Condition {
            rule: rule.name.clone(),
            source,
        };
        if rule.effect == Effect::Allow && rule.who.is_empty() {
            return Err(RuleError::AllowsNobody {
                rule: rule.name.clone(),
            });
        }
        rule.who
            .iter()
            .try_for_each(check_principal)
            .map_err(failed)?;
        let conditions = rule.conditions.iter().map(ConditionMatcher::compile);
        Ok(Self {
            name: rule.name.as_str().into(),
            position,
            effect: rule.effect,
            enforcement: rule.enforcement,
            who: rule.who.as_slice().into(),
            conditions: conditions.collect::<Result<_, _>>().map_err(failed)?,
        })
    }

    /// As people wrote it, `allow productpage`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place among the rules of the slice.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What it does.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it decides.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// Whether the rule is about this peer; a `deny` without a who is about everyone.
    pub fn concerns(&self, peer: Peer<'_>) -> bool {
        self.who.iter().any(|who| admits(who, peer))
            || (self.who.is_empty() && self.effect == Effect::Deny)
    }

    /// Whether the rule is about this request.
    pub fn takes(&self, request: &Request<'_>) -> bool {
        self.concerns(request.peer) && self.first_failing(request).is_none()
    }

    /// The first condition that the request does not meet, with its position.
    pub fn first_failing(&self, request: &Request<'_>) -> Option<(usize, &ConditionMatcher)> {
        let reading = match self.effect {
            Effect::Allow => Reading::Every,
            Effect::Deny => Reading::Some,
        };
        let mut conditions = self.conditions.iter().enumerate();
        conditions.find(|(_, condition)| !condition.matches(request, reading))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
