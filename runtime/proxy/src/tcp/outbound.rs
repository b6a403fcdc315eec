//! A connection of bytes into the mesh: from the local application, or from a client of a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::Target;
use mesh_daemon::identity::Usage;
use mesh_daemon::telemetry::Reason;
use mesh_engine::breaker::Counted;
use mesh_engine::outlier::Outcome;
use mesh_engine::preface::{Answer, Preface};
use mesh_engine::retry::{self, Bounds, Next, RetryState, Stop};
use mesh_engine::{Peer, Snapshot};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::downstream::{Prefixed, Socket, reset};
use super::passing::{Ended, Passing};
use super::pulse::Watched;
use super::record::Record;
use super::watch::{Changes, Cut};
use super::{Known, inbound, peer};
use crate::data_plane::Plane;
use crate::http::metrics::Reporter;
use crate::http::timeout::within;
use crate::limits;
use crate::listener::Leaving;
use crate::tables::{Place, Tables};
use crate::upstream::connect::{ConnectError, Connected};
use crate::upstream::endpoints::Picked;
use crate::upstream::gate;
use crate::upstream::pool::{Endpoint, Running};

mod course;

pub(crate) use course::Toward;
use course::{Course, Gate};

/// Someone who connected.
#[derive(Debug)]
pub(crate) struct Client<D> {
    /// The bytes.
    pub(crate) io: D,
    /// What has been read of them.
    pub(crate) prefix: Vec<u8>,
    /// From where it comes.
    pub(crate) address: SocketAddr,
}

/// A connection that may pass.
struct Established {
    reached: Reached,
    gate: Gate,
    name: String,
    idle: Duration,
    longest: Option<Duration>,
}

/// An endpoint that has accepted.
struct Reached {
    connected: Connected,
    _running: Running,
    /// Of the destination's connections.
    _allowed: Option<gate::Place>,
}

/// Why an endpoint was not reached, and what that is to retries.
#[derive(Clone, Copy)]
struct Missed {
    cause: Option<retry::Failure>,
    reason: Reason,
}

/// Carries a connection to whatever is meant by it, and to its end.
pub(crate) async fn carry<D>(client: Client<D>, toward: Toward, plane: Arc<Plane>, drain: Leaving)
where
    D: AsyncRead + AsyncWrite + Socket + Unpin,
{
    let Client {
        io,
        prefix,
        address,
    } = client;
    let changes = Changes::new(plane.recheck(), &plane);
    let mut record = Record::begin(&plane, Reporter::Source, address.ip());
    record.seen = drain.seen();
    let mut downstream = Prefixed::new(Watched::new(io), prefix);
    let establishing = establish(&mut downstream, address, &toward, &plane, &mut record);
    // Most of what it takes is needed no more once it is done.
    let established = Box::pin(establishing).await;
    let Established {
        reached,
        gate,
        name,
        idle,
        longest,
    } = match established {
        Ok(established) => established,
        Err(reason) => {
            // Whoever connected to the service itself would not have been let in at all.
            reset(&downstream);
            return record.end(Some(reason));
        }
    };
    let Connected { mut io, peer } = reached.connected;
    let meters = (&record.received, &record.sent);
    let passing = Passing::new(&mut downstream, &mut io, meters, Some(idle));
    let is_trusted = || {
        peer.as_ref().is_none_or(|peer| {
            let judged = plane.credentials().judge_again(&peer.chain, Usage::Server);
            judged.is_ok()
        })
    };
    let may_go_on = || gate.is_open(&plane, &name, address.ip());
    let ended = changes
        .watch(&plane, passing, longest, is_trusted, may_go_on)
        .await;
    match &ended {
        Ok(Ended::Whole) => {}
        Ok(Ended::Downstream(_)) => reset(&io),
        Ok(Ended::Upstream(_)) => reset(&downstream),
        Ok(Ended::Idle) | Err(_) => {
            reset(&io);
            reset(&downstream);
        }
    }
    match ended {
        Ok(ended) => record.ended(&ended),
        Err(Cut(reason)) => {
            tracing::info!(peer = %address, %reason, "connection cut");
            record.end(Some(reason));
        }
    }
    drop(drain);
}

