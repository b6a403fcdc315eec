//! Which listeners there are, who accepts from them, and copies of them for a process that takes over.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mesh_daemon::drain::DrainWatcher;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::DataPlane;
use super::opening::Listener;
use crate::gateway::sockets::{Purpose, Socket};
use crate::listener::{self, Behind, Leaving, Places};

/// The listeners of a data plane.
#[derive(Debug)]
pub(super) struct Accepting(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Those that it has from its start, until they are accepted from.
    waiting: Vec<Listener>,
    /// Whether anything is accepted.
    begun: bool,
    /// Those that policy asks for.
    open: Vec<Arc<Socket>>,
    /// All that are accepted from, by what they are for; who accepts owns them.
    running: Vec<(String, Weak<TcpListener>)>,
}

impl Accepting {
    /// From these, when it is time.
    pub(super) fn new(waiting: Vec<Listener>) -> Self {
        Self(Mutex::new(State {
            waiting,
            begun: false,
            open: Vec::new(),
            running: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves lists that are still good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataPlane {
    /// Begins to accept.
    pub(crate) fn accept(&self) -> io::Result<()> {
        let mut state = self.accepting.lock();
        state.begun = true;
        for waiting in std::mem::take(&mut state.waiting) {
            let Listener {
                name,
                socket,
                behind,
                places,
            } = waiting;
            self.accept_from(&mut state, name, socket, (behind, places), None)?;
        }
        let open = state.open.clone();
        for socket in open {
            self.accept_policys(&mut state, &socket);
        }
        Ok(())
    }

    /// Accepts from exactly these sockets of policy; one that stays is not touched.
    pub(super) fn listen(&self, sockets: Vec<Arc<Socket>>) {
        let mut state = self.accepting.lock();
        if state.begun {
            for socket in &sockets {
                self.accept_policys(&mut state, socket);
            }
        }
        let gone = |old: &&Arc<Socket>| !sockets.iter().any(|new| Arc::ptr_eq(new, old));
        for gone in state.open.iter().filter(gone) {
            tracing::info!(port = gone.purpose().port(), address = %gone.address(), "listening no more");
            gone.close();
        }
        state.open = sockets;
    }

    fn accept_policys(&self, state: &mut State, socket: &Socket) {
        let Some(listener) = socket.take() else {
            return;
        };
        let (purpose, address) = (socket.purpose(), socket.address());
        let behind = match purpose {
            Purpose::Gateway(port) => Behind::Gateway {
                port,
                handshakes: Arc::clone(&self.handshakes),
            },
            Purpose::Callee(address) => Behind::Callee(address),
        };
        let port = purpose.port();
        let with = (behind, Arc::clone(&self.places));
        match self.accept_from(state, purpose.name(), listener, with, Some(socket.watch())) {
            Ok(()) => tracing::info!(port, %address, "listening"),
            Err(error) => tracing::error!(port, %error, "cannot accept"),
        }
    }

    fn accept_from(
        &self,
        state: &mut State,
        name: String,
        socket: std::net::TcpListener,
        (behind, places): (Behind, Arc<Places>),
        closing: Option<DrainWatcher>,
    ) -> io::Result<()> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        // Without it the proxy is ending.
        let Some(runtime) = runtime.as_ref().map(Runtime::handle) else {
            return Ok(());
        };
        let ending = if behind.is_inbound() {
            self.endings.inbound.watcher()
        } else {
            self.endings.outbound.watcher()
        };
        let leaving = match closing {
            Some(closing) => Leaving::with_listener(ending, closing),
            None => Leaving::with_proxy(ending),
        };
        let _entered = runtime.enter();
        let listener = Arc::new(TcpListener::from_std(socket)?);
        state.running.retain(|(_, old)| old.strong_count() > 0);
        state.running.push((name, Arc::downgrade(&listener)));
        runtime.spawn(listener::accept_all(
            listener,
            behind,
            Arc::clone(&self.plane),
            places,
            self.endings.accepting.watcher(),
            leaving,
        ));
        Ok(())
    }

    /// Copies of all that is accepted from, by what they are for.
    pub(crate) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let state = self.accepting.lock();
        let mut copies = Vec::new();
        for (name, listener) in &state.running {
            if let Some(listener) = listener.upgrade() {
                copies.push((name.clone(), listener.as_fd().try_clone_to_owned()?));
            }
        }
        Ok(copies)
    }

    /// The listeners of a gateway that are open, by the port that policy speaks of.
    pub(crate) fn listeners(&self) -> BTreeMap<u16, SocketAddr> {
        let of_gateway = |socket: &Arc<Socket>| match socket.purpose() {
            Purpose::Gateway(port) => Some((port, socket.address())),
            Purpose::Callee(_) => None,
        };
        let state = self.accepting.lock();
        state.open.iter().filter_map(of_gateway).collect()
    }

    /// The listeners for callees that are open, by the address that policy speaks of.
    pub(crate) fn callee_listeners(&self) -> BTreeMap<SocketAddr, SocketAddr> {
        let of_callee = |socket: &Arc<Socket>| match socket.purpose() {
            Purpose::Callee(address) => Some((address, socket.address())),
            Purpose::Gateway(_) => None,
        };
        let state = self.accepting.lock();
        state.open.iter().filter_map(of_callee).collect()
    }
}
