//! The record of one exchange. It is made when the request has been parsed and dropped when the
//! exchange is over, and dropping it writes its one access-log line and counts it: so there is no
//! ending without a record, and none with two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode, Version, request};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::telemetry::Reason;
use mesh_engine::telemetry::Candidates;
use mesh_engine::trace::{Followed, TraceId};
use tokio::time::Instant;

use super::body::Transfer;
use super::grpc::MessageCounter;
use super::metrics::{self, EdgeMetrics, METHODS, Measures, Messages, Reporter, Tls, method_index};
use super::wire::WireState;
use crate::data_plane::Plane;
use crate::tables::Tables;
use crate::tcp::metrics::Meter;
use crate::traces::Collector;
use crate::traces::span::Span;

mod line;
mod span;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// An exchange as it is told when it is over.
struct Told<'r> {
    texts: &'r Texts,
    reason: Option<Reason>,
    duration: Duration,
    bytes_in: u64,
}

/// One exchange, from request to end.
#[derive(Debug)]
pub(crate) struct Record {
    plane: Arc<Plane>,
    wire: Arc<WireState>,
    reporter: Reporter,
    started: Instant,
    method: Method,
    version: Version,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// None: neither logs nor traces.
    texts: Option<Box<Texts>>,
    /// Which of the tables' telemetry holds for it; none: what the proxy was told at start.
    telemetry: Option<usize>,
    /// What of that may have it logged.
    candidates: Candidates,
    /// The trace that it belongs to.
    trace: Option<TraceId>,
    /// Its hop of that, if it is recorded.
    span: Option<Box<Span>>,
    /// Who the counters are for; none as long as nobody knows.
    pub(crate) edge: Option<Arc<EdgeMetrics>>,
    /// Position of the subset in the edge's.
    pub(crate) subset: Option<usize>,
    /// Who calls.
    pub(crate) src: Option<Arc<SpiffeId>>,
    /// Who answers.
    pub(crate) dst: Option<Arc<SpiffeId>>,
    /// Tries made.
    pub(crate) attempts: u32,
    /// How long a connection took, if the last try had to make one.
    pub(crate) connect: Option<Duration>,
    /// Where the last try went.
    pub(crate) upstream: Option<SocketAddr>,
    /// How the mesh side of it is kept from others.
    pub(crate) tls: Tls,
    /// For endpoints, and as policy says.
    waited: Duration,
    messages: MessageCounter,
    tables: Option<Arc<Tables>>,
    transfer: Option<Arc<Transfer>>,
    tunnel: Option<Arc<Tunnelled>>,
    bytes_out: u64,
    first_byte: Option<Duration>,
    code: u16,
    grpc_status: Option<u8>,
    ending: Ending,
}

/// Bytes of what an exchange became.
#[derive(Debug, Default)]
pub(crate) struct Tunnelled {
    /// From the client.
    pub(crate) received: Meter,
    /// To the client.
    pub(crate) sent: Meter,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Unknown,
    Well,
    Badly(Reason),
}

/// What only logs and traces want.
#[derive(Debug, Default)]
struct Texts {
    authority: String,
    path: String,
    user_agent: Vec<u8>,
    forwarded_for: Vec<u8>,
    request: Vec<u8>,
    /// Route of the gateway that took it.
    gateway_route: String,
}

impl Record {
    /// Begins with a request of which nothing has been checked.
    pub(crate) fn begin(
        plane: &Arc<Plane>,
        wire: &Arc<WireState>,
        reporter: Reporter,
        head: &request::Parts,
    ) -> Box<Self> {
        plane.begin(reporter);
        wire.begin();
        let is_told = plane.access_log.is_on() || plane.is_tracing();
        let texts = is_told.then(|| {
            let value = |name| {
                head.headers
                    .get(name)
                    .map(|value| value.as_bytes().to_vec())
            };
            Box::new(Texts {
                authority: String::new(),
                path: head.uri.path().to_owned(),
                user_agent: value(header::USER_AGENT).unwrap_or_default(),
                forwarded_for: value(FORWARDED_FOR).unwrap_or_default(),
                request: value(REQUEST_ID).unwrap_or_default(),
                gateway_route: String::new(),
            })
        });
        Box::new(Self {
            plane: Arc::clone(plane),
            wire: Arc::clone(wire),
            reporter,
            started: Instant::now(),
            method: head.method.clone(),
            version: head.version,
            grpc: false,
            texts,
            telemetry: None,
            candidates: Candidates::default(),
            trace: None,
            span: None,
            edge: None,
            subset: None,
            src: None,
            dst: None,
            attempts: 0,
            connect: None,
            upstream: None,
            tls: Tls::None,
            waited: Duration::ZERO,
            messages: MessageCounter::default(),
            tables: None,
            transfer: None,
            tunnel: None,
            bytes_out: 0,
            first_byte: None,
            code: 0,
            grpc_status: None,
            ending: Ending::Unknown,
        })
    }

