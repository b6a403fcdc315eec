//! What the data plane is told at start, and the addresses that it then has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_bundle::slice::Label;

use crate::access_log::LogDefaults;
use crate::gateway::sockets::ListenAddress;
use crate::limits::Limits;
use crate::secrets::Secrets;

/// What a proxy is told at start about its traffic.
#[derive(Clone, Debug)]
pub(crate) struct DataPlaneSettings {
    /// Where the local application sends its calls.
    pub(crate) outbound: SocketAddr,
    /// Whether connections may be redirected here; none: they are made to the proxy alone.
    pub(crate) intercept: Option<Intercept>,
    /// One per port of the services that this proxy stands in front of.
    pub(crate) ports: Vec<PortBinding>,
    /// Where a gateway's listeners are opened.
    pub(crate) listen: Vec<ListenAddress>,
    /// Proxies in front of a gateway that may say in the PROXY protocol who the client is.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Key material by name.
    pub(crate) secrets: Secrets,
    /// What answers in place of services outside the mesh, in plaintext.
    pub(crate) stand_in: Option<SocketAddr>,
    /// Of this instance: what is near to it.
    pub(crate) labels: Vec<Label>,
    /// Where the access log goes.
    pub(crate) access_log: AccessLogTarget,
    /// Bounds.
    pub(crate) limits: Arc<Limits>,
    /// What is in it where policy does not say.
    pub(crate) log: LogDefaults,
    /// Name of this instance, for traces.
    pub(crate) instance: String,
    /// Whether metrics are told under Istio's names as well.
    pub(crate) istio_metrics: bool,
    /// Worker threads; none: as many as the CPU quota allows.
    pub(crate) workers: Option<NonZeroUsize>,
}

/// Why ports of services cannot be served as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    /// Nobody could reach it.
    #[error("port {0} has no inbound address: give PORT=INBOUND,APPLICATION, or --intercept")]
    NoInbound(u16),
    /// Which one is meant?
    #[error("--port {0} is given twice")]
    Twice(u16),
    /// Round and round.
    #[error("what stands for the application of port {port}, {application}, is this proxy itself")]
    Itself {
        /// The port of the service.
        port: u16,
        /// Where it was said to listen.
        application: SocketAddr,
    },
    /// What comes to that port could be for either.
    #[error(
        "the application of port {one} listens on {other}, which is another port of the service: peers who dial {other} could mean either"
    )]
    Ambiguous {
        /// One port of the service.
        one: u16,
        /// The other.
        other: u16,
    },
}

impl DataPlaneSettings {
    /// Whether the ports can be served.
    pub(crate) fn check(&self) -> Result<(), PortError> {
        let mut seen = BTreeSet::new();
        let mut ports = self.ports.iter().map(|port| port.service_port);
        if let Some(port) = ports.find(|port| !seen.insert(*port)) {
            return Err(PortError::Twice(port));
        }
        let Some(_) = &self.intercept else {
            let unreachable = self.ports.iter().find(|port| port.inbound.is_none());
            return unreachable.map_or(Ok(()), |port| Err(PortError::NoInbound(port.service_port)));
        };
        for port in &self.ports {
            let other = port.application.port();
            let is_another = other != port.service_port
                && self.ports.iter().any(|port| port.service_port == other);
            if is_another {
                let one = port.service_port;
                return Err(PortError::Ambiguous { one, other });
            }
        }
        Ok(())
    }
}

/// How redirected connections are taken, see `meshp redirect`.
#[derive(Clone, Debug)]
pub(crate) struct Intercept {
    /// Where those are taken that come in; 0 lets the system choose.
    pub(crate) inbound_port: u16,
    /// Ports of this proxy that are not its data plane's.
    pub(crate) other_ports: Vec<u16>,
}

/// One port of a service: where peers dial it, and where the application listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortBinding {
    /// The port that policy speaks of.
    pub(crate) service_port: u16,
    /// Where peers dial this proxy; port 0 lets the system choose. None: where they dial the application, and
    /// their connections are redirected.
    pub(crate) inbound: Option<SocketAddr>,
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
    /// Where redirected connections are taken that come in.
    pub(crate) intercepted: Vec<SocketAddr>,
}

impl BoundPorts {
    /// All of them.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let inbound = self.inbound.values().chain(&self.intercepted);
        inbound.chain([&self.outbound]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_nobody_reaches_or_that_mean_two_things() {
        let port = |service_port, inbound: Option<&str>, application: &str| PortBinding {
            service_port,
            inbound: inbound.map(|address| address.parse().unwrap()),
            application: application.parse().unwrap(),
        };
        let check = |intercept: bool, ports: &[PortBinding]| {
            let settings = DataPlaneSettings {
                outbound: "127.0.0.1:0".parse().unwrap(),
                intercept: intercept.then_some(Intercept {
                    inbound_port: 0,
                    other_ports: Vec::new(),
                }),
                ports: ports.to_vec(),
                listen: Vec::new(),
                trusted_proxies: Vec::new(),
                secrets: Secrets::default(),
                stand_in: None,
                labels: Vec::new(),
                access_log: AccessLogTarget::Off,
                limits: Arc::default(),
                log: LogDefaults::default(),
                instance: String::new(),
                istio_metrics: false,
                workers: None,
            };
            settings.check()
        };
        let elsewhere = port(80, None, "127.0.0.1:8080");
        assert_eq!(check(false, &[elsewhere]), Err(PortError::NoInbound(80)));
        assert_eq!(check(true, &[elsewhere]), Ok(()));
        let twice = Err(PortError::Twice(80));
        assert_eq!(check(true, &[elsewhere, elsewhere]), twice);
        let other = port(8080, None, "127.0.0.1:9000");
        let ambiguous = PortError::Ambiguous {
            one: 80,
            other: 8080,
        };
        assert_eq!(check(true, &[elsewhere, other]), Err(ambiguous));
        let own = port(8080, Some("127.0.0.1:0"), "127.0.0.1:8080");
        assert_eq!(check(true, &[own]), Ok(()));
    }
}
