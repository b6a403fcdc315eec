//! The sockets that policy asks for: those of a gateway's listeners, and those for callees that no host names. A
//! generation says which there are; one that the next has too stays, so that nothing that waits in its backlog
//! is lost.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mesh_daemon::drain::{self, DrainTrigger, DrainWatcher};

use crate::limits;
use crate::listener::{self, Inherited};

/// Where a listener is opened, as `--listen PORT=ADDR` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// The port that policy speaks of; none: any other.
    pub(crate) port: Option<u16>,
    /// Where it is opened; port 0 lets the system choose.
    pub(crate) address: SocketAddr,
}

/// All sockets that generations opened and that are still in use.
#[derive(Debug)]
pub(crate) struct Sockets {
    at: Vec<ListenAddress>,
    /// A generation may be prepared, and another one after it, before either serves.
    known: Mutex<BTreeMap<Purpose, Weak<Socket>>>,
    /// What another process has handed over.
    inherited: Arc<Inherited>,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The listener of a gateway, by the port that policy speaks of.
    Gateway(u16),
    /// A callee, by the address that policy speaks of.
    Callee(SocketAddr),
}

impl Purpose {
    /// As a successor knows it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Gateway(port) => format!("gateway/{port}"),
            Self::Callee(address) => format!("callee/{address}"),
        }
    }

    /// The port that policy speaks of.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Gateway(port) => port,
            Self::Callee(address) => address.port(),
        }
    }
}

/// The socket of one listener, from when a generation that has it is prepared until one that has
/// it not is served.
#[derive(Debug)]
pub(crate) struct Socket {
    purpose: Purpose,
    address: SocketAddr,
    /// Bound, and nobody accepts yet.
    waiting: Mutex<Option<TcpListener>>,
    closing: DrainTrigger,
}

impl Sockets {
    /// None yet, but for those that were handed over.
    pub(crate) fn new(at: Vec<ListenAddress>, inherited: Arc<Inherited>) -> Self {
        Self {
            at,
            known: Mutex::default(),
            inherited,
        }
    }

    /// The socket for a purpose: the one that is open, or a new one.
    pub(crate) fn open(&self, purpose: Purpose) -> io::Result<Arc<Socket>> {
        let mut known = self.lock();
        let open = known.get(&purpose).and_then(Weak::upgrade);
        if let Some(open) = open.filter(|open| !open.is_closed()) {
            return Ok(open);
        }
        let address = self.address(purpose);
        let handed_over = self.inherited.listener(&purpose.name(), address);
        let listener = handed_over.map_or_else(|| bind(address), Ok)?;
        let socket = Arc::new(Socket {
            purpose,
            address: listener.local_addr()?,
            waiting: Mutex::new(Some(listener)),
            closing: drain::channel().0,
        });
        known.insert(purpose, Arc::downgrade(&socket));
        Ok(socket)
    }

    fn address(&self, purpose: Purpose) -> SocketAddr {
        let port = purpose.port();
        let given = self.at.iter().find(|at| at.port == Some(port));
        let any_other = || self.at.iter().find(|at| at.port.is_none());
        let as_policy_says = || match purpose {
            Purpose::Gateway(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            Purpose::Callee(address) => address,
        };
        given
            .or_else(any_other)
            .map_or_else(as_policy_says, |at| at.address)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Purpose, Weak<Socket>>> {
        // A panic elsewhere leaves a map that is still good.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that an earlier generation had is closed by a worker, which may not have come to it.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    for _ in 0..limits::REBIND_TRIES {
        match listener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                std::thread::sleep(limits::REBIND_PAUSE);
            }
            bound => return bound,
        }
    }
    listener::bind(address)
}

impl Socket {
    /// What it is for.
    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Where it was opened.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to accept from; only the first who asks gets it.
    pub(crate) fn take(&self) -> Option<TcpListener> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.take()
    }

    /// Learns when no more is accepted and connections should finish.
    pub(crate) fn watch(&self) -> DrainWatcher {
        self.closing.watcher()
    }

    /// Accepts no more; connections are told to finish.
    pub(crate) fn close(&self) {
        self.closing.start();
    }

    fn is_closed(&self) -> bool {
        self.watch().is_draining()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(at: Vec<ListenAddress>) -> Sockets {
        Sockets::new(at, Arc::default())
    }

    fn sockets() -> Sockets {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        with(vec![ListenAddress {
            port: None,
            address,
        }])
    }

    #[test]
    fn a_port_that_stays_keeps_its_socket() {
        let sockets = sockets();
        let first = sockets.open(Purpose::Gateway(8443)).unwrap();
        assert!(first.take().is_some());
        let second = sockets.open(Purpose::Gateway(8443)).unwrap();
        assert_eq!(first.address(), second.address());
        assert!(second.take().is_none(), "it is accepted from already");
        first.close();
        let third = sockets.open(Purpose::Gateway(8443)).unwrap();
        assert!(third.take().is_some(), "one that was closed is opened anew");
    }

    #[test]
    fn a_socket_that_was_never_used_is_closed_with_its_generation() {
        let sockets = sockets();
        let socket = sockets.open(Purpose::Gateway(8443)).unwrap();
        let address = socket.address();
        drop(socket);
        assert!(listener::bind(address).is_ok());
    }

    #[test]
    fn each_port_has_its_address() {
        let at = |port, text: &str| ListenAddress {
            port,
            address: text.parse().unwrap(),
        };
        let sockets = with(vec![at(None, "127.0.0.1:0"), at(Some(80), "10.0.0.1:81")]);
        assert_eq!(
            sockets.address(Purpose::Gateway(80)).to_string(),
            "10.0.0.1:81"
        );
        assert_eq!(
            sockets.address(Purpose::Gateway(81)).to_string(),
            "127.0.0.1:0"
        );
        assert_eq!(
            with(Vec::new()).address(Purpose::Gateway(80)).to_string(),
            "0.0.0.0:80"
        );
        let callee = Purpose::Callee("127.0.0.1:15432".parse().unwrap());
        let as_said = with(Vec::new()).address(callee);
        assert_eq!(as_said.to_string(), "127.0.0.1:15432");
    }
}