    /// When the request came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Notes that what came was not read as a request, so that it has neither method nor path.
    pub(crate) fn unread(&mut self) {
        if let Some(texts) = &mut self.texts {
            texts.path.clear();
        }
    }

    /// Notes the one reading of host and path.
    pub(crate) fn normalised(&mut self, authority: &str, path: &str) {
        if let Some(texts) = &mut self.texts {
            authority.clone_into(&mut texts.authority);
            path.clone_into(&mut texts.path);
        }
    }

    /// Notes the route of the gateway; that of the callee is with its counters.
    pub(crate) fn gateway_route(&mut self, route: &str) {
        if let Some(texts) = &mut self.texts {
            route.clone_into(&mut texts.gateway_route);
        }
    }

    /// Notes the tables that decide, and which of their telemetry holds.
    pub(crate) fn tables(&mut self, tables: Arc<Tables>, telemetry: Option<usize>) {
        self.tables = Some(tables);
        self.telemetry = telemetry;
    }

    /// Which telemetry of its tables holds.
    pub(crate) fn telemetry(&self) -> Option<usize> {
        self.telemetry
    }

    /// Notes what may have it logged.
    pub(crate) fn candidates(&mut self, candidates: Candidates) {
        self.candidates = candidates;
    }

    /// Notes where in a trace it is. `collector`: where this hop is told, if it is.
    pub(crate) fn follows(
        &mut self,
        followed: Followed,
        collector: Option<&Collector>,
        state: &[u8],
    ) {
        self.trace = followed.context.map(|context| context.trace);
        if let (true, Some(context), Some(collector)) =
            (followed.recorded, followed.context, collector)
        {
            let began = SystemTime::now()
                .checked_sub(self.started.elapsed())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            let hop = (context, followed.parent);
            self.span = Some(Box::new(Span::begin(hop, state, began, collector)));
        }
    }

    /// Notes a try that began at `since`, for the trace.
    pub(crate) fn tried(&mut self, since: Instant, ended: Result<StatusCode, Reason>) {
        if let (Some(span), Some(upstream)) = (&mut self.span, self.upstream) {
            let after = since.saturating_duration_since(self.started);
            span.tried(after, since.elapsed(), upstream, ended.map(Some));
        }
    }

    /// Notes where the request body is counted.
    pub(crate) fn transfer(&mut self, transfer: Arc<Transfer>) {
        self.transfer = Some(transfer);
    }

    /// What counts the bytes of a tunnel.
    pub(crate) fn tunnel(&mut self) -> Arc<Tunnelled> {
        Arc::clone(self.tunnel.get_or_insert_default())
    }

    /// The data plane.
    pub(crate) fn plane(&self) -> Arc<Plane> {
        Arc::clone(&self.plane)
    }

    /// Whether all of the request has been read.
    pub(crate) fn request_has_ended(&self) -> bool {
        self.transfer
            .as_ref()
            .is_none_or(|transfer| transfer.has_ended())
    }

    /// Whether more of the request came than its destination may get.
    pub(crate) fn request_is_too_large(&self) -> bool {
        self.transfer
            .as_ref()
            .is_some_and(|transfer| transfer.is_too_large())
    }

    /// Notes that since then nothing was done but waiting.
    pub(crate) fn waited(&mut self, since: Instant) {
        self.waited += since.elapsed();
    }

    /// Counts messages of gRPC, as it is gRPC.
    pub(crate) fn expect_messages(&self) {
        if let Some(transfer) = &self.transfer {
            transfer.expect_messages();
        }
    }

    /// Notes the head of the answer.
    pub(crate) fn answered(&mut self, code: StatusCode, headers: &HeaderMap) {
        self.code = code.as_u16();
        self.first_byte = Some(self.started.elapsed());
        if self.grpc {
            self.read_grpc_status(headers);
        }
    }

