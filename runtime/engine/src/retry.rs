//! Whether a failed try is followed by another, and when.
//!
//! design.md, *Retries*: "Failures without a status and statuses are disjoint. Non-idempotent methods
//! are retried only on `connect-failure`, `refused`, `reset-before-request`, unless `methods=any`; gRPC
//! by its status list." *Time*: "`timeout` covers the whole exchange, tries included."

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;

mod budget;
mod policy;

pub use budget::{BudgetState, RequestGuard, RetryPermit, active_allowance};
pub use policy::{Failure, RetryPolicy, is_idempotent};

/// The tries of one request.
#[derive(Debug)]
pub struct RetryState<'p> {
    policy: &'p RetryPolicy,
    idempotent: bool,
    /// When the whole exchange ends; `None`: never.
    deadline: Option<Instant>,
    /// Tries started, the first included.
    tries: u32,
}

/// What follows a failed try.
#[derive(Debug)]
pub enum Next {
    /// Another try.
    Retry {
        /// How long to wait before it.
        after: Duration,
        /// Kept until the try has ended; `None`: retries are not budgeted.
        permit: Option<RetryPermit>,
    },
    /// None: what failed is the answer.
    Stop(Stop),
}

/// Why there is no other try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The policy does not retry this failure, or not for this method.
    NotRetryable,
    /// All attempts are used up.
    Attempts,
    /// It could not finish before the deadline.
    Deadline,
    /// The budget is used up.
    Budget,
}

impl<'p> RetryState<'p> {
    /// The state of a request whose first try is about to start. The deadline is that of the whole
    /// exchange, see [`deadline`].
    pub fn new(policy: &'p RetryPolicy, method: &str, deadline: Option<Instant>) -> Self {
        Self {
            policy,
            idempotent: is_idempotent(method),
            deadline,
            tries: 1,
        }
    }

    /// Tries started, the first included.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Whether the policy allows any further try; a request that cannot be tried again need not be
    /// kept.
    pub fn may_retry(&self) -> bool {
        self.tries < self.policy.attempts()
    }

    /// When the whole exchange ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the try that starts now may take: the per-try timeout, or what is left of the exchange
    /// if that is less. `None`: as long as it wants.
    pub fn try_timeout(&self, now: Instant) -> Option<Duration> {
        let left = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now));
        match (self.policy.per_try(), left) {
            (Some(per_try), Some(left)) => Some(per_try.min(left)),
            (per_try, left) => per_try.or(left),
        }
    }

    /// Decides what follows a failed try. On [`Next::Retry`] the next try counts as started.
    ///
    /// The budget is asked last, so that it only pays for tries that are made.
    pub fn next(
        &mut self,
        failure: Failure,
        now: Instant,
        budget: Option<&Arc<BudgetState>>,
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Next {
        if !self.policy.retries(failure, self.idempotent) {
            return Next::Stop(Stop::NotRetryable);
        }
        if !self.may_retry() {
            return Next::Stop(Stop::Attempts);
        }
        let after = self.policy.backoff(self.tries, rng);
        if !self.can_finish(now, after) {
            return Next::Stop(Stop::Deadline);
        }
        let permit = match budget {
            None => None,
            Some(budget) => match budget.retry(now) {
                None => return Next::Stop(Stop::Budget),
                permit => permit,
            },
        };
        self.tries += 1;
        Next::Retry { after, permit }
    }

    /// A try that starts at the deadline or later has no time at all. One that starts before it has
    /// what is left, even if that is less than its per-try timeout (retry-model.md D6).
    fn can_finish(&self, now: Instant, after: Duration) -> bool {
        match (self.deadline, now.checked_add(after)) {
            (None, _) => true,
            (Some(deadline), Some(start)) => start < deadline,
            (Some(_), None) => false,
        }
    }
}

/// When an exchange ends that begins now: by its own timeout, or by what the caller has left, whichever
/// is sooner.
pub fn deadline(
    now: Instant,
    timeout: Option<Duration>,
    left_to_caller: Option<Duration>,
) -> Option<Instant> {
    let shortest = match (timeout, left_to_caller) {
        (Some(timeout), Some(left)) => Some(timeout.min(left)),
        (timeout, left) => timeout.or(left),
    };
    shortest.and_then(|shortest| now.checked_add(shortest))
}

