//! One request from head to answer, read from top to bottom:
//!
//! record → overload → sanitise → snapshot
//!   from the application, a mesh peer or a gateway's client: `outbound.rs`, `inbound.rs`, `gateway.rs`
//!   endpoint → try, and try again: `forward.rs`
//!   answer: `answer.rs`
//!
//! Every decision is the engine's; what is here is their order. Whatever returns early does so
//! through `local_reply`, and the record is written when the answer's body has ended.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{HeaderMap, Request, Response, StatusCode, Version, header, request};
use hyper::body::{Body, Incoming};
use mesh_bundle::slice::{Protocol, Upgrade};
use mesh_daemon::telemetry::Reason;
use mesh_engine::jwt::Tokens;
use mesh_engine::path::{self, Accepts};
use mesh_engine::{GatewayTable, HeaderView, InboundTable, Peer, trace};

use super::body::copied::{Copied, CopySender};
use super::body::{Downstream, Replay, ReplayHandle, RequestBody, ResponseBody, Transfer};
use super::local_reply::{self, Asked};
use super::record::Record;
use super::sanitise::{Rule, Sanitised, Sender, sanitise};
use super::server::{Connection, Inbound, Side};
use super::upgrade::entry::Entry;
use super::upgrade::{self, Wanted};
use crate::tables::{OF_CALLS, Tables};
use crate::upstream::connect::HttpVersion;

mod access;
mod affinity;
mod answer;
mod attempt;
mod filters;
mod forward;
mod gateway;
mod hedge;
mod inbound;
mod mirror;
mod outbound;
mod spare;
mod wish;

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
        accepts: Accepts::default(),
        cookies: Vec::new(),
        head,
        record,
        tokens: None,
        waits: false,
        upgrade,
        entry: None,
    };
    let version = exchange.asked.version;
    // Over HTTP/1 the bytes are timed where they are read.
    let patience =
        (version == Version::HTTP_2).then_some(connection.plane.limits.body_idle_timeout);
    let body = OutgoingBody::new(body, &mut exchange.record, patience);
    if let Some(refused) = connection.wire.refused_head() {
        if refused.has_no_line() {
            exchange.record.unread();
        }
        return Ok(exchange.refuse(Refusal::Rule(refused.rule)));
    }
    let plane = &connection.plane;
    let tables = plane.tables();
    let sanitised = match exchange.sanitise(tables.as_deref()) {
        Ok(sanitised) => sanitised,
        Err(refusal) => return Ok(exchange.refuse(refusal)),
    };
    let Some(tables) = tables else {
        return Ok(exchange.reply(Reason::NoConfig));
    };
    exchange.follow(&tables);
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
    /// What the path may hold until it is known who takes it.
    accepts: Accepts,
    /// By which the client will be known again, which its answer tells it.
    cookies: Vec<String>,
    head: request::Parts,
    record: Box<Record>,
    /// Whether the client sends its body only when it is told to go on.
    waits: bool,
    /// What it brings for token providers, where it is asked for any.
    tokens: Option<Box<Tokens>>,
    /// What the client wants to become of its connection.
    upgrade: Option<Wanted>,
    /// How that was let in.
    entry: Option<Box<Entry>>,
}

/// The client's body, until it is known whether it must be kept.
struct OutgoingBody {
    body: Option<Incoming>,
    transfer: Arc<Transfer>,
    /// Who gets a copy of it.
    copies: Vec<CopySender>,
    /// How long nothing of it may come.
    patience: Option<Duration>,
}

impl OutgoingBody {
    fn new(body: Incoming, record: &mut Record, patience: Option<Duration>) -> Self {
        let transfer = Arc::new(Transfer::default());
        if body.is_end_stream() {
            return Self {
                body: None,
                transfer,
                copies: Vec::new(),
                patience,
            };
        }
        record.transfer(Arc::clone(&transfer));
        Self {
            body: Some(body),
            transfer,
            copies: Vec::new(),
            patience,
        }
    }

    fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    /// A copy of it, as it comes; none: it is larger than this.
    fn copy(&mut self, bytes_max: Option<u64>) -> Option<RequestBody> {
        let Some(body) = &self.body else {
            return Some(RequestBody::Empty);
        };
        let hint = body.size_hint();
        if bytes_max.is_some_and(|max| hint.lower() > max) {
            return None;
        }
        let (sender, copy) = Copied::new(hint, bytes_max);
        self.copies.push(sender);
        Some(RequestBody::Copied(copy))
    }

