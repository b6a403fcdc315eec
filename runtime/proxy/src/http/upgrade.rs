//! Connections that become something else, as WebSockets do: asked for with `Upgrade` over HTTP/1.1 (RFC 9110 section
//! 7.8) and with an extended CONNECT over HTTP/2 (RFC 8441). Both are one request to everything that decides: a
//! GET, so that a rule about a path holds whatever version a client speaks. Once both sides have agreed, the bytes
//! are passed on as they are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version, response};
use hyper::body::Incoming;
use hyper::ext::Protocol as ExtendedConnect;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{Protocol, Upgrade};
use mesh_daemon::identity::Usage;
use mesh_daemon::telemetry::Reason;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) mod entry;

use entry::Entry;

use super::record::Record;
use super::server::Connection;
use crate::data_plane::Plane;
use crate::tcp::passing::{Ended, Passing};
use crate::tcp::watch::{Changes, Cut};
use crate::upstream::pool::Slot;

const WEBSOCKET: &[u8] = b"websocket";
/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client wants its connection, or its stream, to become.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// As the client names it.
    protocol: HeaderValue,
    downstream: OnUpgrade,
    /// Made up where the next hop speaks HTTP/1.1 and the client does not.
    key: HeaderValue,
}

/// The answer agrees, but not to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disagreed;

/// Reads from a request what it wants to become; the request is then an ordinary one. None: nothing, or nothing
/// that is ever carried, and what asks for it goes no further than this hop.
pub(crate) fn wanted(request: &mut Request<Incoming>) -> Option<Wanted> {
    let downstream = hyper::upgrade::on(&mut *request);
    let protocol = if request.version() == Version::HTTP_2 {
        if *request.method() != Method::CONNECT {
            return None;
        }
        let asked = request.extensions_mut().remove::<ExtendedConnect>()?;
        HeaderValue::try_from(asked.as_str()).ok()?
    } else {
        by_upgrade(request)?
    };
    if !is_carried(protocol.as_bytes()) {
        return None;
    }
    *request.method_mut() = Method::GET;
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    Some(Wanted {
        protocol,
        downstream,
        key: HeaderValue::try_from(key).ok()?,
    })
}

/// The one protocol that `Upgrade` names. A choice of several would have to be looked through for what is
/// never carried, and nobody offers one.
fn by_upgrade(request: &Request<Incoming>) -> Option<HeaderValue> {
    let headers = request.headers();
    let is_plain = request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length == "0");
    let mut lines = headers.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (lines.next(), lines.next()) else {
        return None;
    };
    (is_plain && says_upgrade(headers)).then(|| protocol.clone())
}

fn says_upgrade(headers: &HeaderMap) -> bool {
    let mut tokens = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Whether a protocol is ever carried: never another version of HTTP, whose requests would pass unseen, nor
/// TLS, which is for the proxies to speak (bad-inputs 45).
fn is_carried(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    let name = name.unwrap_or_default();
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(byte);
    let is_one = !name.is_empty() && protocol.iter().all(|byte| is_token(byte) || *byte == b'/');
    let never = [&b"h2c"[..], b"h2", b"http", b"https", b"tls"];
    is_one && !never.iter().any(|never| name.eq_ignore_ascii_case(never))
}

impl Wanted {
    /// Whether policy lets it. Where a route says nothing, a port of HTTP carries whatever its applications agree
    /// on, and one of gRPC nothing else.
    pub(crate) fn is_allowed(&self, policy: Option<Upgrade>, protocol: Protocol) -> bool {
        match (policy, protocol) {
            (Some(Upgrade::None), _) => false,
            (Some(Upgrade::Websocket), _) => self.is_websocket(),
            (None, Protocol::Http) => true,
            (None, Protocol::Grpc | Protocol::Tcp | Protocol::Tls) => false,
        }
    }

    fn is_websocket(&self) -> bool {
        self.protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET)
    }

    /// Asks the next hop over HTTP/1.1, for a client that has spoken `version`.
    pub(crate) fn ask_http1(&self, version: Version, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
        if version == Version::HTTP_2 && self.is_websocket() {
            // RFC 8441 section 5: over HTTP/2 there is none.
            headers.insert(header::SEC_WEBSOCKET_KEY, self.key.clone());
        }
    }

    /// Asks the next hop over HTTP/2.
    pub(crate) fn ask_http2<B>(&self, request: &mut Request<B>) {
        if let Ok(protocol) = self.protocol.to_str() {
            *request.method_mut() = Method::CONNECT;
            let protocol = ExtendedConnect::from(protocol);
            request.extensions_mut().insert(protocol);
        }
    }

    /// Whether an answer agrees.
    pub(crate) fn is_agreed(
        &self,
        version: Version,
        answer: &response::Parts,
    ) -> Result<bool, Disagreed> {
        if answer.version == Version::HTTP_2 {
            return Ok(answer.status.is_success());
        }
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            // To a client of HTTP/2 success says that its stream is what it asked for (RFC 8441 section 4).
            let misleads = version == Version::HTTP_2 && answer.status.is_success();
            return if misleads { Err(Disagreed) } else { Ok(false) };
        }
        let named = answer.headers.get(header::UPGRADE);
        let is_it = named.is_some_and(|named| {
            named
                .as_bytes()
                .eq_ignore_ascii_case(self.protocol.as_bytes())
        });
        let made_up = version == Version::HTTP_2 && self.is_websocket();
        let accepted = answer.headers.get(header::SEC_WEBSOCKET_ACCEPT);
        let is_accepted = !made_up || accepted.is_some_and(|accepted| *accepted == self.accept());
        let agrees = is_it && says_upgrade(&answer.headers) && is_accepted;
        if agrees { Ok(true) } else { Err(Disagreed) }
    }

    /// RFC 6455 section 4.2.2: whoever knows the protocol answers a key with this.
    fn accept(&self) -> String {
        let text = [self.key.as_bytes(), WEBSOCKET_GUID].concat();
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
        STANDARD.encode(digest)
    }

    /// Makes an answer that agrees one that the client understands.
    pub(crate) fn agree(&self, version: Version, answer: &mut response::Parts) {
        let headers = &mut answer.headers;
        if version == Version::HTTP_2 {
            answer.status = StatusCode::OK;
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        } else {
            answer.status = StatusCode::SWITCHING_PROTOCOLS;
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, self.protocol.clone());
        }
    }

    /// What passes bytes on from then on.
    pub(crate) fn tunnel(
        self,
        connection: &Connection,
        upstream: OnUpgrade,
        (record, slot): (Box<Record>, Slot),
        (idle, longest): (Option<Duration>, Option<Duration>),
        entry: Option<Box<Entry>>,
    ) -> Tunnel {
        Tunnel {
            downstream: self.downstream,
            upstream,
            record,
            slot,
            idle,
            longest,
            entry,
            changes: Changes::new(connection.plane.recheck(), &connection.plane),
        }
    }
}