    /// Reads the gRPC status from a head or from trailers.
    pub(crate) fn read_grpc_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = grpc_status(headers) {
            self.grpc_status = Some(status);
        }
    }

    /// Counts what the proxy itself answers.
    pub(crate) fn add_bytes_out(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// Counts a part of the answer's body.
    pub(crate) fn passed_on(&mut self, data: &[u8]) {
        self.bytes_out += data.len() as u64;
        if self.grpc
            && let Some(edge) = &self.edge
        {
            edge.count_messages(Messages::Response, self.messages.read(data));
            self.count_request_messages(edge);
        }
    }

    fn count_request_messages(&self, edge: &EdgeMetrics) {
        if let Some(transfer) = &self.transfer {
            edge.count_messages(Messages::Request, transfer.take_messages());
        }
    }

    /// Counts a time that ran out.
    pub(crate) fn count_timeout(&self, kind: &'static str) {
        self.plane.metrics.timed_out(kind);
    }

    /// Notes that the answer is not whole. HTTP/1.0 knows no chunks: there the connection has to say so.
    pub(crate) fn break_off(&self) {
        if self.version < Version::HTTP_11 {
            self.wire.break_off();
        }
    }

    /// Notes that a tunnel has no end of its own. Over HTTP/2 its stream has an end all the same.
    pub(crate) fn break_off_tunnel(&self) {
        if self.version != Version::HTTP_2 {
            self.wire.break_off();
        }
    }

    /// Whether whoever asked reads of an end in trailers.
    pub(crate) fn has_trailers(&self) -> bool {
        self.grpc && self.version == Version::HTTP_2
    }

    /// Notes how it ended; only the first ending counts.
    pub(crate) fn end(&mut self, reason: Option<Reason>) {
        if matches!(self.ending, Ending::Unknown) {
            self.ending = reason.map_or(Ending::Well, Ending::Badly);
        }
    }

    fn protocol(&self) -> usize {
        match (self.version, self.grpc) {
            (_, true) => 2,
            (Version::HTTP_2, false) => 1,
            _ => 0,
        }
    }

    /// How the mesh side of the exchange was kept from others.
    fn tls(&self) -> Tls {
        match self.reporter {
            Reporter::Source if self.tls == Tls::Mutual && self.dst.is_none() => Tls::None,
            Reporter::Source => self.tls,
            Reporter::Destination if self.src.is_some() => Tls::Mutual,
            Reporter::Destination => Tls::None,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let reason = match self.ending {
            Ending::Well => None,
            Ending::Badly(reason) => Some(reason),
            Ending::Unknown if self.plane.is_cutting() => Some(Reason::Draining),
            // The client's disappearance dropped the exchange.
            Ending::Unknown => Some(Reason::ClientDisconnect),
        };
        let duration = self.started.elapsed();
        let bytes_in = match (&self.tunnel, &self.transfer) {
            (Some(tunnel), _) => tunnel.received.bytes(),
            (None, Some(transfer)) => transfer.bytes(),
            (None, None) => 0,
        };
        if let Some(tunnel) = &self.tunnel {
            self.bytes_out = tunnel.sent.bytes();
        }
        let unknown = || self.plane.unknown_edge(self.reporter);
        let edge = self.edge.take().unwrap_or_else(unknown);
        let ending = metrics::Ending {
            method: method_index(self.method.as_str()).min(METHODS.len() - 1),
            protocol: self.protocol(),
            code: self.code,
            grpc_status: self.grpc_status,
            reason,
            subset: self.subset,
            dst_identity: match self.reporter {
                Reporter::Source => self
                    .dst
                    .as_ref()
                    .and_then(|identity| edge.dst_identity(identity.as_str())),
                Reporter::Destination => Some(0),
            },
            tls: self.tls(),
        };
        let reached = self.attempts > 0;
        let measures = Measures {
            duration,
            first_byte: self.first_byte,
            overhead: self
                .first_byte
                .filter(|_| reached)
                .map(|first_byte| first_byte.saturating_sub(self.waited)),
            bytes_in,
            bytes_out: self.bytes_out,
        };
        edge.count(ending, &measures);
        if self.grpc {
            self.count_request_messages(&edge);
        }
        self.edge = Some(edge);
        if let Some(texts) = self.texts.take() {
            let told = Told {
                texts: &texts,
                reason,
                duration,
                bytes_in,
            };
            self.log(&told);
            if let Some(span) = self.span.take() {
                self.end_span(span, &told);
            }
        }
        self.wire.end();
        self.plane.end(self.reporter);
    }
}

/// The status in a head or in trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// As the access log has it: mesh peers speak nothing but 1.3, and others are not asked twice.
pub(crate) fn tls_version(tls: Tls) -> &'static str {
    match tls {
        Tls::None => "none",
        Tls::Simple => "TLS",
        Tls::Mutual => "TLSv1.3",
    }
}
