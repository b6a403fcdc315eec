//! One request from head to answer, read from top to bottom:
//!
//! record → overload → sanitise → snapshot
//!   outbound: callee by host → route → destination → endpoint → try, and try again → answer
//!   inbound:  service by port → authorise → application → answer
//!
//! Every decision is the engine's; what is here is their order. Whatever returns early does so
//! through `local_reply`, and the record is written when the answer's body has ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{self, Scheme, Uri};
use http::{HeaderMap, Request, Response, Version, header, request};
use hyper::body::{Body, Incoming};
use mesh_bundle::slice::{Destination, Exchange};
use mesh_daemon::telemetry::Reason;
use mesh_engine::retry::{self, Next, RetryState, Stop};
use mesh_engine::{Peer, path};
use tokio::time::Instant;

use super::body::{
    Downstream, Replay, ReplayHandle, RequestBody, ResponseBody, Transfer, Upstream,
};
use super::local_reply::{self, Asked};
use super::record::{Record, grpc_status};
use super::sanitise::{self, PEER_HEADER, Rule, Sanitised, Sender, TIMEOUT_HEADER, sanitise};
use super::server::{Connection, Inbound, Side};
use super::stream;
use super::timeout::{self, BodyClock};
use crate::limits;
use crate::tables::Tables;
use crate::upstream::connect::{ConnectError, HttpVersion};
use crate::upstream::pool::{Answer, Endpoint, Failure};

type Reply = Response<ResponseBody>;

/// Answers one request.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let record = connection.begin(&head);
    let mut exchange = Exchanging {
        asked: Asked {
            version: head.version,
            grpc: false,
        },
        connection: &connection,
        head,
        record,
    };
    let version = exchange.asked.version;
    let body = OutgoingBody::new(body, &mut exchange.record);
    let sanitised = match exchange.sanitise() {
        Ok(sanitised) => sanitised,
        Err(refusal) => return Ok(exchange.refuse(refusal)),
    };
    let plane = &connection.plane;
    let Some(tables) = plane.tables() else {
        return Ok(exchange.reply(Reason::NoConfig));
    };
    exchange.record.tables(Arc::clone(&tables));
    if plane.is_denying() {
        return Ok(exchange.reply(Reason::AuthzDenied));
    }
    let mut reply = match &connection.side {
        Side::Outbound => exchange.outbound(&tables, &sanitised, body).await,
        Side::Inbound(inbound) => exchange.inbound(&tables, inbound, &sanitised, body).await,
    };
    // HTTP/2 says so with GOAWAY, once for all streams.
    if plane.is_draining() && version != Version::HTTP_2 {
        reply
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply)
}

/// A request that is being answered.
struct Exchanging<'c> {
    connection: &'c Arc<Connection>,
    asked: Asked,
    head: request::Parts,
    record: Box<Record>,
}

/// The client's body, until it is known whether it must be kept.
struct OutgoingBody {
    body: Option<Incoming>,
    transfer: Arc<Transfer>,
}

impl OutgoingBody {
    fn new(body: Incoming, record: &mut Record) -> Self {
        let transfer = Arc::new(Transfer::default());
        if body.is_end_stream() {
            return Self {
                body: None,
                transfer,
            };
        }
        record.transfer(Arc::clone(&transfer));
        Self {
            body: Some(body),
            transfer,
        }
    }

    fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    /// For one sending, or with a handle for more.
    fn start(self, may_retry: bool) -> (RequestBody, Option<ReplayHandle>) {
        let Some(body) = self.body else {
            return (RequestBody::Empty, None);
        };
        let body = Downstream::new(body, self.transfer);
        if may_retry {
            let replay = Replay::new(body);
            let handle = replay.handle();
            (RequestBody::Replay(replay), Some(handle))
        } else {
            (RequestBody::Once(body), None)
        }
    }
}

/// Why a request goes no further.
#[derive(Clone, Copy)]
enum Refusal {
    /// It broke a rule.
    Rule(Rule),
    /// Anything else.
    Reason(Reason),
}

/// How a try ended without an answer that may be passed on.
#[derive(Clone, Copy)]
struct Failed {
    cause: Option<retry::Failure>,
    reason: Reason,
    /// On a connection that its other end had most likely closed before.
    stale: bool,
}

