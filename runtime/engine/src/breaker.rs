//! How much goes to a destination at once: counted by one proxy, for all of its workers together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mesh_bundle::slice::Limits;

use crate::adaptive::Adaptive;

/// What a [`Breaker`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in flight.
    Requests,
    /// Retries in flight.
    Retries,
}

impl Counted {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Connections,
        Self::Pending,
        Self::Requests,
        Self::Retries,
    ];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }
}

/// The limits of a destination, and how much of them is used.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    /// None: the number of requests follows no answers.
    adaptive: Option<Adaptive>,
}

/// One of what a [`Breaker`] counts, until it is dropped.
#[derive(Debug)]
pub struct Held {
    breaker: Arc<Breaker>,
    counted: Counted,
}

impl Drop for Held {
    fn drop(&mut self) {
        let used = self.breaker.counter(self.counted);
        used.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Breaker {
    /// Nothing is used yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            retries: AtomicU32::new(0),
            adaptive: limits
                .adaptive
                .map(|tolerance| Adaptive::new(tolerance, limits.requests)),
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes one, if there is room for it.
    pub fn take(self: &Arc<Self>, counted: Counted) -> Option<Held> {
        let most = self.most(counted).unwrap_or(u32::MAX);
        let more = |used: u32| used.checked_add(1).filter(|used| *used <= most);
        self.counter(counted)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Held {
            breaker: Arc::clone(self),
            counted,
        })
    }

    /// How many are used.
    pub fn used(&self, counted: Counted) -> u32 {
        self.counter(counted).load(Ordering::Acquire)
    }

    /// The limit; `None`: there is none.
    pub fn most(&self, counted: Counted) -> Option<u32> {
        match counted {
            Counted::Connections => self.limits.connections,
            Counted::Pending => self.limits.pending,
            Counted::Requests => match &self.adaptive {
                Some(adaptive) => Some(adaptive.limit()),
                None => self.limits.requests,
            },
            Counted::Retries => self.limits.retries,
        }
    }

    /// What the number of requests follows.
    pub fn adaptive(&self) -> Option<&Adaptive> {
        self.adaptive.as_ref()
    }

    /// Whether there is no room for another one.
    pub fn is_open(&self, counted: Counted) -> bool {
        self.most(counted)
            .is_some_and(|most| self.used(counted) >= most)
    }

    fn counter(&self, counted: Counted) -> &AtomicU32 {
        match counted {
            Counted::Connections => &self.connections,
            Counted::Pending => &self.pending,
            Counted::Requests => &self.requests,
            Counted::Retries => &self.retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_has_its_own_limit() {
        let breaker = Arc::new(Breaker::new(Limits {
            requests: Some(2),
            retries: Some(1),
            ..Limits::default()
        }));
        let first = breaker.take(Counted::Requests);
        let second = breaker.take(Counted::Requests);
        assert!(first.is_some() && second.is_some());
        assert!(breaker.is_open(Counted::Requests));
        assert!(breaker.take(Counted::Requests).is_none());
        assert!(breaker.take(Counted::Retries).is_some());
        assert!(!breaker.is_open(Counted::Retries), "it was dropped");
        let free: Vec<_> = (0..1_000)
            .map(|_| breaker.take(Counted::Connections))
            .collect();
        assert!(free.iter().all(Option::is_some));
        drop(first);
        assert!(!breaker.is_open(Counted::Requests));
        assert!(breaker.take(Counted::Requests).is_some());
    }

    proptest! {
        /// Whatever is taken and given back, no more is out than the limit, and nothing is lost.
        #[test]
        fn never_more_than_the_limit(limit in 0_u32..5, steps in proptest::collection::vec(any::<bool>(), 0..100)) {
            let breaker = Arc::new(Breaker::new(Limits { pending: Some(limit), ..Limits::default() }));
            let mut out = Vec::new();
            for takes in steps {
                if takes {
                    let room = out.len() < limit as usize;
                    let taken = breaker.take(Counted::Pending);
                    prop_assert_eq!(taken.is_some(), room);
                    out.extend(taken);
                } else {
                    out.pop();
                }
                prop_assert_eq!(breaker.used(Counted::Pending) as usize, out.len());
            }
        }
    }
}
