//! Request metrics. Counting takes no lock and makes no string: each edge (who calls what by which
//! route) is registered when tables are prepared, and within it a request finds its counter by a
//! small number. Names are only written out when somebody asks. An edge that no table and no
//! connection holds any more is forgotten after a while.

use std::sync::Arc;

use mesh_daemon::telemetry::{Metrics, Reason, TlsReason};
use mesh_engine::rbac::Rules;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

mod authz;
mod edge;
mod istio;
mod shown;

pub(crate) use authz::{AuthzCounters, Decisions};
pub(crate) use edge::{
    EdgeLabels, EdgeMetrics, Ending, METHODS, Measures, Messages, PROTOCOLS, Reporter, Tls,
    method_index,
};
pub(crate) use istio::{ends, security};
pub(crate) use shown::{namespace, workload};

use super::sanitise::Rule;
use crate::series::Registry;

/// Everything that the data plane counts of requests.
#[derive(Clone, Debug)]
pub(crate) struct RequestMetrics {
    edges: Arc<Edges>,
    decisions: Arc<Decisions>,
    /// By direction.
    in_flight: Family<[(&'static str, &'static str); 1], Gauge>,
    rejected: Family<[(&'static str, &'static str); 1], Counter>,
    /// By its name.
    limits_reached: Family<[(&'static str, &'static str); 1], Counter>,
    /// By reporter and reason.
    refused: Family<[(&'static str, &'static str); 2], Counter>,
    retries: Family<[(&'static str, &'static str); 1], Counter>,
    timeouts: Family<[(&'static str, &'static str); 1], Counter>,
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

/// The counters of edges.
#[derive(Debug, Default)]
struct Edges(Registry<Arc<EdgeLabels>, EdgeMetrics>);

impl RequestMetrics {
    /// Registers everything.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let edges = Arc::new(Edges::default());
        metrics.register_collector(Box::new(Arc::clone(&edges)));
        let decisions = Arc::new(Decisions::default());
        metrics.register_collector(Box::new(Arc::clone(&decisions)));
        let registered = Self {
            edges,
            decisions,
            in_flight: metrics.register(
                "mesh_requests_in_flight",
                "requests that have begun and not ended",
                Family::default(),
            ),
            rejected: metrics.register(
                "mesh_rejected_requests",
                "requests, and what was to become one, that broke a rule of HTTP or of the mesh",
                Family::default(),
            ),
            limits_reached: metrics.register(
                "mesh_limits_reached",
                "times that a limit of the proxy was met, by the name that `--limit` has for it",
                Family::default(),
            ),
            refused: metrics.register(
                "mesh_refused_connections",
                "connections that go nowhere, before anything was asked over them: redirected ones that no policy knows or that would come back to the proxy, clients that a gateway knows nothing of",
                Family::default(),
            ),
            retries: metrics.register(
                "mesh_retries",
                "tries after the first, by how they ended",
                Family::default(),
            ),
            timeouts: metrics.register(
                "mesh_timeouts",
                "exchanges, tries and silences that took too long",
                Family::default(),
            ),
            handshakes_failed: metrics.register(
                "mesh_tls_handshakes_failed",
                "TLS handshakes that failed: as `server` and `client` of mesh peers, and with clients of a `gateway`",
                Family::default(),
            ),
            budget_exhausted: metrics.register(
                "mesh_retry_budget_exhausted",
                "tries that the retry budget refused",
                Counter::default(),
            ),
            faults: metrics.register(
                "mesh_faults_injected",
                "requests that met a failure that policy injects",
                Counter::default(),
            ),
            log_dropped: metrics.register(
                "mesh_access_log_dropped",
                "access-log lines that were dropped because the sink was too slow",
                Counter::default(),
            ),
            connections: metrics.register(
                "mesh_connections_open",
                "accepted connections that are open",
                Family::default(),
            ),
        };
        for reporter in [Reporter::Source, Reporter::Destination] {
            drop(registered.in_flight(reporter));
        }
        registered
    }

    /// Tells the same under Istio's names.
    pub(crate) fn tell_as_istio(&self, metrics: &Metrics) {
        metrics.register_collector(Box::new(istio::Istio(Arc::clone(&self.edges))));
    }

    /// The counters of an edge; the same ones for the same labels. Where there are too many, those of all others.
    pub(crate) fn edge(&self, labels: EdgeLabels) -> Arc<EdgeMetrics> {
        let found = self.edges.0.get(Arc::new(labels), EdgeMetrics::new);
        found.unwrap_or_else(|| {
            let others = Arc::new(EdgeLabels::others());
            Arc::new(EdgeMetrics::new(others))
        })
    }

    /// The counters of what the rules of a service decide.
    pub(crate) fn authz(&self, service: &str, rules: &Rules) -> AuthzCounters {
        self.decisions.of(service, rules)
    }

    /// Forgets what nobody has held for long.
    pub(crate) fn expire(&self, now: Instant) {
        self.edges.0.expire(now);
        self.decisions.expire(now);
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
        if let Some(limit) = rule.limit() {
            self.limit_reached(limit);
        }
    }

