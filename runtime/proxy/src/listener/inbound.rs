//! A mesh peer that comes to a port of a service, from accept to its first request.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use mesh_daemon::identity::{PeerIdentity, tls};
use mesh_daemon::telemetry::{Reason, TlsReason};
use mesh_engine::client_hello::HANDSHAKE_RECORD;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::Leaving;
use super::handshake::{NoHandshake, linger, shake_hands};
use super::plaintext::in_plaintext;
use crate::data_plane::{InPlaintext, Plane};
use crate::http::metrics::Reporter;
use crate::http::server::{self, Connection, Inbound, MeshPeer, Side};
use crate::limits::Limits;
use crate::tcp;
use crate::tcp::downstream::{Prefixed, reset};
use crate::tcp::hello::{self, NoHello};
use crate::tcp::inbound::Caller;
use crate::tcp::watch::Changes;
use crate::upstream::connect::{Carries, HttpVersion, MESH_HTTP1, MESH_HTTP2, MESH_TCP};
use crate::upstream::pool::Endpoint;

/// What is behind one inbound port.
#[derive(Clone, Debug)]
pub(crate) struct Application {
    /// The port that policy speaks of.
    pub(crate) port: u16,
    /// Where the application listens.
    pub(crate) endpoint: Arc<Endpoint>,
    /// How peers are met.
    pub(crate) tls: Arc<ServerConfig>,
    /// Bounds handshakes.
    pub(crate) handshakes: Arc<Semaphore>,
}

/// Meets a peer. `of_itself`: it is this host, by the address that others know it by.
pub(super) async fn admit(
    accepted: TcpStream,
    of_itself: bool,
    peer: SocketAddr,
    application: Application,
    plane: Arc<Plane>,
    drain: Leaving,
) {
    let Application {
        port,
        endpoint: application,
        tls,
        handshakes,
    } = application;
    let recheck = plane.recheck();
    let takes = plane.takes_in_plaintext(port);
    let (mut accepted, mut prefix) = (accepted, Vec::new());
    let greeting = match takes {
        InPlaintext::Nothing => Greeting::Tls,
        InPlaintext::Requests => greeting(&accepted, plane.limits.hello_timeout).await,
        InPlaintext::Bytes { only: true } => Greeting::Plaintext,
        InPlaintext::Bytes { only: false } => {
            greeting_of_bytes(&mut accepted, &mut prefix, &plane.limits).await
        }
    };
    match greeting {
        Greeting::Tls => {}
        Greeting::Nothing => return,
        // The proxy reaches its application by its inbound listener: round and round.
        Greeting::Plaintext if of_itself => {
            let reason = Reason::Loop;
            plane.refused_connection(Reporter::Destination, reason, peer.ip(), None);
            return reset(&accepted);
        }
        Greeting::Plaintext if takes == InPlaintext::Requests => {
            let side = Side::Inbound(Inbound {
                port,
                application,
                peer: None,
                edge: OnceLock::new(),
            });
            return Box::pin(in_plaintext(accepted, peer, side, plane, drain)).await;
        }
        Greeting::Plaintext => {
            let changes = Changes::new(recheck, &plane);
            let caller = Caller {
                identity: None,
                chain: Vec::new(),
                address: peer,
                port,
                application,
            };
            let stream = Prefixed::new(accepted, prefix);
            return Box::pin(tcp::inbound::admit(stream, caller, plane, changes, drain)).await;
        }
    }
    let accepted = Prefixed::new(accepted, prefix);
    let met = match Box::pin(shake_hands(accepted, |_| tls, &plane, &handshakes)).await {
        Ok(stream) => meet(&stream).map(|(carries, inbound)| (stream, carries, inbound)),
        Err(NoHandshake::Failed(error, tcp)) => {
            tracing::debug!(%peer, %error, "handshake failed");
            plane.refused_peer(tls::tls_reason(&error), peer.ip());
            if let Some(tcp) = tcp {
                linger(tcp).await;
            }
            return;
        }
        Err(NoHandshake::TimedOut) => Err(TlsReason::TlsFailure),
    };
    let (stream, carries, (identity, chain)) = match met {
        Ok(met) => met,
        Err(reason) => return plane.refused_peer(reason, peer.ip()),
    };
    let version = match carries {
        Carries::Http(version) => version,
        Carries::Bytes => {
            let changes = Changes::new(recheck, &plane);
            let caller = Caller {
                identity: Some(Arc::new(identity.spiffe_id)),
                chain,
                address: peer,
                port,
                application,
            };
            let stream = Prefixed::new(stream, Vec::new());
            return Box::pin(tcp::inbound::admit(stream, caller, plane, changes, drain)).await;
        }
    };
    let Ok(peer_header) = HeaderValue::try_from(identity.spiffe_id.as_str()) else {
        return plane.refused_peer(TlsReason::BadSpiffeId, peer.ip());
    };
    let side = Side::Inbound(Inbound {
        port,
        application,
        peer: Some(MeshPeer {
            identity: Arc::new(identity.spiffe_id),
            header: peer_header,
            chain,
        }),
        edge: OnceLock::new(),
    });
    let connection = Connection::new(plane, side, peer.ip());
    // TLS tells by itself that a stream was cut.
    let reset = |_: &_| ();
    // What a connection needs from here on is kept apart from what it took to get here.
    Box::pin(server::serve(
        stream,
        reset,
        Vec::new(),
        version,
        connection,
        recheck,
        drain,
    ))
    .await;
}

