//! Where connections come in: the outbound listener for the local application, and one inbound
//! listener per service port for mesh peers. What they carry is met in the files beside this one.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_daemon::drain::DrainWatcher;
use mesh_daemon::telemetry::Reason;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::connections::{Entry, Seen};
use crate::data_plane::Plane;
use crate::http::metrics::Reporter;
use crate::http::server::{Outbound, Side};
use crate::limits;
use crate::tcp::downstream::{keep_alive, reset, take_urgent_bytes};
use crate::tcp::outbound::{self, Client, Toward};

mod destination;
mod gateway;
mod handshake;
mod inbound;
mod inherited;
mod intercepted;
mod places;
mod plaintext;
mod socket;

use destination::Refused;
pub(crate) use handshake::linger;
pub(crate) use inbound::Application;
pub(crate) use inherited::Inherited;
pub(crate) use intercepted::Intercepted;
pub(crate) use places::{Places, Seat};
pub(crate) use socket::{bind, bind_family, cannot_listen, connections_max, inherit_or_bind};

/// What is behind a listener.
#[derive(Clone, Debug)]
pub(crate) enum Behind {
    /// The mesh.
    Mesh {
        /// Whether the proxy stands before no application.
        alone: bool,
        /// Whether connections may have been redirected.
        intercepts: bool,
    },
    /// The local application, for peers.
    Application(Application),
    /// The local applications, for peers whose connections were redirected.
    Intercepted(Arc<Intercepted>),
    /// A callee that no host names.
    Callee(SocketAddr),
    /// The mesh, for clients of a gateway.
    Gateway {
        /// The port that policy speaks of.
        port: u16,
        /// Bounds handshakes.
        handshakes: Arc<Semaphore>,
    },
}

impl Behind {
    /// Which way connections to it go, as people are told.
    fn direction(&self) -> &'static str {
        match self {
            Self::Mesh { .. } | Self::Callee(_) => "outbound",
            Self::Application(_) | Self::Intercepted(_) => "inbound",
            Self::Gateway { .. } => "gateway",
        }
    }

    /// Which side of its calls the proxy is.
    fn reporter(&self) -> Reporter {
        match self {
            Self::Mesh { .. } | Self::Callee(_) | Self::Gateway { .. } => Reporter::Source,
            Self::Application(_) | Self::Intercepted(_) => Reporter::Destination,
        }
    }

    /// Ends a connection for which there is no room.
    fn refuse(&self, tcp: &TcpStream, peer: SocketAddr, plane: &Plane) {
        plane.refused_connection(self.reporter(), Reason::OverloadShed, peer.ip(), None);
        reset(tcp);
    }

    /// Whether others than the local application connect there.
    pub(crate) fn is_inbound(&self) -> bool {
        match self {
            Self::Mesh { .. } | Self::Callee(_) => false,
            Self::Application(_) | Self::Intercepted(_) | Self::Gateway { .. } => true,
        }
    }
}

/// When a connection should finish: when the proxy ends, or when the listener that it came in by is
/// no more. Whoever holds one is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    proxy: DrainWatcher,
    listener: Option<DrainWatcher>,
    entry: Option<Arc<Entry>>,
}

impl Leaving {
    /// When the proxy ends.
    pub(crate) fn with_proxy(proxy: DrainWatcher) -> Self {
        Self {
            proxy,
            listener: None,
            entry: None,
        }
    }

    /// When the proxy ends, or the listener before it.
    pub(crate) fn with_listener(proxy: DrainWatcher, listener: DrainWatcher) -> Self {
        Self {
            proxy,
            listener: Some(listener),
            entry: None,
        }
    }

    /// The same for one connection, which is shown for as long as this is kept.
    fn of(&self, entry: Entry) -> Self {
        Self {
            entry: Some(Arc::new(entry)),
            ..self.clone()
        }
    }

    /// Where the connection is shown.
    pub(crate) fn seen(&self) -> Option<Arc<Seen>> {
        self.entry.as_ref().map(|entry| Arc::clone(&entry.seen))
    }

