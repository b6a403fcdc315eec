//! Histograms of whole numbers: one comparison per bound and two additions for each value, and no lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, MetricEncoder, NoLabelSet};

/// What the numbers of a histogram are.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Upper bounds, ascending.
    bounds: &'static [u64],
    /// How many make one of the unit that is shown.
    per_unit: f64,
}

/// Times of exchanges, in microseconds: OpenTelemetry's advice, and three finer ones because calls inside a mesh are fast.
pub(crate) static LATENCY: Scale = Scale {
    bounds: &[
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000,
        750_000, 1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000,
    ],
    per_unit: 1e6,
};

/// Times of the proxy itself, in microseconds.
pub(crate) static OVERHEAD: Scale = Scale {
    bounds: &[25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 100_000],
    per_unit: 1e6,
};

/// Lives of connections, in microseconds.
pub(crate) static LIVES: Scale = Scale {
    bounds: &[
        10_000,
        100_000,
        1_000_000,
        10_000_000,
        60_000_000,
        300_000_000,
        1_800_000_000,
        3_600_000_000,
        21_600_000_000,
        86_400_000_000,
    ],
    per_unit: 1e6,
};

/// Sizes in bytes.
pub(crate) static SIZES: Scale = Scale {
    bounds: &[
        0,
        256,
        1_024,
        4_096,
        16_384,
        65_536,
        262_144,
        1_048_576,
        16_777_216,
        268_435_456,
    ],
    per_unit: 1.0,
};

/// How often values of each size came.
#[derive(Debug)]
pub(crate) struct Histogram {
    scale: &'static Scale,
    /// One per bound, and one for what is over the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing came yet.
    pub(crate) fn new(scale: &'static Scale) -> Self {
        Self {
            scale,
            counts: (0..=scale.bounds.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub(crate) fn observe(&self, value: u64) {
        let at = self.scale.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time.
    pub(crate) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Several histograms of one scale, added up.
#[derive(Debug)]
pub(crate) struct Total {
    scale: &'static Scale,
    counts: Vec<u64>,
    sum: u64,
}

impl Total {
    /// Of one.
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let mut total = Self {
            scale: histogram.scale,
            counts: vec![0; histogram.counts.len()],
            sum: 0,
        };
        total.add(histogram);
        total
    }

    /// And of another one.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (all, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *all += count.load(Ordering::Relaxed);
        }
        self.sum += histogram.sum.load(Ordering::Relaxed);
    }

    /// Writes it for these labels, each number multiplied: Istio counts milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "numbers for showing")]
    pub(crate) fn encode(
        &self,
        family: &mut MetricEncoder<'_>,
        labels: &impl EncodeLabelSet,
        times: f64,
    ) -> fmt::Result {
        let shown = |value: u64| value as f64 * times / self.scale.per_unit;
        let bounds = self.scale.bounds.iter().map(|bound| shown(*bound));
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts.iter().copied()).collect();
        let total = self.counts.iter().sum();
        family
            .encode_family(labels)?
            .encode_histogram::<NoLabelSet>(shown(self.sum), total, &buckets, None)
    }
}
