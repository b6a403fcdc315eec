//! Opens one connection to one endpoint: TCP, and for mesh peers always TLS with their identity
//! checked. There is no way from here to speak plaintext to a mesh peer. Services outside the mesh are
//! spoken to as policy says, see `outside.rs`.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::{Credentials, PeerIdentity, TlsConfigError, tls};
use mesh_daemon::telemetry::TlsReason;
use mesh_engine::preface;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outside::OutsideClient;
use crate::gateway::tls::{HTTP1, HTTP2};
use crate::pieces::poll_write_pieces;
use crate::tcp::downstream::{keep_alive, take_urgent_bytes};
use crate::tcp::pulse::Watched;

/// ALPN of HTTP/1.1 between proxies.
pub(crate) const MESH_HTTP1: &[u8] = b"mesh-h1";
/// ALPN of HTTP/2 between proxies.
pub(crate) const MESH_HTTP2: &[u8] = b"mesh-h2";
/// ALPN of bytes between proxies.
pub(crate) const MESH_TCP: &[u8] = preface::ALPN;

/// The HTTP version of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Requests.
    Http(HttpVersion),
    /// Bytes.
    Bytes,
}

/// How an endpoint is spoken to.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// In plaintext: the local application, or a service outside the mesh where policy says so.
    Plain,
    /// With mTLS.
    Mesh(MeshClient),
    /// With TLS towards a service outside the mesh.
    Outside(OutsideClient),
}

/// TLS towards mesh peers that have one of a set of identities.
#[derive(Clone, Debug)]
pub(crate) struct MeshClient {
    credentials: Credentials,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl MeshClient {
    /// For peers that must be one of `expected`.
    pub(crate) fn new(
        credentials: &Credentials,
        expected: &BTreeSet<SpiffeId>,
    ) -> Result<Self, TlsConfigError> {
        Ok(Self {
            credentials: credentials.clone(),
            http1: credentials.client_config(expected.clone(), &[MESH_HTTP1])?,
            http2: credentials.client_config(expected.clone(), &[MESH_HTTP2])?,
            bytes: credentials.client_config(expected.clone(), &[MESH_TCP])?,
        })
    }

    fn config(&self, carries: Carries) -> Arc<ClientConfig> {
        Arc::clone(match carries {
            Carries::Http(HttpVersion::Http1) => &self.http1,
            Carries::Http(HttpVersion::Http2) => &self.http2,
            Carries::Bytes => &self.bytes,
        })
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// TCP failed.
    #[error("connect to the endpoint")]
    Tcp,
    /// It took too long, TLS included.
    #[error("connect to the endpoint in time")]
    Timeout,
    /// TLS failed, or the peer is not who it should be.
    #[error("trust the endpoint: {0}")]
    Tls(TlsReason),
    /// HTTP/2 was not agreed on.
    #[error("agree on HTTP/2 with the endpoint")]
    Http2,
}

/// A connection, and who is at its other end.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The bytes.
    pub(crate) io: UpstreamIo,
    /// None: no mesh peer.
    pub(crate) peer: Option<Peer>,
}

/// The verified other end of an upstream connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Who it is.
    pub(crate) identity: Arc<SpiffeId>,
    /// Its chain, to be judged again when trust changes.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// What TLS says once it has ended the connection. With TLS 1.3 the peer's verdict on our
    /// certificate only comes after our first bytes, and hyper keeps it to itself.
    pub(crate) verdict: Arc<OnceLock<TlsReason>>,
}

/// Connects within `limit`.
pub(crate) async fn connect(
    address: SocketAddr,
    security: &Security,
    carries: Carries,
    limit: Duration,
) -> Result<Connected, ConnectError> {
    tokio::time::timeout(limit, connect_unbounded(address, security, carries))
        .await
        .unwrap_or(Err(ConnectError::Timeout))
}