    /// Waits until whoever has only just connected had time enough to say something: its first bytes may have
    /// crossed with the end.
    pub(crate) async fn waited(&mut self) {
        self.draining().await;
        tokio::time::sleep(limits::DRAIN_GRACE).await;
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

/// Accepts until it is told to stop, or to finish; then the socket is closed.
pub(crate) async fn accept_all(
    listener: Arc<TcpListener>,
    behind: Behind,
    plane: Arc<Plane>,
    places: Arc<Places>,
    mut stop: DrainWatcher,
    mut drain: Leaving,
) {
    let mut last_failed = false;
    loop {
        let accepted = tokio::select! {
            () = drain.draining() => return,
            () = stop.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                last_failed = false;
                let taken = if plane.is_short_of_memory() {
                    None
                } else {
                    places.take()
                };
                let place = match taken {
                    Some(place) => place,
                    None if !plane.is_short_of_memory() => {
                        plane.metrics.limit_reached("connections");
                        let place = tokio::select! {
                            () = drain.draining() => return,
                            () = stop.draining() => return,
                            place = places.take_soon() => place,
                        };
                        let Some(place) = place else {
                            behind.refuse(&tcp, peer, &plane);
                            continue;
                        };
                        place
                    }
                    None => {
                        behind.refuse(&tcp, peer, &plane);
                        continue;
                    }
                };
                let entry = plane.connections.enter(behind.direction(), peer);
                let (behind, plane, drain) = (behind.clone(), Arc::clone(&plane), drain.of(entry));
                // The drain watcher makes whoever drains wait for the connection.
                tokio::spawn(async move {
                    let reporter = behind.reporter();
                    let connection = connected(tcp, peer, behind, Arc::clone(&plane), drain);
                    if place.hold(connection).await {
                        let reason = Reason::OverloadShed;
                        plane.refused_connection(reporter, reason, peer.ip(), None);
                    }
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
    keep_alive(&tcp);
    take_urgent_bytes(&tcp);
    // Boxed each, or every connection would take as much memory as the kind that needs most.
    match behind {
        // A gateway has no application that could call. Whoever else is on its machine must not call in its
        // name, past its access rules.
        Behind::Mesh { alone: true, .. } if plane.is_gateway() => {
            tracing::debug!(%peer, "a gateway's proxy carries no calls of its machine");
        }
        Behind::Mesh { intercepts, .. } => {
            let destination = if intercepts {
                match destination::of_application(&tcp, peer, &plane) {
                    Ok(destination) => destination,
                    Err(Refused) => return reset(&tcp),
                }
            } else {
                None
            };
            if let Some(address) = destination.filter(|address| plane.leads_to_bytes(*address)) {
                let client = Client {
                    io: tcp,
                    prefix: Vec::new(),
                    address: peer,
                };
                let toward = Toward::Address(address);
                return Box::pin(outbound::carry(client, toward, plane, drain)).await;
            }
            let side = Side::Outbound(Outbound { destination });
            Box::pin(plaintext::in_plaintext(tcp, peer, side, plane, drain)).await;
        }
        Behind::Callee(address) => {
            let client = Client {
                io: tcp,
                prefix: Vec::new(),
                address: peer,
            };
            let toward = Toward::Listener(address);
            Box::pin(outbound::carry(client, toward, plane, drain)).await;
        }
        Behind::Gateway { port, handshakes } => {
            Box::pin(gateway::enter(tcp, peer, port, plane, &handshakes, drain)).await;
        }
        Behind::Application(application) => {
            Box::pin(inbound::admit(tcp, false, peer, application, plane, drain)).await;
        }
        Behind::Intercepted(intercepted) => {
            Box::pin(intercepted::admit(tcp, peer, intercepted, plane, drain)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection takes this much for as long as it lasts, whatever it carries.
    #[test]
    fn what_waits_for_a_connection_is_small() {
        let bytes = bytes_of(connected);
        assert!(bytes <= 4096, "{bytes}");
    }
}
