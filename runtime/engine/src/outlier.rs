//! Which endpoints are left out for their answers. Pure: time is an argument.
//!
//! An endpoint that fails often enough in a row, or far more often than the others, is ejected, longer each time it happens
//! again; how many are out at once is bounded. The words and the order of things are those of Envoy's outlier detection.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mesh_bundle::slice::Outlier;

use crate::limits;

mod rates;

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// A gRPC answer with this status.
    GrpcStatus(u8),
    /// None: no connection, a broken one, or too late.
    NoAnswer,
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// So many 5xx, or no answers, in a row.
    Consecutive5xx,
    /// So many 502 to 504, or no answers, in a row.
    ConsecutiveGateway,
    /// So many times no answer in a row.
    ConsecutiveLocal,
    /// Far less often well than the others.
    SuccessRate,
    /// Such a share of failures.
    FailurePercentage,
}

impl Cause {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway",
            Self::ConsecutiveLocal => "consecutive_local",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub struct Host {
    fives: AtomicU32,
    gateways: AtomicU32,
    unanswered: AtomicU32,
    /// Tries since it was looked at last, and those of them that failed.
    tries: AtomicU32,
    failures: AtomicU32,
    ejected: AtomicBool,
    ejection: Mutex<Ejection>,
}

/// That an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Why.
    pub cause: Cause,
    /// Until when; none: the clock does not reach so far.
    pub until: Option<Instant>,
    /// How often it was ejected lately, this time included.
    pub times: u32,
}

#[derive(Debug, Default)]
struct Ejection {
    cause: Option<Cause>,
    until: Option<Instant>,
    /// How often it was ejected lately.
    times: u32,
}

/// Watches the endpoints of one destination; shared by all workers of a proxy.
#[derive(Debug)]
pub struct Detector {
    policy: Outlier,
    /// Endpoints that are out.
    out: AtomicUsize,
}

impl Outcome {
    /// Whether it is a 5xx, or what counts as one.
    pub fn is_5xx(self) -> bool {
        self.status() >= 500
    }

    fn is_gateway(self) -> bool {
        (502..=504).contains(&self.status())
    }

    /// What counts of a gRPC status is whether the server or its application failed.
    fn status(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::GrpcStatus(4) => 504,
            Self::GrpcStatus(14) | Self::NoAnswer => 503,
            Self::GrpcStatus(2 | 13 | 15) => 500,
            Self::GrpcStatus(_) => 200,
        }
    }
}

