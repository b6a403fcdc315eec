//! Request metrics. Counting takes no lock and makes no string: each edge (who calls what by which
//! route) is registered when tables are prepared, and within it a request finds its counter by a
//! small number. Names are only written out when somebody asks. An edge that no table and no
//! connection holds any more is forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mesh_daemon::telemetry::{LATENCY_BUCKETS, Metrics, Reason, TlsReason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::sanitise::Rule;
use crate::limits;

/// Everything that the data plane counts.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    edges: Arc<Edges>,
    /// By direction.
    in_flight: Family<[(&'static str, &'static str); 1], Gauge>,
    rejected: Family<[(&'static str, &'static str); 1], Counter>,
    /// By reporter and reason.
    refused: Family<[(&'static str, &'static str); 2], Counter>,
    retries: Family<[(&'static str, &'static str); 1], Counter>,
    timeouts: Family<[(&'static str, &'static str); 1], Counter>,
    /// Requests that were let in, or out.
    allowed: Counter,
    /// Requests that were not.
    denied: Counter,
    /// Audit rules that took a request.
    pub(crate) audited: Counter,
    handshakes_failed: Family<[(&'static str, &'static str); 2], Counter>,
    /// Retries that the budget refused.
    pub(crate) budget_exhausted: Counter,
    /// Requests that met a failure on purpose.
    faults: Counter,
    /// Access-log lines that were dropped.
    pub(crate) log_dropped: Counter,
    /// Connections by direction.
    connections: Family<[(&'static str, &'static str); 1], Gauge>,
}

/// Which side of a call this proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reporter {
    /// The caller's.
    Source,
    /// The callee's.
    Destination,
}

impl Reporter {
    /// As a label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// What the requests of an edge share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EdgeLabels {
    /// Which side reports.
    pub(crate) reporter: Reporter,
    /// SPIFFE ID of the caller; empty if it has none.
    pub(crate) src_identity: String,
    /// The service that is called; empty if the request names none that is known.
    pub(crate) dst_service: String,
    /// The route; empty where none was chosen.
    pub(crate) route: String,
    /// Names of subsets, referred to by position.
    pub(crate) subsets: Vec<String>,
}

#[derive(Debug, Default)]
struct Edges(Mutex<BTreeMap<EdgeLabels, Weak<EdgeMetrics>>>);

