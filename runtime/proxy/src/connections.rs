//! The connections that are open, for whoever operates the proxy. Each is entered when it is accepted and leaves with
//! its task; what it carries is filled in as it becomes known. Nothing here is asked per request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mesh_bundle::spiffe::SpiffeId;
use serde::Serialize;
use tokio::time::Instant;

use crate::http::wire::WireState;
use crate::upstream::connect::HttpVersion;

/// All that are open.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    last: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Seen>>>,
}

/// One connection, as far as it is known.
#[derive(Debug)]
pub(crate) struct Seen {
    opened: Instant,
    direction: &'static str,
    peer: SocketAddr,
    identity: OnceLock<Arc<SpiffeId>>,
    carries: OnceLock<Carries>,
}

#[derive(Debug)]
enum Carries {
    Http(HttpVersion, Arc<WireState>),
    Bytes {
        protocol: &'static str,
        service: String,
        received: Arc<AtomicU64>,
        sent: Arc<AtomicU64>,
    },
}

/// Keeps a connection among those that are open.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    all: Arc<Connections>,
    /// The connection.
    pub(crate) seen: Arc<Seen>,
}

/// A connection as it is shown. Field names are a contract; what is not known is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shown {
    /// Rises; unique while this process runs.
    pub(crate) id: u64,
    pub(crate) direction: &'static str,
    pub(crate) peer: SocketAddr,
    pub(crate) identity: Option<String>,
    pub(crate) protocol: Option<&'static str>,
    /// Of a connection of bytes; requests each have their own.
    pub(crate) service: Option<String>,
    pub(crate) age_ms: u64,
    /// Since it was opened, and at this moment; of a connection of requests.
    pub(crate) requests: Option<u64>,
    pub(crate) active: Option<usize>,
    /// From whoever connected, and to it, within TLS.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Connections {
    /// Enters a connection.
    pub(crate) fn enter(self: &Arc<Self>, direction: &'static str, peer: SocketAddr) -> Entry {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let seen = Arc::new(Seen {
            opened: Instant::now(),
            direction,
            peer,
            identity: OnceLock::new(),
            carries: OnceLock::new(),
        });
        self.lock().insert(id, Arc::clone(&seen));
        Entry {
            id,
            all: Arc::clone(self),
            seen,
        }
    }

    /// Those that were opened after `after`, at most `limit`, and how many there are in all.
    pub(crate) fn page(&self, after: u64, limit: usize) -> (Vec<Shown>, usize) {
        let (page, total) = {
            let open = self.lock();
            let page = open.range((Bound::Excluded(after), Bound::Unbounded));
            let page: Vec<_> = page
                .take(limit)
                .map(|(id, seen)| (*id, Arc::clone(seen)))
                .collect();
            (page, open.len())
        };
        let now = Instant::now();
        let shown = page.iter().map(|(id, seen)| seen.show(*id, now));
        (shown.collect(), total)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Seen>>> {
        // A panic elsewhere leaves a map that is still good.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

impl Seen {
    /// Notes who the peer is.
    pub(crate) fn is_of(&self, identity: &Arc<SpiffeId>) {
        self.identity.get_or_init(|| Arc::clone(identity));
    }

    /// Notes that it carries requests.
    pub(crate) fn carries_requests(&self, version: HttpVersion, wire: &Arc<WireState>) {
        let requests = || Carries::Http(version, Arc::clone(wire));
        self.carries.get_or_init(requests);
    }

    /// Notes that it carries bytes, for whom, and what counts them.
    pub(crate) fn carries_bytes(
        &self,
        protocol: &'static str,
        service: &str,
        received: Arc<AtomicU64>,
        sent: Arc<AtomicU64>,
    ) {
        self.carries.get_or_init(|| Carries::Bytes {
            protocol,
            service: service.to_owned(),
            received,
            sent,
        });
    }

    fn show(&self, id: u64, now: Instant) -> Shown {
        let age = now.saturating_duration_since(self.opened).as_millis();
        let mut shown = Shown {
            id,
            direction: self.direction,
            peer: self.peer,
            identity: self.identity.get().map(ToString::to_string),
            protocol: None,
            service: None,
            age_ms: u64::try_from(age).unwrap_or(u64::MAX),
            requests: None,
            active: None,
            bytes_in: 0,
            bytes_out: 0,
        };
        match self.carries.get() {
            None => {}
            Some(Carries::Http(version, wire)) => {
                let [requests, received, sent] = wire.counted();
                shown.protocol = Some(match version {
                    HttpVersion::Http1 => "http/1.1",
                    HttpVersion::Http2 => "http/2",
                });
                shown.requests = Some(requests);
                shown.active = Some(wire.in_flight());
                (shown.bytes_in, shown.bytes_out) = (received, sent);
            }
            Some(Carries::Bytes {
                protocol,
                service,
                received,
                sent,
            }) => {
                shown.protocol = Some(protocol);
                shown.service = (!service.is_empty()).then(|| service.clone());
                shown.bytes_in = received.load(Ordering::Relaxed);
                shown.bytes_out = sent.load(Ordering::Relaxed);
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_who_is_gone_is_gone() {
        let all = Arc::<Connections>::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 4711));
        let mut open: Vec<_> = (0..5).map(|_| all.enter("inbound", peer)).collect();
        let (page, total) = all.page(0, 2);
        let ids = |page: &[Shown]| page.iter().map(|shown| shown.id).collect::<Vec<_>>();
        assert_eq!((ids(&page), total), (vec![1, 2], 5));
        drop(open.remove(2));
        let (page, total) = all.page(2, 2);
        assert_eq!((ids(&page), total), (vec![4, 5], 4));
        assert_eq!(all.page(5, 2).0, []);
        let received = Arc::new(AtomicU64::new(7));
        open[0]
            .seen
            .carries_bytes("tcp", "db", Arc::clone(&received), Arc::default());
        received.store(9, Ordering::Relaxed);
        let (page, _) = all.page(0, 1);
        assert_eq!(
            (page[0].bytes_in, page[0].service.as_deref()),
            (9, Some("db"))
        );
    }
}