async fn establish<D>(
    downstream: &mut Prefixed<D>,
    address: SocketAddr,
    toward: &Toward,
    plane: &Arc<Plane>,
    record: &mut Record,
) -> Result<Established, Reason>
where
    D: AsyncRead + Unpin,
{
    let tables = plane.tables().ok_or(Reason::NoConfig)?;
    tables.generation().clone_into(&mut record.generation);
    record.src = Some(Arc::new(tables.snapshot().identity().clone()));
    let trace = record.follow(&tables, None);
    if plane.is_denying() {
        return Err(Reason::AuthzDenied);
    }
    if plane.running() > plane.limits.requests {
        plane.metrics.limit_reached("requests");
        return Err(Reason::OverloadShed);
    }
    let mut prefix = downstream.take_prefix();
    let name = course::name(
        downstream,
        &mut prefix,
        toward,
        &tables,
        plane.limits.first_byte_timeout,
    )
    .await
    .map_err(|no_hello| no_hello.map_or(Reason::NoRoute, |no| no.reason(plane)))?;
    record.name.clone_from(&name);
    let course = course::choose(&tables, toward, &name, address.ip(), record)?;
    let reached = reach(&tables, &course, (&prefix, trace.as_deref()), plane, record).await?;
    record.received.count(prefix.len());
    record.dst = reached
        .connected
        .peer
        .as_ref()
        .map(|peer| Arc::clone(&peer.identity));
    Ok(Established {
        reached,
        name,
        idle: course
            .exchange
            .idle
            .unwrap_or(plane.limits.bytes_idle_timeout),
        longest: course.exchange.max_duration,
        gate: course.gate,
    })
}

/// Tries endpoints until one accepts. Nothing that a client could notice has happened before that.
async fn reach(
    tables: &Tables,
    course: &Course<'_>,
    (prefix, trace): (&[u8], Option<&str>),
    plane: &Plane,
    record: &mut Record,
) -> Result<Reached, Reason> {
    let started = record.started().into_std();
    let exchange = course.exchange;
    let deadline = retry::deadline(started, exchange.timeout, None);
    // Connecting is as good as idempotent.
    let mut tries = RetryState::new(course.retry, "GET", deadline);
    let _counted = course.budget.map(|budget| budget.request(started));
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut permit = None;
    loop {
        record.attempts = tries.tries();
        let (picked, place) = pick(tables, course, &tried).ok_or(Reason::NoHealthyUpstream)?;
        let endpoint = &picked.endpoint;
        let allowed = match picked.room() {
            None => None,
            Some(room) => match room.gate.connect() {
                None => {
                    room.group.pool().refused(Counted::Connections);
                    return Err(Reason::Overflow);
                }
                allowed => allowed,
            },
        };
        record.upstream = Some(endpoint.address());
        let preface = Preface {
            service: place.callee.service().into(),
            port: place.port,
            trace: trace.map(Into::into),
        };
        let trying = Instant::now();
        let limit = tries.try_timeout(trying.into_std());
        let open = open(
            endpoint,
            &preface,
            prefix,
            exchange.connect_timeout,
            allowed,
        );
        let missed = match within(limit, open).await {
            Ok(Ok(reached)) => {
                record.connect = Some(trying.elapsed());
                record.tried(trying, Ok(()));
                picked.observe(Outcome::Status(200), Some(trying.elapsed()));
                if tries.tries() > 1 {
                    plane.metrics.retried(true);
                }
                return Ok(reached);
            }
            Ok(Err(missed)) => missed.0.counted(missed.1, plane),
            Err(_elapsed) => {
                plane.metrics.timed_out("connect");
                Missed::at_connect(Reason::ConnectTimeout)
            }
        };
        record.tried(trying, Err(missed.reason));
        if tries.tries() > 1 {
            plane.metrics.retried(false);
        }
        drop(permit.take());
        if missed.cause.is_some() {
            picked.observe(Outcome::NoAnswer, None);
        }
        let Some(cause) = missed.cause else {
            return Err(missed.reason);
        };
        let now = Instant::now().into_std();
        let gate = picked.pool().and_then(|pool| pool.gate());
        let bounds = Bounds {
            budget: course.budget,
            breaker: gate.map(|gate| gate.breaker()),
            ..Bounds::default()
        };
        let next = tries.next(cause, now, bounds, &mut rand::rng());
        match next {
            Next::Retry {
                after,
                permit: granted,
            } => {
                permit = Some(granted);
                tried.push(picked.endpoint);
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
            }
            Next::Stop(stop) => {
                if stop == Stop::Budget {
                    plane.metrics.budget_exhausted.inc();
                }
                return Err(missed.reason);
            }
        }
    }
}

/// Picks an endpoint of the destination, or of the first of its substitutes that has one.
fn pick<'t>(
    tables: &'t Tables,
    course: &Course<'t>,
    tried: &[Arc<Endpoint>],
) -> Option<(Picked, Place<'t>)> {
    let to = course.destination.as_ref();
    if let Some((endpoint, callee)) = &course.pinned {
        let port = course.port;
        let itself = Target {
            service: callee.service().to_owned(),
            subset: None,
            port: Some(port),
        };
        let picked = tables.pinned_of(endpoint, &itself, port);
        return Some((picked, Place { callee, port }));
    }
    tables.pick(to, course.port, tried, None)
}

