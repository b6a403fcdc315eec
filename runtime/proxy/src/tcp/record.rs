//! The record of one connection of bytes: dropping it writes its one access-log line and counts it, so there is no
//! ending without a record, and none with two.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_bundle::slice::{AccessLogFormat, Protocol};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::telemetry::Reason;
use mesh_engine::telemetry::{self, Candidates};
use mesh_engine::trace::TraceId;
use tokio::time::Instant;

use super::metrics::{Meter, Series, TcpLabels};
use super::passing::Ended;
use crate::access_log::{Line, Seen, TextLine};
use crate::connections;
use crate::data_plane::Plane;
use crate::http::metrics::{Reporter, Tls};
use crate::http::record::tls_version;
use crate::tables::{OF_CALLS, Tables};
use crate::traces::span::Span;

mod span;

/// One connection, from accept to end.
#[derive(Debug)]
pub(crate) struct Record {
    plane: Arc<Plane>,
    reporter: Reporter,
    started: Instant,
    peer_ip: IpAddr,
    protocol: &'static str,
    /// The service; empty as long as it is not known.
    service: String,
    /// Counts from when the service is known.
    series: Option<Series>,
    /// From whoever connected.
    pub(crate) received: Meter,
    /// To whoever connected.
    pub(crate) sent: Meter,
    /// The name that TLS asks for.
    pub(crate) name: String,
    /// The route that was taken.
    pub(crate) route: String,
    /// Route of the gateway that took it.
    pub(crate) gateway_route: String,
    tls: Tls,
    /// The subset that was chosen.
    pub(crate) subset: Option<String>,
    /// Who calls.
    pub(crate) src: Option<Arc<SpiffeId>>,
    /// Who is called.
    pub(crate) dst: Option<Arc<SpiffeId>>,
    /// Where the last try went.
    pub(crate) upstream: Option<SocketAddr>,
    /// Tries made.
    pub(crate) attempts: u32,
    /// How long the last try took.
    pub(crate) connect: Option<Duration>,
    /// Name of the generation that decided.
    pub(crate) generation: String,
    /// Where it is shown while it is open.
    pub(crate) seen: Option<Arc<connections::Seen>>,
    /// The trace that it belongs to.
    trace: Option<TraceId>,
    /// None: nobody is told.
    span: Option<Box<Span>>,
    ending: Ending,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Unknown,
    Well,
    Badly(Reason),
}

impl Record {
    /// Begins with a connection of which nothing is known.
    pub(crate) fn begin(plane: &Arc<Plane>, reporter: Reporter, peer_ip: IpAddr) -> Box<Self> {
        plane.begin_connection();
        Box::new(Self {
            plane: Arc::clone(plane),
            reporter,
            started: Instant::now(),
            peer_ip,
            protocol: "tcp",
            service: String::new(),
            series: None,
            received: Meter::default(),
            sent: Meter::default(),
            name: String::new(),
            route: String::new(),
            gateway_route: String::new(),
            tls: Tls::None,
            subset: None,
            src: None,
            dst: None,
            upstream: None,
            attempts: 0,
            connect: None,
            generation: String::new(),
            seen: None,
            trace: None,
            span: None,
            ending: Ending::Unknown,
        })
    }

    /// When the connection came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Notes which port of which service is meant, and whose it is as far as that is sure.
    pub(crate) fn found(
        &mut self,
        service: &str,
        protocol: Protocol,
        tls: Tls,
        identity: Option<&SpiffeId>,
    ) {
        service.clone_into(&mut self.service);
        self.tls = tls;
        self.protocol = match protocol {
            Protocol::Tls => "tls",
            _ => "tcp",
        };
        self.count(identity);
        if let Some(seen) = &self.seen {
            let (received, sent) = (self.received.counter(), self.sent.counter());
            seen.carries_bytes(self.protocol, &self.service, received, sent);
        }
    }

    fn count(&mut self, identity: Option<&SpiffeId>) {
        let src = self.src.as_ref();
        let labels = TcpLabels {
            reporter: self.reporter,
            src_identity: src.map(ToString::to_string).unwrap_or_default(),
            dst_service: self.service.clone(),
            dst_identity: identity.map(ToString::to_string).unwrap_or_default(),
            protocol: self.protocol,
            tls: self.tls,
        };
        let (series, received, sent) = self.plane.tcp.open(labels);
        (self.series, self.received, self.sent) = (Some(series), received, sent);
    }

    /// Notes how it ended; only the first ending counts.
    pub(crate) fn end(&mut self, reason: Option<Reason>) {
        if matches!(self.ending, Ending::Unknown) {
            self.ending = reason.map_or(Ending::Well, Ending::Badly);
        }
    }

