//! What is counted of connections of bytes. Their bytes are counted as they pass, for a connection may last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_daemon::telemetry::{Metrics, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::http::metrics::Reporter;

/// Who is connected to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TcpLabels {
    /// Which side reports.
    reporter: &'static str,
    /// SPIFFE ID of the caller; empty if it has none.
    src_identity: String,
    /// The last part of it.
    src_workload: String,
    /// The service; empty if it is not known.
    dst_service: String,
    /// `tcp` or `tls`.
    protocol: &'static str,
    /// `mutual` between proxies.
    tls: &'static str,
}

/// The same, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    #[prometheus(flatten)]
    edge: TcpLabels,
    reason: &'static str,
}

/// Longest duration of each bucket.
const DURATIONS: [f64; 10] = [
    0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0,
];

#[derive(Clone, Debug)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new(DURATIONS)
    }
}

/// Everything that is counted.
#[derive(Clone, Debug)]
pub(crate) struct TcpMetrics {
    opened: Family<TcpLabels, Counter>,
    closed: Family<ClosedLabels, Counter>,
    open: Family<TcpLabels, Gauge>,
    received: Family<TcpLabels, Counter>,
    sent: Family<TcpLabels, Counter>,
    durations: Family<TcpLabels, Histogram, Durations>,
}

/// One connection, from when it is known who is connected to whom.
#[derive(Debug)]
pub(crate) struct Series {
    labels: TcpLabels,
    metrics: TcpMetrics,
    open: Gauge,
}

/// Bytes of one direction of one connection.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    all: Counter,
}

impl Meter {
    /// Counts bytes that were passed on.
    pub(crate) fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.inc_by(bytes);
    }

    /// Bytes of this connection.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl TcpLabels {
    /// Of a caller and a service.
    pub(crate) fn new(
        reporter: Reporter,
        caller: Option<&str>,
        service: &str,
        protocol: &'static str,
        is_mutual: bool,
    ) -> Self {
        let caller = caller.unwrap_or_default();
        Self {
            reporter: reporter.as_str(),
            src_identity: caller.to_owned(),
            src_workload: caller.rsplit('/').next().unwrap_or_default().to_owned(),
            dst_service: service.to_owned(),
            protocol,
            tls: if is_mutual { "mutual" } else { "none" },
        }
    }
}

impl TcpMetrics {
    /// Registers everything.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            opened: metrics.register(
                "mesh_tcp_connections_opened",
                "Connections of bytes that were opened",
                Family::default(),
            ),
            closed: metrics.register(
                "mesh_tcp_connections_closed",
                "Connections of bytes that have ended, by why",
                Family::default(),
            ),
            open: metrics.register(
                "mesh_tcp_connections_open",
                "Connections of bytes that are open",
                Family::default(),
            ),
            received: metrics.register(
                "mesh_tcp_received_bytes",
                "Bytes from whoever connected",
                Family::default(),
            ),
            sent: metrics.register(
                "mesh_tcp_sent_bytes",
                "Bytes to whoever connected",
                Family::default(),
            ),
            durations: metrics.register(
                "mesh_tcp_connection_duration_seconds",
                "How long connections of bytes last",
                Family::new_with_constructor(Durations),
            ),
        }
    }

    /// Counts a connection as open, and gives what counts its bytes: from, and to whoever connected.
    pub(crate) fn open(&self, labels: TcpLabels) -> (Series, Meter, Meter) {
        self.opened.get_or_create(&labels).inc();
        let open = self.open.get_or_create(&labels).clone();
        open.inc();
        let meter = |family: &Family<TcpLabels, Counter>| Meter {
            bytes: AtomicU64::new(0),
            all: family.get_or_create(&labels).clone(),
        };
        let (received, sent) = (meter(&self.received), meter(&self.sent));
        let series = Series {
            labels,
            metrics: self.clone(),
            open,
        };
        (series, received, sent)
    }
}

impl Series {
    /// Counts the end; `None`: it went well.
    pub(crate) fn close(self, reason: Option<Reason>, duration: Duration) {
        self.open.dec();
        let durations = &self.metrics.durations;
        durations
            .get_or_create(&self.labels)
            .observe(duration.as_secs_f64());
        let closed = &self.metrics.closed;
        let labels = ClosedLabels {
            edge: self.labels,
            reason: reason.map_or("", Reason::name),
        };
        closed.get_or_create(&labels).inc();
    }
}
