//! Where connections come in: the outbound listener for the local application, and one inbound
//! listener per service port for mesh peers. From accept to the first byte of HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::identity::{PeerIdentity, tls};
use mesh_daemon::telemetry::TlsReason;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::data_plane::Plane;
use crate::gateway;
use crate::http::server::{self, Connection, Entrance, Inbound, Side};
use crate::http::wire::WireState;
use crate::http::wire::frames::PREFACE;
use crate::limits;
use crate::upstream::connect::{HttpVersion, MESH_HTTP1, MESH_HTTP2};
use crate::upstream::pool::Endpoint;

/// Opens a listening socket. A proxy that is started again takes its port back at once.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    open(address).map_err(|source| cannot_listen(address, source))
}

/// An error that says where.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}")]
struct ListenError {
    address: String,
    source: io::Error,
}

/// Of the several addresses that a proxy opens, names the one that it could not.
pub(crate) fn cannot_listen(address: impl std::fmt::Display, source: io::Error) -> io::Error {
    let address = address.to_string();
    io::Error::new(source.kind(), ListenError { address, source })
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// How many connections one direction may accept, with as many file descriptors as the process can
/// get.
pub(crate) fn connections_max() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let descriptors = raised
        .inspect_err(|error| tracing::warn!(%error, "file descriptors stay few"))
        .or_else(|_kept| getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft));
    limits::connections_max(descriptors.unwrap_or(0))
}

/// What is behind a listener.
#[derive(Clone, Debug)]
pub(crate) enum Behind {
    /// The mesh.
    Mesh {
        /// Whether the proxy stands before no application.
        alone: bool,
    },
    /// The local application, for peers with a certificate.
    Application {
        /// The port that policy speaks of.
        port: u16,
        /// Where it listens.
        application: Arc<Endpoint>,
        /// How peers are met.
        tls: Arc<ServerConfig>,
        /// Bounds handshakes.
        handshakes: Arc<Semaphore>,
    },
    /// The mesh, for clients of a gateway.
    Gateway {
        /// The port that policy speaks of.
        port: u16,
        /// Bounds handshakes.
        handshakes: Arc<Semaphore>,
    },
}

/// When a connection should finish: when the proxy ends, or when the listener that it came in by is
/// no more. Whoever holds one is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    proxy: DrainWatcher,
    listener: Option<DrainWatcher>,
}

impl Leaving {
    /// When the proxy ends.
    pub(crate) fn with_proxy(proxy: DrainWatcher) -> Self {
        Self {
            proxy,
            listener: None,
        }
    }

    /// When the proxy ends, or the listener before it.
    pub(crate) fn with_listener(proxy: DrainWatcher, listener: DrainWatcher) -> Self {
        Self {
            proxy,
            listener: Some(listener),
        }
    }

    /// Waits until it is time to finish.
    pub(crate) async fn draining(&mut self) {
        match &mut self.listener {
            None => self.proxy.draining().await,
            Some(listener) => tokio::select! {
                () = self.proxy.draining() => {}
                () = listener.draining() => {}
            },
        }
    }
}

