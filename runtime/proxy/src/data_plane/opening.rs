//! Opens the listeners that a proxy has from its start: for its application's calls, for its peers, and for
//! connections that are redirected to it. Those that policy asks for are opened with generations.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::plane::Plane;
use super::settings::{BoundPorts, Intercept, PortBinding, PortError};
use crate::listener::{self, Application, Behind, Inherited, Intercepted, Places};
use crate::upstream::pool::Endpoint;

/// A listener that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Listener {
    /// What it is for, as a successor knows it.
    pub(super) name: String,
    pub(super) socket: TcpListener,
    pub(super) behind: Behind,
    /// How many connections it may have with others.
    pub(super) places: Arc<Places>,
}

/// Names of what listens.
const OUTBOUND: &str = "outbound";
const INTERCEPTED: &str = "intercepted";

/// What is open.
pub(super) struct Opened {
    /// Where.
    pub(super) bound: BoundPorts,
    /// Nobody accepts yet.
    pub(super) listeners: Vec<Listener>,
}

/// What listeners need beyond their sockets.
pub(super) struct With<'p> {
    pub(super) plane: &'p Plane,
    /// What another process has handed over.
    pub(super) inherited: &'p Inherited,
    /// How peers are met.
    pub(super) tls: Arc<ServerConfig>,
    /// Bounds handshakes.
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) outbound_places: Arc<Places>,
    pub(super) inbound_places: Arc<Places>,
}

/// Opens all of them, or says which one cannot be.
pub(super) fn open(
    outbound: SocketAddr,
    intercept: Option<Intercept>,
    ports: &[PortBinding],
    with: With<'_>,
) -> io::Result<Opened> {
    let outbound = listener::inherit_or_bind(with.inherited, OUTBOUND, outbound)?;
    let mut opened = Opened {
        bound: BoundPorts {
            outbound: outbound.local_addr()?,
            inbound: BTreeMap::new(),
            intercepted: Vec::new(),
        },
        listeners: Vec::new(),
    };
    let mesh = Behind::Mesh {
        alone: ports.is_empty(),
        intercepts: intercept.is_some(),
    };
    let places = Arc::clone(&with.outbound_places);
    opened.listeners.push(Listener {
        name: OUTBOUND.to_owned(),
        socket: outbound,
        behind: mesh.clone(),
        places,
    });
    let mut told = Vec::new();
    for port in ports {
        let application = with.plane.application(port.application);
        told.push((port.service_port, Arc::clone(&application)));
        if let Some(inbound) = port.inbound {
            opened.port(port.service_port, inbound, application, &with)?;
        }
    }
    if let Some(intercept) = intercept {
        opened.redirected(intercept, mesh, told, with)?;
    }
    let own = opened.bound.all();
    let itself = ports.iter().find(|port| {
        let application = port.application;
        own.iter().any(|own| is_reached_at(*own, application))
    });
    match itself {
        None => Ok(opened),
        Some(port) => {
            let error = PortError::Itself {
                port: port.service_port,
                application: port.application,
            };
            Err(io::Error::new(io::ErrorKind::InvalidInput, error))
        }
    }
}

impl Opened {
    /// For the peers who call one port of a service.
    fn port(
        &mut self,
        port: u16,
        inbound: SocketAddr,
        endpoint: Arc<Endpoint>,
        with: &With<'_>,
    ) -> io::Result<()> {
        let name = format!("inbound/{port}");
        let listener = listener::inherit_or_bind(with.inherited, &name, inbound)?;
        self.bound.inbound.insert(port, listener.local_addr()?);
        let behind = Behind::Application(Application {
            port,
            endpoint,
            tls: Arc::clone(&with.tls),
            handshakes: Arc::clone(&with.handshakes),
        });
        let places = Arc::clone(&with.inbound_places);
        self.listeners.push(Listener {
            name,
            socket: listener,
            behind,
            places,
        });
        Ok(())
    }

    /// For redirected connections. Each family has its own socket, which knows where they were going.
    fn redirected(
        &mut self,
        intercept: Intercept,
        mesh: Behind,
        told: Vec<(u16, Arc<Endpoint>)>,
        with: With<'_>,
    ) -> io::Result<()> {
        // `REDIRECT` leads a connection of this host to its loopback.
        let other = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.bound.outbound.port());
        if self.bound.outbound.ip() == Ipv4Addr::LOCALHOST
            && let Some(outbound) = of_family(with.inherited, OUTBOUND, other)?
        {
            self.listeners.push(Listener {
                name: OUTBOUND.to_owned(),
                socket: outbound,
                behind: mesh,
                places: with.outbound_places,
            });
        }
        let everywhere = [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
        ];
        let mut inbound = Vec::new();
        for address in everywhere {
            let address = SocketAddr::new(address, intercept.inbound_port);
            if let Some(listener) = of_family(with.inherited, INTERCEPTED, address)? {
                self.bound.intercepted.push(listener.local_addr()?);
                inbound.push(listener);
            }
        }
        let mut own_ports = intercept.other_ports;
        own_ports.extend(self.bound.all().iter().map(SocketAddr::port));
        let behind = Behind::Intercepted(Arc::new(Intercepted {
            told,
            found: Mutex::default(),
            own_ports,
            tls: with.tls,
            handshakes: with.handshakes,
        }));
        for listener in inbound {
            let places = Arc::clone(&with.inbound_places);
            self.listeners.push(Listener {
                name: INTERCEPTED.to_owned(),
                socket: listener,
                behind: behind.clone(),
                places,
            });
        }
        Ok(())
    }
}

fn of_family(
    inherited: &Inherited,
    name: &str,
    address: SocketAddr,
) -> io::Result<Option<TcpListener>> {
    match inherited.listener(name, address) {
        Some(listener) => Ok(Some(listener)),
        None => listener::bind_family(address),
    }
}

/// Whether whoever dials the address is taken by a listener that is bound there.
fn is_reached_at(listener: SocketAddr, address: SocketAddr) -> bool {
    let everywhere = listener.ip().is_unspecified();
    listener.port() == address.port() && (everywhere || listener.ip() == address.ip())
}
