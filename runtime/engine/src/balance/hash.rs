//! Balancing by hash: requests of one key go to one endpoint, and few of them elsewhere when endpoints
//! come and go.
//!
//! Both ways of it list endpoints by what they are, not by their place in a list, so that all proxies
//! come to the same endpoint for a key.

use std::collections::BTreeMap;

use mesh_bundle::slice::Balance;

use crate::limits;

/// The places of a set of endpoints, by hash.
#[derive(Clone, Debug)]
pub enum HashTable {
    /// The endpoint of a hash is the next on a ring.
    Ring(BTreeMap<u64, usize>),
    /// The endpoint of a hash is at its place in a table that the endpoints filled in turns (Eisenbud et
    /// al., "Maglev", NSDI 2016, §3.4).
    Maglev(Box<[usize]>),
}

impl HashTable {
    /// The places of endpoints with these names, for [`Balance::RingHash`] and [`Balance::Maglev`];
    /// `None` for the others, and without endpoints.
    pub fn build(algorithm: Balance, names: &[&str]) -> Option<Self> {
        if names.is_empty() {
            return None;
        }
        match algorithm {
            Balance::RingHash => Some(Self::Ring(ring(names))),
            Balance::Maglev => Some(Self::Maglev(maglev(names))),
            Balance::RoundRobin | Balance::LeastRequest | Balance::Random | Balance::PeakEwma => {
                None
            }
        }
    }

    /// The position of the first of this hash's endpoints that will do.
    pub fn find(&self, hash: u64, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(ring) => {
                let onward = ring.range(hash..).chain(ring.range(..hash));
                onward
                    .map(|(_, position)| *position)
                    .find(|at| will_do(*at))
            }
            Self::Maglev(table) => {
                let size = u64::try_from(table.len()).unwrap_or(u64::MAX).max(1);
                let start = usize::try_from(hash % size).unwrap_or(0);
                let (before, after) = table.split_at(start.min(table.len()));
                let mut onward = after.iter().chain(before).copied();
                onward.find(|at| will_do(*at))
            }
        }
    }
}

fn ring(names: &[&str]) -> BTreeMap<u64, usize> {
    let mut ring = BTreeMap::new();
    // Few endpoints need more places each, so that shares come out even. A power of two, so that one
    // endpoint more or less hardly ever changes the places of the others.
    let fits = (limits::RING_PLACES_MAX / names.len()).max(1);
    let each = (1 << fits.ilog2()).clamp(limits::RING_PLACES_EACH.0, limits::RING_PLACES_EACH.1);
    for (position, name) in in_order(names) {
        for place in 0..each {
            let hash = stable_hash(&[name.as_bytes(), &place.to_le_bytes()]);
            ring.entry(hash).or_insert(position);
        }
    }
    ring
}

fn maglev(names: &[&str]) -> Box<[usize]> {
    const SIZE: usize = limits::MAGLEV_PLACES;
    let endpoints = in_order(names);
    // Each endpoint goes through all places in an order of its own: SIZE is a prime.
    let mut orders: Vec<_> = endpoints
        .iter()
        .map(|(position, name)| {
            let number = |seed: &[u8], modulo: usize| {
                let modulo = u64::try_from(modulo).unwrap_or(1).max(1);
                usize::try_from(stable_hash(&[seed, name.as_bytes()]) % modulo).unwrap_or(0)
            };
            let (start, step) = (number(b"start", SIZE), number(b"step", SIZE - 1) + 1);
            (*position, start, step)
        })
        .collect();
    let mut table: Vec<Option<usize>> = vec![None; SIZE];
    let mut left = SIZE;
    while left > 0 {
        for (position, next, step) in &mut orders {
            if left == 0 {
                break;
            }
            // As long as one is left, this ends: the order goes through all.
            loop {
                let place = *next;
                *next = (*next + *step) % SIZE;
                if let Some(free @ None) = table.get_mut(place) {
                    *free = Some(*position);
                    left -= 1;
                    break;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// Endpoints by name, so that the order in which they were found does not matter.
fn in_order<'n>(names: &[&'n str]) -> Vec<(usize, &'n str)> {
    let mut ordered: Vec<_> = names.iter().copied().enumerate().collect();
    ordered.sort_by(|a, b| a.1.cmp(b.1));
    ordered
}

/// FNV-1a over the parts, each after its length, then the finaliser of SplitMix64. Every release must
/// come to the same number: proxies of several releases share endpoints.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        length.to_le_bytes().into_iter().for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("10.0.0.{number}:80"))
            .collect()
    }

    fn build(algorithm: Balance, names: &[String]) -> HashTable {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        HashTable::build(algorithm, &names).unwrap()
    }

    fn hash(key: u64) -> u64 {
        stable_hash(&[&key.to_le_bytes()])
    }

    /// The name that each key leads to.
    fn led<'n>(table: &HashTable, names: &'n [String]) -> Vec<&'n str> {
        let find = |key| table.find(hash(key), |_| true).unwrap();
        (0..KEYS).map(|key| names[find(key)].as_str()).collect()
    }

    #[test]
    fn shares_are_even() {
        for (algorithm, most) in [(Balance::RingHash, 140), (Balance::Maglev, 105)] {
            let names = names(10);
            let led = led(&build(algorithm, &names), &names);
            for name in &names {
                let share = led.iter().filter(|led| *led == name).count();
                // Of 100 per cent of an even share, with what drawing keys at random adds.
                let percent = share * 10 * 100 / led.len();
                assert!(
                    percent < most + 10 && percent > 50,
                    "{algorithm:?}: {percent}"
                );
            }
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter() {
        for algorithm in [Balance::RingHash, Balance::Maglev] {
            let names = names(7);
            let mut turned = names.clone();
            turned.reverse();
            assert_eq!(
                led(&build(algorithm, &names), &names),
                led(&build(algorithm, &turned), &turned)
            );
        }
    }

    /// Of ten endpoints one goes: its keys move, and hardly any others.
    #[test]
    fn few_keys_move() {
        for (algorithm, others_most) in [(Balance::RingHash, 0), (Balance::Maglev, 5)] {
            let all = names(10);
            let fewer = all[..9].to_vec();
            let before = led(&build(algorithm, &all), &all);
            let after = led(&build(algorithm, &fewer), &fewer);
            let gone = all[9].as_str();
            let pairs = before.iter().zip(&after);
            let moved = pairs.filter(|(before, after)| **before != gone && before != after);
            let percent = moved.count() * 100 / before.len();
            assert!(percent <= others_most, "{algorithm:?}: {percent}");
            // The same when it is there and will not do: none but its own keys move.
            let table = build(algorithm, &all);
            for key in 0..1_000 {
                let found = table.find(hash(key), |at| at != 9).unwrap();
                let own = table.find(hash(key), |_| true).unwrap();
                assert!(found == own || own == 9);
            }
            assert_eq!(table.find(hash(1), |_| false), None);
        }
    }

    /// A change of this number moves every client of every mesh to another endpoint.
    #[test]
    fn the_hash_is_stable() {
        assert_eq!(stable_hash(&[]), 0xf52a_15e9_a9b5_e89b);
        assert_ne!(stable_hash(&[b"ab", b"c"]), stable_hash(&[b"a", b"bc"]));
    }
}