impl Exchanging<'_> {
    fn sanitise(&mut self) -> Result<Sanitised, Refusal> {
        if self.connection.plane.running() > limits::REQUESTS_MAX {
            return Err(Refusal::Reason(Reason::OverloadShed));
        }
        let sender = match self.connection.side {
            Side::Outbound => Sender::Application,
            Side::Inbound(_) => Sender::MeshPeer,
        };
        let sanitised = sanitise(&mut self.head, sender).map_err(Refusal::Rule)?;
        self.asked.grpc = sanitised.grpc;
        self.record.grpc = sanitised.grpc;
        let authority = sanitised.authority_value.to_str().unwrap_or_default();
        self.record.normalised(authority, self.head.uri.path());
        Ok(sanitised)
    }

    /// The proxy's own answer. The exchange is over.
    fn reply(self, reason: Reason) -> Reply {
        let reply = local_reply::reply(reason, self.asked);
        self.over(reason, reply)
    }

    fn refuse(self, refusal: Refusal) -> Reply {
        let rule = match refusal {
            Refusal::Reason(reason) => return self.reply(reason),
            Refusal::Rule(rule) => rule,
        };
        self.connection.plane.metrics.rejected(rule);
        let reply = local_reply::refuse(rule, self.asked);
        self.over(Reason::BadRequest(rule.as_str()), reply)
    }

    fn over(mut self, reason: Reason, mut reply: Reply) -> Reply {
        self.close_unless_read(reply.headers_mut());
        self.record.answered(reply.status(), reply.headers());
        let bytes = reply.body().size_hint().exact().unwrap_or(0);
        self.record
            .add_bytes_out(usize::try_from(bytes).unwrap_or(0));
        self.record.end(Some(reason));
        reply
    }

    /// Tells a client whose request has not been read to its end that no other one will be: what is
    /// left of it stands in the way.
    fn close_unless_read(&self, headers: &mut HeaderMap) {
        if self.asked.version != Version::HTTP_2 && !self.record.request_has_ended() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Calls out on behalf of the application.
    async fn outbound(
        mut self,
        tables: &Arc<Tables>,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        let (host, named) = (sanitised.authority.host(), sanitised.authority.port());
        let Some(callee) = tables.snapshot().outbound(host, named) else {
            return self.reply(Reason::AuthzDenied);
        };
        let (Some(port), Some(state)) = (callee.port(named), tables.state(callee)) else {
            return self.reply(Reason::NoRoute);
        };
        self.record.edge = Some(Arc::clone(&state.no_route));
        let chosen = {
            let peer = Peer::Identity(tables.snapshot().identity());
            self.ask(host, port.number, peer, |request| {
                let route = callee.route(request)?;
                Some((route, route.pick_destination(&mut rand::rng())?))
            })
        };
        let (route, destination) = match chosen {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        let edge = state.edge(route);
        let subset = destination.target.subset.as_deref();
        self.record.subset = subset.and_then(|name| edge.subset(name));
        self.record.edge = Some(edge);

        let now = self.record.started().into_std();
        let asked = sanitised
            .grpc
            .then(|| timeout::grpc_timeout(&self.head.headers))
            .flatten();
        let deadline = retry::deadline(now, route.exchange().timeout, asked);
        let method = self.head.method.clone();
        let mut tries = RetryState::new(route.retry(), method.as_str(), deadline);
        let budget = state.budget.as_ref();
        let _counted = budget.map(|budget| budget.request(now));
        let transfer = Arc::clone(&body.transfer);
        let empty = body.is_empty();
        let mut spare = self.has_spare(empty);
        let (mut sending, replay) = body.start(tries.may_retry());
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut permit = None;
        loop {
            self.record.attempts = tries.tries();
            let Some(endpoint) = pick(tables, destination, port.number, &tried) else {
                return self.reply(Reason::NoHealthyUpstream);
            };
            let keep = spare || tries.may_retry();
            let request = self.next_hop(sanitised, sending, deadline, keep);
            let limit = tries.try_timeout(Instant::now().into_std());
            self.record.upstream = Some(endpoint.address());
            let result = self
                .attempt(&endpoint, request, route.exchange(), limit, deadline)
                .await;
            if spare && matches!(&result, Err(failed) if failed.stale) {
                spare = false;
                sending = RequestBody::Empty;
                continue;
            }
            drop(permit.take());
            let (answer, failed) = match result {
                Ok(answer) => match self.judge(&answer, route.retry()) {
                    None => {
                        self.count_retry(&tries, true);
                        return self.pass_on(answer, route.exchange(), deadline, None);
                    }
                    // The reason is not looked at: this answer is passed on or replaced.
                    cause @ Some(_) => (
                        Some(answer),
                        Failed {
                            cause,
                            reason: Reason::RetryLimit,
                            stale: false,
                        },
                    ),
                },
                Err(failed) => (None, failed),
            };
            self.count_retry(&tries, false);
            if transfer.is_broken() {
                return self.broken_body();
            }
            let again = match &replay {
                Some(handle) => handle.again().map(RequestBody::Replay),
                None => empty.then_some(RequestBody::Empty),
            };
            let now = Instant::now().into_std();
            let next = match (failed.cause, &again) {
                (Some(cause), Some(_)) => tries.next(cause, now, budget, &mut rand::rng()),
                _ => Next::Stop(Stop::NotRetryable),
            };
            match (next, again) {
                (
                    Next::Retry {
                        after,
                        permit: granted,
                    },
                    Some(body),
                ) => {
                    permit = granted;
                    sending = body;
                    tried.push(endpoint);
                    // The answer that is not wanted frees its connection or stream first.
                    drop(answer);
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                }
                (next, _) => {
                    let stop = match next {
                        Next::Stop(stop) => stop,
                        // Not asked for without a body to send.
                        Next::Retry { .. } => Stop::NotRetryable,
                    };
                    if stop == Stop::Budget {
                        self.connection.plane.metrics.budget_exhausted.inc();
                    }
                    return match answer {
                        Some(answer) => {
                            let reason = given_up(stop, tries.tries());
                            self.pass_on(answer, route.exchange(), deadline, reason)
                        }
                        None => self.reply(failed.reason),
                    };
                }
            }
        }
    }

    /// Lets a peer's request in.
    async fn inbound(
        mut self,
        tables: &Arc<Tables>,
        inbound: &Inbound,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        self.record.src = Some(Arc::clone(&inbound.peer));
        let Some(table) = tables.snapshot().inbound(inbound.port) else {
            return self.reply(Reason::AuthzDenied);
        };
        self.record.edge = Some(self.connection.inbound_edge(inbound, table.service()));
        let peer = Peer::Identity(&inbound.peer);
        let metrics = &self.connection.plane.metrics;
        let allowed = self.ask(sanitised.authority.host(), inbound.port, peer, |request| {
            for _ in table.audit_hits(request) {
                metrics.audited.inc();
            }
            table.authorise(request).is_allowed()
        });
        match allowed {
            Ok(true) => {
                metrics.allowed.inc();
            }
            Ok(false) => {
                metrics.denied.inc();
                return self.reply(Reason::AuthzDenied);
            }
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        self.head
            .headers
            .insert(PEER_HEADER, inbound.peer_header.clone());

        let now = self.record.started().into_std();
        let asked = sanitised
            .grpc
            .then(|| timeout::grpc_timeout(&self.head.headers))
            .flatten();
        let deadline = retry::deadline(now, sanitised.time_left, asked);
        let exchange = to_application();
        let transfer = Arc::clone(&body.transfer);
        let mut spare = self.has_spare(body.is_empty());
        let (mut sending, _) = body.start(false);
        self.record.upstream = Some(inbound.application.address());
        loop {
            self.record.attempts += 1;
            let request = self.next_hop(sanitised, sending, deadline, spare);
            let limit = deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now().into_std()));
            let sent = timeout::within(
                limit,
                inbound
                    .application
                    .send(request, self.version(), exchange.connect_timeout),
            );
            match sent.await {
                Ok(Ok(answer)) => {
                    self.record.connect = answer.connect;
                    return self.pass_on(answer, &exchange, deadline, None);
                }
                Ok(Err(Failure::Stale)) if spare => {
                    spare = false;
                    sending = RequestBody::Empty;
                }
                Ok(Err(_)) if transfer.is_broken() => return self.broken_body(),
                Ok(Err(failure)) => return self.reply(failed(failure).reason),
                Err(_elapsed) => {
                    self.record.count_timeout("request");
                    return self.reply(Reason::RequestTimeout);
                }
            }
        }
    }

    /// Asks the engine about this request. Its path is canonical already, so it reads as it is.
    fn ask<'a, T>(
        &'a self,
        host: &'a str,
        port: u16,
        peer: Peer<'a>,
        question: impl FnOnce(&mesh_engine::Request<'_>) -> T,
    ) -> Result<T, Rule> {
        let path = path::normalise(self.head.uri.path()).map_err(Rule::Path)?;
        Ok(question(&mesh_engine::Request {
            method: self.head.method.as_str(),
            host,
            path: &path,
            query: self.head.uri.query().unwrap_or_default(),
            headers: &self.head.headers,
            claims: None,
            port,
            peer,
            peer_ip: Some(self.connection.peer_ip),
            client_ip: Some(self.connection.peer_ip),
        }))
    }

    /// Whether the request may be sent once more, whatever policy says of retries, when the
    /// connection turns out to have been closed by its other end before (RFC 9112 section 9.3.1):
    /// nobody has acted on it then, and if somebody has, it bears repetition.
    fn has_spare(&self, empty: bool) -> bool {
        empty && retry::is_idempotent(self.head.method.as_str())
    }

    fn version(&self) -> HttpVersion {
        match self.asked.version {
            Version::HTTP_2 => HttpVersion::Http2,
            _ => HttpVersion::Http1,
        }
    }

    /// The request as the next hop gets it. Keeps a copy of the head if it may be needed again.
    fn next_hop(
        &mut self,
        sanitised: &Sanitised,
        body: RequestBody,
        deadline: Option<std::time::Instant>,
        keep: bool,
    ) -> Request<RequestBody> {
        let headers = &mut self.head.headers;
        let headers = if keep {
            headers.clone()
        } else {
            std::mem::take(headers)
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.headers_mut() = headers;
        match self.version() {
            HttpVersion::Http1 => {
                *request.uri_mut() = self.head.uri.clone();
                request
                    .headers_mut()
                    .insert(header::HOST, sanitised.authority_value.clone());
            }
            HttpVersion::Http2 => {
                *request.version_mut() = Version::HTTP_2;
                *request.uri_mut() = with_authority(&self.head.uri, &sanitised.authority_value);
            }
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now().into_std());
            let headers = request.headers_mut();
            headers.insert(TIMEOUT_HEADER, timeout::milliseconds(left));
            if sanitised.grpc {
                headers.insert(timeout::GRPC_TIMEOUT, timeout::grpc_milliseconds(left));
            }
        }
        request
    }

    /// One try at one endpoint.
    async fn attempt(
        &mut self,
        endpoint: &Arc<Endpoint>,
        request: Request<RequestBody>,
        exchange: &Exchange,
        limit: Option<Duration>,
        deadline: Option<std::time::Instant>,
    ) -> Result<Answer, Failed> {
        let sent = endpoint.send(request, self.version(), exchange.connect_timeout);
        match timeout::within(limit, sent).await {
            Ok(Ok(answer)) => {
                self.record.connect = answer.connect;
                self.record.dst.clone_from(&answer.peer);
                Ok(answer)
            }
            Ok(Err(failure)) => {
                if let Failure::Connect(ConnectError::Tls(reason)) | Failure::Tls(reason) = failure
                {
                    self.connection
                        .plane
                        .metrics
                        .handshake_failed("client", reason);
                }
                Err(failed(failure))
            }
            Err(_elapsed) if deadline.is_some_and(|at| at <= Instant::now().into_std()) => {
                self.record.count_timeout("request");
                Err(Failed {
                    cause: None,
                    reason: Reason::RequestTimeout,
                    stale: false,
                })
            }
            Err(_elapsed) => {
                self.record.count_timeout("per_try");
                Err(Failed {
                    cause: Some(retry::Failure::PerTryTimeout),
                    reason: Reason::PerTryTimeout,
                    stale: false,
                })
            }
        }
    }

    /// What of this answer is a reason to try again, if policy has attempts for it.
    fn judge(&self, answer: &Answer, policy: &retry::RetryPolicy) -> Option<retry::Failure> {
        // With a single attempt in all, a failure is just an answer.
        if policy.attempts() == 1 {
            return None;
        }
        let head = &answer.response;
        let cause = match grpc_status(head.headers()).filter(|_| self.asked.grpc) {
            Some(status) => retry::Failure::GrpcStatus(status),
            None => retry::Failure::Status(head.status().as_u16()),
        };
        let idempotent = retry::is_idempotent(self.head.method.as_str());
        policy.retries(cause, idempotent).then_some(cause)
    }

    fn count_retry(&self, tries: &RetryState<'_>, well: bool) {
        if tries.tries() > 1 {
            self.connection.plane.metrics.retried(well);
        }
    }

    /// The client's body ended in an error: either its bytes were refused or it went away.
    fn broken_body(self) -> Reply {
        match self.connection.wire.violation() {
            Some(rule) => self.refuse(Refusal::Rule(rule)),
            None => self.reply(Reason::ClientDisconnect),
        }
    }

    /// Passes an answer on; the exchange is over when its body is.
    fn pass_on(
        self,
        answer: Answer,
        exchange: &Exchange,
        deadline: Option<std::time::Instant>,
        reason: Option<Reason>,
    ) -> Reply {
        let Answer { response, slot, .. } = answer;
        let (mut head, body) = response.into_parts();
        let from = match self.connection.side {
            Side::Outbound => Sender::MeshPeer,
            Side::Inbound(_) => Sender::Application,
        };
        if sanitise::sanitise_answer(&mut head, from).is_err() {
            return self.reply(Reason::UpstreamProtocolError);
        }
        head.extensions.clear();
        self.close_unless_read(&mut head.headers);
        let (grpc, mut record) = (self.asked.grpc, self.record);
        record.answered(head.status, &head.headers);
        if let Some(reason) = reason {
            record.end(Some(reason));
        }
        let clock = if is_stream(&head.headers, grpc) {
            let until = exchange.max_duration.map(|max| record.started() + max);
            BodyClock::new(until, exchange.stream_idle)
        } else {
            BodyClock::new(deadline.map(Instant::from_std), None)
        };
        if self.asked.version != Version::HTTP_2 {
            self.connection.wire.answer(clock.until());
        } else if let Some(until) = clock.until() {
            stream::end_at(until);
        }
        let body = Upstream::new(body, clock, slot, record);
        Response::from_parts(head, ResponseBody::Upstream(body))
    }
}

