//! Counters and histograms as they are written: those with the same labels become one. What is counted apart may differ in
//! what is not shown, such as a route before and after its service got another subset.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::histogram::{Histogram, Total};

/// Names and values, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels<'e>(Vec<(&'static str, Cow<'e, str>)>);

impl<'e> Labels<'e> {
    /// The same, and one more.
    pub(crate) fn and(mut self, name: &'static str, value: impl Into<Cow<'e, str>>) -> Self {
        self.0.push((name, value.into()));
        self
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Writes counters; nothing if there is none.
pub(crate) fn counters<'e>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    counts: impl Iterator<Item = (Labels<'e>, u64)>,
) -> fmt::Result {
    let mut sums: BTreeMap<Labels<'e>, u64> = BTreeMap::new();
    for (labels, count) in counts {
        *sums.entry(labels).or_default() += count;
    }
    if sums.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in &sums {
        ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// Writes histograms, each number multiplied; nothing if there is none.
pub(crate) fn histograms<'e>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    times: f64,
    counted: impl Iterator<Item = (Labels<'e>, &'e Histogram)>,
) -> fmt::Result {
    let mut sums: BTreeMap<Labels<'e>, Total> = BTreeMap::new();
    for (labels, histogram) in counted {
        match sums.get_mut(&labels) {
            Some(total) => total.add(histogram),
            None => drop(sums.insert(labels, Total::of(histogram))),
        }
    }
    if sums.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, total) in &sums {
        total.encode(&mut family, labels, times)?;
    }
    Ok(())
}