/// The counters of one edge.
#[derive(Debug)]
pub(crate) struct EdgeMetrics {
    labels: EdgeLabels,
    series: Box<[Series]>,
    duration: Buckets,
    first_byte: Buckets,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// A counter and the number of what it counts; 0 while nobody has it.
#[derive(Debug, Default)]
struct Series {
    key: AtomicU64,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct Buckets {
    /// One per bound, and one for what is over the last.
    counts: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// How a request ended, as far as it becomes labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Index in [`METHODS`].
    pub(crate) method: usize,
    /// Index in [`PROTOCOLS`].
    pub(crate) protocol: usize,
    /// What the client got; 0 if nothing.
    pub(crate) code: u16,
    /// From head or trailers.
    pub(crate) grpc_status: Option<u8>,
    /// None: it went well.
    pub(crate) reason: Option<Reason>,
    /// Position in the edge's subsets.
    pub(crate) subset: Option<usize>,
    /// Whether the mesh side of it was a connection with mTLS.
    pub(crate) mutual: bool,
}

/// Methods that are named in labels; the last stands for all others.
pub(crate) const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "_OTHER",
];

/// Protocols as labels.
pub(crate) const PROTOCOLS: [&str; 3] = ["http/1.1", "http/2", "grpc"];

/// The index of a method.
pub(crate) fn method_index(method: &str) -> usize {
    METHODS
        .iter()
        .position(|known| *known == method)
        .unwrap_or(METHODS.len() - 1)
}

/// Reasons as labels, `bad_request` without its rule; position 0 is "none".
const REASONS: [Reason; 24] = [
    Reason::NoRoute,
    Reason::NoHealthyUpstream,
    Reason::ConnectFailure,
    Reason::ConnectTimeout,
    Reason::UpstreamReset,
    Reason::UpstreamProtocolError,
    Reason::RequestTimeout,
    Reason::PerTryTimeout,
    Reason::RetryLimit,
    Reason::BudgetExhausted,
    Reason::CircuitOpen,
    Reason::Overflow,
    Reason::RateLimited,
    Reason::AuthzDenied,
    Reason::ExtAuthzDenied,
    Reason::JwtInvalid,
    Reason::TlsFailure,
    Reason::ClientDisconnect,
    Reason::BadRequest(""),
    Reason::OverloadShed,
    Reason::FaultInjected,
    Reason::Draining,
    Reason::Loop,
    Reason::NoConfig,
];

impl Ending {
    /// Never 0, and read back by [`Ending::labels`].
    fn key(self) -> u64 {
        let reason = self.reason.map_or(0, |reason| {
            REASONS
                .iter()
                .position(|known| known.name() == reason.name())
                .map_or(0, |at| at + 1)
        });
        let grpc = self.grpc_status.map_or(0, |status| u64::from(status) + 1);
        let subset = self.subset.map_or(0, |at| at as u64 + 1);
        1 << 63
            | u64::from(self.mutual) << 62
            | (subset & 0xffff) << 40
            | (reason as u64 & 0xff) << 32
            | grpc << 20
            | u64::from(self.code & 0x3ff) << 8
            | (self.protocol as u64 & 0x3) << 4
            | (self.method as u64 & 0xf)
    }
}

fn part(key: u64, shift: u32, mask: u64) -> usize {
    usize::try_from(key >> shift & mask).unwrap_or(0)
}

impl EdgeMetrics {
    fn new(labels: EdgeLabels) -> Self {
        Self {
            labels,
            series: (0..limits::SERIES_PER_ROUTE)
                .map(|_| Series::default())
                .collect(),
            duration: Buckets::default(),
            first_byte: Buckets::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// What the requests of this edge share.
    pub(crate) fn labels(&self) -> &EdgeLabels {
        &self.labels
    }

    /// The position of a subset's name.
    pub(crate) fn subset(&self, name: &str) -> Option<usize> {
        self.labels.subsets.iter().position(|subset| subset == name)
    }

    /// Counts an ending.
    pub(crate) fn count(&self, ending: Ending, duration: Duration, first_byte: Option<Duration>) {
        let key = ending.key();
        for series in &self.series {
            let mut at = series.key.load(Ordering::Relaxed);
            if at == 0 {
                at = match series
                    .key
                    .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => key,
                    Err(other) => other,
                };
            }
            if at == key {
                series.count.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        self.duration.observe(duration);
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte);
        }
    }

    /// Counts bytes of bodies.
    pub(crate) fn count_bytes(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }
}

impl Buckets {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sum of seconds for showing")]
    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = LATENCY_BUCKETS.iter().copied().chain([f64::INFINITY]);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let total = buckets.iter().map(|(_, count)| count).sum();
        (
            self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            total,
            buckets,
        )
    }
}

impl RequestMetrics {
    /// Registers everything.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let edges = Arc::new(Edges::default());
        metrics.register_collector(Box::new(Arc::clone(&edges)));
        let decided = metrics.register(
            "mesh_authz",
            "Decisions about entering, audit rules included",
            Family::<[(&'static str, &'static str); 1], Counter>::default(),
        );
        let decisions = |decision| decided.get_or_create(&[("decision", decision)]).clone();
        let registered = Self {
            edges,
            in_flight: metrics.register(
                "mesh_requests_in_flight",
                "Requests that have begun and not ended",
                Family::default(),
            ),
            rejected: metrics.register(
                "mesh_rejected_requests",
                "Requests that broke a rule of HTTP or of the mesh",
                Family::default(),
            ),
            refused: metrics.register(
                "mesh_refused_connections",
                "Connections that go nowhere, before anything was asked over them",
                Family::default(),
            ),
            retries: metrics.register(
                "mesh_retries",
                "Tries after the first, by how they ended",
                Family::default(),
            ),
            timeouts: metrics.register(
                "mesh_timeouts",
                "Exchanges and tries that took too long",
                Family::default(),
            ),
            allowed: decisions("allowed"),
            denied: decisions("denied"),
            audited: decisions("audit"),
            handshakes_failed: metrics.register(
                "mesh_tls_handshakes_failed",
                "TLS handshakes that failed",
                Family::default(),
            ),
            budget_exhausted: metrics.register(
                "mesh_retry_budget_exhausted",
                "Tries that the retry budget refused",
                Counter::default(),
            ),
            faults: metrics.register(
                "mesh_faults_injected",
                "Requests that met a failure that policy injects",
                Counter::default(),
            ),
            log_dropped: metrics.register(
                "mesh_access_log_dropped",
                "Access-log lines that were dropped because the sink was too slow",
                Counter::default(),
            ),
            connections: metrics.register(
                "mesh_connections_open",
                "Accepted connections that are open",
                Family::default(),
            ),
        };
        for reporter in [Reporter::Source, Reporter::Destination] {
            drop(registered.in_flight(reporter));
        }
        registered
    }

