//! The connections that are kept to each endpoint, shared by all workers. One endpoint has one
//! pool, and an endpoint is an address together with the identities it may have, so a connection
//! is never handed to a request that trusts someone else.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_bundle::slice::Exchange;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::{Credentials, Usage};
use mesh_daemon::telemetry::TlsReason;
use mesh_engine::breaker::{Counted, Held};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::streams::{Http2Connection, Http2Pool, Load, Pick, Stream, Waiting};
use super::connect::{self, Carries, ConnectError, Connected, HttpVersion, Peer, Security};
use super::gate::{Gate, Place, Room};
use super::turns::{self, NoneMade, Turns};
use crate::aside::Aside;
use crate::http::body::RequestBody;
use crate::http::gather::ConnectionExecutor;
use crate::http::metrics::Tls;
use crate::limits::{self, Limits};

mod streams;

/// What the connections of all endpoints share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Judges peers again.
    pub(crate) credentials: Credentials,
    /// Changes whenever peers must be judged again.
    pub(crate) recheck: watch::Sender<()>,
    /// Bounds.
    pub(crate) limits: Arc<Limits>,
}

/// One address that can take requests, and the connections to it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    security: Security,
    shared: Arc<Shared>,
    /// Requests that are running on it.
    active: AtomicU32,
    /// The last returned is the first taken, so that the others grow old and go.
    http1: Mutex<turns::Idle<Http1Connection>>,
    turns: Turns,
    http2: Mutex<Http2Pool>,
}

#[derive(Debug)]
struct Http1Connection {
    sender: http1::SendRequest<RequestBody>,
    peer: Option<Peer>,
    ended: Ended,
    idle_since: Instant,
    /// How long it may lie unused, by the last route that used it.
    idle: Idle,
    terms: Terms<Place>,
}

/// What the destination's limits say of a connection; nothing of one that is not limited.
#[derive(Clone, Debug)]
struct Terms<P> {
    place: Option<P>,
    /// Requests that it may still take.
    left: Option<u32>,
}

/// A time in milliseconds, as policy has it: each answer that is passed on holds one.
#[derive(Clone, Copy, Debug)]
struct Idle(u32);

impl From<Duration> for Idle {
    fn from(idle: Duration) -> Self {
        Self(u32::try_from(idle.as_millis()).unwrap_or(u32::MAX))
    }
}

impl Idle {
    fn is_over(self, since: Instant) -> bool {
        since.elapsed() >= Duration::from_millis(u64::from(self.0))
    }
}

/// How long a connection may take to be made, and how long it is kept when nobody uses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until it is up, TLS included.
    connect: Duration,
    /// Without a request.
    idle: Idle,
}

impl From<&Exchange> for Times {
    fn from(exchange: &Exchange) -> Self {
        Self {
            connect: exchange.connect_timeout,
            idle: exchange.idle.unwrap_or(limits::POOL_IDLE_TIMEOUT).into(),
        }
    }
}

impl Times {
    /// Of a connection over which an endpoint is asked whether it lives.
    pub(super) fn of_check(limit: Duration) -> Self {
        Self {
            connect: limit,
            idle: limits::POOL_IDLE_TIMEOUT.into(),
        }
    }
}

/// Whether a connection has ended, and if so whether because the peer did not trust us.
type Ended = watch::Receiver<Option<Option<TlsReason>>>;

/// An answer has begun.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Head and body.
    pub(crate) response: Response<Incoming>,
    /// The connection that it comes on; to be kept until the body has ended.
    pub(crate) slot: Slot,
    /// Who answers.
    pub(crate) peer: Option<Arc<SpiffeId>>,
    /// How long a connection took, if one had to be made.
    pub(crate) connect: Option<Duration>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection.
    Connect(ConnectError),
    /// The connection broke before the request was on it.
    Unsent,
    /// The connection broke after the request was, at least in part, on it.
    Reset,
    /// The same on a connection that had lain idle, which its other end most likely closed
    /// before the request came.
    Stale,
    /// The endpoint refused the request before it looked at it.
    Refused,
    /// The same, because the connection was ending when the request came: another one takes it.
    LeftOut,
    /// The endpoint refused our certificate.
    Tls(TlsReason),
    /// What came is not HTTP.
    Protocol,
    /// There are as many connections as there may be, and as many requests that wait for one.
    Overflow,
}

