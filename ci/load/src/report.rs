//! What was counted and timed.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;

/// What came of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Answers that were as they should be, or connections.
    pub(crate) done: u64,
    /// All others.
    pub(crate) failed: u64,
    /// Bytes of bodies, or of streams.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// From when a request was due, or sent if as many as possible were, to the end of its answer.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// The first failure.
    pub(crate) failure: Option<String>,
}

/// What one connection saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
    pub(crate) times: Vec<Duration>,
    pub(crate) failure: Option<String>,
}

impl Tally {
    /// Counts an answer.
    pub(crate) fn add(&mut self, outcome: Result<usize, Failure>, took: Duration) {
        match outcome {
            Ok(bytes) => {
                self.done += 1;
                self.bytes += bytes as u64;
                self.times.push(took);
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// Counts a failure.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.failed += 1;
        self.failure.get_or_insert_with(|| failure.to_string());
    }
}

impl Report {
    /// Sums connections up.
    pub(crate) fn sum(tallies: Vec<Tally>, start: Instant) -> Self {
        let mut report = Self {
            seconds: start.elapsed().as_secs_f64(),
            ..Self::default()
        };
        let mut times = Vec::new();
        for mut tally in tallies {
            report.done += tally.done;
            report.failed += tally.failed;
            report.bytes += tally.bytes;
            times.append(&mut tally.times);
            report.failure = report.failure.or(tally.failure);
        }
        times.sort_unstable();
        report.p50_us = share(&times, 50);
        report.p99_us = share(&times, 99);
        report.max_us = share(&times, 100);
        report
    }
}

/// The time that this many percent did not exceed.
fn share(sorted: &[Duration], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let time = sorted.get(last * percent / 100);
    time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_summed_up() {
        let mut one = Tally::default();
        for micros in 1..=100 {
            one.add(Ok(2), Duration::from_micros(micros));
        }
        let mut other = Tally::default();
        other.add(Err("first".into()), Duration::ZERO);
        other.add(Err("second".into()), Duration::ZERO);
        let report = Report::sum(vec![one, other], Instant::now());
        assert_eq!((report.done, report.failed, report.bytes), (100, 2, 200));
        assert_eq!(report.failure.as_deref(), Some("first"));
        assert!((report.p50_us - 50.0).abs() < 1.0, "{}", report.p50_us);
        assert!((report.p99_us - 99.0).abs() < 1.0, "{}", report.p99_us);
        assert!((report.max_us - 100.0).abs() < 1e-6, "{}", report.max_us);
    }
}
