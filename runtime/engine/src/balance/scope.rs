//! Among which endpoints is picked: the nearest tiers that are well enough, and of these the available
//! ones, unless hardly any are.

use super::Endpoint;
use crate::limits;

/// Among which endpoints is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// The farthest tier.
    deepest: usize,
    /// So few are available that those that are would be overrun: all are asked, for what takes them for
    /// dead may be wrong.
    panics: bool,
    newcomers: bool,
}

/// What is seen of a tier.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    all: usize,
    available: usize,
}

impl Scope {
    /// None: there is nobody to be picked.
    pub(super) fn of<E: Endpoint>(endpoints: &[E], min_healthy: u32) -> Option<Self> {
        let mut near = Seen::default();
        // Hardly any destination has more than one tier, and then nothing is allocated.
        let mut far: Vec<Seen> = Vec::new();
        let mut newcomers = false;
        for endpoint in endpoints {
            let seen = match endpoint.tier() {
                None => continue,
                Some(0) => &mut near,
                Some(tier) => {
                    if far.len() < tier {
                        far.resize(tier, Seen::default());
                    }
                    match far.get_mut(tier - 1) {
                        Some(seen) => seen,
                        None => continue,
                    }
                }
            };
            seen.all += 1;
            seen.available += usize::from(endpoint.is_available());
            newcomers |= endpoint.share() < 10_000;
        }
        let mut so_far = Seen::default();
        let mut deepest = 0;
        // Nearer tiers that are dead say nothing against a farther one that is well.
        let mut judged = None;
        for (tier, seen) in std::iter::once(near).chain(far).enumerate() {
            so_far.all += seen.all;
            so_far.available += seen.available;
            deepest = tier;
            if seen.available > 0 && seen.share() >= usize::try_from(min_healthy).unwrap_or(0) {
                judged = Some(seen);
                break;
            }
        }
        (so_far.all > 0).then(|| Self {
            deepest,
            panics: judged.unwrap_or(so_far).share() < limits::PANIC_SHARE,
            newcomers,
        })
    }

    /// Whether this one may be picked.
    pub(super) fn admits<E: Endpoint>(&self, endpoint: &E) -> bool {
        endpoint.tier().is_some_and(|tier| tier <= self.deepest)
            && (self.panics || endpoint.is_available())
    }

    /// Whether some take part in a share of picks only.
    pub(super) fn has_newcomers(&self) -> bool {
        self.newcomers
    }
}

impl Seen {
    /// Of 10,000.
    fn share(self) -> usize {
        self.available
            .saturating_mul(10_000)
            .checked_div(self.all)
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known(Option<usize>, bool);

    impl Endpoint for Known {
        fn is_available(&self) -> bool {
            self.1
        }

        fn active(&self) -> usize {
            0
        }

        fn tier(&self) -> Option<usize> {
            self.0
        }
    }

    /// Endpoints as people draw them: a digit is a tier, `x` after it that it is out, `-` that it is too far.
    /// `expected` marks those that may be picked.
    #[track_caller]
    fn check(drawn: &str, min_healthy: u32, expected: &str) {
        let endpoints: Vec<_> = drawn
            .split(' ')
            .map(|each| {
                let tier = each.get(..1).and_then(|tier| tier.parse().ok());
                Known(tier, !each.ends_with('x'))
            })
            .collect();
        let found: String = match Scope::of(&endpoints, min_healthy) {
            None => "none".into(),
            Some(scope) => endpoints
                .iter()
                .map(|endpoint| if scope.admits(endpoint) { '^' } else { '.' })
                .collect(),
        };
        assert_eq!(found, expected, "{drawn} at {min_healthy}");
    }

    #[test]
    fn the_nearest_tier_that_is_well_enough() {
        check("0 0 1 1", 7_000, "^^..");
        check("0 0x 1 1", 7_000, "^.^^");
        check("0 0x 1 1", 5_000, "^...");
        check("0x 0x 1 1", 0, "..^^");
        check("0x 1x 2 3", 7_000, "..^.");
        check("0x 1x 2 3", 0, "..^.");
        // Nothing beyond.
        check("0 0x -", 7_000, "^..");
    }

    #[test]
    fn where_most_are_out_all_are_asked() {
        check("0 0x 0x", 0, "^^^");
        check("0x", 0, "^");
        check("0x - -", 7_000, "^..");
        check("0x 1 1x 1x", 7_000, "^^^^");
        check("0x 0x 0x 1", 7_000, "...^");
    }

    #[test]
    fn nobody() {
        check("-", 0, "none");
        assert_eq!(Scope::of::<Known>(&[], 0), None);
    }
}
