//! Which endpoint of a destination takes a try.

use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_bundle::slice::Balance;
use rand::RngExt as _;

mod ewma;
mod hash;
mod locality;
mod scope;
mod slow_start;

pub use ewma::PeakEwma;
pub use hash::{HashTable, stable_hash};
pub use locality::Nearness;
use scope::Scope;
pub use slow_start::share_after;

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
    /// Of 10,000: in which share of picks it takes part, as [`share_after`] says.
    fn share(&self) -> u32 {
        10_000
    }
    /// How near it is, 0 the nearest, as [`Nearness`] says; `None`: too far to be picked at all.
    fn tier(&self) -> Option<usize> {
        Some(0)
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
    /// Of 10,000: below this share of available endpoints the next tier joins in.
    min_healthy: u32,
}

impl Balancer {
    /// A balancer that has picked nothing yet.
    pub fn new(algorithm: Balance) -> Self {
        Self {
            algorithm,
            turn: AtomicUsize::new(0),
            choices: 2,
            min_healthy: 0,
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

    /// The same, looking farther where fewer endpoints than this share, of 10,000, are available.
    #[must_use]
    pub fn with_min_healthy(self, min_healthy: u32) -> Self {
        Self {
            min_healthy,
            ..self
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Balance {
        self.algorithm
    }

    /// Picks an endpoint and returns its position, avoiding those that this request has `tried` as long as
    /// there are others. Where most are not available it is taken no notice of that. `None`: there is none.
    pub fn pick<E: Endpoint>(
        &self,
        endpoints: &[E],
        tried: &[usize],
        rng: &mut (impl rand::Rng + ?Sized),
    ) -> Option<usize> {
        let scope = Scope::of(endpoints, self.min_healthy)?;
        let any = |_position: usize, endpoint: &E| scope.admits(endpoint);
        let fresh =
            |position: usize, endpoint: &E| any(position, endpoint) && !tried.contains(&position);
        if scope.has_newcomers() {
            // Drawn once, for what is drawn twice may come out differently.
            let takes_part: Vec<bool> = endpoints
                .iter()
                .map(|endpoint| endpoint.share() > rng.random_range(0..10_000))
                .collect();
            let grown = |position: usize, endpoint: &E| {
                fresh(position, endpoint) && takes_part.get(position).copied().unwrap_or(true)
            };
            let picked = self.pick_among(endpoints, grown, rng);
            if picked.is_some() {
                return picked;
            }
        }
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

    /// Picks the endpoint of a hash: the first of its endpoints that may be picked and was not `tried`, else
    /// the first that may be picked.
    pub fn pick_hashed<E: Endpoint>(
        &self,
        table: &HashTable,
        hash: u64,
        endpoints: &[E],
        tried: &[usize],
    ) -> Option<usize> {
        let scope = Scope::of(endpoints, self.min_healthy)?;
        let any = |at: usize| endpoints.get(at).is_some_and(|each| scope.admits(each));
        table
            .find(hash, |at| any(at) && !tried.contains(&at))
            .or_else(|| table.find(hash, any))
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
    fn where_most_are_out_all_are_asked() {
        // Half of them is enough.
        assert_eq!(picks(Balance::RoundRobin, "00xx", &[]), [300, 300, 0, 0]);
        assert_eq!(picks(Balance::RoundRobin, "0xx", &[]), [200, 200, 200]);
        assert_eq!(picks(Balance::RoundRobin, "xx", &[]), [300, 300]);
    }

    #[test]
    fn a_new_endpoint_gets_its_share() {
        struct Aged(u32);
        impl Endpoint for Aged {
            fn is_available(&self) -> bool {
                true
            }
            fn active(&self) -> usize {
                0
            }
            fn share(&self) -> u32 {
                self.0
            }
        }
        let share_of_last = |shares: &[u32]| {
            let endpoints: Vec<_> = shares.iter().map(|share| Aged(*share)).collect();
            let mut rng = TestRng(1);
            let balancer = Balancer::new(Balance::RoundRobin);
            let mut picks = (0..6_000).map(|_| balancer.pick(&endpoints, &[], &mut rng));
            let last = Some(shares.len() - 1);
            picks.by_ref().filter(|picked| *picked == last).count()
        };
        let third = share_of_last(&[10_000, 10_000, 10_000]);
        let new = share_of_last(&[10_000, 10_000, 1_000]);
        let half = share_of_last(&[10_000, 10_000, 5_000]);
        let all_new = share_of_last(&[1_000, 1_000, 1_000]);
        assert_eq!(third, 2_000);
        assert!((150..=250).contains(&new), "{new}");
        assert!((900..=1_100).contains(&half), "{half}");
        assert!((1_800..=2_200).contains(&all_new), "{all_new}");
    }

    #[test]
    fn a_hash_has_its_endpoint() {
        let names = ["a", "b", "c"];
        let table = HashTable::build(Balance::Maglev, &names).unwrap();
        let all = endpoints("999");
        let balancer = Balancer::new(Balance::Maglev);
        let pick = |tried: &[usize]| balancer.pick_hashed(&table, 7, &all, tried);
        let own = pick(&[]).unwrap();
        assert_eq!(pick(&[]), Some(own));
        let next = pick(&[own]).unwrap();
        assert_ne!(next, own);
        assert_eq!(pick(&[0, 1, 2]), Some(own));
        // Where most are out, the key stays where it is.
        let out = endpoints("xxx");
        assert_eq!(balancer.pick_hashed(&table, 7, &out, &[]), Some(own));
        let mut one_out = endpoints("000");
        one_out[own].available = false;
        assert_eq!(balancer.pick_hashed(&table, 7, &one_out, &[]), Some(next));
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
            assert_eq!(picks(algorithm, "0x", &[0]), [600, 0], "{algorithm:?}");
            assert_eq!(picks(algorithm, "", &[3]), [0; 0], "{algorithm:?}");
        }
    }
}
