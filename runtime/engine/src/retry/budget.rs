//! Retry budgets: how many retries one calling proxy may send one callee. Lock-free; shared by all
//! workers of the proxy.
//!
//! retry-model.md D4. Share of requests: retries ≤ b · originals within the window, so that each hop
//! multiplies load by at most 1 + b. Share of active: r ≤ b · (o + r) among the tries in flight, so
//! at most 1 / (1 − b). `min` is a floor under either, not an addition to it.

use std::sync::Arc;
use std::time::Instant;

use mesh_bundle::slice::{RetryBudget, RetryBudgetKind};

mod active;
mod window;

use active::Active;
use window::Window;

/// Shares are of this many.
const WHOLE: u64 = 10_000;

/// The retry budget of one calling proxy for one callee.
#[derive(Debug)]
pub struct BudgetState {
    budget: RetryBudget,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Requests {
        requests: Window,
        retries: Window,
        /// Retries in the time of `min`, which may be longer or shorter than the window.
        at_least: Window,
        min_count: u64,
    },
    Active {
        tries: Active,
        min_count: u64,
    },
}

/// A first try in flight. Kept until it has ended.
#[derive(Debug)]
#[must_use = "a request counts as in flight until this is dropped"]
pub struct RequestGuard {
    _in_flight: InFlight,
}

/// A retry that the budget allows. Kept until it has ended.
#[derive(Debug)]
#[must_use = "a retry counts as in flight until this is dropped"]
pub struct RetryPermit {
    _in_flight: InFlight,
}

#[derive(Debug)]
struct InFlight {
    budget: Arc<BudgetState>,
    is_retry: bool,
}

impl BudgetState {
    /// A budget that has seen nothing yet.
    pub fn new(budget: &RetryBudget, now: Instant) -> Self {
        let kind = match budget.kind {
            RetryBudgetKind::Requests {
                min_count,
                min_per,
                window,
            } => Kind::Requests {
                requests: Window::new(window, now),
                retries: Window::new(window, now),
                at_least: Window::new(min_per, now),
                min_count,
            },
            RetryBudgetKind::Active { min_count } => Kind::Active {
                tries: Active::default(),
                min_count,
            },
        };
        Self {
            budget: budget.clone(),
            kind,
        }
    }

    /// What this is the state of. A new snapshot with an equal budget goes on with the same state.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Counts a request, whose first try starts now. The guard goes when that try has ended.
    pub fn request(self: &Arc<Self>, now: Instant) -> RequestGuard {
        match &self.kind {
            Kind::Requests { requests, .. } => requests.add(now),
            Kind::Active { tries, .. } => tries.add_original(),
        }
        RequestGuard {
            _in_flight: InFlight {
                budget: Arc::clone(self),
                is_retry: false,
            },
        }
    }

    /// Allows a retry and counts it, or refuses: `None`.
    pub fn retry(self: &Arc<Self>, now: Instant) -> Option<RetryPermit> {
        let allowed = match &self.kind {
            Kind::Requests {
                requests,
                retries,
                at_least,
                min_count,
            } => {
                // Counted first and taken back if refused, so that workers which ask at once never
                // get more together than the budget holds.
                retries.add(now);
                at_least.add(now);
                let of_requests = u128::from(requests.sum(now)) * u128::from(self.budget.share);
                let allowed = u128::from(retries.sum(now)) * u128::from(WHOLE) <= of_requests
                    || at_least.sum(now) <= *min_count;
                if !allowed {
                    retries.take_back(now);
                    at_least.take_back(now);
                }
                allowed
            }
            Kind::Active { tries, min_count } => tries.add_retry(|tries, retries| {
                retries <= active_allowance(self.budget.share, *min_count, tries)
            }),
        };
        let in_flight = || InFlight {
            budget: Arc::clone(self),
            is_retry: true,
        };
        allowed.then(|| RetryPermit {
            _in_flight: in_flight(),
        })
    }
}

/// How many of `active` tries in flight may be retries, for a budget that is a share of those: of
/// 10,000, rounded down, and never less than `min_count`.
pub fn active_allowance(share: u32, min_count: u64, active: u64) -> u64 {
    let of_active = u128::from(active) * u128::from(share) / u128::from(WHOLE);
    u64::try_from(of_active).unwrap_or(u64::MAX).max(min_count)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Kind::Active { tries, .. } = &self.budget.kind {
            tries.end(self.is_retry);
        }
    }
}