/// Picks an endpoint of the destination, or of the first of its substitutes that has one.
fn pick(
    tables: &Tables,
    destination: &Destination,
    port: u16,
    tried: &[Arc<Endpoint>],
) -> Option<Arc<Endpoint>> {
    let mut rng = rand::rng();
    let targets = std::iter::once(&destination.target).chain(&destination.otherwise);
    targets
        .into_iter()
        .find_map(|target| tables.group(target, port)?.pick(tried, &mut rng))
}

fn failed(failure: Failure) -> Failed {
    use retry::Failure as Cause;
    let (cause, reason) = match failure {
        Failure::Connect(ConnectError::Tcp | ConnectError::Http2) => {
            (Cause::Connect, Reason::ConnectFailure)
        }
        Failure::Connect(ConnectError::Timeout) => (Cause::Connect, Reason::ConnectTimeout),
        Failure::Connect(ConnectError::Tls(_)) | Failure::Tls(_) => {
            (Cause::Connect, Reason::TlsFailure)
        }
        Failure::Unsent => (Cause::ResetBeforeRequest, Reason::UpstreamReset),
        Failure::Reset | Failure::Stale => (Cause::Reset, Reason::UpstreamReset),
        Failure::Refused => (Cause::Refused, Reason::UpstreamReset),
        Failure::Protocol => (Cause::Reset, Reason::UpstreamProtocolError),
    };
    Failed {
        cause: Some(cause),
        reason,
        stale: failure == Failure::Stale,
    }
}