/// Two connections that have become one.
#[derive(Debug)]
pub(crate) struct Tunnel {
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    record: Box<Record>,
    slot: Slot,
    idle: Option<Duration>,
    longest: Option<Duration>,
    /// None: the next hop asks itself.
    entry: Option<Box<Entry>>,
    changes: Changes,
}

impl Tunnel {
    /// Passes bytes on until the end.
    async fn run(self) {
        let Self {
            downstream,
            upstream,
            mut record,
            slot,
            idle,
            longest,
            entry,
            changes,
        } = self;
        let (downstream, upstream) = tokio::join!(downstream, upstream);
        let (downstream, upstream) = match (downstream, upstream) {
            (Ok(downstream), Ok(upstream)) => (downstream, upstream),
            (Err(error), _) => {
                tracing::debug!(%error, "the client did not wait for its upgrade");
                return record.end(Some(Reason::ClientDisconnect));
            }
            (_, Err(error)) => {
                tracing::debug!(%error, "the endpoint did not wait for its upgrade");
                record.break_off_tunnel();
                return record.end(Some(Reason::UpstreamReset));
            }
        };
        let mut downstream = TokioIo::new(downstream);
        let mut upstream = TokioIo::new(upstream);
        let meters = record.tunnel();
        let plane = record.plane();
        let _counted = Counted::begin(&plane);
        let passing = Passing::new(
            &mut downstream,
            &mut upstream,
            (&meters.received, &meters.sent),
            idle,
        );
        let is_trusted = || {
            slot.peer().is_none_or(|peer| {
                let judged = plane.credentials().judge_again(&peer.chain, Usage::Server);
                judged.is_ok()
            })
        };
        let may_go_on = || match &entry {
            Some(entry) => entry.is_open(&plane),
            None => !plane.is_denying(),
        };
        let ended = changes
            .watch(&plane, passing, longest, is_trusted, may_go_on)
            .await;
        let reason = match ended {
            Ok(Ended::Whole) => None,
            Ok(Ended::Downstream(_)) => Some(Reason::ClientDisconnect),
            Ok(Ended::Upstream(_)) => Some(Reason::UpstreamReset),
            Ok(Ended::Idle) => {
                record.count_timeout("stream_idle");
                Some(Reason::RequestTimeout)
            }
            Err(Cut(reason)) => Some(reason),
        };
        if reason.is_some() {
            record.break_off_tunnel();
        }
        record.end(reason);
    }
}

/// Counts a tunnel for as long as it is there.
struct Counted(Arc<Plane>);

impl Counted {
    fn begin(plane: &Arc<Plane>) -> Self {
        plane.begin_tunnel();
        Self(Arc::clone(plane))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end_tunnel();
    }
}

/// The tunnels of one downstream connection, which it waits for.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(Mutex<JoinSet<()>>);

impl Tunnels {
    /// Runs one.
    pub(crate) fn begin(&self, tunnel: Tunnel) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended need nobody's attention.
        while running.try_join_next().is_some() {}
        running.spawn(tunnel.run());
    }

    /// Waits for all of them, or until `is_cut` says that they may not go on.
    pub(crate) async fn finish(&self, mut recheck: watch::Receiver<()>, is_cut: impl Fn() -> bool) {
        let mut running = {
            let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        loop {
            tokio::select! {
                ended = running.join_next() => {
                    if ended.is_none() {
                        return;
                    }
                }
                changed = recheck.changed() => {
                    if changed.is_err() || is_cut() {
                        // Dropped, they end.
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_http_is_carried() {
        for carried in ["websocket", "WebSocket", "tcp", "SPDY/3.1", "foo"] {
            assert!(is_carried(carried.as_bytes()), "{carried}");
        }
        for never in [
            "",
            "h2c",
            "H2C",
            "HTTP/2.0",
            "http",
            "TLS/1.0",
            "h2",
            "websocket, h2c",
            "a b",
            "/x",
        ] {
            assert!(!is_carried(never.as_bytes()), "{never}");
        }
    }
}
