//! How many requests may enter: one limit, counted by one proxy. Pure: time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mesh_bundle::slice::RateLimit;

use crate::limits;

mod key;

pub use key::{RequestKeyBytes, affinity, key_values, request_key};

/// Counts the requests of one rate limit, each key for itself.
///
/// The generic cell rate algorithm (ITU-T I.371, the virtual scheduling form): per key it remembers one
/// instant, that at which all of the burst is there again. It admits what a token bucket of `burst`
/// tokens admits that fills evenly with `count` tokens per `per`, exactly, since time is kept in units
/// that divide by neither.
#[derive(Debug)]
pub struct RateLimiter {
    count: u128,
    per: u128,
    burst: u128,
    began: Instant,
    /// Keys seen since the last turn, and in the turn before it. What was seen in neither has all of its
    /// burst again, which is what a new key has: forgetting it forgets nothing.
    young: Cells,
    old: Cells,
    turned: u128,
    /// Of the keys for which there is no more room: together they get what one key gets.
    crowd: u128,
}

/// When all of the burst is there again, by key.
type Cells = HashMap<RequestKeyBytes, u128>;

/// Whether a request may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It may not, and would after this long if no other came.
    Limited {
        /// For `retry-after`.
        retry_after: Duration,
    },
}

impl RateLimiter {
    /// A limiter that has counted nothing yet.
    pub fn new(limit: &RateLimit, now: Instant) -> Self {
        Self {
            count: u128::from(limit.count.max(1)),
            per: limit.per.as_nanos().max(1),
            burst: u128::from(limit.burst.max(1)),
            began: now,
            young: Cells::new(),
            old: Cells::new(),
            turned: 0,
            crowd: 0,
        }
    }

    /// Counts a request with this key, if it may enter.
    pub fn admit(&mut self, key: &RequestKeyBytes, now: Instant) -> Admission {
        // In units of which a nanosecond has `count`, so that one request costs `per` of them.
        let now = now.saturating_duration_since(self.began).as_nanos() * self.count;
        self.turn(now);
        let known = self.young.get(key).or_else(|| self.old.get(key)).copied();
        let crowded = known.is_none() && self.young.len() >= limits::RATE_LIMIT_KEYS_MAX;
        let full_at = if crowded {
            self.crowd
        } else {
            known.unwrap_or(0)
        };
        let full_at = full_at.max(now);
        // What is missing of the burst must leave room for one more.
        let room_at = (full_at + self.per).saturating_sub(self.refill());
        if room_at > now {
            let nanos = (room_at - now).div_ceil(self.count);
            return Admission::Limited {
                retry_after: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            };
        }
        let full_at = full_at + self.per;
        if crowded {
            self.crowd = full_at;
        } else if let Some(cell) = self.young.get_mut(key) {
            *cell = full_at;
        } else {
            self.young.insert(key.clone(), full_at);
        }
        Admission::Admitted
    }

