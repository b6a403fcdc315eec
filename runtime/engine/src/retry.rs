//! Whether a failed try is followed by another, and when.
//!
//! design.md, *Retries*: "Failures without a status and statuses are disjoint. Non-idempotent methods
//! are retried only on `connect-failure`, `refused`, `reset-before-request`, unless `methods=any`; gRPC
//! by its status list." *Time*: "`timeout` covers the whole exchange, tries included."

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::breaker::{Breaker, Counted, Held};

mod budget;
mod policy;

pub use budget::{BudgetState, BudgetUsage, RequestGuard, RetryPermit, active_allowance};
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
        /// Kept until the try has ended.
        permit: Permit,
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
    /// As many retries are in flight as may be.
    Circuit,
    /// The server asked not to be tried again, or later than the exchange lasts.
    Asked,
}

/// What a retry takes of what all requests to a callee share.
#[derive(Debug, Default)]
pub struct Permit {
    _budget: Option<RetryPermit>,
    _circuit: Option<Held>,
}

/// What bounds the retries of all requests to a callee together, and what the server that failed asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds<'b> {
    /// `None`: retries are not budgeted.
    pub budget: Option<&'b Arc<BudgetState>>,
    /// `None`: any number may be in flight.
    pub breaker: Option<&'b Arc<Breaker>>,
    /// What the server says of another try.
    pub wish: Wish,
}