    /// The counters of an edge; the same ones for the same labels.
    pub(crate) fn edge(&self, labels: EdgeLabels) -> Arc<EdgeMetrics> {
        let mut edges = self.edges.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(edge) = edges.get(&labels).and_then(Weak::upgrade) {
            return edge;
        }
        edges.retain(|_, edge| edge.strong_count() > 0);
        let edge = Arc::new(EdgeMetrics::new(labels.clone()));
        edges.insert(labels, Arc::downgrade(&edge));
        edge
    }

    /// The gauge of running requests.
    pub(crate) fn in_flight(&self, reporter: Reporter) -> Gauge {
        self.in_flight
            .get_or_create(&[("reporter", reporter.as_str())])
            .clone()
    }

    /// The gauge of open connections.
    pub(crate) fn connections(&self, reporter: Reporter) -> Gauge {
        self.connections
            .get_or_create(&[("reporter", reporter.as_str())])
            .clone()
    }

    /// Counts a request that broke a rule.
    pub(crate) fn rejected(&self, rule: Rule) {
        self.rejected
            .get_or_create(&[("rule", rule.as_str())])
            .inc();
    }

    /// Counts a connection that goes nowhere.
    pub(crate) fn refused(&self, reporter: Reporter, reason: Reason) {
        let labels = [("reporter", reporter.as_str()), ("reason", reason.name())];
        self.refused.get_or_create(&labels).inc();
    }

    /// Counts a connection of bytes that broke a rule.
    pub(crate) fn rejected_bytes(&self, rule: &'static str) {
        self.rejected.get_or_create(&[("rule", rule)]).inc();
    }

    /// Counts a decision about entering or leaving.
    pub(crate) fn decided(&self, allowed: bool) {
        if allowed {
            self.allowed.inc();
        } else {
            self.denied.inc();
        }
    }

    /// Counts a try after the first.
    pub(crate) fn retried(&self, well: bool) {
        let outcome = if well { "success" } else { "failure" };
        self.retries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a time that ran out.
    pub(crate) fn timed_out(&self, kind: &'static str) {
        self.timeouts.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts a failure on purpose.
    pub(crate) fn fault_injected(&self) {
        self.faults.inc();
    }

    /// Counts a failed handshake.
    pub(crate) fn handshake_failed(&self, side: &'static str, reason: TlsReason) {
        self.handshakes_failed
            .get_or_create(&[("side", side), ("reason", reason.as_str())])
            .inc();
    }
}

/// The labels of an edge, and those of one ending if there is one.
struct Labels<'e> {
    edge: &'e EdgeLabels,
    key: Option<u64>,
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labels")
            .field("edge", self.edge)
            .finish_non_exhaustive()
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut label = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        label("reporter", self.edge.reporter.as_str())?;
        label("src_identity", &self.edge.src_identity)?;
        label("src_workload", workload(&self.edge.src_identity))?;
        label("dst_service", &self.edge.dst_service)?;
        label("route", &self.edge.route)?;
        let Some(key) = self.key else {
            return Ok(());
        };
        let subset = part(key, 40, 0xffff).checked_sub(1);
        let subset = subset
            .and_then(|at| self.edge.subsets.get(at))
            .map_or("", String::as_str);
        label("dst_subset", subset)?;
        label(
            "method",
            METHODS.get(part(key, 0, 0xf)).copied().unwrap_or("_OTHER"),
        )?;
        label(
            "protocol",
            PROTOCOLS.get(part(key, 4, 0x3)).copied().unwrap_or(""),
        )?;
        let code = part(key, 8, 0x3ff);
        label(
            "code",
            &if code == 0 {
                String::new()
            } else {
                code.to_string()
            },
        )?;
        let grpc = part(key, 20, 0x1ff).checked_sub(1);
        label(
            "grpc_status",
            &grpc.map(|status| status.to_string()).unwrap_or_default(),
        )?;
        label(
            "tls",
            if part(key, 62, 1) == 1 {
                "mutual"
            } else {
                "none"
            },
        )?;
        let reason = part(key, 32, 0xff).checked_sub(1);
        label(
            "reason",
            reason
                .and_then(|at| REASONS.get(at))
                .map_or("", |reason| reason.name()),
        )
    }
}

