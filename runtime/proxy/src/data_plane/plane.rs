//! What the connections and requests of the data plane share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use mesh_bundle::slice::{AccessLogFormat, Label, MtlsMode};
use mesh_daemon::drain::{self, DrainTrigger, DrainWatcher};
use mesh_daemon::identity::Credentials;
use mesh_daemon::telemetry::{Reason, TlsReason};
use mesh_engine::telemetry::LogTable;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};

use super::drain::DrainReport;
use crate::access::Access;
use crate::access_log::{AccessLog, Line, TextLine};
use crate::connections::Connections;
use crate::gateway::proxy_protocol::{NoClient, TrustedProxies};
use crate::http::metrics::{EdgeLabels, EdgeMetrics, Reporter, RequestMetrics};
use crate::http::mirrors::Mirrors;
use crate::http::rate_limit::RateLimits;
use crate::http::sanitise::Rule;
use crate::limits::Limits;
use crate::listener::Seat;
use crate::tables::{Budgets, Tables};
use crate::tcp::carries_bytes;
use crate::tcp::metrics::TcpMetrics;
use crate::traces::Exporters;
use crate::upstream::connect::Security;
use crate::upstream::endpoints::Directory;
use crate::upstream::pool::{Endpoint, Shared};
use crate::upstream::pools::Pools;

/// What the connections and requests of the data plane share.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(super) tables: ArcSwapOption<Tables>,
    pub(super) denying: AtomicBool,
    pub(super) draining: AtomicBool,
    short_of_memory: AtomicBool,
    /// Requests that memory has room for.
    may_run: AtomicUsize,
    /// What it counts.
    pub(crate) metrics: RequestMetrics,
    /// Where it writes what happened.
    pub(crate) access_log: AccessLog,
    /// Where it tells of traces.
    pub(super) exporters: Exporters,
    /// Whether it does at all.
    tracing: AtomicBool,
    pub(super) directory: Directory,
    pub(super) budgets: Budgets,
    /// How many requests may enter.
    pub(crate) rate_limits: RateLimits,
    /// What requests must bring.
    pub(crate) access: Access,
    /// Copies of requests.
    pub(crate) mirrors: Mirrors,
    /// Bounds.
    pub(crate) limits: Arc<Limits>,
    /// Proxies in front of a gateway whose word is taken.
    pub(crate) trusted_proxies: TrustedProxies,
    running: AtomicUsize,
    /// Those that are open.
    pub(crate) connections: Arc<Connections>,
    /// Of these, requests whose connections have become something else.
    tunnels: AtomicUsize,
    /// Ends whatever is left at the deadline of a drain.
    pub(super) cutting: DrainTrigger,
    in_flight: [Gauge; 2],
    unknown: [Arc<EdgeMetrics>; 2],
    /// What it counts of connections of bytes.
    pub(crate) tcp: TcpMetrics,
    policy: watch::Sender<()>,
    /// Held while tables or endpoints are changed; never by a request.
    control: Mutex<()>,
    pub(super) names_changed: Notify,
    /// Woken when there are other tables, which may let connections lie for another time.
    pub(super) idle_changed: Notify,
    /// Changes whenever there may be other pools, or others in them.
    pub(super) pools_changed: watch::Sender<()>,
}

/// What a port takes in plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InPlaintext {
    Nothing,
    Requests,
    Bytes {
        /// Whether nothing else is taken.
        only: bool,
    },
}

impl Plane {
    pub(super) fn new(
        credentials: Credentials,
        (metrics, tcp): (RequestMetrics, TcpMetrics),
        access_log: AccessLog,
        exporters: Exporters,
        trusted_proxies: TrustedProxies,
        limits: Arc<Limits>,
        (pools, labels, rate_limits, access, mirrors): (
            Arc<Pools>,
            Vec<Label>,
            RateLimits,
            Access,
            Mirrors,
        ),
    ) -> Self {
        let shared = Arc::new(Shared {
            credentials,
            recheck: watch::Sender::new(()),
            limits: Arc::clone(&limits),
        });
        let each = [Reporter::Source, Reporter::Destination];
        let unknown = each.map(|reporter| {
            metrics.edge(EdgeLabels {
                reporter,
                src_identity: String::new(),
                dst_service: String::new(),
                route: String::new(),
                subsets: Vec::new(),
                dst_identities: Vec::new(),
            })
        });
        Self {
            tables: ArcSwapOption::empty(),
            denying: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            short_of_memory: AtomicBool::new(false),
            may_run: AtomicUsize::new(usize::MAX),
            in_flight: each.map(|reporter| metrics.in_flight(reporter)),
            metrics,
            access_log,
            exporters,
            tracing: AtomicBool::new(false),
            directory: Directory::new(shared, pools, labels),
            budgets: Budgets::default(),
            rate_limits,
            access,
            mirrors,
            limits,
            trusted_proxies,
            running: AtomicUsize::new(0),
            connections: Arc::default(),
            tunnels: AtomicUsize::new(0),
            cutting: drain::channel().0,
            unknown,
            tcp,
            policy: watch::Sender::new(()),
            control: Mutex::default(),
            names_changed: Notify::new(),
            idle_changed: Notify::new(),
            pools_changed: watch::Sender::new(()),
        }
    }

