//! A connection of bytes from a peer to the local application.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_bundle::slice::{Protocol, RequirementKind};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::Usage;
use mesh_daemon::telemetry::Reason;
use mesh_engine::preface::Answer;
use mesh_engine::{InboundTable, Peer};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::downstream::{Prefixed, Socket, reset};
use super::hello::{self, NoHello};
use super::passing::{Ended, Passing};
use super::peer::{Asked, NoPreface, read_preface};
use super::pulse::Watched;
use super::record::Record;
use super::watch::{Changes, Cut};
use super::{Known, carries_bytes};
use crate::data_plane::Plane;
use crate::http::metrics::{AuthzCounters, Reporter, Tls};
use crate::limits;
use crate::listener::{Leaving, linger};
use crate::upstream::connect::{ConnectError, UpstreamIo};
use crate::upstream::pool::{Endpoint, Running};

/// A peer, and the port that it came to.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Who it is; none: it came in plaintext.
    pub(crate) identity: Option<Arc<SpiffeId>>,
    /// To judge it again; empty where it is nobody.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// From where it comes.
    pub(crate) address: SocketAddr,
    /// The port that policy speaks of.
    pub(crate) port: u16,
    /// Where the application listens.
    pub(crate) application: Arc<Endpoint>,
}

/// Why a connection goes no further, as the caller's proxy and as our own record are told.
struct Refused(Answer, Reason);

/// A connection that may pass.
struct Admitted {
    upstream: UpstreamIo,
    _running: Running,
    service: String,
    name: String,
    /// What was read of the client.
    prefix: Vec<u8>,
}

/// Lets a peer's connection in, and carries it to its end. `trust` is from before the handshake.
pub(crate) async fn admit<D>(
    mut stream: Prefixed<D>,
    caller: Caller,
    plane: Arc<Plane>,
    changes: Changes,
    drain: Leaving,
) where
    D: AsyncRead + AsyncWrite + Socket + Unpin,
{
    let mut record = Record::begin(&plane, Reporter::Destination, caller.address.ip());
    record.seen = drain.seen();
    if let (Some(seen), Some(identity)) = (&record.seen, &caller.identity) {
        seen.is_of(identity);
    }
    record.src.clone_from(&caller.identity);
    let admitted = match Box::pin(accept(&mut stream, &caller, &plane, &mut record)).await {
        Ok(admitted) => admitted,
        Err(Refused(answer, reason)) => {
            record.end(Some(reason));
            drop(record);
            if caller.identity.is_none() {
                return reset(&stream);
            }
            if stream.write_all(&[answer.to_byte()]).await.is_ok() {
                linger(stream).await;
            }
            return;
        }
    };
    let Admitted {
        mut upstream,
        _running,
        service,
        name,
        prefix,
    } = admitted;
    let mut downstream = Prefixed::new(Watched::new(stream), prefix);
    let (idle, longest) = (plane.limits.bytes_idle_timeout, None);
    let meters = (&record.received, &record.sent);
    let passing = Passing::new(&mut downstream, &mut upstream, meters, Some(idle));
    let is_trusted = || {
        let judge = || {
            plane
                .credentials()
                .judge_again(&caller.chain, Usage::Client)
        };
        caller.identity.is_none() || judge().is_ok()
    };
    let may_go_on = || may_enter(&plane, &caller, &service, &name, false) == Some(true);
    let ended = changes
        .watch(&plane, passing, longest, is_trusted, may_go_on)
        .await;
    match &ended {
        Ok(Ended::Whole) => {}
        Ok(Ended::Downstream(_)) => reset(&upstream),
        Ok(Ended::Upstream(_)) => reset(&downstream),
        Ok(Ended::Idle) | Err(_) => {
            reset(&upstream);
            reset(&downstream);
        }
    }
    match ended {
        Ok(ended) => record.ended(&ended),
        Err(Cut(reason)) => {
            tracing::info!(peer = %caller.address, %reason, "connection cut");
            record.end(Some(reason));
        }
    }
    drop(drain);
}

