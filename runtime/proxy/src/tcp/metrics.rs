//! What is counted of connections of bytes. Their bytes are counted as they pass, for a connection may last.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use mesh_daemon::telemetry::{Metrics, Reason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use crate::histogram::{Histogram, LIVES, Total};
use crate::http::metrics::{Reporter, Tls, namespace, workload};
use crate::series::Registry;

mod istio;

/// Who is connected to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TcpLabels {
    /// Which side reports.
    pub(crate) reporter: Reporter,
    /// SPIFFE ID of the caller; empty if it has none.
    pub(crate) src_identity: String,
    /// The service; empty if it is not known.
    pub(crate) dst_service: String,
    /// SPIFFE ID of the callee; empty if it has none, or is not known.
    pub(crate) dst_identity: String,
    /// `tcp` or `tls`.
    pub(crate) protocol: &'static str,
    /// Of the mesh side.
    pub(crate) tls: Tls,
}

/// Everything that is counted.
#[derive(Clone, Debug)]
pub(crate) struct TcpMetrics(Arc<Edges>);

#[derive(Debug, Default)]
struct Edges(Registry<TcpLabels, Counters>);

/// What is counted of connections with the same labels.
#[derive(Debug)]
struct Counters {
    opened: AtomicU64,
    open: AtomicI64,
    received: AtomicU64,
    sent: AtomicU64,
    lives: Histogram,
    /// Those that went well, and then by reason.
    closed: [AtomicU64; 1 + Reason::ALL.len()],
}

impl Counters {
    fn new() -> Self {
        Self {
            opened: AtomicU64::new(0),
            open: AtomicI64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lives: Histogram::new(&LIVES),
            closed: [const { AtomicU64::new(0) }; 1 + Reason::ALL.len()],
        }
    }
}

/// One connection, from when it is known who is connected to whom.
#[derive(Debug)]
pub(crate) struct Series(Arc<Counters>);

/// Bytes of one direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: Arc<AtomicU64>,
    all: Option<(Arc<Counters>, Direction)>,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Received,
    Sent,
}

impl Meter {
    /// Counts bytes that were passed on.
    pub(crate) fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some((counters, direction)) = &self.all {
            let counter = match direction {
                Direction::Received => &counters.received,
                Direction::Sent => &counters.sent,
            };
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// What counts the bytes of this connection.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    /// Bytes of this connection.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl TcpMetrics {
    /// Registers everything.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let edges = Arc::new(Edges::default());
        metrics.register_collector(Box::new(Arc::clone(&edges)));
        Self(edges)
    }

    /// Tells the same under Istio's names.
    pub(crate) fn tell_as_istio(&self, metrics: &Metrics) {
        metrics.register_collector(Box::new(istio::Istio(Arc::clone(&self.0))));
    }

    /// Counts a connection as open, and gives what counts its bytes: from, and to whoever connected.
    pub(crate) fn open(&self, labels: TcpLabels) -> (Series, Meter, Meter) {
        let found = self.0.0.get(labels, |_| Counters::new());
        let counters = found.unwrap_or_else(|| Arc::new(Counters::new()));
        counters.opened.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        let meter = |direction| Meter {
            bytes: Arc::default(),
            all: Some((Arc::clone(&counters), direction)),
        };
        let (received, sent) = (meter(Direction::Received), meter(Direction::Sent));
        (Series(counters), received, sent)
    }

    /// Forgets what nobody has held for long and policy does not have any more.
    pub(crate) fn expire(&self, now: Instant, has: impl Fn(&TcpLabels) -> bool) {
        self.0.0.expire_but(now, has);
    }
}

impl Series {
    /// Counts the end; `None`: it went well.
    pub(crate) fn close(self, reason: Option<Reason>, duration: Duration) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.lives.observe_time(duration);
        let at = reason.and_then(|reason| {
            let mut known = Reason::ALL.iter();
            known.position(|known| known.name() == reason.name())
        });
        if let Some(closed) = self.0.closed.get(at.map_or(0, |at| at + 1)) {
            closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The labels of a connection, and how it ended if that is counted.
#[derive(Debug)]
struct Shown<'l> {
    labels: &'l TcpLabels,
    reason: Option<&'static str>,
}

impl EncodeLabelSet for Shown<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut label = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        let TcpLabels {
            reporter,
            src_identity,
            dst_service,
            dst_identity,
            protocol,
            tls,
        } = self.labels;
        label("reporter", reporter.as_str())?;
        label("src_identity", src_identity)?;
        label("src_workload", workload(src_identity))?;
        label("src_namespace", namespace(src_identity))?;
        label("dst_service", dst_service)?;
        label("dst_identity", dst_identity)?;
        label("dst_workload", workload(dst_identity))?;
        label("dst_namespace", namespace(dst_identity))?;
        label("protocol", protocol)?;
        label("tls", tls.as_str())?;
        self.reason.map_or(Ok(()), |reason| label("reason", reason))
    }
}

/// A counter of connections.
type Counted = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

const COUNTED: [Counted; 3] = [
    (
        "mesh_tcp_connections_opened",
        "connections of bytes that were opened; `protocol` is `tcp` or `tls`",
        |counters| &counters.opened,
    ),
    (
        "mesh_tcp_received_bytes",
        "bytes from whoever connected, counted as they pass",
        |counters| &counters.received,
    ),
    (
        "mesh_tcp_sent_bytes",
        "bytes to whoever connected, counted as they pass",
        |counters| &counters.sent,
    ),
];

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        if all.is_empty() {
            return Ok(());
        }
        let shown = |labels| Shown {
            labels,
            reason: None,
        };
        for (name, help, of) in COUNTED {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, counters) in &all {
                let count = ConstCounter::new(of(counters).load(Ordering::Relaxed));
                count.encode(family.encode_family(&shown(labels))?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "mesh_tcp_connections_open",
            "connections of bytes that are open",
            None,
            MetricType::Gauge,
        )?;
        for (labels, counters) in &all {
            let open = ConstGauge::new(counters.open.load(Ordering::Relaxed));
            open.encode(family.encode_family(&shown(labels))?)?;
        }
        let mut family = encoder.encode_descriptor(
            "mesh_tcp_connections_closed",
            "connections of bytes that have ended, by why",
            None,
            MetricType::Counter,
        )?;
        for (labels, counters) in &all {
            let reasons = std::iter::once("").chain(Reason::ALL.into_iter().map(Reason::name));
            for (reason, closed) in reasons.zip(&counters.closed) {
                let closed = closed.load(Ordering::Relaxed);
                if closed > 0 {
                    let labels = Shown {
                        labels,
                        reason: Some(reason),
                    };
                    ConstCounter::new(closed).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "mesh_tcp_connection_duration_seconds",
            "how long connections of bytes last",
            None,
            MetricType::Histogram,
        )?;
        for (labels, counters) in &all {
            Total::of(&counters.lives).encode(&mut family, &shown(labels), 1.0)?;
        }
        Ok(())
    }
}
