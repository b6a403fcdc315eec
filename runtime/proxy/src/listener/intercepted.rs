//! What is behind a redirected connection from outside: the port that it was going to says which service,
//! and so which application.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_daemon::telemetry::Reason;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Leaving;
use super::destination::Ends;
use super::inbound::{self, Application};
use crate::data_plane::Plane;
use crate::http::metrics::Reporter;
use crate::tcp::downstream::reset;
use crate::upstream::pool::Endpoint;

/// The applications of this host, by what their peers dial.
#[derive(Debug)]
pub(crate) struct Intercepted {
    /// Port of the service, and where its application listens, as far as the proxy was told.
    pub(crate) told: Vec<(u16, Arc<Endpoint>)>,
    /// Those that are where their peers dial them, but on loopback.
    pub(crate) found: Mutex<BTreeMap<SocketAddr, Arc<Endpoint>>>,
    /// Ports of the proxy itself.
    pub(crate) own_ports: Vec<u16>,
    /// How peers are met.
    pub(crate) tls: Arc<ServerConfig>,
    /// Bounds handshakes.
    pub(crate) handshakes: Arc<Semaphore>,
}

impl Intercepted {
    /// What a connection to this address is for: the service whose application listens on that port, or
    /// else has a port of that number.
    fn application(&self, plane: &Plane, to: SocketAddr) -> Result<Application, Reason> {
        let tables = plane.tables().ok_or(Reason::NoConfig)?;
        let has = |port: u16| tables.snapshot().inbound(port).is_some();
        let mut told = self.told.iter();
        let told = told.find(|(_, endpoint)| endpoint.address().port() == to.port());
        let (port, endpoint) = match told {
            Some((port, endpoint)) => (*port, Arc::clone(endpoint)),
            None if has(to.port()) => {
                let elsewhere = self.told.iter().find(|(port, _)| *port == to.port());
                let endpoint = elsewhere.map(|(_, endpoint)| Arc::clone(endpoint));
                (
                    to.port(),
                    endpoint.unwrap_or_else(|| self.on_loopback(plane, to)),
                )
            }
            None => return Err(Reason::NoRoute),
        };
        Ok(Application {
            port,
            endpoint,
            tls: Arc::clone(&self.tls),
            handshakes: Arc::clone(&self.handshakes),
        })
    }

    /// An application that listens for others listens for its own host too. Of the same family: one that
    /// has no IPv6 has none for its peers either.
    fn on_loopback(&self, plane: &Plane, to: SocketAddr) -> Arc<Endpoint> {
        let host = match to.ip().to_canonical() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let address = SocketAddr::new(host, to.port());
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = found
            .entry(address)
            .or_insert_with(|| plane.application(address));
        Arc::clone(endpoint)
    }
}

/// Meets a peer whose connection was redirected.
pub(super) async fn admit(
    tcp: TcpStream,
    peer: SocketAddr,
    intercepted: Arc<Intercepted>,
    plane: Arc<Plane>,
    drain: Leaving,
) {
    let ends = match Ends::of(&tcp, peer) {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(%peer, %error, "it is gone");
            return;
        }
    };
    let judged = ends.inbound(&intercepted.own_ports);
    let judged = judged.and_then(|to| intercepted.application(&plane, to));
    match judged {
        Ok(application) => {
            inbound::admit(tcp, ends.is_of_itself(), peer, application, plane, drain).await;
        }
        Err(reason) => {
            plane.refused_connection(Reporter::Destination, reason, peer.ip(), ends.original());
            reset(&tcp);
        }
    }
}
