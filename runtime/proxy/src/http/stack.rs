//! One request from head to answer, read from top to bottom:
//!
//! record → overload → sanitise → snapshot
//!   outbound: callee by destination or host → route → destination → endpoint → try, and try again → answer
//!   inbound:  service by port → authorise → application → answer
//!   gateway:  see `stack/gateway.rs`
//!
//! Every decision is the engine's; what is here is their order. Whatever returns early does so
//! through `local_reply`, and the record is written when the answer's body has ended. The sending is in
//! `forward.rs`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{HeaderMap, Request, Response, StatusCode, Version, header, request};
use hyper::body::{Body, Incoming};
use mesh_bundle::slice::{Destination, Exchange, Protocol, Target, Upgrade};
use mesh_daemon::telemetry::Reason;
use mesh_engine::retry;
use mesh_engine::{InboundTable, Peer, path};
use tokio::time::Instant;

use super::body::{Downstream, Replay, ReplayHandle, RequestBody, ResponseBody, Transfer};
use super::local_reply::{self, Asked};
use super::record::Record;
use super::sanitise::{PEER_HEADER, Rule, Sanitised, Sender, sanitise};
use super::server::{Connection, Inbound, Side};
use super::timeout::{self, Deadlines};
use super::upgrade::entry::Entry;
use super::upgrade::{self, Wanted};
use crate::limits;
use crate::tables::{Meant, Tables};
use crate::tcp;
use crate::upstream::connect::HttpVersion;
use crate::upstream::pool::Failure;

mod filters;
mod forward;
mod gateway;

use filters::{Seen, edits_of_answers};
use forward::{Way, failed};

type Reply = Response<ResponseBody>;

