//! Which HTTP/2 connection to an endpoint takes the next request, and who waits for one that can.
//!
//! No connection is given more than its other end takes. hyper would keep such a request to itself until there is
//! room, and when the connection ends first, as it does where a server ends it after so many requests, nobody can tell
//! any more whether that request had been sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::client::conn::http2;
use mesh_bundle::spiffe::SpiffeId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{ConnectError, Ended, Idle, Place, Terms, lock};
use crate::http::body::RequestBody;
use crate::limits::Limits;

/// The HTTP/2 connections to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Http2Pool {
    pub(super) connections: Vec<Http2Connection>,
    /// A connection that is being made, so that many requests wait for one.
    pub(super) connecting: Option<watch::Receiver<Option<Result<(), ConnectError>>>>,
    /// Requests that wait for a connection with room; who comes later waits behind them.
    waiting: usize,
    /// Told when there may be room.
    pub(super) freed: Arc<Notify>,
}

#[derive(Clone, Debug)]
pub(super) struct Http2Connection {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) peer: Option<Arc<SpiffeId>>,
    pub(super) load: Arc<Load>,
    pub(super) ended: Ended,
    pub(super) idle_since: Instant,
    /// How long it may lie unused, by the last route that used it.
    pub(super) idle: Idle,
    pub(super) terms: Terms<Arc<Place>>,
}

/// What a connection carries.
#[derive(Debug)]
pub(super) struct Load {
    active: AtomicUsize,
    /// Streams that its other end takes.
    most: AtomicUsize,
    /// Whether a request has been answered on it.
    answered: AtomicBool,
    freed: Arc<Notify>,
}

/// Counts one stream on a connection.
#[derive(Debug)]
pub(super) struct Stream {
    load: Arc<Load>,
    place: Option<Arc<Place>>,
}

/// Counts one request as waiting.
#[derive(Debug)]
pub(super) struct Waiting<'p>(&'p Mutex<Http2Pool>);

/// Where a request goes.
pub(super) enum Pick {
    /// Onto this connection.
    Stream(Box<Http2Connection>, Stream),
    /// Onto another one, to be opened.
    Another,
    /// Nowhere yet.
    Wait,
}

impl Load {
    /// Of a new connection.
    pub(super) fn new(freed: Arc<Notify>) -> Self {
        Self {
            active: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            answered: AtomicBool::new(false),
            freed,
        }
    }

    /// Streams on it.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Notes how many streams its other end takes.
    pub(super) fn takes(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Notes that it has served.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether it has served.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let was_last = self.load.active.fetch_sub(1, Ordering::Relaxed) == 1;
        self.load.freed.notify_one();
        if let Some(place) = self.place.as_ref().filter(|_| was_last) {
            place.is_idle();
        }
    }
}

impl<'p> Waiting<'p> {
    /// Waits for one of these.
    pub(super) fn new(pool: &'p Mutex<Http2Pool>) -> Self {
        lock(pool).waiting += 1;
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pool = lock(self.0);
        pool.waiting -= 1;
        // More than one place may have come free at once, or this one was told of it and has given up.
        let has_room = || pool.connections.iter().any(Http2Connection::has_room);
        if pool.waiting > 0 && (pool.connections.is_empty() || has_room()) {
            pool.freed.notify_one();
        }
    }
}

impl Http2Connection {
    /// Whether its other end takes one more request. An idle one is taken to, for what else would it be there for.
    fn has_room(&self) -> bool {
        let active = self.load.active();
        active == 0 || active < self.load.most.load(Ordering::Relaxed)
    }
}

impl Http2Pool {
    /// The least busy connection, unless another one should be opened. `waited`: it is this one's turn; `any`: no other
    /// can be opened.
    pub(super) fn pick(&mut self, idle: Idle, limits: &Limits, waited: bool, any: bool) -> Pick {
        if self.waiting > 0 && !waited {
            return Pick::Wait;
        }
        self.connections
            .retain(|connection| !connection.sender.is_closed());
        let full = any || self.connections.len() >= limits.pool_connections;
        let least = |connections: &[Http2Connection], among: fn(&Http2Connection) -> bool| {
            let connections = connections.iter().enumerate();
            let fit = connections.filter(|(_, connection)| among(connection));
            let best = fit.min_by_key(|(_, connection)| connection.load.active())?;
            Some(best.0)
        };
        let best = least(&self.connections, |_| true)
            .and_then(|position| Some((position, self.connections.get(position)?)));
        let Some((position, best)) = best else {
            return if any { Pick::Wait } else { Pick::Another };
        };
        let position = match best.has_room() {
            _ if best.load.active() >= limits.pool_streams && !full => return Pick::Another,
            true => position,
            false if !full => return Pick::Another,
            // Not all other ends take equally many.
            false => match least(&self.connections, Http2Connection::has_room) {
                Some(position) => position,
                None => return Pick::Wait,
            },
        };
        self.take(position, idle)
    }

    fn take(&mut self, position: usize, idle: Idle) -> Pick {
        let Some(best) = self.connections.get_mut(position) else {
            return Pick::Another;
        };
        best.load.active.fetch_add(1, Ordering::Relaxed);
        best.idle_since = Instant::now();
        best.idle = idle;
        best.terms.left = best.terms.left.map(|left| left.saturating_sub(1));
        let stream = Stream {
            load: Arc::clone(&best.load),
            place: best.terms.place.clone(),
        };
        let picked = Box::new(best.clone());
        if picked.terms.left == Some(0) {
            // Its streams keep it until the last one has ended.
            drop(self.connections.swap_remove(position));
        }
        Pick::Stream(picked, stream)
    }
}
