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
    Requests(Box<Requests>),
    Active { tries: Active, min_count: u64 },
}

#[derive(Debug)]
struct Requests {
    originals: Window,
    retries: Window,
    /// Retries in the time of `min`, which may be longer or shorter than the window.
    at_least: Window,
    min_count: u64,
}

/// What of a budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Of which it is a share: first tries of the window, or tries in flight.
    pub tries: u64,
    /// Retries of the window, or in flight.
    pub retries: u64,
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
            } => Kind::Requests(Box::new(Requests {
                originals: Window::new(window, now),
                retries: Window::new(window, now),
                at_least: Window::new(min_per, now),
                min_count,
            })),
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

    /// What of it is used.
    pub fn usage(&self, now: Instant) -> BudgetUsage {
        let (tries, retries) = match &self.kind {
            Kind::Requests(counts) => (counts.originals.sum(now), counts.retries.sum(now)),
            Kind::Active { tries, .. } => tries.counts(),
        };
        BudgetUsage { tries, retries }
    }

    /// Counts a request, whose first try starts now. The guard goes when that try has ended.
    pub fn request(self: &Arc<Self>, now: Instant) -> RequestGuard {
        match &self.kind {
            Kind::Requests(counts) => counts.originals.add(now),
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
            Kind::Requests(counts) => counts.add_retry(self.budget.share, now),
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

impl Requests {
    /// Counts first and takes back if refused, so that workers which ask at once never get more
    /// together than the budget holds.
    fn add_retry(&self, share: u32, now: Instant) -> bool {
        self.retries.add(now);
        self.at_least.add(now);
        let of_originals = u128::from(self.originals.sum(now)) * u128::from(share);
        let allowed = u128::from(self.retries.sum(now)) * u128::from(WHOLE) <= of_originals
            || self.at_least.sum(now) <= self.min_count;
        if !allowed {
            self.retries.take_back(now);
            self.at_least.take_back(now);
        }
        allowed
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Instant {
        crate::testing::now()
    }

    /// A budget that has seen `originals` requests, all of them in flight still.
    fn budget(
        share: u32,
        kind: RetryBudgetKind,
        originals: usize,
    ) -> (Arc<BudgetState>, Vec<RequestGuard>) {
        let budget = Arc::new(BudgetState::new(&RetryBudget { share, kind }, now()));
        let guards = (0..originals).map(|_| budget.request(now())).collect();
        (budget, guards)
    }

    fn of_requests(min_count: u64, min_per: Duration) -> RetryBudgetKind {
        RetryBudgetKind::Requests {
            min_count,
            min_per,
            window: 10 * SECOND,
        }
    }

    /// All that it allows at once.
    fn permits(budget: &Arc<BudgetState>, now: Instant) -> Vec<RetryPermit> {
        std::iter::from_fn(|| budget.retry(now)).collect()
    }

    #[test]
    fn what_is_used_is_told() {
        let (recent, requests) = budget(2_000, of_requests(0, SECOND), 10);
        let retries = permits(&recent, now());
        let used = |tries, retries| BudgetUsage { tries, retries };
        assert_eq!(recent.usage(now()), used(10, 2));
        drop((requests, retries));
        assert_eq!(recent.usage(now()), used(10, 2), "the window is not over");
        assert_eq!(recent.usage(now() + 20 * SECOND), used(0, 0));
        let (active, requests) = budget(0, RetryBudgetKind::Active { min_count: 1 }, 3);
        let retries = permits(&active, now());
        assert_eq!(active.usage(now()), used(4, 1));
        drop((requests, retries));
        assert_eq!(active.usage(now()), used(0, 0));
    }

    /// retry-model.md TC-B4.
    #[test]
    fn allowance_of_active() {
        for (active, expected) in [
            (2, 3),
            (10, 3),
            (15, 3),
            (16, 3),
            (25, 5),
            (100, 20),
            (1000, 200),
        ] {
            assert_eq!(active_allowance(2000, 3, active), expected, "{active}");
        }
        assert_eq!(active_allowance(10_000, 0, u64::MAX), u64::MAX);
    }

    /// D4, TC-B2: r ≤ b · (o + r), so load is multiplied by at most 1.25 for a share of 20 %.
    #[test]
    fn share_of_active() {
        let (budget, originals) = budget(2000, RetryBudgetKind::Active { min_count: 3 }, 100);
        let retries = permits(&budget, now());
        assert_eq!(retries.len(), 25);
        drop(retries);
        drop(originals);
        assert_eq!(
            permits(&budget, now()).len(),
            3,
            "what has ended counts no longer"
        );
    }

    /// D4, TC-B1: load is multiplied by at most 1.2 for a share of 20 %.
    #[test]
    fn share_of_requests() {
        let (budget, _) = budget(2000, of_requests(0, SECOND), 100);
        assert_eq!(permits(&budget, now()).len(), 20);
        assert_eq!(permits(&budget, now() + 9 * SECOND).len(), 0);
        drop(budget.request(now() + 9 * SECOND));
        assert_eq!(
            permits(&budget, now() + 10 * SECOND).len(),
            0,
            "a fifth of one is none"
        );
        for _ in 0..4 {
            drop(budget.request(now() + 11 * SECOND));
        }
        assert_eq!(permits(&budget, now() + 12 * SECOND).len(), 1);
    }

    /// D4: `max(β, R_min/λ)`, so the minimum is a floor and no addition.
    #[test]
    fn minimum_is_a_rate_and_a_floor() {
        let (idle, _) = budget(2000, of_requests(5, SECOND), 0);
        assert_eq!(permits(&idle, now()).len(), 5);
        assert_eq!(permits(&idle, now() + SECOND / 2).len(), 0);
        assert_eq!(permits(&idle, now() + SECOND).len(), 5);
        let (busy, _) = budget(2000, of_requests(5, SECOND), 100);
        assert_eq!(permits(&busy, now()).len(), 20);
        let (slow, _) = budget(2000, of_requests(1, 60 * SECOND), 0);
        assert_eq!(permits(&slow, now() + SECOND).len(), 1);
        assert_eq!(
            permits(&slow, now() + 59 * SECOND).len(),
            0,
            "longer than the window"
        );
    }

    /// Workers that ask at once never get more together than one alone.
    #[test]
    fn holds_under_contention() {
        for (kind, most) in [
            (of_requests(3, SECOND), 200),
            (RetryBudgetKind::Active { min_count: 3 }, 250),
        ] {
            let (budget, _originals) = budget(2000, kind, 1000);
            let now = now();
            let ask = || {
                (0..500)
                    .filter_map(|_| budget.retry(now))
                    .collect::<Vec<_>>()
            };
            let granted = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
                let granted = workers.into_iter().map(|worker| worker.join().unwrap());
                granted.collect::<Vec<_>>()
            });
            let sum: usize = granted.iter().map(Vec::len).sum();
            assert!(sum <= most, "{sum}");
            let rest = permits(&budget, now);
            assert_eq!(sum + rest.len(), most, "nothing is lost either");
        }
    }
}
