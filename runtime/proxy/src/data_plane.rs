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
use mesh_daemon::identity::Credentials;
use mesh_daemon::telemetry::Metrics;

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
//     /// `credentials` is shared: TLS follows whatever is set there, see `recheck_peers`.
//     pub(crate) fn start(settings: DataPlaneSettings, credentials: Credentials, metrics: &Metrics) -> io::Result<Arc<Self>>;
//     pub(crate) fn bound(&self) -> &BoundPorts;
//     /// Builds the new tables aside. `generation` is text for logs ("0.42.1").
//     pub(crate) fn prepare(&self, slice: &Slice, generation: &str) -> Result<Prepared, mesh_engine::SnapshotError>;
//     /// Makes it current; returns how long the swap took.
//     pub(crate) fn swap(&self, prepared: Prepared) -> Duration;
//     /// Refuses every inbound request (403) and every outbound call from now on.
//     pub(crate) fn deny_all(&self);
//     /// To call after `credentials.set_trust`: judges the peer of every live connection again and
//     /// cuts those that are not trusted any more.
//     pub(crate) fn recheck_peers(&self);
//     /// Replaces all discovered endpoints.
//     pub(crate) fn set_endpoints(&self, sets: Vec<EndpointSet>);
//     /// Stops accepting, tells peers, waits for what runs. Callable from any runtime.
//     pub(crate) async fn drain(&self, limit: Duration) -> DrainReport;
// }
// Before the first swap every request is answered 503 `no_config`; without a certificate inbound
// handshakes fail and outbound calls are answered 503 `tls_failure`.
