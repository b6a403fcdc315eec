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