/// The name of a workload: the last part of its identity.
fn workload(identity: &str) -> &str {
    identity.rsplit('/').next().unwrap_or_default()
}

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let edges: Vec<Arc<EdgeMetrics>> = {
            let edges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            edges.values().filter_map(Weak::upgrade).collect()
        };
        let mut family = encoder.encode_descriptor(
            "mesh_requests",
            "Requests that have ended",
            None,
            MetricType::Counter,
        )?;
        for edge in &edges {
            for series in &edge.series {
                let key = series.key.load(Ordering::Relaxed);
                if key != 0 {
                    let labels = Labels {
                        edge: &edge.labels,
                        key: Some(key),
                    };
                    let count = ConstCounter::new(series.count.load(Ordering::Relaxed));
                    count.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        histogram(
            &mut encoder,
            &edges,
            "mesh_request_duration_seconds",
            "Whole exchanges",
            |edge| &edge.duration,
        )?;
        histogram(
            &mut encoder,
            &edges,
            "mesh_response_first_byte_seconds",
            "From the request to the head of its answer",
            |edge| &edge.first_byte,
        )?;
        bytes(
            &mut encoder,
            &edges,
            "mesh_request_body_bytes",
            "Bytes of request bodies",
            |edge| &edge.bytes_in,
        )?;
        bytes(
            &mut encoder,
            &edges,
            "mesh_response_body_bytes",
            "Bytes of answers' bodies",
            |edge| &edge.bytes_out,
        )
    }
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    edges: &[Arc<EdgeMetrics>],
    name: &str,
    help: &str,
    of: impl Fn(&EdgeMetrics) -> &Buckets,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for edge in edges {
        let (sum, count, buckets) = of(edge).read();
        let labels = Labels {
            edge: &edge.labels,
            key: None,
        };
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn bytes(
    encoder: &mut DescriptorEncoder<'_>,
    edges: &[Arc<EdgeMetrics>],
    name: &str,
    help: &str,
    of: impl Fn(&EdgeMetrics) -> &AtomicU64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for edge in edges {
        let labels = Labels {
            edge: &edge.labels,
            key: None,
        };
        let count = ConstCounter::new(of(edge).load(Ordering::Relaxed));
        count.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(route: &str) -> EdgeLabels {
        EdgeLabels {
            reporter: Reporter::Source,
            src_identity: "spiffe://shop.example/service/productpage".to_owned(),
            dst_service: "reviews".to_owned(),
            route: route.to_owned(),
            subsets: vec!["v1".to_owned(), "v2".to_owned()],
        }
    }

    fn ending(code: u16) -> Ending {
        Ending {
            method: method_index("GET"),
            protocol: 0,
            code,
            grpc_status: None,
            reason: None,
            subset: Some(1),
            mutual: true,
        }
    }

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        let edge = requests.edge(labels("everyone"));
        edge.count(
            ending(200),
            Duration::from_millis(3),
            Some(Duration::from_millis(2)),
        );
        edge.count(ending(200), Duration::from_mins(1), None);
        edge.count(
            Ending {
                reason: Some(Reason::BadRequest("x")),
                grpc_status: Some(13),
                ..ending(200)
            },
            Duration::ZERO,
            None,
        );
        let text = metrics.encode();
        for line in [
            "mesh_requests_total{reporter=\"source\",src_identity=\"spiffe://shop.example/service/productpage\",src_workload=\"productpage\",dst_service=\"reviews\",route=\"everyone\",dst_subset=\"v2\",method=\"GET\",protocol=\"http/1.1\",code=\"200\",grpc_status=\"\",tls=\"mutual\",reason=\"\"} 2",
            "grpc_status=\"13\",tls=\"mutual\",reason=\"bad_request\"} 1",
            "mesh_request_duration_seconds_bucket{le=\"0.005\",reporter=\"source\"",
            "le=\"+Inf\"",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        let count = "mesh_request_duration_seconds_count{reporter=\"source\"";
        assert!(
            text.lines()
                .any(|line| line.starts_with(count) && line.ends_with(" 3")),
            "{text}"
        );
    }

    #[test]
    fn an_edge_lives_as_long_as_somebody_holds_it() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        let first = requests.edge(labels("a"));
        assert!(Arc::ptr_eq(&first, &requests.edge(labels("a"))));
        drop(first);
        assert!(!metrics.encode().contains("route=\"a\""));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let edge = EdgeMetrics::new(labels("a"));
        for code in 1..=1000 {
            edge.count(ending(code), Duration::ZERO, None);
        }
        assert_eq!(edge.series.len(), limits::SERIES_PER_ROUTE);
    }

    #[test]
    fn every_reason_has_a_number() {
        for (at, reason) in REASONS.iter().enumerate() {
            let key = Ending {
                reason: Some(*reason),
                ..ending(0)
            }
            .key();
            assert_eq!(part(key, 32, 0xff), at + 1, "{reason}");
        }
    }
}