async fn accept<D>(
    stream: &mut Prefixed<D>,
    caller: &Caller,
    plane: &Arc<Plane>,
    record: &mut Record,
) -> Result<Admitted, Refused>
where
    D: AsyncRead + AsyncWrite + Unpin,
{
    let malformed = |rule: &'static str| {
        plane.metrics.rejected_bytes(rule);
        Refused(Answer::Malformed, Reason::BadRequest(rule))
    };
    let is_mesh = caller.identity.is_some();
    let Asked {
        service,
        port,
        trace,
    } = if is_mesh {
        let read = timeout(plane.limits.first_byte_timeout, read_preface(stream)).await;
        match read {
            Ok(Ok(asked)) => asked,
            Ok(Err(NoPreface::Io(_))) => {
                return Err(Refused(Answer::Malformed, Reason::ClientDisconnect));
            }
            Ok(Err(NoPreface::Refused(error))) => {
                tracing::debug!(peer = %caller.address, %error, "preface refused");
                return Err(malformed("preface"));
            }
            Err(_elapsed) => return Err(malformed("preface_timeout")),
        }
    } else {
        // It knows of no mesh, so the port alone says what it wants.
        let tables = plane.tables();
        let table = tables
            .as_ref()
            .and_then(|tables| tables.snapshot().inbound(caller.port));
        let service = table.map(|table| table.service().to_owned());
        Asked {
            service: service.unwrap_or_default(),
            port: caller.port,
            trace: None,
        }
    };
    let protocol = find(caller, (&service, port), plane, record)?;
    let tls = if is_mesh { Tls::Mutual } else { Tls::None };
    let tables = plane.tables();
    let identity = tables.as_ref().map(|tables| tables.snapshot().identity());
    record.found(&service, protocol, tls, identity);
    if let Some(tables) = &tables {
        record.follow(tables, trace.as_deref());
    }
    let mut prefix = stream.take_prefix();
    let mut name = String::new();
    if protocol == Protocol::Tls {
        name = match hello::server_name(stream, &mut prefix, plane.limits.first_byte_timeout).await
        {
            Ok(name) => name,
            Err(NoHello::Gone) => {
                return Err(Refused(Answer::Malformed, Reason::ClientDisconnect));
            }
            Err(no_hello) => return Err(malformed(no_hello.rule())),
        };
        record.name.clone_from(&name);
    }
    let may_enter = may_enter(plane, caller, &service, &name, true);
    let allowed = may_enter.ok_or(Refused(Answer::NoSuchPort, Reason::NoRoute))?;
    if !allowed {
        return Err(Refused(Answer::Denied, Reason::AuthzDenied));
    }
    record.upstream = Some(caller.application.address());
    record.attempts = 1;
    let started = Instant::now();
    let opened = caller
        .application
        .open(limits::APPLICATION_CONNECT_TIMEOUT)
        .await;
    let opened = opened.map_err(|error| match error {
        ConnectError::Timeout => Refused(Answer::ConnectTimeout, Reason::ConnectTimeout),
        _ => Refused(Answer::ConnectFailure, Reason::ConnectFailure),
    });
    let ended = opened.as_ref().map(|_| ()).map_err(|refused| refused.1);
    record.tried(started, ended);
    let (connected, running) = opened?;
    record.connect = Some(started.elapsed());
    let accepted = async {
        if !is_mesh {
            return Ok(());
        }
        stream.write_all(&[Answer::Accepted.to_byte()]).await?;
        stream.flush().await
    };
    let gone = Refused(Answer::Malformed, Reason::ClientDisconnect);
    accepted.await.map_err(|_broken| gone)?;
    Ok(Admitted {
        upstream: connected.io,
        _running: running,
        service,
        name,
        prefix,
    })
}

/// What the port speaks that a caller asks for; it must be the one that it came to.
fn find(
    caller: &Caller,
    (service, port): (&str, u16),
    plane: &Plane,
    record: &mut Record,
) -> Result<Protocol, Refused> {
    let Some(tables) = plane.tables() else {
        return Err(Refused(Answer::Unavailable, Reason::NoConfig));
    };
    tables.generation().clone_into(&mut record.generation);
    if plane.running() > plane.limits.requests {
        plane.metrics.limit_reached("requests");
        return Err(Refused(Answer::Unavailable, Reason::OverloadShed));
    }
    let table = tables.snapshot().inbound(caller.port);
    let found = table
        .filter(|table| table.service() == service && port == caller.port)
        .and_then(|table| table.port(port))
        .filter(|port| carries_bytes(Some(*port)));
    let found = found.ok_or(Refused(Answer::NoSuchPort, Reason::NoRoute))?;
    Ok(found.protocol)
}

/// Whether the newest policy lets the connection in. None: the port is no longer that of the service, or no
/// longer carries bytes. It is `counted` once, when the connection comes.
fn may_enter(
    plane: &Plane,
    caller: &Caller,
    service: &str,
    name: &str,
    counted: bool,
) -> Option<bool> {
    let tables = plane.tables()?;
    let table = tables.snapshot().inbound(caller.port)?;
    if table.service() != service || !carries_bytes(table.port(caller.port)) {
        return None;
    }
    let known = Known {
        port: caller.port,
        name,
        peer: caller
            .identity
            .as_ref()
            .map_or(Peer::Unauthenticated, |identity| Peer::Identity(identity)),
        peer_ip: caller.address.ip(),
        client_ip: caller.address.ip(),
    };
    let counters = counted.then(|| tables.authz(table.service()));
    Some(!plane.is_denying() && authorise(counters, table, known))
}

/// Whether a connection may enter by these rules. Nobody can bring a token, or be asked about, where there
/// are only bytes: who requires it there lets nobody in.
pub(super) fn authorise(
    counters: Option<&AuthzCounters>,
    table: &InboundTable,
    known: Known<'_>,
) -> bool {
    let allowed = known.ask(|connection| {
        if let Some(counters) = counters {
            for rule in table.rules().audit_hits_of_connection(connection) {
                counters.took(rule);
            }
        }
        let mut requirements = table.requirements(connection, None);
        let asks_more =
            requirements.any(|each| !matches!(each.kind, RequirementKind::AcceptJwt(_)));
        let verdict = table.authorise_connection(connection);
        match counters {
            Some(counters) if asks_more => counters.denied(),
            Some(counters) => counters.decided(verdict),
            None => {}
        }
        verdict.is_allowed() && !asks_more
    });
    allowed.unwrap_or(false)
}