/// Counts one request as running on an endpoint.
#[derive(Debug)]
pub(crate) struct Running(Arc<Endpoint>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The part of a connection that one exchange uses.
#[derive(Debug)]
pub(crate) struct Slot {
    running: Running,
    http1: Option<Http1Connection>,
    _http2: Option<Stream>,
    spoilt: bool,
    /// What else the exchange takes of its destination's limits.
    held: Option<Held>,
}

impl Slot {
    /// Keeps the connection from being used again.
    pub(crate) fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// The other end of a connection that is this exchange's alone, to be judged again. That of a shared one is
    /// judged with it.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.http1.as_ref()?.peer.as_ref()
    }

    /// Keeps this for as long as the exchange lasts.
    pub(crate) fn hold(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// Gives the connection back for the next request; only after both bodies have ended.
    pub(crate) fn give_back(mut self) {
        if self.spoilt {
            return;
        }
        if let Some(connection) = self.http1.take() {
            self.running.0.keep(connection);
        }
    }
}

impl Endpoint {
    /// An endpoint without connections.
    pub(crate) fn new(address: SocketAddr, security: Security, shared: Arc<Shared>) -> Self {
        Self {
            address,
            security,
            shared,
            active: AtomicU32::new(0),
            http1: Mutex::default(),
            turns: Turns::default(),
            http2: Mutex::default(),
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is a mesh peer.
    pub(crate) fn is_meshed(&self) -> bool {
        matches!(self.security, Security::Mesh(_))
    }

    /// How what goes there is kept from others.
    pub(crate) fn tls(&self) -> Tls {
        match self.security {
            Security::Plain => Tls::None,
            Security::Outside(_) => Tls::Simple,
            Security::Mesh(_) => Tls::Mutual,
        }
    }

    /// Requests that are running on it.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Sends one request and waits for the head of its answer. Dropping the future takes the
    /// request back as far as that is possible.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        version: HttpVersion,
        times: Times,
        room: Option<Room<'_>>,
    ) -> Result<Answer, Failure> {
        self.active.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(self));
        match version {
            HttpVersion::Http1 => self.send_http1(running, request, times, room).await,
            HttpVersion::Http2 => self.send_http2(running, request, times, room).await,
        }
    }

    /// Opens a connection for bytes, which nobody else ever uses. It counts like a request for as long as
    /// what comes with it is kept.
    pub(crate) async fn open(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<(Connected, Running), ConnectError> {
        self.active.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(self));
        let late = |NoneMade| ConnectError::Timeout;
        let turn = self.turns.take(limit).await.map_err(late)?;
        let connected = connect::connect(self.address, &self.security, Carries::Bytes, limit).await;
        turn.used(limit, connected.is_ok());
        Ok((connected?, running))
    }

    async fn send_http1(
        self: &Arc<Self>,
        running: Running,
        mut request: Request<RequestBody>,
        times: Times,
        room: Option<Room<'_>>,
    ) -> Result<Answer, Failure> {
        loop {
            let (mut connection, connect) = match self.idle_http1().await {
                Some(connection) => (connection, None),
                None => self.wait_http1(times.connect, room).await?,
            };
            connection.idle = times.idle;
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let peer = connection.peer.as_ref();
                    let peer = peer.map(|peer| Arc::clone(&peer.identity));
                    let slot = Slot {
                        running,
                        http1: Some(connection),
                        _http2: None,
                        spoilt: false,
                        held: None,
                    };
                    return Ok(Answer {
                        response,
                        slot,
                        peer,
                        connect,
                    });
                }
                Err(mut error) => match error.take_message() {
                    // It lay idle and died of it; nothing of the request was sent.
                    Some(unsent) if connect.is_none() => request = unsent,
                    Some(_) => return Err(verdict(connection.ended, Failure::Unsent).await),
                    None => match failure(error) {
                        Failure::Reset if connect.is_none() => return Err(Failure::Stale),
                        failure => return Err(verdict(connection.ended, failure).await),
                    },
                },
            }
        }
    }

    /// Takes an idle connection that still lives.
    async fn idle_http1(&self) -> Option<Http1Connection> {
        loop {
            let mut connection = lock(&self.http1).all.pop()?;
            let fresh = !connection.idle.is_over(connection.idle_since);
            // It was given back after both bodies had ended, so this does not wait for the peer.
            if fresh && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, mut connection: Http1Connection) {
        let left = connection.terms.left.map(|left| left.saturating_sub(1));
        if connection.sender.is_closed() || left == Some(0) {
            return;
        }
        connection.terms.left = left;
        connection.idle_since = Instant::now();
        let mut idle = lock(&self.http1);
        let Some(connection) = idle.give(connection) else {
            return;
        };
        let idle = &mut idle.all;
        if idle.len() >= self.shared.limits.pool_idle {
            return;
        }
        idle.push(connection);
        // Told under the lock: whoever is woken finds it.
        if let Some(place) = idle.last().and_then(|last| last.terms.place.as_ref()) {
            place.is_idle();
        }
    }

    /// A new connection, or one that comes free before there may be a new one; with how long a new one took.
    async fn wait_http1(
        &self,
        limit: Duration,
        room: Option<Room<'_>>,
    ) -> Result<(Http1Connection, Option<Duration>), Failure> {
        let Some(room) = room else {
            return self.next_http1(limit, Terms::none()).await;
        };
        let mut waits = None;
        loop {
            let mut freed = std::pin::pin!(room.gate.freed());
            freed.as_mut().enable();
            if let Some(connection) = self.idle_http1().await {
                return Ok((connection, None));
            }
            if let Some(place) = room.connect() {
                return self.next_http1(limit, room.terms(place)).await;
            }
            // Whoever makes a connection waits for nobody else's.
            if waits.is_none() {
                waits = Some(room.queue()?);
            }
            freed.await;
        }
    }

    /// A connection that comes free, or a new one made in its turn, with how long that took. Who waits for others'
    /// handshakes has its own time for its own.
    async fn next_http1(
        &self,
        limit: Duration,
        terms: Terms<Place>,
    ) -> Result<(Http1Connection, Option<Duration>), Failure> {
        let mut turn = pin!(self.turns.take(limit));
        let turn = loop {
            let waiting = lock(&self.http1).take_or_wait();
            let (turn, free) = match waiting {
                Ok(free) => (None, Some(free)),
                Err(mut waiting) => tokio::select! {
                    biased;
                    turn = &mut turn => {
                        waiting.close();
                        (Some(turn), waiting.try_recv().ok())
                    }
                    free = &mut waiting => (None, free.ok()),
                },
            };
            // It was given back after both bodies had ended, so this does not wait for the peer.
            if let Some(mut free) = free
                && free.sender.ready().await.is_ok()
            {
                return Ok((free, None));
            }
            if let Some(turn) = turn {
                let late = |NoneMade| Failure::Connect(ConnectError::Timeout);
                break turn.map_err(late)?;
            }
        };
        let connection = self.connect_http1(limit, terms).await;
        let took = turn.took();
        turn.used(limit, connection.is_ok());
        Ok((connection?, Some(took)))
    }

    /// Closes a connection of these limits that lies idle; says whether there was one.
    pub(super) fn close_idle(&self, gate: &Arc<Gate>) -> bool {
        let mut pool = lock(&self.http1);
        let idle = &mut pool.all;
        let is_of = |place: Option<&Place>| place.is_some_and(|place| place.is_of(gate));
        let oldest = idle
            .iter()
            .position(|connection| is_of(connection.terms.place.as_ref()));
        let oldest = oldest.map(|oldest| idle.remove(oldest));
        drop(pool);
        if oldest.is_some() {
            return true;
        }
        let mut pool = lock(&self.http2);
        let unused = pool.connections.iter().position(|connection| {
            connection.load.active() == 0 && is_of(connection.terms.place.as_deref())
        });
        let unused = unused.map(|unused| pool.connections.remove(unused));
        drop(pool);
        unused.is_some()
    }

    async fn connect_http1(
        &self,
        limit: Duration,
        terms: Terms<Place>,
    ) -> Result<Http1Connection, Failure> {
        let recheck = self.shared.recheck.subscribe();
        let carries = Carries::Http(HttpVersion::Http1);
        let connected = connect::connect(self.address, &self.security, carries, limit)
            .await
            .map_err(Failure::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.shared.limits.head_bytes)
            .handshake(TokioIo::new(connected.io))
            .await
            .map_err(|_broken| Failure::Connect(ConnectError::Tcp))?;
        let peer = connected.peer.clone();
        let ended = self.drive(connection.with_upgrades(), connected.peer, recheck);
        Ok(Http1Connection {
            sender,
            peer,
            ended,
            idle_since: Instant::now(),
            idle: limits::POOL_IDLE_TIMEOUT.into(),
            terms,
        })
    }

    async fn send_http2(
        self: &Arc<Self>,
        running: Running,
        mut request: Request<RequestBody>,
        times: Times,
        room: Option<Room<'_>>,
    ) -> Result<Answer, Failure> {
        // A connection that ended after it had served was not ended for who we are: another one may serve.
        let mut again = limits::SPARE_TRIES;
        loop {
            let (mut connection, stream, connect) = self.http2(times, room).await?;
            match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    connection.load.answered();
                    let slot = Slot {
                        running,
                        http1: None,
                        _http2: Some(stream),
                        spoilt: false,
                        held: None,
                    };
                    return Ok(Answer {
                        response,
                        slot,
                        peer: connection.peer,
                        connect,
                    });
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent)
                        if connect.is_none() || (again > 0 && connection.load.has_answered()) =>
                    {
                        self.forget(&connection);
                        if connect.is_some() {
                            again -= 1;
                        }
                        request = unsent;
                    }
                    Some(_) => return Err(verdict(connection.ended, Failure::Unsent).await),
                    None => {
                        // What hyper had no room for when the connection ended. It may have been sent at the last moment.
                        let is_lost = error.error().is_user();
                        let failure = failure(error);
                        if failure == Failure::LeftOut {
                            self.forget(&connection);
                        }
                        return Err(match connect {
                            _ if is_lost && connection.load.has_answered() => Failure::Stale,
                            None => failure,
                            Some(_) => verdict(connection.ended, failure).await,
                        });
                    }
                },
            }
        }
    }

    /// A connection with room for a stream; waits for one that is being made, or has it made.
    async fn http2(
        self: &Arc<Self>,
        times: Times,
        room: Option<Room<'_>>,
    ) -> Result<(Http2Connection, Stream, Option<Duration>), Failure> {
        let picked = lock(&self.http2).pick(times.idle, &self.shared.limits, false, false);
        match picked {
            Pick::Stream(connection, stream) => Ok((*connection, stream, None)),
            Pick::Another | Pick::Wait => self.wait_http2(times, room).await,
        }
    }

    async fn wait_http2(
        self: &Arc<Self>,
        Times {
            connect: limit,
            idle,
        }: Times,
        room: Option<Room<'_>>,
    ) -> Result<(Http2Connection, Stream, Option<Duration>), Failure> {
        let mut started = Instant::now();
        let mut waited = None;
        // The place behind the others, and what it takes of the destination's limits.
        let (mut turn, mut pending) = (None, None);
        let freed = Arc::clone(&lock(&self.http2).freed);
        let limits = &self.shared.limits;
        loop {
            // Asked for before looking, or what happens in between is missed.
            let mut freed = pin!(freed.notified());
            freed.as_mut().enable();
            let mut opened = pin!(room.map(|room| room.gate.freed()));
            if let Some(opened) = opened.as_mut().as_pin_mut() {
                opened.enable();
            }
            let mut picked = lock(&self.http2).pick(idle, limits, turn.is_some(), false);
            if matches!(picked, Pick::Another) {
                if let Some(mut made) = self.connecting(limit, room) {
                    let left = limit.saturating_sub(started.elapsed());
                    // Every loop has waited for a connection, and all of them together for at most `limit`.
                    let outcome = tokio::time::timeout(left, made.wait_for(Option::is_some)).await;
                    match outcome {
                        Err(_) => return Err(Failure::Connect(ConnectError::Timeout)),
                        Ok(Err(_)) => return Err(Failure::Connect(ConnectError::Tcp)),
                        Ok(Ok(result)) => result.unwrap_or(Ok(())).map_err(Failure::Connect)?,
                    }
                    waited = Some(started.elapsed());
                    continue;
                }
                // As many connections as there may be: a busy one is better than none.
                picked = lock(&self.http2).pick(idle, limits, turn.is_some(), true);
            }
            if let Pick::Stream(connection, stream) = picked {
                return Ok((*connection, stream, waited));
            }
            if let Some(room) = room.filter(|_| pending.is_none()) {
                pending = Some(room.queue()?);
            }
            turn.get_or_insert_with(|| Waiting::new(&self.http2));
            match opened.as_pin_mut() {
                None => freed.await,
                Some(opened) => tokio::select! {
                    () = freed => {}
                    () = opened => {}
                },
            }
            started = Instant::now();
        }
    }

    /// A connection that is being made; none: there may be none.
    fn connecting(
        self: &Arc<Self>,
        limit: Duration,
        room: Option<Room<'_>>,
    ) -> Option<watch::Receiver<Option<Result<(), ConnectError>>>> {
        if let Some(made) = &lock(&self.http2).connecting {
            return Some(made.clone());
        }
        // Not under the lock: making room looks for it too.
        let terms = match room {
            None => Terms::none(),
            Some(room) => room.terms(Arc::new(room.connect()?)),
        };
        let mut pool = lock(&self.http2);
        if let Some(made) = &pool.connecting {
            return Some(made.clone());
        }
        let (sender, made) = watch::channel(None);
        pool.connecting = Some(made.clone());
        drop(pool);
        tokio::spawn(Arc::clone(self).connect_http2(limit, sender, terms));
        Some(made)
    }

    /// Makes one connection for all who wait for it. A task of its own: whoever asked first may
    /// give up while others still wait.
    async fn connect_http2(
        self: Arc<Self>,
        limit: Duration,
        made: watch::Sender<Option<Result<(), ConnectError>>>,
        terms: Terms<Arc<Place>>,
    ) {
        let freed = Arc::clone(&lock(&self.http2).freed);
        let result = self.handshake_http2(limit, terms, Arc::clone(&freed)).await;
        let mut pool = lock(&self.http2);
        pool.connecting = None;
        let result = result.map(|connection| pool.connections.push(connection));
        drop(pool);
        // There is room, or nobody is left to free any.
        freed.notify_waiters();
        made.send_replace(Some(result));
    }

    async fn handshake_http2(
        &self,
        limit: Duration,
        terms: Terms<Arc<Place>>,
        freed: Arc<Notify>,
    ) -> Result<Http2Connection, ConnectError> {
        let carries = Carries::Http(HttpVersion::Http2);
        let recheck = self.shared.recheck.subscribe();
        let limits = &self.shared.limits;
        let connected = connect::connect(self.address, &self.security, carries, limit).await?;
        let (sender, connection) = http2::Builder::new(ConnectionExecutor::default())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::number(limits.stream_window_bytes))
            .initial_connection_window_size(limits::number(limits.connection_window_bytes))
            .max_frame_size(limits::FRAME_BYTES_MAX)
            .max_header_list_size(limits::number(limits.head_bytes))
            .max_send_buf_size(limits.stream_buffer_bytes)
            .keep_alive_interval(limits.ping_every)
            .keep_alive_timeout(limits.ping_timeout)
            .handshake(TokioIo::new(connected.io))
            .await
            .map_err(|_broken| ConnectError::Http2)?;
        let peer = connected
            .peer
            .as_ref()
            .map(|peer| Arc::clone(&peer.identity));
        let load = Arc::new(Load::new(freed));
        let told = Arc::clone(&load);
        let mut connection = connection;
        let connection = poll_fn(move |cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            told.takes(connection.current_max_send_streams());
            polled
        });
        let ended = self.drive(connection, connected.peer, recheck);
        Ok(Http2Connection {
            sender,
            peer,
            ended,
            load,
            idle_since: Instant::now(),
            idle: limits::POOL_IDLE_TIMEOUT.into(),
            terms,
        })
    }

    /// Runs a connection until it ends or its peer is no longer trusted; `recheck` is from before
    /// the handshake, so that no change of trust falls in between. The task ends with its
    /// senders, which the pools and the exchanges own.
    fn drive<C>(&self, connection: C, peer: Option<Peer>, mut recheck: watch::Receiver<()>) -> Ended
    where
        C: Future<Output = hyper::Result<()>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let mut distrusted = pin!(async {
                while recheck.changed().await.is_ok() {
                    let cut = peer.as_ref().is_some_and(|peer| {
                        let judged = shared.credentials.judge_again(&peer.chain, Usage::Server);
                        judged.is_err()
                    });
                    if cut {
                        return;
                    }
                }
            });
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "upstream connection ended");
                    }
                    let verdict = peer.as_ref().and_then(|peer| peer.verdict.get().copied());
                    end.send_replace(Some(verdict));
                }
                () = Aside::new(distrusted.as_mut()) => {}
            }
        });
        ended
    }

    fn forget(&self, dead: &Http2Connection) {
        lock(&self.http2)
            .connections
            .retain(|connection| !Arc::ptr_eq(&connection.load, &dead.load));
    }

    /// Lets go of what was not used for long.
    pub(crate) fn sweep(&self) {
        self.turns.sweep();
        let mut pool = lock(&self.http1);
        pool.sweep();
        pool.all.retain(|connection| {
            !connection.idle.is_over(connection.idle_since) && !connection.sender.is_closed()
        });
        drop(pool);
        lock(&self.http2).connections.retain_mut(|connection| {
            if connection.load.active() > 0 {
                connection.idle_since = Instant::now();
            }
            !connection.idle.is_over(connection.idle_since) && !connection.sender.is_closed()
        });
    }
}

