//! Which endpoint of a destination takes a try.

use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_bundle::slice::Balance;
use rand::RngExt as _;

mod ewma;
mod hash;

pub use ewma::PeakEwma;
pub use hash::{HashTable, stable_hash};

/// What balancing needs to know of an endpoint.
pub trait Endpoint {
    /// Whether it may be picked: known, and not ejected.
    fn is_available(&self) -> bool;
    /// How many requests this proxy has in flight there.
    fn active(&self) -> usize;
    /// What a request there costs in time, as [`PeakEwma::cost`] says, for [`Balance::PeakEwma`].
    fn cost(&self) -> u64 {
        u64::try_from(self.active()).unwrap_or(u64::MAX)
    }
}

/// Picks endpoints of one destination; shared by all workers of a proxy.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Balance,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// Endpoints that are compared.
    choices: usize,
}

impl Balancer {
    /// A balancer that has picked nothing yet.
    pub fn new(algorithm: Balance) -> Self {
        Self {
            algorithm,
            turn: AtomicUsize::new(0),
            choices: 2,
        }
    }

    /// The same, comparing so many endpoints.
    #[must_use]
    pub fn with_choices(self, choices: usize) -> Self {
        Self {
            choices: choices.max(1),
            ..self
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
            // Without a key there is nothing to hash: see [`Self::pick_hashed`].
            Balance::Random | Balance::RingHash | Balance::Maglev => {
                nth(rng.random_range(0..count))
            }
            Balance::LeastRequest | Balance::PeakEwma => distinct(self.choices, count, rng)
                .into_iter()
                .filter_map(nth)
                .min_by_key(|(_, endpoint)| match self.algorithm {
                    Balance::PeakEwma => endpoint.cost(),
                    _ => u64::try_from(endpoint.active()).unwrap_or(u64::MAX),
                }),
        };
        picked.map(|(position, _)| position)
    }

    /// Picks the endpoint of a hash: the first of its endpoints that is available and was not `tried`, else
    /// the first that is available.
    pub fn pick_hashed<E: Endpoint>(
        table: &HashTable,
        hash: u64,
        endpoints: &[E],
        tried: &[usize],
    ) -> Option<usize> {
        let available = |at: usize| endpoints.get(at).is_some_and(Endpoint::is_available);
        table
            .find(hash, |at| available(at) && !tried.contains(&at))
            .or_else(|| table.find(hash, available))
    }
}

/// So many different numbers below `count`, or all of them.
fn distinct(wanted: usize, count: usize, rng: &mut (impl rand::Rng + ?Sized)) -> Vec<usize> {
    let first = rng.random_range(0..count);
    if wanted == 1 || count == 1 {
        return vec![first];
    }
    if wanted == 2 {
        return vec![first, (first + rng.random_range(1..count)) % count];
    }
    // The first steps of a shuffle.
    let mut numbers: Vec<usize> = (0..count).collect();
    for place in 0..wanted.min(count) {
        numbers.swap(place, rng.random_range(place..count));
    }
    numbers.truncate(wanted);
    numbers
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
    fn more_choices_are_better_informed() {
        let endpoints = endpoints("12345");
        let balancer = Balancer::new(Balance::LeastRequest).with_choices(5);
        let mut rng = TestRng(1);
        // Of five, five are compared.
        for _ in 0..100 {
            assert_eq!(balancer.pick(&endpoints, &[], &mut rng), Some(0));
        }
    }

    #[test]
    fn a_hash_has_its_endpoint() {
        let names = ["a", "b", "c"];
        let table = HashTable::build(Balance::Maglev, &names).unwrap();
        let all = endpoints("999");
        let own = Balancer::pick_hashed(&table, 7, &all, &[]).unwrap();
        assert_eq!(Balancer::pick_hashed(&table, 7, &all, &[]), Some(own));
        let next = Balancer::pick_hashed(&table, 7, &all, &[own]).unwrap();
        assert_ne!(next, own);
        let tried = [0, 1, 2];
        assert_eq!(Balancer::pick_hashed(&table, 7, &all, &tried), Some(own));
        assert_eq!(
            Balancer::pick_hashed(&table, 7, &endpoints("xxx"), &[]),
            None
        );
        assert!(HashTable::build(Balance::Random, &names).is_none());
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
