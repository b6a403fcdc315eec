//! The distributor's side: accepts, does TLS, and tells each handler whom it is talking to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tower_service::Service;

use super::stubs::distribution_server::{Distribution, DistributionServer};
use super::{ALPN, Exporter};
use crate::drain::DrainWatcher;
use crate::identity::svid::PeerIdentity;
use crate::identity::tls::{self, ClientAuth, Credentials, TlsConfigError};
use crate::limits::{
    HANDSHAKE_TIMEOUT, PROXY_MESSAGE_BYTES_MAX, RPC_CONNECTIONS_MAX, RPC_HANDSHAKE_TURN,
    RPC_HANDSHAKES_MAX, RPC_PING_EVERY, RPC_PING_TIMEOUT, RPC_STREAMS_MAX, RPC_UNKNOWN_PEER_LIFE,
};

/// How long open streams may go on after a drain has begun.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// What is known of a connection; see [`connection_info`].
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Who opened it; none without a certificate.
    pub peer: Option<PeerIdentity>,
    /// Its certificates, leaf first, for judging them again when trust changes.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// What an enrolment on it is bound to.
    pub exporter: Exporter,
    /// From where.
    pub remote: SocketAddr,
}

/// What is known of the connection that a request came on.
pub fn connection_info<T>(request: &tonic::Request<T>) -> Option<&Arc<ConnectionInfo>> {
    request.extensions().get()
}

/// A bound listener for the stream.
#[derive(Debug)]
pub struct RpcListener {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl RpcListener {
    /// Binds. Peers need no certificate, since those that enrol have none, but one that is shown
    /// must be good; each handler says what it needs.
    pub async fn bind(address: SocketAddr, credentials: &Credentials) -> Result<Self, BindError> {
        let config = credentials.server_config(ClientAuth::Optional, &[ALPN])?;
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, config })
    }

    /// Where.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to drain.
    pub async fn serve<T: Distribution>(self, handlers: T, mut drain: DrainWatcher) {
        let service =
            DistributionServer::new(handlers).max_decoding_message_size(PROXY_MESSAGE_BYTES_MAX);
        let connections_max = Arc::new(Semaphore::new(RPC_CONNECTIONS_MAX));
        let handshakes_max = Arc::new(Semaphore::new(RPC_HANDSHAKES_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (tcp, remote) = tokio::select! {
                () = drain.draining() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        // Out of descriptors: trying again at once would spin.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let Ok(permit) = Arc::clone(&connections_max).try_acquire_owned() else {
                tracing::warn!(%remote, "too many connections");
                continue;
            };
            let accepting = Accepting {
                config: Arc::clone(&self.config),
                handshakes_max: Arc::clone(&handshakes_max),
                drain: drain.clone(),
                _permit: permit,
            };
            connections.spawn(accepting.run(tcp, remote, service.clone()));
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("listen")]
    Listen(#[from] io::Error),
    /// TLS could not be configured.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
}

struct Accepting {
    config: Arc<ServerConfig>,
    handshakes_max: Arc<Semaphore>,
    drain: DrainWatcher,
    _permit: OwnedSemaphorePermit,
}

impl Accepting {
    async fn run<T: Distribution>(
        mut self,
        tcp: TcpStream,
        remote: SocketAddr,
        service: DistributionServer<T>,
    ) {
        let handshake = self.handshake(tcp, remote);
        let (stream, info) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(error)) => {
                let reason = tls::tls_reason(&error);
                tracing::info!(%remote, %reason, %error, "refused a connection");
                return;
            }
            Err(_) => {
                tracing::info!(%remote, "handshake took too long");
                return;
            }
        };
        let is_unknown = info.peer.is_none();
        let info = Arc::new(info);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&info));
            service.clone().call(request)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(RPC_PING_EVERY)
            .keep_alive_timeout(RPC_PING_TIMEOUT)
            .max_concurrent_streams(RPC_STREAMS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let overstayed = async {
            if is_unknown {
                tokio::time::sleep(RPC_UNKNOWN_PEER_LIFE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let result = tokio::select! {
            result = &mut connection => result,
            () = overstayed => {
                tracing::info!(%remote, "a peer without a certificate stayed too long");
                return;
            }
            () = self.drain.draining() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(DRAIN_GRACE, connection).await {
                    Ok(result) => result,
                    Err(_) => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%remote, %error, "connection broke");
        }
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
    ) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, ConnectionInfo)> {
        tcp.set_nodelay(true)?;
        // Who says nothing takes no turn from those who do.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
        let turn = self
            .handshakes_max
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let handshake = hello.into_stream(Arc::clone(&self.config));
        let stream = tokio::time::timeout(RPC_HANDSHAKE_TURN, handshake).await??;
        drop(turn);
        let (_, session) = stream.get_ref();
        let chain: Arc<[_]> = session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let peer = chain
            .first()
            .map(PeerIdentity::from_leaf)
            .transpose()
            .map_err(io::Error::other)?;
        let exporter = super::exporter(session).map_err(io::Error::other)?;
        let info = ConnectionInfo {
            peer,
            chain,
            exporter,
            remote,
        };
        Ok((stream, info))
    }
}