    /// The tables that a request begins with.
    pub(crate) fn tables(&self) -> Option<Arc<Tables>> {
        self.tables.load_full()
    }

    /// Whether the current slice is that of a gateway.
    pub(crate) fn is_gateway(&self) -> bool {
        let tables = self.tables.load();
        tables
            .as_ref()
            .is_some_and(|tables| tables.entries().ports().next().is_some())
    }

    /// Whether a redirected connection to this address carries bytes, whatever they look like.
    pub(crate) fn leads_to_bytes(&self, address: SocketAddr) -> bool {
        let tables = self.tables.load();
        tables.as_ref().is_some_and(|tables| {
            let meant = tables.meant(address, None);
            meant.is_some_and(|meant| carries_bytes(meant.port))
        })
    }

    /// Whether some hops are told to a collector.
    pub(crate) fn is_tracing(&self) -> bool {
        self.tracing.load(Ordering::Relaxed)
    }

    pub(super) fn set_tracing(&self, tracing: bool) {
        self.tracing.store(tracing, Ordering::Relaxed);
    }

    /// How a record is written of which it is not known whose it is: as that of calls.
    fn log_format(&self) -> AccessLogFormat {
        let tables = self.tables.load();
        let telemetry = tables
            .as_ref()
            .and_then(|tables| tables.snapshot().telemetry().first());
        let log = telemetry.and_then(|telemetry| telemetry.log());
        log.map_or(self.access_log.format(), LogTable::format)
    }

    /// Whether everything is refused.
    pub(crate) fn is_denying(&self) -> bool {
        self.denying.load(Ordering::Acquire)
    }