/// How a connection begins.
enum Greeting {
    Tls,
    Plaintext,
    /// It ended, or took too long.
    Nothing,
}

/// Looks at the first byte: a record of TLS begins with its type, 22 for a handshake (RFC 8446 section 5.1),
/// and no method of HTTP does.
async fn greeting(tcp: &TcpStream, limit: Duration) -> Greeting {
    let mut first = [0];
    match timeout(limit, tcp.peek(&mut first)).await {
        Ok(Ok(1)) if first == [HANDSHAKE_RECORD] => Greeting::Tls,
        Ok(Ok(1)) => Greeting::Plaintext,
        _ => Greeting::Nothing,
    }
}

/// The same where bytes are carried in plaintext too. A mesh peer speaks first, with a protocol of the mesh;
/// everything else is the application's own, its TLS too, and whoever is silent waits for it to speak.
async fn greeting_of_bytes(tcp: &mut TcpStream, prefix: &mut Vec<u8>, limits: &Limits) -> Greeting {
    let mut first = [0];
    match timeout(limits.silent_peer_timeout, tcp.peek(&mut first)).await {
        Err(_elapsed) => return Greeting::Plaintext,
        Ok(Ok(1)) if first == [HANDSHAKE_RECORD] => {}
        Ok(Ok(1)) => return Greeting::Plaintext,
        Ok(_) => return Greeting::Nothing,
    }
    match hello::client_hello(tcp, prefix, limits.first_byte_timeout).await {
        Ok(hello) => {
            let mut offered = hello.protocols.iter();
            let of_mesh = |name: &Vec<u8>| [MESH_HTTP1, MESH_HTTP2, MESH_TCP].contains(&&**name);
            if offered.any(of_mesh) {
                Greeting::Tls
            } else {
                Greeting::Plaintext
            }
        }
        Err(NoHello::Refused(_)) => Greeting::Plaintext,
        Err(NoHello::Gone | NoHello::TimedOut) => Greeting::Nothing,
    }
}

type Chain = Vec<rustls_pki_types::CertificateDer<'static>>;

/// Reads from a finished handshake who the peer is and what it speaks.
fn meet<IO>(stream: &TlsStream<IO>) -> Result<(Carries, (PeerIdentity, Chain)), TlsReason> {
    let (_, session) = stream.get_ref();
    let carries = match session.alpn_protocol() {
        Some(MESH_HTTP1) => Carries::Http(HttpVersion::Http1),
        Some(MESH_HTTP2) => Carries::Http(HttpVersion::Http2),
        Some(MESH_TCP) => Carries::Bytes,
        _ => return Err(TlsReason::TlsFailure),
    };
    let chain = session.peer_certificates();
    let identity = PeerIdentity::from_handshake(chain).map_err(|error| error.reason())?;
    let chain = chain
        .unwrap_or_default()
        .iter()
        .map(|der| der.clone().into_owned());
    Ok((carries, (identity, chain.collect())))
}
