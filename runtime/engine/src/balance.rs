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
            // No proxy has the features of hashing and of latencies yet, so none comes here with them.
            Balance::Random | Balance::RingHash | Balance::Maglev => {
                nth(rng.random_range(0..count))
            }
            Balance::LeastRequest | Balance::PeakEwma => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRng;

    #[derive(Clone, Copy)]
    struct Known {
        available: bool,
        active: usize,
    }

    impl Endpoint for Known {
        fn is_available(&self) -> bool {
            self.available
        }

        fn active(&self) -> usize {
            self.active
        }
    }

    /// Endpoints as people draw them: a digit is how busy one is, `x` is not available.
    fn endpoints(drawn: &str) -> Vec<Known> {
        let known = |drawn: char| Known {
            available: drawn != 'x',
            active: drawn.to_digit(10).unwrap_or(0) as usize,
        };
        drawn.chars().map(known).collect()
    }

    /// How often each endpoint is picked in 600 tries.
    fn picks(algorithm: Balance, drawn: &str, tried: &[usize]) -> Vec<usize> {
        let endpoints = endpoints(drawn);
        let balancer = Balancer::new(algorithm);
        let mut rng = TestRng(1);
        let mut picks = vec![0; endpoints.len()];
        for _ in 0..600 {
            if let Some(position) = balancer.pick(&endpoints, tried, &mut rng) {
                picks[position] += 1;
            }
        }
        picks
    }

    #[test]
    fn round_robin_takes_turns() {
        assert_eq!(picks(Balance::RoundRobin, "000", &[]), [200, 200, 200]);
        assert_eq!(picks(Balance::RoundRobin, "0x0", &[]), [300, 0, 300]);
    }

    #[test]
    fn least_request_takes_the_less_busy() {
        assert_eq!(picks(Balance::LeastRequest, "19", &[]), [600, 0]);
        let three = picks(Balance::LeastRequest, "159", &[]);
        // The busiest of three loses every pair; the idlest wins two pairs of three.
        assert!(
            matches!(three.as_slice(), [350..=450, 150..=250, 0]),
            "{three:?}"
        );
    }

    #[test]
    fn random_takes_all() {
        let random = picks(Balance::Random, "09x", &[]);
        assert!(
            matches!(random.as_slice(), [250..=350, 250..=350, 0]),
            "{random:?}"
        );
    }

    #[test]
    fn avoids_what_was_tried_while_there_are_others() {
        for algorithm in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
            assert_eq!(picks(algorithm, "07x", &[0]), [0, 600, 0], "{algorithm:?}");
            assert_eq!(picks(algorithm, "0xx", &[0]), [600, 0, 0], "{algorithm:?}");
            assert_eq!(picks(algorithm, "xx", &[]), [0, 0], "{algorithm:?}");
            assert_eq!(picks(algorithm, "", &[3]), [0; 0], "{algorithm:?}");
        }
    }
}
