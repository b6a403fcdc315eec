//! Endpoints compared with each other: who answers well far less often than the rest, or fails too large a share of its
//! tries, in the time since they were compared last.

use std::sync::atomic::Ordering;
use std::time::Instant;

use mesh_bundle::slice::OutlierRates;

use super::{Cause, Detector, Host};

/// What an endpoint has done with its tries.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Which of the endpoints.
    at: usize,
    tries: u32,
    failures: u32,
}

impl Seen {
    /// The part of its tries that came out well.
    fn success(self) -> f64 {
        1.0 - f64::from(self.failures) / f64::from(self.tries.max(1))
    }
}

impl Detector {
    /// Compares all endpoints by what became of their tries since the last time, every [`mesh_bundle::slice::Outlier::every`].
    /// Says which of them are ejected now, and why.
    pub fn compare(&self, hosts: &[&Host], now: Instant) -> Vec<(usize, Cause)> {
        let Some(rates) = &self.policy.rates else {
            return Vec::new();
        };
        let enough = |seen: &Seen| seen.tries >= rates.min_requests;
        let seen: Vec<_> = hosts.iter().enumerate().map(taken).filter(enough).collect();
        // Of few endpoints nobody can say what is usual.
        if seen.len() < usize::try_from(rates.min_hosts).unwrap_or(usize::MAX) {
            return Vec::new();
        }
        let floor = floor(rates, &seen);
        let mut ejected = Vec::new();
        for each in seen {
            let is_behind = floor.is_some_and(|floor| each.success() < floor);
            let cause = if is_behind {
                Cause::SuccessRate
            } else if fails(rates, each) {
                Cause::FailurePercentage
            } else {
                continue;
            };
            let host = hosts.get(each.at).filter(|host| !host.is_ejected());
            if host.is_some_and(|host| self.eject(host, cause, now, hosts.len())) {
                ejected.push((each.at, cause));
            }
        }
        ejected
    }
}

/// What has come together; it begins anew.
fn taken((at, host): (usize, &&Host)) -> Seen {
    let failures = host.failures.swap(0, Ordering::Relaxed);
    let tries = host.tries.swap(0, Ordering::Relaxed);
    Seen {
        at,
        // One that is counted between the two lines belongs to the next time.
        failures: failures.min(tries),
        tries,
    }
}

/// The success rate below which an endpoint is an outlier: so many standard deviations below the mean.
fn floor(rates: &OutlierRates, seen: &[Seen]) -> Option<f64> {
    let deviations = f64::from(rates.success_rate_deviations?) / 1_000.0;
    let count = f64::from(u32::try_from(seen.len()).unwrap_or(u32::MAX).max(1));
    let mean = seen.iter().map(|each| each.success()).sum::<f64>() / count;
    let squares = seen.iter().map(|each| (each.success() - mean).powi(2));
    Some(mean - deviations * (squares.sum::<f64>() / count).sqrt())
}

fn fails(rates: &OutlierRates, seen: Seen) -> bool {
    rates.failure_percentage.is_some_and(|share| {
        let of_all = u64::from(seen.tries) * u64::from(share);
        seen.failures > 0 && u64::from(seen.failures) * 10_000 >= of_all
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_bundle::slice::Outlier;
    use proptest::prelude::*;

    use super::*;
    use crate::outlier::Outcome;
    use crate::testing::now;

    fn detector(deviations: Option<u32>, share: Option<u32>) -> Detector {
        Detector::new(Outlier {
            consecutive_5xx: None,
            consecutive_gateway: None,
            consecutive_local: None,
            rates: Some(OutlierRates {
                success_rate_deviations: deviations,
                failure_percentage: share,
                min_hosts: 3,
                min_requests: 10,
            }),
            every: Duration::from_secs(1),
            eject: Duration::from_secs(3),
            max_ejected: 5_000,
        })
    }

    /// Who is ejected after each endpoint had that many tries, so many of which failed.
    fn compare(detector: &Detector, tries: &[(u32, u32)]) -> Vec<(usize, Cause)> {
        let hosts: Vec<_> = tries.iter().map(|_| Host::default()).collect();
        for (host, (tries, failures)) in hosts.iter().zip(tries) {
            for at in 0..*tries {
                let status = if at < *failures { 500 } else { 200 };
                let outcome = Outcome::Status(status);
                assert_eq!(detector.observe(host, outcome, now(), hosts.len()), None);
            }
        }
        let hosts: Vec<_> = hosts.iter().collect();
        let ejected = detector.compare(&hosts, now());
        assert_eq!(detector.compare(&hosts, now()), [], "it begins anew");
        ejected
    }

    #[test]
    fn who_is_far_behind_the_others_is_left_out() {
        let detector = detector(Some(1_900), None);
        let well = (100, 1);
        let one_is_bad = [well, well, well, well, (100, 40)];
        assert_eq!(compare(&detector, &one_is_bad), [(4, Cause::SuccessRate)]);
        // Where all fail alike nobody stands out, and the fault lies elsewhere.
        assert_eq!(compare(&detector, &[(100, 50); 5]), []);
    }

    #[test]
    fn what_is_usual_takes_several_with_enough_tries() {
        let detector = detector(Some(1_000), Some(1_000));
        assert_eq!(compare(&detector, &[(100, 0), (100, 90)]), []);
        assert_eq!(compare(&detector, &[(100, 0), (100, 90), (9, 9)]), []);
        let three = compare(&detector, &[(100, 0), (100, 90), (100, 0)]);
        assert_eq!(three, [(1, Cause::SuccessRate)]);
    }

    #[test]
    fn who_fails_such_a_share_is_left_out() {
        let detector = detector(None, Some(3_000));
        let found = compare(&detector, &[(10, 3), (10, 2), (10, 0), (20, 6)]);
        let expected = [(0, Cause::FailurePercentage), (3, Cause::FailurePercentage)];
        assert_eq!(found, expected);
        // Half of them may be out.
        let all = compare(&detector, &[(10, 10); 4]);
        assert_eq!(all, [], "those of before are out yet");
    }

    #[test]
    fn a_share_of_nothing_is_no_failure() {
        assert_eq!(compare(&detector(None, Some(0)), &[(10, 0); 4]), []);
    }

    proptest! {
        /// However tries come out: nobody who failed none is left out, and never more than may be.
        #[test]
        fn only_who_failed_is_left_out(
            tries in proptest::collection::vec((0_u32..200, 0_u32..200), 1..12),
            deviations in proptest::option::of(1_u32..3_000), share in proptest::option::of(0_u32..=10_000),
        ) {
            let tries: Vec<_> = tries.into_iter().map(|(all, bad)| (all, bad.min(all))).collect();
            let detector = detector(deviations, share);
            let ejected = compare(&detector, &tries);
            prop_assert!(ejected.len() <= tries.len() / 2 + 1);
            prop_assert_eq!(ejected.len(), detector.ejected());
            for (at, _) in ejected {
                prop_assert!(tries[at].0 >= 10 && tries[at].1 > 0);
            }
        }
    }
}
