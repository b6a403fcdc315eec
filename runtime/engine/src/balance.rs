//! Which endpoint of a destination takes a try.

use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_bundle::slice::Balance;
use rand::RngExt as _;

/// What balancing needs to know of an endpoint.
pub trait Endpoint {
    /// Whether it may be picked: known, and not ejected.
    fn is_available(&self) -> bool;
    /// How many requests this proxy has in flight there.
    fn active(&self) -> usize;
}

/// Picks endpoints of one destination; shared by all workers of a proxy.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Balance,
    /// Whose turn it is.
    turn: AtomicUsize,
}

impl Balancer {
    /// A balancer that has picked nothing yet.
    pub fn new(algorithm: Balance) -> Self {
        Self {
            algorithm,
            turn: AtomicUsize::new(0),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Balance {
        self.algorithm
    }

    /// Picks an available endpoint and returns its position, avoiding those that this request has
    /// `tried` as long as there are others. `None`: none is available.
    pub fn pick<E: Endpoint>(
        &self,
        endpoints: &[E],
        tried: &[usize],
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Option<usize> {
        let fresh =
            |position: usize, endpoint: &E| endpoint.is_available() && !tried.contains(&position);
        let any = |_position: usize, endpoint: &E| endpoint.is_available();
        self.pick_among(endpoints, fresh, rng).or_else(|| {
            if tried.is_empty() {
                None
            } else {
                self.pick_among(endpoints, any, rng)
            }
        })
    }

    fn pick_among<E: Endpoint>(
        &self,
        endpoints: &[E],
        eligible: impl Fn(usize, &E) -> bool,
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Option<usize> {
        let candidates = || {
            endpoints
                .iter()
                .enumerate()
                .filter(|(position, endpoint)| eligible(*position, endpoint))
        };
        let count = candidates().count();
        if count == 0 {
            return None;
        }
        // Availability may change between the two walks; then the first candidate will do.
        let nth = |wanted: usize| candidates().nth(wanted).or_else(|| candidates().next());
        let picked = match self.algorithm {
            Balance::RoundRobin => nth(self.turn.fetch_add(1, Ordering::Relaxed) % count),
            Balance::Random => nth(rng.random_range(0..count)),
            Balance::LeastRequest => {
                let first = rng.random_range(0..count);
                // Another one, unless there is no other.
                let second = (first + rng.random_range(1..count.max(2))) % count;
                [nth(first), nth(second)]
                    .into_iter()
                    .flatten()
                    .min_by_key(|(_, end)| end.active())
            }
        };
        picked.map(|(position, _)| position)
    }
}
