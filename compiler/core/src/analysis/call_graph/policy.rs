//! What a caller does with a call that fails or takes long: the policy of one route, for one caller.

use std::collections::VecDeque;
use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use mesh_syntax::Span;

/// What a caller does with a call that fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name of the route.
    pub route: String,
    /// All calls, the first included; at least 1.
    pub attempts: u32,
    /// What is tried again.
    pub causes: Vec<RetryCause>,
    /// Longest time of one try; none: as long as the timeout.
    pub per_try: Option<Duration>,
    /// Longest time of all tries; none: no limit.
    pub timeout: Option<Duration>,
    /// First step of the back-off.
    pub backoff_base: Duration,
    /// Its cap.
    pub backoff_max: Duration,
    /// What bounds the share of retries.
    pub budget: Option<Budget>,
    /// A second try beside one that takes long.
    pub hedge: Option<Hedge>,
    /// Retries of one calling proxy at once, at most.
    pub retries_at_once: Option<f64>,
    /// Where the requests of the route go within the callee; empty: to all of its endpoints.
    pub branches: Vec<Branch>,
    /// Where `attempts` was set.
    pub attempts_span: Option<Span>,
    /// Where the time of a try was set: by itself, or as the timeout.
    pub limit_span: Option<Span>,
}

/// A part of the callee that takes a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The subset; none: all endpoints.
    pub subset: Option<String>,
    /// Its share, 0 to 1.
    pub share: f64,
}

/// A second try beside one that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// How long until it is made.
    pub delay: Duration,
    /// All tries, the first included.
    pub attempts: u32,
}

/// What bounds the share of retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The share, 0 to 1.
    pub share: f64,
    /// Share of what.
    pub of: BudgetOf,
}

/// What a budget is a share of, and what it always allows each client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetOf {
    /// Of the requests that are not retries.
    Requests {
        /// Retries per second that are always allowed.
        min_per_second: f64,
    },
    /// Of the requests in flight, retries among them.
    Active {
        /// Retries at once that are always allowed.
        min_concurrent: f64,
    },
}

impl Policy {
    /// Tries of a call that fails in a way that is tried again: hedging and retrying share them, so
    /// the larger counts and not the product.
    pub fn tries(&self) -> u32 {
        self.attempts.max(self.hedged_tries())
    }

    /// Tries of a call that fails in a way that is not tried again.
    pub fn hedged_tries(&self) -> u32 {
        self.hedge.map_or(1, |hedge| hedge.attempts.max(1))
    }

    /// The time after which a try is given up, if ever.
    pub fn try_limit(&self) -> Option<Duration> {
        match (self.per_try, self.timeout) {
            (Some(per_try), Some(timeout)) => Some(per_try.min(timeout)),
            (limit, None) | (None, limit) => limit,
        }
    }

    /// Tries that can begin before the timeout when each takes as long as it may.
    pub fn usable_attempts(&self) -> u32 {
        match (self.per_try, self.timeout) {
            (_, None) => self.attempts,
            (None, Some(_)) => 1,
            (Some(per_try), Some(timeout)) => {
                let fitting = timeout.as_nanos().div_ceil(per_try.as_nanos().max(1));
                u32::try_from(fitting)
                    .unwrap_or(u32::MAX)
                    .clamp(1, self.attempts)
            }
        }
    }

    /// When the tries of one call begin at the earliest, each failing `again` after it began and being followed by another
    /// then (none: by none), while a hedge begins others beside them. Hedging and retrying share their tries. Of a policy
    /// without hedge these are the multiples of `again`.
    ///
    /// A hedge begins no sooner than its delay after the try before it, and each failure is followed by one try: so the
    /// tries of any real call begin no sooner than these, one by one.
    pub fn begins(&self, again: Option<Duration>) -> impl Iterator<Item = Duration> + use<> {
        let hedges = self.hedge.map_or(0, |hedge| hedge.attempts.max(1) - 1);
        let delay = self.hedge.map_or(Duration::ZERO, |hedge| hedge.delay);
        // Those to come by failures: each is after all before it, since every failure takes as long.
        let mut followed = VecDeque::from([Duration::ZERO]);
        let mut hedged = 0;
        let most = if again.is_some() {
            self.tries()
        } else {
            self.hedged_tries()
        };
        (0..most).map_while(move |_| {
            let beside = (hedged < hedges).then(|| delay.saturating_mul(hedged + 1));
            let start = match (followed.front().copied(), beside) {
                (Some(after), Some(beside)) if after <= beside => after,
                (Some(after), None) => after,
                (_, beside) => {
                    hedged += 1;
                    let start = beside?;
                    followed.extend(again.map(|again| start.saturating_add(again)));
                    return Some(start);
                }
            };
            followed.pop_front();
            followed.extend(again.map(|again| start.saturating_add(again)));
            Some(start)
        })
    }

    /// Tries that never begin when each takes as long as it may.
    pub fn dead_attempts(&self) -> u32 {
        self.attempts - self.usable_attempts()
    }

    /// The longest wait before all retries together, with full jitter at its worst.
    pub fn backoff_total(&self) -> Duration {
        let mut total = Duration::ZERO;
        for retry in 1..self.attempts {
            let steps = 1_u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
            let wait = self
                .backoff_base
                .saturating_mul(steps)
                .min(self.backoff_max);
            if wait == self.backoff_max {
                let left = self.attempts - retry;
                return total.saturating_add(wait.saturating_mul(left));
            }
            total = total.saturating_add(wait);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::tests::policy;

    #[test]
    fn tc_s1_a_third_try_of_a_second_does_not_fit_in_two() {
        let policy = policy(3, 1.0, 2.0);
        assert_eq!((policy.usable_attempts(), policy.dead_attempts()), (2, 1));
    }

    #[test]
    fn tc_s6_a_try_longer_than_the_timeout_leaves_one() {
        assert_eq!(policy(6, 16.0, 15.0).dead_attempts(), 5);
    }

    #[test]
    fn hedges_begin_beside_tries_and_share_their_number() {
        let begins = |attempts, hedge: Option<(u64, u32)>, again: Option<u64>| -> Vec<u128> {
            let policy = Policy {
                hedge: hedge.map(|(delay, attempts)| Hedge {
                    delay: Duration::from_millis(delay),
                    attempts,
                }),
                ..policy(attempts, 1.0, 9.0)
            };
            let all = policy.begins(again.map(Duration::from_millis));
            all.map(|start| start.as_millis()).collect()
        };
        assert_eq!(begins(3, None, Some(1000)), [0, 1000, 2000]);
        assert_eq!(begins(3, None, None), [0]);
        assert_eq!(begins(1, Some((500, 3)), None), [0, 500, 1000]);
        assert_eq!(begins(3, Some((500, 2)), Some(1000)), [0, 500, 1000]);
        assert_eq!(
            begins(5, Some((500, 2)), Some(1000)),
            [0, 500, 1000, 1500, 2000]
        );
        assert_eq!(begins(2, Some((500, 4)), Some(700)), [0, 500, 700, 1000]);
    }

    #[test]
    fn back_off_grows_to_its_cap() {
        let policy = |attempts| Policy {
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            ..policy(attempts, 1.0, 1.0)
        };
        let millis = |attempts| policy(attempts).backoff_total().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6].map(millis), [0, 25, 100, 275, 525, 775]);
        assert!(policy(u32::MAX).backoff_total() > Duration::from_secs(1_000_000_000));
    }
}