    /// Counts that a limit was met.
    pub(crate) fn limit_reached(&self, limit: &'static str) {
        self.limits_reached.get_or_create(&[("limit", limit)]).inc();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits;

    fn labels(route: &str) -> EdgeLabels {
        EdgeLabels {
            reporter: Reporter::Source,
            src_identity: "spiffe://shop.example/ns/web/sa/productpage".to_owned(),
            dst_service: "reviews".to_owned(),
            route: route.to_owned(),
            subsets: vec!["v1".to_owned(), "v2".to_owned()],
            dst_identities: vec!["spiffe://shop.example/service/reviews".to_owned()],
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
            dst_identity: Some(0),
            tls: Tls::Mutual,
        }
    }

    fn took(millis: u64) -> Measures {
        Measures {
            duration: Duration::from_millis(millis),
            ..Measures::default()
        }
    }

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        let edge = requests.edge(labels("everyone"));
        let measures = Measures {
            first_byte: Some(Duration::from_millis(2)),
            overhead: Some(Duration::from_micros(60)),
            bytes_out: 300,
            ..took(3)
        };
        edge.count(ending(200), &measures);
        edge.count(ending(200), &took(60_000));
        let failed = Ending {
            reason: Some(Reason::BadRequest("x")),
            grpc_status: Some(13),
            protocol: 2,
            ..ending(200)
        };
        edge.count(failed, &took(0));
        edge.count_messages(Messages::Response, 3);
        let text = metrics.encode();
        let ends = "reporter=\"source\",src_identity=\"spiffe://shop.example/ns/web/sa/productpage\",\
                    src_workload=\"productpage\",src_namespace=\"web\",dst_service=\"reviews\",route=\"everyone\"";
        let answered = "dst_identity=\"spiffe://shop.example/service/reviews\",dst_workload=\"reviews\",\
                        dst_namespace=\"\",dst_subset=\"v2\",method=\"GET\"";
        for line in [
            format!(
                "mesh_requests_total{{{ends},{answered},protocol=\"http/1.1\",code=\"200\",grpc_status=\"\",tls=\"mutual\",reason=\"\"}} 2\n"
            ),
            format!(
                "{answered},protocol=\"grpc\",code=\"200\",grpc_status=\"13\",tls=\"mutual\",reason=\"bad_request\"}} 1\n"
            ),
            format!(
                "mesh_request_duration_seconds_bucket{{le=\"0.005\",{ends},code_class=\"2xx\"}} 1\n"
            ),
            format!("mesh_request_duration_seconds_count{{{ends},code_class=\"2xx\"}} 2\n"),
            format!("mesh_request_duration_seconds_count{{{ends},code_class=\"grpc_error\"}} 1\n"),
            format!("mesh_response_first_byte_seconds_sum{{{ends},code_class=\"2xx\"}} 0.002\n"),
            format!("mesh_proxy_overhead_seconds_bucket{{le=\"0.0001\",{ends}}} 1\n"),
            format!("mesh_response_body_bytes_sum{{{ends}}} 300.0\n"),
            format!("mesh_grpc_messages_total{{{ends},kind=\"response\"}} 3\n"),
        ] {
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }

    /// A service got another subset: its edges before and after are shown as one, or Prometheus would refuse it all.
    #[test]
    fn what_is_shown_alike_is_shown_once() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        requests.tell_as_istio(&metrics);
        let mut later = labels("a");
        later.subsets.push("v3".to_owned());
        for labels in [labels("a"), later, labels("b")] {
            requests.edge(labels).count(ending(200), &took(3));
        }
        let text = metrics.encode();
        let mut series: Vec<_> = text
            .lines()
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "{text}");
        let counted = |start: &str, end: &str| {
            text.lines()
                .any(|line| line.starts_with(start) && line.ends_with(end))
        };
        assert!(counted("mesh_requests_total{", "} 2"), "{text}");
        assert!(
            counted("mesh_request_duration_seconds_count{", "} 2"),
            "{text}"
        );
        assert!(
            counted(
                "istio_requests_total{reporter=\"source\",source_workload=\"productpage\",source_workload_namespace=\"web\"",
                "} 3"
            ),
            "{text}"
        );
        assert!(
            counted("istio_request_duration_milliseconds_sum{", "} 9.0"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_caller_did_is_there_to_be_read_after_it_has_gone() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        let first = requests.edge(labels("a"));
        assert!(Arc::ptr_eq(&first, &requests.edge(labels("a"))));
        first.count(ending(200), &took(1));
        drop(first);
        requests.expire(Instant::now());
        assert!(metrics.encode().contains("route=\"a\""));
        tokio::time::advance(limits::SERIES_KEPT).await;
        requests.expire(Instant::now());
        assert!(!metrics.encode().contains("route=\"a\""));
    }

    #[test]
    fn the_number_of_series_is_bounded_and_none_is_lost() {
        let metrics = Metrics::new("meshp", "0");
        let requests = RequestMetrics::register(&metrics);
        let edge = requests.edge(labels("a"));
        for code in 1..=1000 {
            edge.count(ending(code), &took(0));
        }
        let text = metrics.encode();
        let series = text
            .lines()
            .filter(|line| line.starts_with("mesh_requests_total{"));
        let counts = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts.len(), limits::SERIES_PER_ROUTE + 1);
        assert_eq!(counts.iter().sum::<u64>(), 1000);
    }
}