async fn connect_unbounded(
    address: SocketAddr,
    security: &Security,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let client = match security {
        Security::Plain | Security::Outside(_) => None,
        // Without a certificate no peer would talk to us; it saves them the handshake.
        Security::Mesh(client) if client.credentials.svid().is_none() => {
            return Err(ConnectError::Tls(TlsReason::NoCertificate));
        }
        Security::Mesh(client) => Some(client),
    };
    let tcp = TcpStream::connect(address)
        .await
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|error| {
            tracing::debug!(%address, %error, "connect failed");
            ConnectError::Tcp
        })?;
    keep_alive(&tcp);
    take_urgent_bytes(&tcp);
    let tcp = Watched::new(tcp);
    if let Security::Outside(client) = security {
        return leave(address, tcp, client, carries).await;
    }
    let Some(client) = client else {
        return Ok(Connected {
            io: UpstreamIo::Plain(tcp),
            peer: None,
        });
    };
    let stream = TlsConnector::from(client.config(carries))
        .connect(tls::server_name(), tcp)
        .await
        .map_err(|error| handshake_error(address, &error))?;
    let (_, session) = stream.get_ref();
    let wanted = match carries {
        Carries::Http(HttpVersion::Http1) => MESH_HTTP1,
        Carries::Http(HttpVersion::Http2) => MESH_HTTP2,
        Carries::Bytes => MESH_TCP,
    };
    // rustls lets a server answer without ALPN; such a server is not a mesh proxy.
    if session.alpn_protocol() != Some(wanted) {
        return Err(ConnectError::Tls(TlsReason::TlsFailure));
    }
    let chain = session.peer_certificates();
    let identity =
        PeerIdentity::from_handshake(chain).map_err(|error| ConnectError::Tls(error.reason()))?;
    let chain = chain.unwrap_or_default();
    let verdict = Arc::default();
    let peer = Peer {
        identity: Arc::new(identity.spiffe_id),
        chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        verdict: Arc::clone(&verdict),
    };
    Ok(Connected {
        io: UpstreamIo::Tls(Box::new(stream), verdict),
        peer: Some(peer),
    })
}

/// TLS with a service outside the mesh.
async fn leave(
    address: SocketAddr,
    tcp: Watched<TcpStream>,
    client: &OutsideClient,
    carries: Carries,
) -> Result<Connected, ConnectError> {
    let stream = TlsConnector::from(client.config(carries))
        .connect(client.name(), tcp)
        .await
        .map_err(|error| handshake_error(address, &error))?;
    let agreed = stream.get_ref().1.alpn_protocol();
    match (carries, agreed) {
        (Carries::Http(HttpVersion::Http2), Some(HTTP2)) => {}
        (Carries::Http(HttpVersion::Http2), _) => return Err(ConnectError::Http2),
        // Most servers that speak only HTTP/1.1 know no ALPN.
        (Carries::Http(HttpVersion::Http1), None | Some(HTTP1)) => {}
        // Nobody asked for any.
        (Carries::Bytes, None) => {}
        (Carries::Http(HttpVersion::Http1) | Carries::Bytes, Some(_)) => {
            return Err(ConnectError::Tls(TlsReason::TlsFailure));
        }
    }
    Ok(Connected {
        io: UpstreamIo::Tls(Box::new(stream), Arc::default()),
        peer: None,
    })
}

fn handshake_error(address: SocketAddr, error: &io::Error) -> ConnectError {
    let reason = tls::tls_reason(error);
    tracing::debug!(%address, %error, %reason, "handshake failed");
    match error.kind() {
        // The listener went away in between: nothing was said about trust.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ConnectError::Tcp,
        io::ErrorKind::UnexpectedEof => ConnectError::Tcp,
        _ => ConnectError::Tls(reason),
    }
}

/// Bytes to and from an endpoint.
#[derive(Debug)]
pub(crate) enum UpstreamIo {
    /// Plaintext.
    Plain(Watched<TcpStream>),
    /// TLS, and where the verdict of a mesh peer is noted.
    Tls(Box<TlsStream<Watched<TcpStream>>>, Arc<OnceLock<TlsReason>>),
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io, verdict) => {
                let read = Pin::new(io).poll_read(cx, buf);
                if let Poll::Ready(Err(error)) = &read
                    && error
                        .get_ref()
                        .is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>)
                {
                    verdict.get_or_init(|| tls::tls_reason(error));
                }
                read
            }
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io, _) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io, _) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io, _) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => poll_write_pieces(io, cx, bufs),
            Self::Tls(io, _) => poll_write_pieces(io, cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io, _) => io.is_write_vectored(),
        }
    }
}
