//! Failures on purpose, until a date.

use std::time::Duration;

use mesh_bundle::slice::Fault;

use super::falls_to;

/// The faults of a route.
#[derive(Clone, Copy, Debug)]
pub struct FaultPolicy {
    fault: Fault,
}

/// What befalls one request: it waits, then it is answered or goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// The status that it is answered with.
    pub abort: Option<u16>,
}

impl FaultPolicy {
    pub(crate) fn build(fault: Fault) -> Self {
        Self { fault }
    }

    /// Whether faults have ended; `now` is in Unix seconds.
    pub fn has_ended(&self, now: u64) -> bool {
        self.fault.until.is_some_and(|until| now >= until)
    }

    /// What befalls a request now. Delay and abort draw for themselves.
    pub fn draw(&self, now: u64, rng: &mut (impl rand::Rng + ?Sized)) -> Injected {
        if self.has_ended(now) {
            return Injected::default();
        }
        let delay = self.fault.delay.filter(|delay| falls_to(delay.share, rng));
        let abort = self.fault.abort.filter(|abort| falls_to(abort.share, rng));
        Injected {
            delay: delay.map(|delay| delay.by),
            abort: abort.map(|abort| abort.status),
        }
    }

    /// As the slice has it.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::{FaultAbort, FaultDelay};

    use super::*;
    use crate::testing::TestRng;

    #[test]
    fn ends_at_its_date() {
        let by = Duration::from_secs(7);
        let policy = FaultPolicy::build(Fault {
            delay: Some(FaultDelay { by, share: 10_000 }),
            abort: Some(FaultAbort {
                status: 503,
                share: 10_000,
            }),
            until: Some(100),
        });
        let mut rng = TestRng(1);
        let both = Injected {
            delay: Some(by),
            abort: Some(503),
        };
        assert_eq!(policy.draw(99, &mut rng), both);
        assert_eq!(policy.draw(100, &mut rng), Injected::default());
        assert!(policy.has_ended(100));
    }

    #[test]
    fn shares_are_drawn_apart() {
        let policy = FaultPolicy::build(Fault {
            delay: Some(FaultDelay {
                by: Duration::from_secs(1),
                share: 5_000,
            }),
            abort: Some(FaultAbort {
                status: 500,
                share: 1_000,
            }),
            until: None,
        });
        let mut rng = TestRng(3);
        let drawn: Vec<_> = (0..10_000).map(|now| policy.draw(now, &mut rng)).collect();
        let count = |holds: fn(&Injected) -> bool| drawn.iter().filter(|each| holds(each)).count();
        let delayed = count(|each| each.delay.is_some());
        let aborted = count(|each| each.abort.is_some());
        let both = count(|each| each.delay.is_some() && each.abort.is_some());
        assert!((4_800..=5_200).contains(&delayed), "{delayed}");
        assert!((900..=1_100).contains(&aborted), "{aborted}");
        assert!((430..=570).contains(&both), "{both}");
    }
}