/// What is said of an answer that was a reason to try again and is passed on all the same.
fn given_up(stop: Stop, tries: u32) -> Option<Reason> {
    match stop {
        Stop::Budget => Some(Reason::BudgetExhausted),
        Stop::Attempts if tries > 1 => Some(Reason::RetryLimit),
        Stop::Attempts | Stop::NotRetryable | Stop::Deadline => None,
    }
}

/// Streams are not bound by the timeout once they have begun (design.md, Time).
fn is_stream(headers: &HeaderMap, grpc: bool) -> bool {
    grpc || headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// HTTP/2 carries the host in its target.
fn with_authority(target: &Uri, authority: &HeaderValue) -> Uri {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = uri::Authority::try_from(authority.as_bytes()).ok();
    parts.path_and_query = target.path_and_query().cloned();
    Uri::from_parts(parts).expect("scheme, authority and path were parsed before")
}

/// How this proxy waits for its own application: as long as the caller does.
fn to_application() -> Exchange {
    Exchange {
        timeout: None,
        connect_timeout: limits::APPLICATION_CONNECT_TIMEOUT,
        retry: mesh_bundle::slice::Retry {
            attempts: 1,
            causes: Vec::new(),
            per_try: None,
            any_method: false,
            backoff_base: Duration::ZERO,
            backoff_max: Duration::ZERO,
        },
        stream_idle: None,
        max_duration: None,
        ..Exchange::default()
    }
}
