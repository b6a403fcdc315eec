//! The proxy's side, as `trust.md` orders it: a connection that believes nothing and only fetches
//! what is signed, one that knows the server and enrols, and one that is known to the server too.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_bundle::envelope::ENROLMENT_TYPE;
use mesh_bundle::key::SigningKey;
use mesh_bundle::messages::bundle as bundle_wire;
use mesh_bundle::messages::distribution::{
    EnrolRequest, FetchTrustRequest, FetchTrustResponse, FollowRequest, FollowResponse,
    RenewRequest,
};
use mesh_bundle::spiffe::SpiffeId;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Status, Streaming};
use tower_service::Service;

use super::stubs::distribution_client::DistributionClient;
use super::{ALPN, Exporter};
use crate::clock::Clock;
use crate::identity::svid::{PeerIdentity, Svid, SvidError};
use crate::identity::tls::{self, Credentials, TlsConfigError};
use crate::limits::{
    CALL_TIMEOUT, CONNECT_TIMEOUT, DISTRIBUTOR_MESSAGE_BYTES_MAX, HANDSHAKE_TIMEOUT,
    RPC_PING_EVERY, RPC_PING_TIMEOUT, TRUST_MESSAGE_BYTES_MAX,
};
use crate::telemetry::TlsReason;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("connect to {address}")]
    Tcp {
        /// `host:port`.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One of the steps took too long.
    #[error("connect to {0} in time")]
    Timeout(String),
    /// No TLS.
    #[error("agree on TLS ({reason})")]
    Tls {
        /// As in logs and metrics.
        reason: TlsReason,
        /// What rustls said.
        #[source]
        source: io::Error,
    },
    /// TLS could not be configured.
    #[error(transparent)]
    Config(#[from] TlsConfigError),
    /// The server's certificate is none.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// No HTTP/2.
    #[error("agree on HTTP/2")]
    Http(#[source] hyper::Error),
    /// No exporter.
    #[error("derive the connection's secret")]
    Exporter(#[source] rustls::Error),
}

impl ConnectError {
    /// Whether the address was reached and nobody listened there.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Tcp { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// A connection to a server that is not known, for public signed objects only.
#[derive(Debug)]
pub struct PublicConnection(DistributionClient<Channel>);

impl PublicConnection {
    /// Connects to `host:port`, whoever that is.
    pub async fn connect(address: &str, clock: &Clock) -> Result<Self, ConnectError> {
        let config = tls::unverified_client_config(clock, &[ALPN])?;
        let opened = open(address, config).await?;
        Ok(Self(
            opened
                .client
                .max_decoding_message_size(TRUST_MESSAGE_BYTES_MAX),
        ))
    }

    /// Asks for the chain of trust roots from `version` on, and what they vouch for.
    pub async fn fetch_trust(
        &mut self,
        scope: bundle_wire::Scope,
        version: u64,
    ) -> Result<FetchTrustResponse, Status> {
        let request = FetchTrustRequest {
            scope: Some(scope),
            trust_root_version: version,
        };
        in_time(self.0.fetch_trust(request)).await
    }
}

/// A connection to a verified distributor that does not know us yet.
#[derive(Debug)]
pub struct VerifiedConnection {
    client: DistributionClient<Channel>,
    exporter: Exporter,
    server: PeerIdentity,
}

impl VerifiedConnection {
    /// Connects to `host:port`, which must be one of `distributors`.
    pub async fn connect(
        address: &str,
        credentials: &Credentials,
        distributors: BTreeSet<SpiffeId>,
    ) -> Result<Self, ConnectError> {
        let config = credentials.anonymous_client_config(distributors, &[ALPN])?;
        let opened = open(address, config).await?;
        let server = PeerIdentity::from_handshake(Some(&opened.chain))?;
        Ok(Self {
            client: opened
                .client
                .max_decoding_message_size(TRUST_MESSAGE_BYTES_MAX),
            exporter: opened.exporter,
            server,
        })
    }

    /// Who the server is.
    pub fn server(&self) -> &PeerIdentity {
        &self.server
    }

    /// Asks for a certificate. The token signs the request and this connection; it is not sent.
    /// The answer, leaf first, is not verified here.
    pub async fn enrol(
        &mut self,
        token_id: &str,
        token: &SigningKey,
        csr: Vec<u8>,
    ) -> Result<Vec<CertificateDer<'static>>, Status> {
        let message = super::enrolment_message(&csr, &self.exporter);
        let request = EnrolRequest {
            token_id: token_id.to_owned(),
            csr,
            signature: token.sign(&message).to_vec(),
            chain: Vec::new(),
        };
        let response = in_time(self.client.enrol(request)).await?;
        Ok(certificates(response.chain))
    }

    /// Asks for a certificate in place of one that has expired, whose key signs the request and this connection. The
    /// answer, leaf first, is not verified here.
    pub async fn enrol_by_possession(
        &mut self,
        expired: &Svid,
        csr: Vec<u8>,
    ) -> Result<Vec<CertificateDer<'static>>, Status> {
        let mut signed = csr.clone();
        signed.extend_from_slice(&self.exporter);
        let signature = expired.key().sign(ENROLMENT_TYPE, &signed);
        let request = EnrolRequest {
            token_id: String::new(),
            csr,
            signature: signature.map_err(|error| Status::internal(error.to_string()))?,
            chain: expired.chain().iter().map(|der| der.to_vec()).collect(),
        };
        let response = in_time(self.client.enrol(request)).await?;
        Ok(certificates(response.chain))
    }
}

/// A connection on which both sides know each other. Clones share it.
#[derive(Clone, Debug)]
pub struct MutualConnection {
    client: DistributionClient<Channel>,
    server: PeerIdentity,
    chain: Arc<[CertificateDer<'static>]>,
}

impl MutualConnection {
    /// Connects to `host:port`, which must be one of `distributors`, as whom `credentials` show.
    pub async fn connect(
        address: &str,
        credentials: &Credentials,
        distributors: BTreeSet<SpiffeId>,
    ) -> Result<Self, ConnectError> {
        if credentials.svid().is_none() {
            return Err(SvidError::NoCertificate.into());
        }
        let config = credentials.client_config(distributors, &[ALPN])?;
        let opened = open(address, config).await?;
        let server = PeerIdentity::from_handshake(Some(&opened.chain))?;
        Ok(Self {
            client: opened
                .client
                .max_decoding_message_size(DISTRIBUTOR_MESSAGE_BYTES_MAX),
            server,
            chain: opened.chain.into(),
        })
    }

    /// Who the server is.
    pub fn server(&self) -> &PeerIdentity {
        &self.server
    }

    /// Certificates of the server, leaf first, for judging them again when trust changes.
    pub fn server_chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Asks for the next certificate. The answer, leaf first, is not verified here.
    pub async fn renew(&mut self, csr: Vec<u8>) -> Result<Vec<CertificateDer<'static>>, Status> {
        let response = in_time(self.client.renew(RenewRequest { csr })).await?;
        Ok(certificates(response.chain))
    }

    /// Opens the stream. What is put into `requests` is sent in order; the stream ends when its
    /// sender is dropped.
    pub async fn follow(
        &mut self,
        requests: mpsc::Receiver<FollowRequest>,
    ) -> Result<Streaming<FollowResponse>, Status> {
        in_time(self.client.follow(ReceiverStream::new(requests))).await
    }
}

fn certificates(chain: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    chain.into_iter().map(CertificateDer::from).collect()
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

struct Opened {
    client: DistributionClient<Channel>,
    exporter: Exporter,
    chain: Vec<CertificateDer<'static>>,
}

async fn open(address: &str, config: Arc<ClientConfig>) -> Result<Opened, ConnectError> {
    let timeout = |_elapsed| ConnectError::Timeout(address.to_owned());
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(timeout)?
        .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
        .map_err(|source| ConnectError::Tcp {
            address: address.to_owned(),
            source,
        })?;
    let connect = TlsConnector::from(config).connect(tls::server_name(), tcp);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, connect)
        .await
        .map_err(timeout)?
        .map_err(|source| ConnectError::Tls {
            reason: tls::tls_reason(&source),
            source,
        })?;
    let (_, session) = stream.get_ref();
    let exporter = super::exporter(session).map_err(ConnectError::Exporter)?;
    let chain = session
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(RPC_PING_EVERY)
        .keep_alive_timeout(RPC_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the distributor broke");
        }
    });
    let channel = Channel {
        sender,
        _driver: Arc::new(AbortOnDrop(driver.abort_handle())),
    };
    let origin = Uri::from_static("https://distributor.mesh");
    Ok(Opened {
        client: DistributionClient::with_origin(channel, origin),
        exporter,
        chain,
    })
}

/// One HTTP/2 connection as tonic wants it.
#[derive(Clone, Debug)]
struct Channel {
    sender: http2::SendRequest<Body>,
    /// Ends with the last clone.
    _driver: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
