//! How long answers of an endpoint take: a moving average that follows peaks at once and forgets them
//! slowly, as in Finagle and linkerd. Pure: time is an argument.

use std::time::{Duration, Instant};

/// After so long an old answer counts a third (1/e).
const DECAY: Duration = Duration::from_secs(10);

/// The moving average of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    nanos: f64,
    at: Instant,
}

impl PeakEwma {
    /// Of an endpoint that is taken to answer in this time until it has.
    pub fn new(expected: Duration, now: Instant) -> Self {
        Self {
            nanos: nanos(expected),
            at: now,
        }
    }

    /// Takes note of an answer.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = nanos(took);
        let kept = self.kept(now);
        self.nanos = if took > self.nanos {
            took
        } else {
            self.nanos * kept + took * (1.0 - kept)
        };
        self.at = self.at.max(now);
    }

    /// What one more request costs: the time that it and those in flight take. What was not asked for long
    /// becomes cheaper, so that it is tried again.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "costs are compared, and a cast from float to integer saturates"
    )]
    pub fn cost(&self, active: usize, now: Instant) -> u64 {
        (self.nanos * self.kept(now) * (active as f64 + 1.0)) as u64
    }

    /// How much of what is known still counts.
    fn kept(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at);
        (-passed.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_peaks_at_once_and_forgets_them_slowly() {
        let mut ewma = PeakEwma::new(MS, now());
        ewma.observe(MS * 100, now());
        assert_eq!(ewma.cost(0, now()), 100_000_000);
        ewma.observe(MS, now());
        assert_eq!(ewma.cost(0, now()), 100_000_000, "no time has passed");
        let later = now() + DECAY;
        ewma.observe(MS, later);
        let cost = ewma.cost(0, later);
        assert!((36_000_000..39_000_000).contains(&cost), "{cost}");
    }

    #[test]
    fn requests_in_flight_cost() {
        let ewma = PeakEwma::new(MS * 2, now());
        assert_eq!(ewma.cost(0, now()), 2_000_000);
        assert_eq!(ewma.cost(4, now()), 10_000_000);
    }

    /// An endpoint that was slow once and is never asked again could not get better.
    #[test]
    fn what_is_not_asked_becomes_cheaper() {
        let ewma = PeakEwma::new(MS * 1_000, now());
        let later = now() + DECAY * 10;
        assert!(ewma.cost(0, later) < 100_000);
    }
}