impl<P> Terms<P> {
    fn none() -> Self {
        Self {
            place: None,
            left: None,
        }
    }
}

impl Room<'_> {
    /// Waits with the others, if there is room for one more.
    fn queue(&self) -> Result<Held, Failure> {
        let breaker = self.gate.breaker();
        breaker.take(Counted::Pending).ok_or_else(|| {
            self.group.pool().refused(Counted::Pending);
            Failure::Overflow
        })
    }

    /// The right to one more connection; one that lies idle at another endpoint gives way.
    fn connect(&self) -> Option<Place> {
        self.gate.connect().or_else(|| {
            // What is closed may be given to somebody else who waits.
            self.group
                .make_room(self.gate)
                .then(|| self.gate.connect())?
        })
    }

    fn terms<P>(&self, place: P) -> Terms<P> {
        Terms {
            place: Some(place),
            left: self.gate.requests_per_connection(),
        }
    }
}

/// What a new connection that broke at once was ended for: see [`Peer::verdict`].
async fn verdict(mut ended: Ended, failure: Failure) -> Failure {
    if !matches!(failure, Failure::Unsent | Failure::Reset) {
        return failure;
    }
    let waited =
        tokio::time::timeout(limits::VERDICT_TIMEOUT, ended.wait_for(Option::is_some)).await;
    match waited {
        Ok(Ok(reason)) => (*reason).flatten().map_or(failure, Failure::Tls),
        _ => failure,
    }
}

/// Reads from hyper's error what happened, for the retry causes.
fn failure(error: TrySendError<Request<RequestBody>>) -> Failure {
    let error = error.into_error();
    tracing::debug!(%error, "upstream failed");
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<h2::Error>() {
            return http2_failure(error);
        }
        cause = found.source();
    }
    if error.is_parse() {
        return Failure::Protocol;
    }
    Failure::Reset
}

fn http2_failure(error: &h2::Error) -> Failure {
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
        // Streams that a GOAWAY leaves out were never looked at (RFC 9113 section 6.8).
        Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Failure::LeftOut,
        Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR) if !error.is_remote() => {
            Failure::Protocol
        }
        _ => Failure::Reset,
    }
}

/// A panic elsewhere leaves a list of connections that is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