/// Whether an endpoint takes connections for a port of a service.
pub(crate) async fn accepts(
    endpoint: &Arc<Endpoint>,
    service: &str,
    port: u16,
    limit: Duration,
) -> bool {
    let preface = Preface {
        service: service.into(),
        port,
        trace: None,
    };
    open(endpoint, &preface, &[], limit, None).await.is_ok()
}

/// One try at one endpoint.
async fn open(
    endpoint: &Arc<Endpoint>,
    preface: &Preface<'_>,
    prefix: &[u8],
    limit: Duration,
    allowed: Option<gate::Place>,
) -> Result<Reached, (Missed, Option<ConnectError>)> {
    let refused = |error: ConnectError| (Missed::connecting(error), Some(error));
    let (mut connected, running) = endpoint.open(limit).await.map_err(refused)?;
    if !endpoint.is_meshed() {
        let written = connected.io.write_all(prefix).await;
        written.map_err(|_broken| refused(ConnectError::Tcp))?;
        return Ok(Reached {
            connected,
            _running: running,
            _allowed: allowed,
        });
    }
    let none = (Missed::at_connect(Reason::UpstreamProtocolError), None);
    let preface = preface.encode().map_err(|_no_name| none)?;
    let asking = peer::ask(&mut connected.io, &preface, prefix);
    let answer = timeout(limits::ANSWER_TIMEOUT, asking)
        .await
        .unwrap_or(Err(ConnectError::Timeout))
        .map_err(refused)?;
    match Missed::by_answer(answer) {
        None => Ok(Reached {
            connected,
            _running: running,
            _allowed: allowed,
        }),
        Some(missed) => Err((missed, None)),
    }
}

impl Missed {
    fn at_connect(reason: Reason) -> Self {
        Self {
            cause: Some(retry::Failure::Connect),
            reason,
        }
    }

    fn connecting(error: ConnectError) -> Self {
        Self::at_connect(match error {
            ConnectError::Tcp | ConnectError::Http2 => Reason::ConnectFailure,
            ConnectError::Timeout => Reason::ConnectTimeout,
            ConnectError::Tls(_) => Reason::TlsFailure,
        })
    }

    /// None: the endpoint has accepted.
    fn by_answer(answer: Answer) -> Option<Self> {
        let for_good = |reason| Self {
            cause: None,
            reason,
        };
        Some(match answer {
            Answer::Accepted => return None,
            Answer::Denied => for_good(Reason::AuthzDenied),
            Answer::NoSuchPort => for_good(Reason::NoRoute),
            Answer::Malformed => for_good(Reason::UpstreamProtocolError),
            Answer::ConnectTimeout => Self::at_connect(Reason::ConnectTimeout),
            Answer::ConnectFailure | Answer::Unavailable => {
                Self::at_connect(Reason::ConnectFailure)
            }
        })
    }

    fn counted(self, error: Option<ConnectError>, plane: &Plane) -> Self {
        if let Some(ConnectError::Tls(reason)) = error {
            plane.metrics.handshake_failed("client", reason);
        }
        self
    }
}

impl Gate {
    /// Whether the newest policy lets the connection go on.
    fn is_open(&self, plane: &Plane, name: &str, peer_ip: std::net::IpAddr) -> bool {
        let Some(tables) = plane.tables().filter(|_| !plane.is_denying()) else {
            return false;
        };
        let snapshot = tables.snapshot();
        match self {
            Self::Callee => true,
            Self::External { service, port } => {
                may_leave(snapshot, (service, *port), name, peer_ip)
            }
            Self::Gateway {
                port,
                client_ip,
                leaves,
            } => {
                let enters = snapshot.inbound(*port).is_some_and(|table| {
                    let known = Known {
                        port: *port,
                        name,
                        peer: Peer::Unauthenticated,
                        peer_ip,
                        client_ip: *client_ip,
                    };
                    inbound::authorise(None, table, known)
                });
                let leaves = leaves.as_ref();
                enters
                    && leaves.is_none_or(|(service, port)| {
                        may_leave(snapshot, (service, *port), name, peer_ip)
                    })
            }
        }
    }
}

/// Whether bytes of this workload may go to a port of a service outside the mesh.
fn may_leave(
    snapshot: &Snapshot,
    (service, port): (&str, u16),
    name: &str,
    peer_ip: std::net::IpAddr,
) -> bool {
    let known = Known {
        port,
        name,
        peer: Peer::Identity(snapshot.identity()),
        peer_ip,
        client_ip: peer_ip,
    };
    let leaves = snapshot.callee(service).and_then(|callee| {
        known.ask(|connection| {
            let verdict = snapshot.leave_with_bytes(callee, connection);
            verdict.is_none_or(|verdict| verdict.is_allowed())
        })
    });
    leaves.unwrap_or(false)
}
