//! What the data plane is told at start, and the addresses that it then has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::gateway::sockets::ListenAddress;
use crate::secrets::Secrets;

/// What a proxy is told at start about its traffic.
#[derive(Clone, Debug)]
pub(crate) struct DataPlaneSettings {
    /// Where the local application sends its calls.
    pub(crate) outbound: SocketAddr,
    /// One per port of the services that this proxy stands in front of.
    pub(crate) ports: Vec<PortBinding>,
    /// Where a gateway's listeners are opened.
    pub(crate) listen: Vec<ListenAddress>,
    /// Key material by name.
    pub(crate) secrets: Secrets,
    /// What answers in place of services outside the mesh, in plaintext.
    pub(crate) stand_in: Option<SocketAddr>,
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
