//! The traffic half of the proxy as the rest of the program sees it: start it, give it slices,
//! identity and endpoints, drain it. Knows nothing about where those come from.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::{Label, Slice};
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::telemetry::TlsReason;
use rustls_pki_types::CertificateDer;

/// What a proxy is told at start about its traffic.
#[derive(Clone, Debug)]
pub(crate) struct DataPlaneSettings {
    /// Where the local application sends its calls.
    pub(crate) outbound: SocketAddr,
    /// One per port of the services that this proxy stands in front of.
    pub(crate) ports: Vec<PortBinding>,
    /// Where the access log goes.
    pub(crate) access_log: AccessLogTarget,
    /// Worker threads; none: as many as the CPU quota allows.
    pub(crate) workers: Option<NonZeroUsize>,
}

/// One port of a service: where peers dial it, and where the application listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortBinding {
    /// The port that policy speaks of.
    pub(crate) service_port: u16,
    /// Where peers dial this proxy; port 0 lets the system choose.
    pub(crate) inbound: SocketAddr,
    /// Where the application listens.
    pub(crate) application: SocketAddr,
}

/// Where the access log goes.
#[derive(Clone, Debug)]
pub(crate) enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// The addresses that were opened.
#[derive(Clone, Debug)]
pub(crate) struct BoundPorts {
    /// The outbound listener.
    pub(crate) outbound: SocketAddr,
    /// The inbound listeners by port of the service.
    pub(crate) inbound: BTreeMap<u16, SocketAddr>,
}

/// The TLS side of this proxy's identity; replaced whole at each renewal and whenever the trust
/// bundles or revocations change.
#[derive(Clone)]
pub(crate) struct MeshTls {
    /// Who this proxy is.
    pub(crate) identity: SpiffeId,
    /// For inbound: TLS 1.3, a client certificate required, ALPN `mesh-h2` and `mesh-h1`.
    pub(crate) server: Arc<rustls::ServerConfig>,
    /// For upstreams that are spoken to in HTTP/1.1: ALPN `mesh-h1` only.
    pub(crate) client_h1: Arc<rustls::ClientConfig>,
    /// For upstreams that are spoken to in HTTP/2: ALPN `mesh-h2` only.
    pub(crate) client_h2: Arc<rustls::ClientConfig>,
    /// Names the peer of a verified chain.
    pub(crate) judge: Arc<dyn PeerJudge>,
}

/// Says who the peer of a chain is that TLS has verified, and refuses who was revoked meanwhile.
/// Asked after each handshake, and again for every live connection when [`MeshTls`] is replaced.
pub(crate) trait PeerJudge: Send + Sync {
    /// The SPIFFE ID of the leaf, or why this peer may not be spoken to.
    fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, TlsReason>;
}

/// Endpoints of a service that came beside the slices. They replace what the slice declares.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSet {
    /// The service.
    pub(crate) service: String,
    /// Labels of these endpoints.
    pub(crate) labels: Vec<Label>,
    /// Narrows the identities that the slice names; none: those.
    pub(crate) spiffe_id: Option<SpiffeId>,
    /// The port of the service that it serves, and where.
    pub(crate) addresses: Vec<(u16, SocketAddr)>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// Requests that were still running at the deadline and were cut.
    pub(crate) cut: usize,
}

// The methods (bodies follow):
//
// impl DataPlane {
//     pub(crate) fn start(settings: DataPlaneSettings, metrics: &mesh_daemon::telemetry::Metrics) -> io::Result<Arc<Self>>;
//     pub(crate) fn bound(&self) -> &BoundPorts;
//     /// Builds the new tables aside. `generation` is text for logs ("0.42.1").
//     pub(crate) fn prepare(&self, slice: &Slice, generation: &str) -> Result<Prepared, mesh_engine::snapshot::SnapshotError>;
//     /// Makes it current; returns how long the swap took.
//     pub(crate) fn swap(&self, prepared: Prepared) -> Duration;
//     pub(crate) fn deny_all(&self);
//     pub(crate) fn set_identity(&self, tls: MeshTls);
//     pub(crate) fn set_endpoints(&self, sets: Vec<EndpointSet>);
//     /// Stops accepting, tells peers, waits for what runs. Callable from any runtime.
//     pub(crate) async fn drain(&self, limit: Duration) -> DrainReport;
// }
// Before the first swap every request is answered 503 `no_healthy_upstream`; before the first
// identity inbound handshakes are closed and outbound calls are answered 503 `tls_failure`.