impl Host {
    /// Whether it is left out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Why it is left out, and until when; none: it is not.
    pub fn ejection(&self) -> Option<Ejected> {
        let ejection = self.lock();
        Some(Ejected {
            cause: ejection.cause?,
            until: ejection.until,
            times: ejection.times,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ejection> {
        // A panic elsewhere leaves an instant and a number that are still good.
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detector {
    /// Nobody is out yet.
    pub fn new(policy: Outlier) -> Self {
        Self {
            policy,
            out: AtomicUsize::new(0),
        }
    }

    /// The policy.
    pub fn policy(&self) -> &Outlier {
        &self.policy
    }

    /// How many are out.
    pub fn ejected(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }

    /// Takes note of a try at an endpoint, one of `hosts`. Says why it is ejected now, if it is.
    pub fn observe(
        &self,
        host: &Host,
        outcome: Outcome,
        now: Instant,
        hosts: usize,
    ) -> Option<Cause> {
        if host.is_ejected() {
            // A straggler, or one that panic sent: it says nothing new.
            return None;
        }
        let fives = in_a_row(&host.fives, outcome.is_5xx());
        let gateways = in_a_row(&host.gateways, outcome.is_gateway());
        let unanswered = in_a_row(&host.unanswered, outcome == Outcome::NoAnswer);
        if self.policy.rates.is_some() {
            host.tries.fetch_add(1, Ordering::Relaxed);
            let failed = u32::from(outcome.is_5xx());
            host.failures.fetch_add(failed, Ordering::Relaxed);
        }
        let reaches = |count: u32, threshold: Option<u32>| {
            threshold.is_some_and(|threshold| count > 0 && count >= threshold)
        };
        let cause = if reaches(fives, self.policy.consecutive_5xx) {
            Cause::Consecutive5xx
        } else if reaches(gateways, self.policy.consecutive_gateway) {
            Cause::ConsecutiveGateway
        } else if reaches(unanswered, self.policy.consecutive_local) {
            Cause::ConsecutiveLocal
        } else {
            return None;
        };
        self.eject(host, cause, now, hosts).then_some(cause)
    }

    /// Whether there was room for one more that is out.
    fn eject(&self, host: &Host, cause: Cause, now: Instant, hosts: usize) -> bool {
        let most = most_ejected(self.policy.max_ejected, hosts);
        let mut ejection = host.lock();
        if host.is_ejected() {
            return false;
        }
        let room = |out: usize| (out < most).then_some(out + 1);
        let counted = self
            .out
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        if counted.is_err() {
            return false;
        }
        ejection.cause = Some(cause);
        ejection.times = ejection.times.saturating_add(1);
        let longest = limits::EJECTION_MAX.max(self.policy.eject);
        let lasts = self.policy.eject.saturating_mul(ejection.times);
        ejection.until = now.checked_add(lasts.min(longest));
        host.ejected.store(true, Ordering::Release);
        true
    }

    /// Looks at an endpoint every [`Outlier::every`], and after it at all together ([`Self::compare`]): takes it back when its time is over, and forgets an
    /// earlier ejection for each time that it was found in. Says whether it is back.
    pub fn look(&self, host: &Host, now: Instant) -> bool {
        let mut ejection = host.lock();
        if !host.is_ejected() {
            ejection.times = ejection.times.saturating_sub(1);
            return false;
        }
        if ejection.until.is_some_and(|until| until > now) {
            return false;
        }
        self.take_back(host, &mut ejection);
        true
    }

    /// Forgets an endpoint that is gone, so that it takes nobody's place.
    pub fn forget(&self, host: &Host) {
        let mut ejection = host.lock();
        if host.is_ejected() {
            self.take_back(host, &mut ejection);
        }
    }

    fn take_back(&self, host: &Host, ejection: &mut Ejection) {
        (ejection.until, ejection.cause) = (None, None);
        for count in [&host.fives, &host.gateways, &host.unanswered] {
            count.store(0, Ordering::Relaxed);
        }
        host.ejected.store(false, Ordering::Release);
        self.out.fetch_sub(1, Ordering::AcqRel);
    }

    /// How long until it is worth looking again.
    pub fn every(&self) -> Duration {
        self.policy.every
    }
}

/// How many may be out at once: the share, but never all of them, and one where the share rounds to none,
/// or small services would have no protection at all.
fn most_ejected(share: u32, hosts: usize) -> usize {
    if share == 0 {
        return 0;
    }
    let share = usize::try_from(share).unwrap_or(usize::MAX);
    let most = hosts.saturating_mul(share) / 10_000;
    most.max(1).min(hosts.saturating_sub(1))
}

/// How many in a row these are. A success costs no write as long as nothing fails.
fn in_a_row(count: &AtomicU32, failed: bool) -> u32 {
    if failed {
        return count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    }
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(fives: Option<u32>, gateways: Option<u32>, max_ejected: u32) -> Outlier {
        Outlier {
            consecutive_5xx: fives,
            consecutive_gateway: gateways,
            consecutive_local: None,
            rates: None,
            every: SECOND,
            eject: 3 * SECOND,
            max_ejected,
        }
    }

    #[test]
    fn failures_in_a_row_eject() {
        let detector = Detector::new(policy(Some(3), None, 5_000));
        let host = Host::default();
        let observe = |outcome| detector.observe(&host, outcome, now(), 4);
        assert_eq!(observe(Outcome::Status(500)), None);
        assert_eq!(observe(Outcome::NoAnswer), None);
        assert_eq!(observe(Outcome::Status(404)), None, "a 404 is an answer");
        assert_eq!(observe(Outcome::Status(503)), None);
        assert_eq!(observe(Outcome::GrpcStatus(14)), None);
        assert_eq!(
            observe(Outcome::GrpcStatus(13)),
            Some(Cause::Consecutive5xx)
        );
        assert!(host.is_ejected());
        assert_eq!(observe(Outcome::Status(500)), None, "it is out already");
        assert_eq!(detector.ejected(), 1);
    }

    #[test]
    fn gateway_failures_are_counted_apart() {
        let detector = Detector::new(policy(None, Some(2), 5_000));
        let host = Host::default();
        let observe = |outcome| detector.observe(&host, outcome, now(), 4);
        assert_eq!(observe(Outcome::Status(503)), None);
        assert_eq!(observe(Outcome::Status(500)), None, "it ends the row");
        assert_eq!(observe(Outcome::Status(502)), None);
        assert_eq!(observe(Outcome::NoAnswer), Some(Cause::ConsecutiveGateway));
    }

    #[test]
    fn no_answers_are_counted_apart() {
        let detector = Detector::new(Outlier {
            consecutive_local: Some(2),
            ..policy(None, None, 5_000)
        });
        let host = Host::default();
        let observe = |outcome| detector.observe(&host, outcome, now(), 4);
        assert_eq!(observe(Outcome::NoAnswer), None);
        assert_eq!(observe(Outcome::Status(503)), None, "that is an answer");
        assert_eq!(observe(Outcome::NoAnswer), None);
        assert_eq!(host.ejection(), None);
        assert_eq!(observe(Outcome::NoAnswer), Some(Cause::ConsecutiveLocal));
        let expected = Ejected {
            cause: Cause::ConsecutiveLocal,
            until: now().checked_add(3 * SECOND),
            times: 1,
        };
        assert_eq!(host.ejection(), Some(expected));
        assert!(detector.look(&host, now() + 3 * SECOND));
        assert_eq!(host.ejection(), None);
    }

    #[test]
    fn comes_back_and_stays_out_longer_the_next_time() {
        let detector = Detector::new(policy(Some(1), None, 5_000));
        let host = Host::default();
        let fail = |at| detector.observe(&host, Outcome::NoAnswer, at, 2);
        assert!(fail(now()).is_some());
        assert!(!detector.look(&host, now() + 2 * SECOND));
        assert!(detector.look(&host, now() + 3 * SECOND));
        assert_eq!((host.is_ejected(), detector.ejected()), (false, 0));
        assert!(fail(now() + 4 * SECOND).is_some());
        // Twice as long.
        assert!(!detector.look(&host, now() + 9 * SECOND));
        assert!(detector.look(&host, now() + 10 * SECOND));
        // Each look that finds it in forgets one.
        assert!(!detector.look(&host, now() + 11 * SECOND));
        assert!(!detector.look(&host, now() + 12 * SECOND));
        assert!(fail(now() + 13 * SECOND).is_some());
        assert!(detector.look(&host, now() + 16 * SECOND));
    }

    #[test]
    fn no_ejection_lasts_for_ever() {
        let detector = Detector::new(policy(Some(1), None, 5_000));
        let host = Host::default();
        let mut at = now();
        for _ in 0..500 {
            assert!(detector.observe(&host, Outcome::NoAnswer, at, 2).is_some());
            at += limits::EJECTION_MAX;
            assert!(detector.look(&host, at));
        }
    }

    #[test]
    fn so_many_at_most() {
        let most = |share, hosts| most_ejected(share, hosts);
        assert_eq!(
            [1, 2, 5, 10, 20].map(|hosts| most(1_000, hosts)),
            [0, 1, 1, 1, 2]
        );
        assert_eq!([1, 2, 4, 5].map(|hosts| most(5_000, hosts)), [0, 1, 2, 2]);
        assert_eq!(most(10_000, 3), 2, "somebody must be left");
        assert_eq!(most(0, 10), 0);
        assert_eq!(most(10_000, 0), 0);
    }

    #[test]
    fn who_is_gone_takes_nobodys_place() {
        let detector = Detector::new(policy(Some(1), None, 1_000));
        let (gone, other) = (Host::default(), Host::default());
        let fail = |host| detector.observe(host, Outcome::NoAnswer, now(), 10);
        assert!(fail(&gone).is_some());
        assert!(fail(&other).is_none());
        detector.forget(&gone);
        assert!(fail(&other).is_some());
    }

    proptest! {
        /// Whatever happens, no more are out than may be, and what is counted is what is out.
        #[test]
        fn the_cap_holds(
            max in 0_u32..=10_000, hosts in 1_usize..8,
            steps in proptest::collection::vec((0_usize..8, any::<bool>(), 0_u64..3), 0..200),
        ) {
            let detector = Detector::new(policy(Some(2), Some(1), max));
            let all: Vec<_> = (0..hosts).map(|_| Host::default()).collect();
            let mut at = now();
            for (host, fails, wait) in steps {
                at += SECOND * u32::try_from(wait).unwrap();
                let host = &all[host % hosts];
                if wait > 0 {
                    for host in &all {
                        detector.look(host, at);
                    }
                }
                let outcome = if fails { Outcome::Status(500) } else { Outcome::Status(200) };
                detector.observe(host, outcome, at, hosts);
                let out = all.iter().filter(|host| host.is_ejected()).count();
                prop_assert_eq!(out, detector.ejected());
                prop_assert!(out <= most_ejected(max, hosts));
            }
        }
    }
}
