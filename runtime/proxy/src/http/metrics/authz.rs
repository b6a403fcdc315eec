//! What the rules of services have decided, counted by rule without a lock or a name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_bundle::slice::{Effect, Enforcement};
use mesh_engine::rbac::{Rule, Rules, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio::time::Instant;

use crate::series::Registry;

/// What a count is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Decided {
    service: String,
    decision: &'static str,
    /// The rule as policy has it; empty: no rule admits it.
    policy: String,
    mode: &'static str,
}

/// All counts of decisions.
#[derive(Debug, Default)]
pub(crate) struct Decisions(Registry<Decided, AtomicU64>);

/// Those of one service.
#[derive(Debug, Default)]
pub(crate) struct AuthzCounters {
    /// In the order of its rules; none where there are too many.
    rules: Box<[Option<Arc<AtomicU64>>]>,
    /// What no rule admits.
    denied: Option<Arc<AtomicU64>>,
}

impl Decisions {
    pub(super) fn of(&self, service: &str, rules: &Rules) -> AuthzCounters {
        let counter = |decision, policy: &str, mode| {
            let decided = Decided {
                service: service.to_owned(),
                decision,
                policy: policy.to_owned(),
                mode,
            };
            self.0.get(decided, |_| AtomicU64::new(0))
        };
        let of_rule = |rule: &Rule| {
            let decision = match rule.effect() {
                Effect::Allow => "allowed",
                Effect::Deny => "denied",
            };
            let mode = match rule.enforcement() {
                Enforcement::Enforce => "enforce",
                Enforcement::Audit => "audit",
            };
            counter(decision, rule.name(), mode)
        };
        AuthzCounters {
            rules: rules.iter().map(of_rule).collect(),
            denied: counter("denied", "", "enforce"),
        }
    }

    pub(super) fn expire(&self, now: Instant) {
        self.0.expire(now);
    }
}

impl AuthzCounters {
    /// Counts a decision.
    pub(crate) fn decided(&self, verdict: Verdict<'_>) {
        match verdict.rule() {
            Some(rule) => self.took(rule),
            None => self.denied(),
        }
    }

    /// Counts that a rule took a request, be it one that only logs.
    pub(crate) fn took(&self, rule: &Rule) {
        add(self.rules.get(rule.position()).and_then(Option::as_ref));
    }

    /// Counts what no rule admits.
    pub(crate) fn denied(&self) {
        add(self.denied.as_ref());
    }
}

fn add(counter: Option<&Arc<AtomicU64>>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Collector for Decisions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        let mut family = encoder.encode_descriptor(
            "mesh_authz",
            "decisions about entering, and about leaving the mesh, by the rule that made them; `policy` is empty where \
             no rule admits it, and in the mode `audit` nothing is decided",
            None,
            MetricType::Counter,
        )?;
        for (decided, count) in &all {
            let labels = [
                ("dst_service", decided.service.as_str()),
                ("decision", decided.decision),
                ("policy", decided.policy.as_str()),
                ("mode", decided.mode),
            ];
            let count = count.load(Ordering::Relaxed);
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