    /// Whether nothing new should be begun.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.short_of_memory.load(Ordering::Relaxed)
    }

    /// Whether there is memory for what runs.
    pub(crate) fn has_memory(&self) -> bool {
        self.running() <= self.may_run.load(Ordering::Relaxed)
    }

    /// Notes how many requests may run.
    pub(super) fn may_run(&self, requests: usize) {
        // One always may, or nothing would ever tell that there is memory again.
        self.may_run.store(requests.max(1), Ordering::Relaxed);
    }

    /// Notes whether it should.
    pub(super) fn set_short_of_memory(&self, short: bool) {
        self.short_of_memory.store(short, Ordering::Relaxed);
    }

    /// Whether the proxy is ending.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What peers are judged by.
    pub(crate) fn credentials(&self) -> &Credentials {
        &self.directory.shared().credentials
    }

    /// Changes whenever peers must be judged again.
    pub(crate) fn recheck(&self) -> watch::Receiver<()> {
        self.directory.shared().recheck.subscribe()
    }

    /// Changes whenever there are other rules.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<()> {
        self.policy.subscribe()
    }

    /// Has whatever was let in once looked at again.
    pub(super) fn policy_has_changed(&self) {
        self.policy.send_replace(());
    }

    /// Notes that a connection of bytes began.
    pub(crate) fn begin_connection(&self) {
        if let Some(seat) = Seat::current() {
            seat.busy();
        }
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it ended.
    pub(crate) fn end_connection(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a request's connection became something else.
    pub(crate) fn begin_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that it ended.
    pub(crate) fn end_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Learns that what is left at the deadline of a drain is to end.
    pub(crate) fn cut(&self) -> DrainWatcher {
        self.cutting.watcher()
    }

    /// Whether that has come.
    pub(crate) fn is_cutting(&self) -> bool {
        self.cut().is_draining()
    }

    /// What runs at this moment.
    pub(super) fn left(&self) -> DrainReport {
        let upgrades = self.tunnels.load(Ordering::Relaxed);
        let in_flight: i64 = self.in_flight.iter().map(Gauge::get).sum();
        let in_flight = usize::try_from(in_flight).unwrap_or(0);
        DrainReport {
            requests: in_flight.saturating_sub(upgrades),
            upgrades,
            connections: self.running().saturating_sub(in_flight),
        }
    }

    /// Requests and connections of bytes that run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Notes that a request began.
    pub(crate) fn begin(&self, reporter: Reporter) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.of(&self.in_flight, reporter).inc();
    }

    /// Notes that a request ended.
    pub(crate) fn end(&self, reporter: Reporter) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.of(&self.in_flight, reporter).dec();
    }

    /// The counters of requests that name nothing known.
    pub(crate) fn unknown_edge(&self, reporter: Reporter) -> Arc<EdgeMetrics> {
        Arc::clone(self.of(&self.unknown, reporter))
    }

    #[expect(clippy::unused_self, reason = "reads as what it is, one of two fields")]
    fn of<'p, T>(&self, [source, destination]: &'p [T; 2], reporter: Reporter) -> &'p T {
        match reporter {
            Reporter::Source => source,
            Reporter::Destination => destination,
        }
    }

    /// Records bytes that never became a request.
    pub(crate) fn refused_bytes(&self, reporter: Reporter, rule: Rule, peer: IpAddr) {
        self.metrics.rejected(rule);
        self.write_refusal(reporter, Reason::BadRequest(rule.as_str()), None, peer);
    }

    /// Records a peer that was not let in.
    pub(crate) fn refused_peer(&self, reason: TlsReason, peer: IpAddr) {
        self.metrics.handshake_failed("server", reason);
        self.write_refusal(
            Reporter::Destination,
            Reason::TlsFailure,
            Some(reason),
            peer,
        );
    }

    /// Records a client of a gateway with whom there is no TLS.
    pub(crate) fn refused_client(&self, peer: IpAddr) {
        let reason = TlsReason::TlsFailure;
        self.metrics.handshake_failed("gateway", reason);
        self.write_refusal(Reporter::Source, Reason::TlsFailure, Some(reason), peer);
    }

    /// Records a connection that was redirected here and goes nowhere. `to` is where it was going.
    pub(crate) fn refused_connection(
        &self,
        reporter: Reporter,
        reason: Reason,
        peer: IpAddr,
        to: Option<SocketAddr>,
    ) {
        self.metrics.refused(reporter, reason);
        if let Some(mut line) = self.refusal(reporter, reason, None, peer) {
            let to = to.map(|to| to.to_string());
            line.text("destination", to.as_ref().map(String::as_bytes));
            self.access_log.write(line.finish());
        }
    }

    /// Records a connection over which nothing came in time. `to` is where it was going.
    pub(crate) fn refused_silent(&self, reporter: Reporter, peer: IpAddr, to: Option<SocketAddr>) {
        const RULE: &str = "first_byte_timeout";
        self.metrics.rejected_bytes(RULE);
        self.metrics.limit_reached(RULE);
        self.refused_connection(reporter, Reason::BadRequest(RULE), peer, to);
    }

    /// Records a connection to a gateway whose client is not known.
    pub(crate) fn refused_unproxied(&self, no_client: &NoClient, peer: IpAddr) {
        const RULE: &str = "proxy_protocol";
        let reason = match no_client {
            NoClient::Stranger(_) => Reason::AuthzDenied,
            NoClient::Nothing | NoClient::Malformed(_) => {
                self.metrics.rejected_bytes(RULE);
                Reason::BadRequest(RULE)
            }
        };
        self.refused_connection(Reporter::Source, reason, peer, None);
    }

    /// What a port takes of peers without a certificate; the engine says which of it goes on.
    pub(crate) fn takes_in_plaintext(&self, port: u16) -> InPlaintext {
        let tables = self.tables.load();
        let tables = tables.as_ref();
        let Some(table) = tables.and_then(|tables| tables.snapshot().inbound(port)) else {
            return InPlaintext::Nothing;
        };
        let mode = table.mtls(port);
        match (mode, carries_bytes(table.port(port))) {
            // A probe is a request.
            (None, true) => InPlaintext::Nothing,
            (Some(mode), true) => InPlaintext::Bytes {
                only: mode == MtlsMode::Off,
            },
            (None, false) if !table.has_probes() => InPlaintext::Nothing,
            (_, false) => InPlaintext::Requests,
        }
    }

    /// An application of this host.
    pub(crate) fn application(&self, address: SocketAddr) -> Arc<Endpoint> {
        let shared = Arc::clone(self.directory.shared());
        let application = Arc::new(Endpoint::new(address, Security::Plain, shared));
        self.directory.keep(&application);
        application
    }

    fn write_refusal(
        &self,
        reporter: Reporter,
        reason: Reason,
        tls: Option<TlsReason>,
        peer: IpAddr,
    ) {
        if let Some(line) = self.refusal(reporter, reason, tls, peer) {
            self.access_log.write(line.finish());
        }
    }

    /// The line of a refusal; none if there is no log.
    fn refusal(
        &self,
        reporter: Reporter,
        reason: Reason,
        tls: Option<TlsReason>,
        peer: IpAddr,
    ) -> Option<Line> {
        if !self.access_log.is_on() {
            return None;
        }
        match self.log_format() {
            AccessLogFormat::Json => {}
            AccessLogFormat::None => return None,
            AccessLogFormat::Text => {
                let line = TextLine {
                    flag: reason.envoy_flag(),
                    ..TextLine::default()
                };
                self.access_log.write(line.write(SystemTime::now()));
                return None;
            }
        }
        let mut line = Line::new(SystemTime::now());
        line.text("reporter", Some(reporter.as_str().as_bytes()));
        line.text("reason", Some(reason.to_string().as_bytes()));
        line.text("tls_reason", tls.map(|reason| reason.as_str().as_bytes()));
        line.text("peer", Some(peer.to_string().as_bytes()));
        Some(line)
    }

    /// Works the endpoints of the current tables out again.
    pub(super) fn refresh_endpoints(&self) {
        let _control = self.lock();
        if let Some(tables) = self.tables() {
            tables.refresh_endpoints(&self.directory);
            self.pools_changed.send_replace(());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