/// A duration drawn evenly from 0 to `max`, both included.
fn jitter(max: Duration, rng: &mut (impl rand::Rng + ?Sized)) -> Duration {
    let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.random_range(0..=nanos))
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{Retry, RetryBudget, RetryBudgetKind, RetryCause};

    use super::*;
    use crate::testing::{TestRng, now, retry};

    const MILLI: Duration = Duration::from_millis(1);

    fn policy(attempts: u32, per_try: Option<Duration>) -> RetryPolicy {
        let causes = vec![RetryCause::ConnectFailure, RetryCause::PerTryTimeout];
        let (backoff_base, backoff_max) = (Duration::ZERO, Duration::ZERO);
        RetryPolicy::new(&Retry {
            attempts,
            per_try,
            causes,
            backoff_base,
            backoff_max,
            ..retry()
        })
    }

    fn stop(next: &Next) -> Option<Stop> {
        match next {
            Next::Retry { .. } => None,
            Next::Stop(stop) => Some(*stop),
        }
    }

    /// design.md: "`attempts` counts *all* calls including the first".
    #[test]
    fn attempts_count_all_tries() {
        let policy = policy(3, None);
        let mut state = RetryState::new(&policy, "GET", None);
        let mut fail = || stop(&state.next(Failure::Connect, now(), None, &mut TestRng(0)));
        assert_eq!([fail(), fail(), fail()], [None, None, Some(Stop::Attempts)]);
        assert_eq!(state.tries(), 3);
        let next = state.next(Failure::Status(503), now(), None, &mut TestRng(0));
        assert_eq!(stop(&next), Some(Stop::NotRetryable));
    }

    /// retry-model.md TC-S1: a=3, p=1 s, T=2 s: 2 usable attempts, 1 dead.
    #[test]
    fn a_try_that_cannot_finish_is_not_started() {
        let policy = policy(3, Some(1000 * MILLI));
        let end = deadline(now(), Some(2000 * MILLI), None);
        let mut state = RetryState::new(&policy, "GET", end);
        assert_eq!(state.try_timeout(now()), Some(1000 * MILLI));
        let first = now() + 1000 * MILLI;
        let next = state.next(Failure::PerTryTimeout, first, None, &mut TestRng(0));
        assert_eq!(stop(&next), None);
        assert_eq!(
            state.try_timeout(first + 300 * MILLI),
            Some(700 * MILLI),
            "what is left"
        );
        let second = now() + 2000 * MILLI;
        let next = state.next(Failure::PerTryTimeout, second, None, &mut TestRng(0));
        assert_eq!((stop(&next), state.tries()), (Some(Stop::Deadline), 2));
    }

    /// The wait counts too: a try that would start past the deadline is not waited for.
    #[test]
    fn backoff_past_the_deadline_is_not_waited_for() {
        let causes = vec![RetryCause::ConnectFailure];
        let backoff_base = Duration::from_hours(1);
        let (attempts, backoff_max) = (2, backoff_base);
        let slow = Retry {
            attempts,
            causes,
            backoff_base,
            backoff_max,
            ..retry()
        };
        let policy = RetryPolicy::new(&slow);
        let mut state = RetryState::new(&policy, "GET", Some(now() + MILLI));
        let next = state.next(Failure::Connect, now(), None, &mut TestRng(0));
        assert_eq!(stop(&next), Some(Stop::Deadline));
    }

    #[test]
    fn the_sooner_deadline_holds() {
        let at = |millis| now().checked_add(millis * MILLI);
        assert_eq!(deadline(now(), Some(2 * MILLI), Some(MILLI)), at(1));
        assert_eq!(deadline(now(), Some(2 * MILLI), None), at(2));
        assert_eq!(deadline(now(), None, Some(MILLI)), at(1));
        assert_eq!(deadline(now(), None, None), None);
        assert_eq!(deadline(now(), Some(Duration::MAX), None), None);
    }

    #[test]
    fn the_budget_is_asked_last_and_pays_only_for_tries() {
        let kind = RetryBudgetKind::Active { min_count: 1 };
        let budget = Arc::new(BudgetState::new(&RetryBudget { share: 0, kind }, now()));
        let policy = policy(3, None);
        let next = |method, failure| {
            let mut state = RetryState::new(&policy, method, None);
            state.next(failure, now(), Some(&budget), &mut TestRng(0))
        };
        assert_eq!(
            stop(&next("POST", Failure::PerTryTimeout)),
            Some(Stop::NotRetryable)
        );
        let first = next("GET", Failure::Connect);
        assert!(matches!(
            first,
            Next::Retry {
                permit: Some(_),
                ..
            }
        ));
        assert_eq!(stop(&next("GET", Failure::Connect)), Some(Stop::Budget));
        drop(first);
        assert_eq!(stop(&next("GET", Failure::Connect)), None);
    }
}