    /// Notes how the bytes ended.
    pub(crate) fn ended(&mut self, ended: &Ended) {
        self.end(match ended {
            Ended::Whole => None,
            Ended::Downstream(error) => {
                tracing::debug!(peer = %self.peer_ip, %error, "whoever connected broke off");
                Some(Reason::ClientDisconnect)
            }
            Ended::Upstream(error) => {
                tracing::debug!(upstream = ?self.upstream, %error, "the endpoint broke off");
                Some(Reason::UpstreamReset)
            }
            Ended::Idle => {
                self.plane.metrics.timed_out("idle");
                Some(Reason::RequestTimeout)
            }
        });
    }

    /// Whose telemetry it is.
    fn telemetry(&self, tables: &Tables) -> Option<usize> {
        match self.reporter {
            Reporter::Source => Some(OF_CALLS),
            Reporter::Destination => tables.telemetry_of(&self.service),
        }
    }

    /// Logs it, if it is to be logged. No filter about requests can be asked about it, and none keeps it out but those
    /// about statuses, which it has none of.
    fn log(&self, reason: Option<Reason>, duration: Duration) {
        let ended = telemetry::Ended {
            status: None,
            grpc_status: None,
            duration,
        };
        let tables = self.plane.tables();
        let log = tables.as_ref().and_then(|tables| {
            let at = self.telemetry(tables)?;
            tables.snapshot().telemetry().get(at)?.log()
        });
        let format = match log {
            Some(log) => log
                .takes(&Candidates::default(), ended)
                .then(|| log.format()),
            None => self.plane.access_log.by_default(Seen {
                ended,
                well: reason.is_none(),
                route: &self.route,
            }),
        };
        match format {
            None | Some(AccessLogFormat::None) => {}
            Some(AccessLogFormat::Json) => self.plane.access_log.write(self.json(reason, duration)),
            Some(AccessLogFormat::Text) => {
                let line = TextLine {
                    duration,
                    flag: reason.map_or("", Reason::envoy_flag),
                    bytes_in: self.received.bytes(),
                    bytes_out: self.sent.bytes(),
                    authority: self.name.as_bytes(),
                    upstream: self.upstream,
                    ..TextLine::default()
                };
                self.plane.access_log.write(line.write(SystemTime::now()));
            }
        }
    }

    fn json(&self, reason: Option<Reason>, duration: Duration) -> Vec<u8> {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        let id = |id: &Option<Arc<SpiffeId>>| id.as_ref().map(|id| id.as_str().as_bytes().to_vec());
        let upstream = self.upstream.map(|address| address.to_string());
        let reason = reason.map(|reason| reason.to_string());
        let is_mutual = match self.reporter {
            Reporter::Source => self.dst.is_some(),
            Reporter::Destination => self.src.is_some(),
        };
        let tls = match (is_mutual, self.tls) {
            (true, _) => Tls::Mutual,
            (false, Tls::Mutual) => Tls::None,
            (false, other) => other,
        };
        let mut line = Line::new(SystemTime::now());
        line.millis("duration_ms", Some(duration));
        line.text("reporter", Some(self.reporter.as_str().as_bytes()));
        line.text("authority", some(&self.name).as_deref());
        line.text("protocol", Some(self.protocol.as_bytes()));
        line.text("reason", reason.as_deref().map(str::as_bytes));
        line.number("bytes_in", Some(self.received.bytes()));
        line.number("bytes_out", Some(self.sent.bytes()));
        line.text("peer", Some(self.peer_ip.to_string().as_bytes()));
        line.text("upstream", upstream.as_deref().map(str::as_bytes));
        line.number("attempts", Some(u64::from(self.attempts)));
        line.millis("connect_ms", self.connect);
        line.text("service", some(&self.service).as_deref());
        line.text("route", some(&self.route).as_deref());
        line.text("gateway_route", some(&self.gateway_route).as_deref());
        line.text("subset", self.subset.as_deref().map(str::as_bytes));
        line.text("src_identity", id(&self.src).as_deref());
        line.text("dst_identity", id(&self.dst).as_deref());
        line.text("tls", Some(tls_version(tls).as_bytes()));
        line.text("generation", some(&self.generation).as_deref());
        let trace = self.trace.map(|trace| trace.hex());
        line.text("trace_id", trace.as_deref().map(str::as_bytes));
        line.finish()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let reason = match self.ending {
            Ending::Well => None,
            Ending::Badly(reason) => Some(reason),
            // Whoever drops it without a word ends the proxy.
            Ending::Unknown => Some(Reason::Draining),
        };
        let duration = self.started.elapsed();
        if self.series.is_none() {
            self.count(None);
        }
        if let Some(series) = self.series.take() {
            series.close(reason, duration);
        }
        self.end_span(reason, duration);
        if self.plane.access_log.is_on() {
            self.log(reason, duration);
        }
        self.plane.end_connection();
    }
}