/// What a server that failed says of another try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    #[default]
    Nothing,
    /// Not before so long: `Retry-After`.
    NotBefore(Duration),
    /// After so long, neither sooner nor later: gRPC's push-back.
    After(Duration),
    /// Not at all: gRPC's push-back.
    Never,
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
    /// What all requests share is asked last, so that it only pays for tries that are made.
    pub fn next(
        &mut self,
        failure: Failure,
        now: Instant,
        bounds: Bounds<'_>,
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Next {
        if !self.policy.retries(failure, self.idempotent) {
            return Next::Stop(Stop::NotRetryable);
        }
        if !self.may_retry() {
            return Next::Stop(Stop::Attempts);
        }
        let backoff = self.policy.backoff(self.tries, rng);
        let after = match bounds.wish {
            Wish::Nothing => backoff,
            // Clients that were all told the same moment come spread after it.
            Wish::NotBefore(after) => after.saturating_add(backoff),
            Wish::After(after) => after,
            Wish::Never => return Next::Stop(Stop::Asked),
        };
        if !self.can_finish(now, after) {
            return Next::Stop(match bounds.wish {
                Wish::Nothing => Stop::Deadline,
                _ => Stop::Asked,
            });
        }
        match take(bounds, now) {
            Err(stop) => Next::Stop(stop),
            Ok(permit) => {
                self.tries += 1;
                Next::Retry { after, permit }
            }
        }
    }

    /// Whether another try may begin now beside those that run, as a hedge does; it counts as started.
    pub fn hedge(&mut self, most: u32, now: Instant, bounds: Bounds<'_>) -> Option<Permit> {
        if self.tries >= most || !self.can_finish(now, Duration::ZERO) {
            return None;
        }
        let permit = take(bounds, now).ok()?;
        self.tries += 1;
        Some(permit)
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

/// What one more try takes of what all share.
fn take(bounds: Bounds<'_>, now: Instant) -> Result<Permit, Stop> {
    let circuit = match bounds.breaker {
        None => None,
        Some(breaker) => Some(breaker.take(Counted::Retries).ok_or(Stop::Circuit)?),
    };
    let budget = match bounds.budget {
        None => None,
        Some(budget) => Some(budget.retry(now).ok_or(Stop::Budget)?),
    };
    Ok(Permit {
        _budget: budget,
        _circuit: circuit,
    })
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
        let mut fail =
            || stop(&state.next(Failure::Connect, now(), Bounds::default(), &mut TestRng(0)));
        assert_eq!([fail(), fail(), fail()], [None, None, Some(Stop::Attempts)]);
        assert_eq!(state.tries(), 3);
        let next = state.next(
            Failure::Status(503),
            now(),
            Bounds::default(),
            &mut TestRng(0),
        );
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
        let next = state.next(
            Failure::PerTryTimeout,
            first,
            Bounds::default(),
            &mut TestRng(0),
        );
        assert_eq!(stop(&next), None);
        assert_eq!(
            state.try_timeout(first + 300 * MILLI),
            Some(700 * MILLI),
            "what is left"
        );
        let second = now() + 2000 * MILLI;
        let next = state.next(
            Failure::PerTryTimeout,
            second,
            Bounds::default(),
            &mut TestRng(0),
        );
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
        let next = state.next(Failure::Connect, now(), Bounds::default(), &mut TestRng(0));
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
            let bounds = Bounds {
                budget: Some(&budget),
                ..Bounds::default()
            };
            state.next(failure, now(), bounds, &mut TestRng(0))
        };
        assert_eq!(
            stop(&next("POST", Failure::PerTryTimeout)),
            Some(Stop::NotRetryable)
        );
        let first = next("GET", Failure::Connect);
        assert!(matches!(first, Next::Retry { .. }));
        assert_eq!(stop(&next("GET", Failure::Connect)), Some(Stop::Budget));
        drop(first);
        assert_eq!(stop(&next("GET", Failure::Connect)), None);
    }

    /// What a try with this wish of the server's comes to, within an exchange of one second.
    fn wishing(wish: Wish) -> Result<Duration, Stop> {
        let policy = policy(2, None);
        let mut state = RetryState::new(&policy, "GET", Some(now() + 1000 * MILLI));
        let bounds = Bounds {
            wish,
            ..Bounds::default()
        };
        match state.next(Failure::Connect, now(), bounds, &mut TestRng(0)) {
            Next::Retry { after, .. } => Ok(after),
            Next::Stop(stop) => Err(stop),
        }
    }

    #[test]
    fn what_the_server_asks_for() {
        assert_eq!(wishing(Wish::Nothing), Ok(Duration::ZERO));
        assert_eq!(wishing(Wish::NotBefore(300 * MILLI)), Ok(300 * MILLI));
        assert_eq!(wishing(Wish::After(300 * MILLI)), Ok(300 * MILLI));
        assert_eq!(wishing(Wish::Never), Err(Stop::Asked));
        for late in [Wish::NotBefore(1000 * MILLI), Wish::After(Duration::MAX)] {
            assert_eq!(wishing(late), Err(Stop::Asked), "{late:?}");
        }
    }

    #[test]
    fn so_many_retries_at_once() {
        use mesh_bundle::slice::Limits;
        let breaker = Arc::new(Breaker::new(Limits {
            retries: Some(1),
            ..Limits::default()
        }));
        let bounds = Bounds {
            breaker: Some(&breaker),
            ..Bounds::default()
        };
        let policy = policy(2, None);
        let next = || {
            let mut state = RetryState::new(&policy, "GET", None);
            state.next(Failure::Connect, now(), bounds, &mut TestRng(0))
        };
        let first = next();
        assert_eq!(stop(&first), None);
        assert_eq!(stop(&next()), Some(Stop::Circuit));
        drop(first);
        assert_eq!(stop(&next()), None);
    }

    #[test]
    fn a_hedge_is_a_try() {
        let policy = policy(2, None);
        let end = now() + 1000 * MILLI;
        let mut state = RetryState::new(&policy, "GET", Some(end));
        let bounds = Bounds::default();
        assert!(state.hedge(3, now(), bounds).is_some());
        assert!(state.hedge(3, end, bounds).is_none(), "it has no time");
        assert!(state.hedge(3, now(), bounds).is_some());
        assert!(state.hedge(3, now(), bounds).is_none());
        assert_eq!(state.tries(), 3);
        assert!(!state.may_retry(), "both share their number");
    }
}
