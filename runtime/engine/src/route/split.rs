//! Where the requests of a route go, by weight.

use mesh_bundle::slice::Destination;
use rand::RngExt as _;

use crate::balance::stable_hash;

/// The destinations of a route.
#[derive(Clone, Debug)]
pub struct Split {
    /// Unless it is of a route without any, never empty, and not all of weight 0.
    destinations: Box<[Destination]>,
    total: u64,
}

/// Why the destinations of a route are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// There is none.
    #[error("the route has no destination")]
    Empty,
    /// All weights are 0.
    #[error("every destination of the route has weight 0")]
    AllZero,
}

/// One destination and its share.
#[derive(Clone, Copy, Debug)]
pub struct Share<'t> {
    /// Where to.
    pub destination: &'t Destination,
    /// Its weight …
    pub weight: u64,
    /// … of this sum, which is not 0.
    pub total: u64,
}

impl Share<'_> {
    /// The share as a number from 0 to 1.
    #[expect(
        clippy::cast_precision_loss,
        reason = "weights are 32 bits, and it is for showing"
    )]
    pub fn fraction(&self) -> f64 {
        self.weight as f64 / self.total as f64
    }
}

impl Split {
    /// Checks that there is somewhere to go.
    pub fn build(destinations: &[Destination]) -> Result<Self, SplitError> {
        if destinations.is_empty() {
            return Err(SplitError::Empty);
        }
        let total = destinations
            .iter()
            .map(|destination| u64::from(destination.weight))
            .sum();
        if total == 0 {
            return Err(SplitError::AllZero);
        }
        Ok(Self {
            destinations: destinations.into(),
            total,
        })
    }

    /// That of a route whose requests the proxy answers; nothing is picked of it.
    pub(crate) fn nowhere() -> Self {
        Self {
            destinations: Box::default(),
            total: 0,
        }
    }

    /// Picks a destination; one of weight 0 is never picked.
    pub(crate) fn pick(&self, rng: &mut (impl rand::Rng + ?Sized)) -> &Destination {
        if let [only] = &*self.destinations {
            return only;
        }
        self.at(rng.random_range(0..self.total))
    }

    /// The destination of a hash, to each its share of all hashes. Balancing by the same hash is another draw.
    pub(crate) fn of(&self, hash: u64) -> &Destination {
        if let [only] = &*self.destinations {
            return only;
        }
        self.at(stable_hash(&[b"split", &hash.to_le_bytes()]) % self.total)
    }

    /// The destination at this place below the sum of all weights.
    fn at(&self, mut left: u64) -> &Destination {
        self.destinations
            .iter()
            .find(
                |destination| match left.checked_sub(destination.weight.into()) {
                    Some(remaining) => {
                        left = remaining;
                        false
                    }
                    None => true,
                },
            )
            .expect("the number is below the sum of the weights")
    }

    /// Each destination with its share, in the order of the slice.
    pub fn shares(&self) -> impl ExactSizeIterator<Item = Share<'_>> {
        self.destinations.iter().map(|destination| Share {
            destination,
            weight: destination.weight.into(),
            total: self.total,
        })
    }

    /// The destinations, in the order of the slice.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::Target;

    use super::*;

    fn split(weights: &[u32]) -> Split {
        let destination = |(at, weight): (usize, &u32)| Destination {
            weight: *weight,
            ..Destination::only(Target {
                service: "a".to_owned(),
                subset: Some(format!("v{at}")),
                port: None,
            })
        };
        let destinations: Vec<_> = weights.iter().enumerate().map(destination).collect();
        Split::build(&destinations).unwrap()
    }

    fn of(split: &Split, hash: u64) -> &str {
        split.of(hash).target.subset.as_deref().unwrap()
    }

    #[test]
    fn a_hash_stays_and_each_gets_its_share() {
        let split = split(&[90, 10, 0]);
        let mut counts = [0, 0];
        for key in 0..10_000_u64 {
            let hash = stable_hash(&[&key.to_le_bytes()]);
            assert_eq!(of(&split, hash), of(&split, hash));
            match of(&split, hash) {
                "v0" => counts[0] += 1,
                "v1" => counts[1] += 1,
                other => panic!("{other} has no share"),
            }
        }
        assert!((800..=1_200).contains(&counts[1]), "{counts:?}");
    }

    /// Who was moved to the new version stays there when it gets more.
    #[test]
    fn more_for_one_takes_nobody_away_from_it() {
        let (before, after) = (split(&[90, 10]), split(&[70, 30]));
        for key in 0..2_000_u64 {
            let hash = stable_hash(&[&key.to_le_bytes()]);
            if of(&before, hash) == "v1" {
                assert_eq!(of(&after, hash), "v1");
            }
        }
    }
}