    /// For one sending, or with a handle for more.
    fn start(self, may_retry: bool) -> (RequestBody, Option<ReplayHandle>) {
        let Some(body) = self.body else {
            return (RequestBody::Empty, None);
        };
        let body = Downstream::new(body, self.transfer, self.copies, self.patience);
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
    /// Notes the tables that decide, and where in a trace the request is, which the next hop is told.
    fn follow(&mut self, tables: &Arc<Tables>) {
        let entered = |port| {
            let table = tables.snapshot().inbound(port)?;
            tables.telemetry_of(table.service())
        };
        let telemetry = match &self.connection.side {
            Side::Outbound(_) => Some(OF_CALLS),
            Side::Inbound(inbound) => entered(inbound.port),
            Side::Gateway(entrance) => entered(entrance.port),
        };
        self.record.tables(Arc::clone(tables), telemetry);
        let held = telemetry.and_then(|at| tables.snapshot().telemetry().get(at));
        let share = held.and_then(|held| Some(held.traces()?.share));
        let followed = trace::follow(&mut self.head.headers, share, &mut rand::rng());
        let collector = telemetry.and_then(|at| tables.collector(at));
        let state = self.head.headers.get("tracestate");
        let state = state.map(HeaderValue::as_bytes).unwrap_or_default();
        self.record.follows(followed, collector, state);
    }

    /// Asks what may have the request logged, while it is at hand.
    fn consider_logging(&mut self, tables: &Tables, host: &str, port: u16, peer: Peer<'_>) {
        let telemetry = self.record.telemetry();
        let telemetry = telemetry.and_then(|at| tables.snapshot().telemetry().get(at));
        let log = telemetry.and_then(|telemetry| telemetry.log());
        let Some(log) = log.filter(|log| log.has_conditions()) else {
            return;
        };
        let candidates = self.ask(host, port, peer, |request| log.candidates(request));
        if let Ok(candidates) = candidates {
            self.record.candidates(candidates);
        }
    }

    /// What a path may hold for somebody who may take the request.
    fn acceptable(&self, tables: &Tables) -> Accepts {
        let snapshot = tables.snapshot();
        let accepts = match &self.connection.side {
            Side::Outbound(_) => Some(tables.path_accepts()),
            Side::Inbound(inbound) => snapshot
                .inbound(inbound.port)
                .map(InboundTable::path_accepts),
            Side::Gateway(entrance) => snapshot
                .inbound(entrance.port)
                .and_then(|table| snapshot.gateway(table.service()))
                .map(GatewayTable::path_accepts),
        };
        accepts.unwrap_or_default()
    }

    /// Refuses a path that holds what somebody accepts, but not whoever takes it.
    fn narrow_path(&self, accepts: Accepts) -> Result<(), Rule> {
        // Nearly nobody accepts anything, and then it was refused before.
        if self.accepts == accepts {
            return Ok(());
        }
        let path = path::normalise_accepting(self.head.uri.path(), self.accepts);
        let path = path.map_err(Rule::Path)?;
        accepts.allow(&path).map_err(Rule::Path)
    }

    fn sanitise(&mut self, tables: Option<&Tables>) -> Result<Sanitised, Refusal> {
        if self.connection.plane.running() > self.connection.plane.limits.requests {
            self.connection.plane.metrics.limit_reached("requests");
            return Err(Refusal::Reason(Reason::OverloadShed));
        }
        if !self.connection.plane.has_memory() {
            self.connection.plane.metrics.limit_reached("memory_bytes");
            return Err(Refusal::Reason(Reason::OverloadShed));
        }
        let sender = match &self.connection.side {
            Side::Outbound(_) => Sender::Application,
            Side::Inbound(Inbound { peer: Some(_), .. }) => Sender::MeshPeer,
            Side::Inbound(_) => Sender::Client { tls: false },
            Side::Gateway(entrance) => Sender::Client { tls: entrance.tls },
        };
        self.accepts = tables.map_or_else(Accepts::default, |tables| self.acceptable(tables));
        let limits = &self.connection.plane.limits;
        let sanitised = sanitise(&mut self.head, sender, limits, self.accepts);
        let sanitised = sanitised.map_err(Refusal::Rule)?;
        self.asked.grpc = sanitised.grpc;
        self.waits = sanitised.waits;
        self.record.grpc = sanitised.grpc;
        if sanitised.grpc {
            self.record.expect_messages();
        }
        self.authority.clone_from(&sanitised.authority_value);
        let authority = sanitised.authority_value.to_str().unwrap_or_default();
        self.record.normalised(authority, self.head.uri.path());
        if usize::from(sanitised.hops) >= self.connection.plane.limits.hops {
            self.connection.plane.metrics.limit_reached("hops");
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
        // A connection that is kept is what there may be too little room for.
        if reason == Some(Reason::OverloadShed) && self.asked.version != Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            reply.headers_mut().insert(header::CONNECTION, close);
        }
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
            accepts: self.accepts,
            peer_ip: self.connection.peer_ip,
            client_ip: self.client_ip,
            since: crate::access::tokens::now(),
        };
        self.entry = self.upgrade.as_ref().map(|_| Box::new(entry()));
    }

    /// What its tokens say, as far as they are good.
    fn claims(&self) -> Option<&dyn HeaderView> {
        let claims = self.tokens.as_ref()?.claims()?;
        Some(claims)
    }

    /// Asks the engine about this request. Its path is canonical already, so it reads as it is.
    fn ask<'a, T>(
        &'a self,
        host: &'a str,
        port: u16,
        peer: Peer<'a>,
        question: impl FnOnce(&mesh_engine::Request<'_>) -> T,
    ) -> Result<T, Rule> {
        let path = path::normalise_accepting(self.head.uri.path(), self.accepts);
        let path = path.map_err(Rule::Path)?;
        Ok(question(&mesh_engine::Request {
            method: self.head.method.as_str(),
            host,
            path: &path,
            query: self.head.uri.query().unwrap_or_default(),
            headers: &self.head.headers,
            claims: self.claims(),
            port,
            peer,
            peer_ip: Some(self.connection.peer_ip),
            client_ip: Some(self.client_ip),
        }))
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

    /// The client's body ended in an error: it is too large, its bytes were refused, or it went away.
    fn broken_body(self, transfer: &Transfer) -> Reply {
        if transfer.is_too_large() {
            return self.refuse(Refusal::Rule(Rule::BodyTooLarge));
        }
        if transfer.has_stalled() {
            return self.refuse(Refusal::Rule(Rule::BodyTimeout));
        }
        match self.connection.wire.broken_body() {
            Some(rule) => self.refuse(Refusal::Rule(rule)),
            None => self.reply(Reason::ClientDisconnect),
        }
    }
}