/// Answers one request.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let upgrade = upgrade::wanted(&mut request);
    let (head, body) = request.into_parts();
    let record = connection.begin(&head);
    let mut exchange = Exchanging {
        asked: Asked {
            version: head.version,
            grpc: false,
        },
        connection: &connection,
        authority: HeaderValue::from_static(""),
        client_ip: connection.peer_ip,
        hops: 0,
        head,
        record,
        upgrade,
        entry: None,
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
        Side::Outbound(outbound) => {
            let destination = outbound.destination;
            let sending = exchange.outbound(&tables, destination, &sanitised, body);
            sending.await
        }
        Side::Inbound(inbound) => exchange.inbound(&tables, inbound, &sanitised, body).await,
        Side::Gateway(entrance) => exchange.enter(&tables, entrance, &sanitised, body).await,
    };
    // HTTP/2 says so with GOAWAY, once for all streams.
    let goes_on = reply.status() == StatusCode::SWITCHING_PROTOCOLS;
    if plane.is_draining() && version != Version::HTTP_2 && !goes_on {
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
    /// The host that the next hop is told.
    authority: HeaderValue,
    /// Who the client is, as far as that is established.
    client_ip: IpAddr,
    /// How many proxies of callers the request has passed, this one included.
    hops: u16,
    head: request::Parts,
    record: Box<Record>,
    /// What the client wants to become of its connection.
    upgrade: Option<Wanted>,
    /// How that was let in.
    entry: Option<Box<Entry>>,
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

impl Exchanging<'_> {
    fn sanitise(&mut self) -> Result<Sanitised, Refusal> {
        if self.connection.plane.running() > limits::REQUESTS_MAX {
            return Err(Refusal::Reason(Reason::OverloadShed));
        }
        let sender = match &self.connection.side {
            Side::Outbound(_) => Sender::Application,
            Side::Inbound(Inbound { peer: Some(_), .. }) => Sender::MeshPeer,
            Side::Inbound(_) => Sender::Client { tls: false },
            Side::Gateway(entrance) => Sender::Client { tls: entrance.tls },
        };
        let sanitised = sanitise(&mut self.head, sender).map_err(Refusal::Rule)?;
        self.asked.grpc = sanitised.grpc;
        self.record.grpc = sanitised.grpc;
        self.authority.clone_from(&sanitised.authority_value);
        let authority = sanitised.authority_value.to_str().unwrap_or_default();
        self.record.normalised(authority, self.head.uri.path());
        if sanitised.hops >= limits::HOPS_MAX {
            return Err(Refusal::Reason(Reason::Loop));
        }
        let calls = !matches!(self.connection.side, Side::Inbound(_));
        self.hops = sanitised.hops + u16::from(calls);
        Ok(sanitised)
    }

    /// The proxy's own answer. The exchange is over.
    fn reply(self, reason: Reason) -> Reply {
        let reply = local_reply::reply(reason, self.asked);
        self.over(Some(reason), reply)
    }

    fn refuse(self, refusal: Refusal) -> Reply {
        let rule = match refusal {
            Refusal::Reason(reason) => return self.reply(reason),
            Refusal::Rule(rule) => rule,
        };
        self.connection.plane.metrics.rejected(rule);
        let reply = local_reply::refuse(rule, self.asked);
        self.over(Some(Reason::BadRequest(rule.as_str())), reply)
    }

    fn over(mut self, reason: Option<Reason>, mut reply: Reply) -> Reply {
        self.close_unless_read(reply.headers_mut());
        self.record.answered(reply.status(), reply.headers());
        let bytes = reply.body().size_hint().exact().unwrap_or(0);
        self.record
            .add_bytes_out(usize::try_from(bytes).unwrap_or(0));
        self.record.end(reason);
        reply
    }

    /// Takes back what the client wants to become if that is not allowed. Over HTTP/1.1 what is left is a request as
    /// any other; over HTTP/2 nothing is left of it.
    fn narrow_upgrade(
        &mut self,
        policy: Option<Upgrade>,
        protocol: Protocol,
    ) -> Result<(), Refusal> {
        let refused = self
            .upgrade
            .take_if(|wanted| !wanted.is_allowed(policy, protocol));
        if refused.is_some() && self.asked.version == Version::HTTP_2 {
            return Err(Refusal::Rule(Rule::Connect));
        }
        Ok(())
    }

    /// Tells a client whose request has not been read to its end that no other one will be: what is
    /// left of it stands in the way.
    fn close_unless_read(&self, headers: &mut HeaderMap) {
        if self.asked.version != Version::HTTP_2 && !self.record.request_has_ended() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Calls out on behalf of the application. `destination` is where it was going, if it does not know of
    /// the proxy: that says what is called, and the host only matches within it.
    async fn outbound(
        mut self,
        tables: &Arc<Tables>,
        destination: Option<SocketAddr>,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        let (host, named) = (sanitised.authority.host(), sanitised.authority.port());
        let meant = match destination {
            Some(address) => tables.meant(address, Some(host)),
            None => tables.snapshot().outbound(host, named).map(|callee| Meant {
                callee,
                port: callee.port(named),
                pinned: None,
            }),
        };
        let Some(Meant {
            callee,
            port,
            pinned,
        }) = meant
        else {
            return self.reply(Reason::AuthzDenied);
        };
        let (Some(port), Some(state)) = (port, tables.state(callee)) else {
            return self.reply(Reason::NoRoute);
        };
        self.record.edge = Some(Arc::clone(&state.no_route));
        if tcp::carries_bytes(Some(port)) {
            return self.reply(Reason::NoRoute);
        }
        let peer = Peer::Identity(tables.snapshot().identity());
        let leaving = self.ask(host, port.number, peer, |request| {
            let verdict = tables.snapshot().leave(callee, request)?;
            Some(verdict.is_allowed())
        });
        match leaving {
            Ok(None) => {}
            Ok(Some(allowed)) => {
                self.connection.plane.metrics.decided(allowed);
                if !allowed {
                    return self.reply(Reason::AuthzDenied);
                }
                self.remember(Some(callee.service()), host, port.number, peer);
            }
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        let route = match self.ask(host, port.number, peer, |request| callee.route(request)) {
            Ok(Some(route)) => route,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        if state.dialling.leaves() {
            self.address_outside(host, state.dialling.really(port.number));
        }
        if let Err(refusal) = self.narrow_upgrade(route.filters().upgrade, port.protocol) {
            return self.refuse(refusal);
        }
        let edge = state.edge(route);
        self.record.edge = Some(Arc::clone(&edge));
        let seen = Seen {
            host,
            port: port.number,
            peer,
            tls: false,
        };
        let mut edits = Vec::new();
        let filtered = self.filter(route, sanitised, seen, &mut edits).await;
        if let Err(ending) = filtered.and_then(|()| self.rewrite(route, seen)) {
            return self.end(ending);
        }
        // An endpoint that is called by its own address is not one of a choice.
        let itself = pinned.as_ref().map(|_| {
            Destination::only(Target {
                service: callee.service().to_owned(),
                subset: None,
                port: Some(port.number),
            })
        });
        let to = match &itself {
            Some(itself) => itself,
            None => match route.pick_destination(&mut rand::rng()) {
                Some(picked) => picked,
                None => return self.reply(Reason::NoRoute),
            },
        };
        self.edit(route, to);
        edits.splice(0..0, edits_of_answers(route, to));
        let subset = to.target.subset.as_deref();
        self.record.subset = subset.and_then(|name| edge.subset(name));
        let way = Way {
            destination: to,
            pinned,
            port: port.number,
            exchange: route.exchange(),
            retry: route.retry(),
            budget: state.budget.as_ref(),
            streaming: route.filters().streaming,
            edits,
        };
        self.forward(tables, sanitised, body, way).await
    }

    /// Lets a peer's request in.
    async fn inbound(
        mut self,
        tables: &Arc<Tables>,
        inbound: &Inbound,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        let identity = inbound.peer.as_ref().map(|peer| &peer.identity);
        self.record.src = identity.map(Arc::clone);
        let Some(table) = tables.snapshot().inbound(inbound.port) else {
            return self.reply(Reason::AuthzDenied);
        };
        self.record.edge = Some(self.connection.inbound_edge(inbound, table.service()));
        // Its rules are about connections, and are not asked about requests.
        let protocol = table.port(inbound.port).map(|port| port.protocol);
        if tcp::carries_bytes(table.port(inbound.port)) {
            return self.reply(Reason::NoRoute);
        }
        if let Err(refusal) = self.narrow_upgrade(None, protocol.unwrap_or(Protocol::Grpc)) {
            return self.refuse(refusal);
        }
        let peer = identity.map_or(Peer::Unauthenticated, |identity| Peer::Identity(identity));
        match self.authorise(table, sanitised.authority.host(), inbound.port, peer) {
            Ok(true) => {}
            Ok(false) => return self.reply(Reason::AuthzDenied),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        if let Some(peer) = &inbound.peer {
            let headers = &mut self.head.headers;
            headers.insert(PEER_HEADER, peer.header.clone());
        }

        let now = self.record.started().into_std();
        let asked = sanitised
            .grpc
            .then(|| timeout::grpc_timeout(&self.head.headers))
            .flatten();
        let deadline = retry::deadline(now, sanitised.time_left, asked);
        let deadlines = Deadlines {
            exchange: deadline,
            asked: asked.and_then(|asked| now.checked_add(asked)),
            streaming: sanitised.streaming,
        };
        let exchange = to_application();
        let transfer = Arc::clone(&body.transfer);
        let mut spare = self.has_spare(body.is_empty());
        let (mut sending, _) = body.start(false);
        self.record.upstream = Some(inbound.application.address());
        loop {
            self.record.attempts += 1;
            let request = self.next_hop(sending, deadlines, spare, false);
            let limit = deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now().into_std()));
            let sent = timeout::within(
                limit,
                inbound
                    .application
                    .send(request, self.version(false), exchange.connect_timeout),
            );
            match sent.await {
                Ok(Ok(answer)) => {
                    self.record.connect = answer.connect;
                    return self.pass_on(answer, &exchange, deadlines, &[], None);
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

    /// Whether the request may enter.
    fn authorise(
        &mut self,
        table: &InboundTable,
        host: &str,
        port: u16,
        peer: Peer<'_>,
    ) -> Result<bool, Rule> {
        let metrics = &self.connection.plane.metrics;
        let allowed = self.ask(host, port, peer, |request| {
            for _ in table.audit_hits(request) {
                metrics.audited.inc();
            }
            table.authorise(request).is_allowed()
        })?;
        metrics.decided(allowed);
        self.remember(None, host, port, peer);
        Ok(allowed)
    }

    /// Notes what was asked for a tunnel, if one is wanted.
    fn remember(&mut self, external: Option<&str>, host: &str, port: u16, peer: Peer<'_>) {
        let entry = || Entry {
            external: external.map(str::to_owned),
            port,
            peer: match peer {
                Peer::Identity(identity) => Some(Arc::new(identity.clone())),
                Peer::Unauthenticated => None,
            },
            host: host.to_owned(),
            head: self.head.clone(),
            peer_ip: self.connection.peer_ip,
            client_ip: self.client_ip,
        };
        self.entry = self.upgrade.as_ref().map(|_| Box::new(entry()));
    }

    /// The host as a server outside the mesh expects it: with the port that is really dialled, unless
    /// that is the one of the scheme (RFC 9110 section 7.2).
    fn address_outside(&mut self, host: &str, (port, tls): (u16, bool)) {
        let usual = if tls { 443 } else { 80 };
        let text = if port == usual {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        if let Ok(authority) = HeaderValue::try_from(text) {
            self.authority = authority;
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
            client_ip: Some(self.client_ip),
        }))
    }

    /// Whether the request may be sent once more, whatever policy says of retries, when the
    /// connection turns out to have been closed by its other end before (RFC 9112 section 9.3.1):
    /// nobody has acted on it then, and if somebody has, it bears repetition.
    fn has_spare(&self, empty: bool) -> bool {
        empty && retry::is_idempotent(self.head.method.as_str())
    }

    /// The version of the next hop. An application that speaks HTTP/2 expects it of its peers, but what a
    /// browser speaks says nothing of the services behind a gateway, nor does ours of a server outside
    /// the mesh: these have HTTP/1.1, and gRPC has none but HTTP/2.
    fn version(&self, leaves: bool) -> HttpVersion {
        let translates = leaves || matches!(self.connection.side, Side::Gateway(_));
        match self.asked.version {
            Version::HTTP_2 if !translates || self.asked.grpc => HttpVersion::Http2,
            _ => HttpVersion::Http1,
        }
    }

    /// The client's body ended in an error: either its bytes were refused or it went away.
    fn broken_body(self) -> Reply {
        match self.connection.wire.violation() {
            Some(rule) => self.refuse(Refusal::Rule(rule)),
            None => self.reply(Reason::ClientDisconnect),
        }
    }
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