/// Accepts until it is time to finish; then the socket is closed.
pub(crate) async fn accept_all(
    listener: TcpListener,
    behind: Behind,
    plane: Arc<Plane>,
    places: Arc<Semaphore>,
    mut drain: Leaving,
) {
    let mut last_failed = false;
    loop {
        let place = tokio::select! {
            () = drain.draining() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = drain.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                last_failed = false;
                let (behind, plane, drain) = (behind.clone(), Arc::clone(&plane), drain.clone());
                // The drain watcher makes whoever drains wait for the connection.
                tokio::spawn(async move {
                    connected(tcp, peer, behind, plane, drain).await;
                    drop(place);
                });
            }
            Err(error) => {
                if !last_failed {
                    tracing::warn!(%error, "no connection can be accepted");
                }
                last_failed = true;
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connected(
    tcp: TcpStream,
    peer: SocketAddr,
    behind: Behind,
    plane: Arc<Plane>,
    drain: Leaving,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    match behind {
        // A gateway has no application that could call. Whoever else is on its machine must not call in its
        // name, past its access rules.
        Behind::Mesh { alone: true } if plane.is_gateway() => {
            tracing::debug!(%peer, "a gateway's proxy carries no calls of its machine");
        }
        Behind::Mesh { .. } => in_plaintext(tcp, peer, Side::Outbound, plane, drain).await,
        Behind::Gateway { port, handshakes } => {
            enter(tcp, peer, port, plane, &handshakes, drain).await;
        }
        Behind::Application {
            port,
            application,
            tls,
            handshakes,
        } => {
            let recheck = plane.recheck();
            let met = match shake_hands(tcp, |_| tls, &handshakes).await {
                Ok(stream) => meet(&stream).map(|(version, inbound)| (stream, version, inbound)),
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
            let (stream, version, (identity, chain)) = match met {
                Ok(met) => met,
                Err(reason) => return plane.refused_peer(reason, peer.ip()),
            };
            let Ok(peer_header) = HeaderValue::try_from(identity.spiffe_id.as_str()) else {
                return plane.refused_peer(TlsReason::BadSpiffeId, peer.ip());
            };
            let side = Side::Inbound(Inbound {
                port,
                application,
                peer: Arc::new(identity.spiffe_id),
                peer_header,
                chain,
                edge: OnceLock::new(),
            });
            let connection = Connection {
                plane,
                wire: Arc::new(WireState::default()),
                side,
                peer_ip: peer.ip(),
            };
            // TLS tells by itself that a stream was cut.
            let reset = |_: &_| ();
            server::serve(
                stream,
                reset,
                Vec::new(),
                version,
                connection,
                recheck,
                drain,
            )
            .await;
        }
    }
}

/// Why there is no TLS session.
enum NoHandshake {
    /// It went wrong, and the peer may still want to read why.
    Failed(io::Error, Option<TcpStream>),
    /// The peer was silent for too long.
    TimedOut,
}

impl From<Elapsed> for NoHandshake {
    fn from(_: Elapsed) -> Self {
        Self::TimedOut
    }
}

/// `choose` says how to answer what the peer greets with.
async fn shake_hands(
    tcp: TcpStream,
    choose: impl FnOnce(&ClientHello<'_>) -> Arc<ServerConfig>,
    handshakes: &Semaphore,
) -> Result<TlsStream<TcpStream>, NoHandshake> {
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let greeted = timeout(limits::HELLO_TIMEOUT, &mut hello).await?;
    let started = greeted.map_err(|error| NoHandshake::Failed(error, hello.take_io()))?;
    let tls = choose(&started.client_hello());
    let handshake = started.into_stream(tls).into_fallible();
    let _turn = handshakes.acquire().await;
    timeout(limits::HANDSHAKE_TIMEOUT, handshake)
        .await?
        .map_err(|(error, tcp)| NoHandshake::Failed(error, Some(tcp)))
}

/// Lets the peer read why it was refused: closed at once, with its first request unread, the
/// connection would be reset and the alert lost.
async fn linger(mut tcp: TcpStream) {
    let reading = async {
        tcp.shutdown().await?;
        tokio::io::copy(
            &mut tcp.take(limits::LINGER_BYTES_MAX),
            &mut tokio::io::sink(),
        )
        .await
    };
    // Whatever comes of it, the connection ends here.
    drop(timeout(limits::LINGER_TIMEOUT, reading).await);
}

type Chain = Vec<rustls_pki_types::CertificateDer<'static>>;

/// Reads from a finished handshake who the peer is and what it speaks.
fn meet(stream: &TlsStream<TcpStream>) -> Result<(HttpVersion, (PeerIdentity, Chain)), TlsReason> {
    let (_, session) = stream.get_ref();
    let version = match session.alpn_protocol() {
        Some(MESH_HTTP1) => HttpVersion::Http1,
        Some(MESH_HTTP2) => HttpVersion::Http2,
        _ => return Err(TlsReason::TlsFailure),
    };
    let chain = session.peer_certificates();
    let identity = PeerIdentity::from_handshake(chain).map_err(|error| error.reason())?;
    let chain = chain
        .unwrap_or_default()
        .iter()
        .map(|der| der.clone().into_owned());
    Ok((version, (identity, chain.collect())))
}

/// Meets a client of a gateway.
async fn enter(
    tcp: TcpStream,
    peer: SocketAddr,
    port: u16,
    plane: Arc<Plane>,
    handshakes: &Semaphore,
    drain: Leaving,
) {
    // Its socket is only accepted from once there are tables, and until there are others without it.
    let Some(tables) = plane.tables() else { return };
    let Some(listeners) = tables.entries().port(port) else {
        return;
    };
    let entrance = |tls, name| Side::Gateway(Entrance { port, tls, name });
    if !listeners.is_tls() {
        // Nothing is held for a connection that may last.
        drop(tables);
        return in_plaintext(tcp, peer, entrance(false, None), plane, drain).await;
    }
    let recheck = plane.recheck();
    let mut name = None;
    let choose = |hello: &ClientHello<'_>| {
        name = hello.server_name().map(str::to_owned);
        listeners.meet(name.as_deref())
    };
    let stream = match shake_hands(tcp, choose, handshakes).await {
        Ok(stream) => stream,
        Err(NoHandshake::TimedOut) => return plane.refused_client(peer.ip()),
        Err(NoHandshake::Failed(error, tcp)) => {
            tracing::debug!(%peer, %error, "handshake of a client failed");
            plane.refused_client(peer.ip());
            if let Some(tcp) = tcp {
                linger(tcp).await;
            }
            return;
        }
    };
    drop(tables);
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(gateway::tls::HTTP2) => HttpVersion::Http2,
        // What a client without ALPN speaks (RFC 9112 section 9.7).
        _ => HttpVersion::Http1,
    };
    let connection = Connection {
        plane,
        wire: Arc::new(WireState::default()),
        side: entrance(true, name),
        peer_ip: peer.ip(),
    };
    // TLS tells by itself that a stream was cut.
    let reset = |_: &_| ();
    server::serve(
        stream,
        reset,
        Vec::new(),
        version,
        connection,
        recheck,
        drain,
    )
    .await;
}

async fn in_plaintext(
    mut tcp: TcpStream,
    peer: SocketAddr,
    side: Side,
    plane: Arc<Plane>,
    mut drain: Leaving,
) {
    let recheck = plane.recheck();
    let detected = tokio::select! {
        // Nothing was asked yet, so nothing is lost.
        () = drain.draining() => return,
        detected = timeout(limits::DETECT_TIMEOUT, detect(&mut tcp)) => detected,
    };
    let (version, prefix) = match detected {
        Ok(Ok(Some(detected))) => detected,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%error, "nothing came");
            return;
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "nothing came in time");
            return;
        }
    };
    let connection = Connection {
        plane,
        wire: Arc::new(WireState::default()),
        side,
        peer_ip: peer.ip(),
    };
    server::serve(tcp, reset, prefix, version, connection, recheck, drain).await;
}

/// Makes the end of a connection a reset.
fn reset(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "no reset");
    }
}

/// Tells HTTP/2 with prior knowledge by its preface; everything else is for the HTTP/1 codec to
/// judge. None: the peer closed without a word.
async fn detect(tcp: &mut TcpStream) -> io::Result<Option<(HttpVersion, Vec<u8>)>> {
    let mut prefix = Vec::with_capacity(PREFACE.len());
    loop {
        let missing = PREFACE.len() - prefix.len();
        let read = (&mut *tcp)
            .take(missing as u64)
            .read_buf(&mut prefix)
            .await?;
        if prefix == PREFACE {
            return Ok(Some((HttpVersion::Http2, prefix)));
        }
        if !PREFACE.starts_with(&prefix) {
            return Ok(Some((HttpVersion::Http1, prefix)));
        }
        if read == 0 {
            return Ok((!prefix.is_empty()).then_some((HttpVersion::Http1, prefix)));
        }
    }
}