    /// How many requests with this key might enter now.
    pub fn room(&self, key: &RequestKeyBytes, now: Instant) -> u64 {
        let now = now.saturating_duration_since(self.began).as_nanos() * self.count;
        let known = self.young.get(key).or_else(|| self.old.get(key)).copied();
        let missing = known.unwrap_or(0).saturating_sub(now);
        let room = self.refill().saturating_sub(missing) / self.per;
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long an empty burst takes to be there again.
    fn refill(&self) -> u128 {
        self.per * self.burst
    }

    fn turn(&mut self, now: u128) {
        if now.saturating_sub(self.turned) < self.refill() {
            return;
        }
        let whole_turn_missed = now.saturating_sub(self.turned) >= self.refill() * 2;
        self.old = std::mem::take(&mut self.young);
        if whole_turn_missed {
            self.old.clear();
        }
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::now;

    fn limit(count: u64, per_ms: u64, burst: u64) -> RateLimit {
        RateLimit {
            count,
            per: Duration::from_millis(per_ms),
            burst,
            keys: Vec::new(),
            via: None,
            route: None,
            conditions: Vec::new(),
            respond: None,
        }
    }

    fn key(text: &str) -> RequestKeyBytes {
        RequestKeyBytes::from(text.as_bytes())
    }

    #[track_caller]
    fn admitted(limiter: &mut RateLimiter, key: &RequestKeyBytes, ms: u64) -> bool {
        limiter.admit(key, now() + Duration::from_millis(ms)) == Admission::Admitted
    }

    #[test]
    fn a_burst_then_evenly() {
        let mut limiter = RateLimiter::new(&limit(10, 1_000, 3), now());
        let one = key("a");
        let at = [
            0, 0, 0, 0, 99, 100, 150, 200, 10_000, 10_000, 10_000, 10_000,
        ];
        let room = |limiter: &RateLimiter| limiter.room(&one, now());
        assert_eq!(room(&limiter), 3);
        let admitted: Vec<_> = at
            .iter()
            .map(|ms| {
                let at = now() + Duration::from_millis(*ms);
                let room = limiter.room(&one, at);
                let admitted = admitted(&mut limiter, &one, *ms);
                assert_eq!(room > 0, admitted, "{ms}");
                assert_eq!(limiter.room(&one, at), room.saturating_sub(1), "{ms}");
                admitted
            })
            .collect();
        let expected = [
            true, true, true, false, false, true, false, true, true, true, true, false,
        ];
        assert_eq!(admitted, expected);
    }

    #[test]
    fn retry_after_is_when_there_is_room() {
        let mut limiter = RateLimiter::new(&limit(3, 1_000, 1), now());
        let one = key("a");
        assert!(admitted(&mut limiter, &one, 0));
        let Admission::Limited { retry_after } = limiter.admit(&one, now()) else {
            panic!("the burst is one");
        };
        assert_eq!(retry_after, Duration::from_nanos(333_333_334));
        let early = now() + Duration::from_nanos(333_333_333);
        assert_ne!(limiter.admit(&one, early), Admission::Admitted);
        assert_eq!(
            limiter.admit(&one, now() + retry_after),
            Admission::Admitted
        );
    }

    #[test]
    fn keys_are_apart() {
        let mut limiter = RateLimiter::new(&limit(1, 1_000, 1), now());
        assert!(admitted(&mut limiter, &key("a"), 0));
        assert!(!admitted(&mut limiter, &key("a"), 1));
        assert!(admitted(&mut limiter, &key("b"), 1));
    }

    /// A stranger who makes up keys gets no more memory, and takes nothing from keys that are known.
    #[test]
    fn memory_is_bounded() {
        let mut limiter = RateLimiter::new(&limit(1, 1_000_000, 1), now());
        assert!(admitted(&mut limiter, &key("known"), 0));
        let mut entered = 0;
        for number in 0..2 * limits::RATE_LIMIT_KEYS_MAX {
            entered += usize::from(admitted(&mut limiter, &key(&number.to_string()), 1));
        }
        assert_eq!(limiter.len(), limits::RATE_LIMIT_KEYS_MAX);
        // Those for whom there was room, and one of the crowd.
        assert_eq!(entered, limits::RATE_LIMIT_KEYS_MAX);
        assert!(!admitted(&mut limiter, &key("known"), 2));
        // Two refills later nothing of it is left.
        assert!(admitted(&mut limiter, &key("known"), 2_000_001));
        assert_eq!(limiter.len(), 1);
    }

    /// A bucket of tokens, refilled in exact fractions.
    struct Bucket {
        tokens: u128,
        at: u64,
    }

    proptest! {
        /// What is admitted is what a token bucket admits, whatever the rate, and however keys are
        /// forgotten.
        #[test]
        fn admits_what_a_token_bucket_admits(
            count in 1_u64..7, per in 1_u64..50, burst in 1_u64..5,
            requests in proptest::collection::vec((0_u64..30, 0..3_usize), 1..200),
        ) {
            let mut limiter = RateLimiter::new(&limit(count, per, burst), now());
            let scale = u128::from(per);
            let full = u128::from(burst) * scale;
            let mut buckets: Vec<_> = (0..3).map(|_| Bucket { tokens: full, at: 0 }).collect();
            let mut ms = 0;
            for (wait, who) in requests {
                ms += wait;
                let bucket = &mut buckets[who];
                let refill = u128::from(ms - bucket.at) * u128::from(count);
                bucket.tokens = (bucket.tokens + refill).min(full);
                bucket.at = ms;
                let expected = bucket.tokens >= scale;
                if expected {
                    bucket.tokens -= scale;
                }
                let found = admitted(&mut limiter, &key(&who.to_string()), ms);
                prop_assert_eq!(found, expected, "at {} ms", ms);
            }
        }
    }
}
