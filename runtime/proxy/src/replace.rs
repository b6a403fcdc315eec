//! Replacing a running `meshp` by another: how each side lives through the hand-over. The sockets go over as
//! `mesh_daemon::handover` says; the store, which only one process may have, goes by being closed on one side and opened
//! on the other, so that there is never any doubt about who writes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_daemon::admin::{AdminSocket, SocketHandle};
use mesh_daemon::handover::{self, HandoverError, Offer, Predecessor, Successor};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use thiserror::Error;
use tokio::time::Instant;

use crate::listener::Inherited;
use crate::subscribe::chain;
use crate::subscribe::view::View;

/// This release, as the other side is told.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Why this process does not take over.
#[derive(Debug, Error)]
pub(crate) enum ReplaceError {
    /// The running one did not hand over.
    #[error("take over from the proxy that runs")]
    Handover(#[from] HandoverError),
    /// There is one, and it cannot be asked.
    #[error(
        "the proxy that runs with {0} has no socket to ask for a hand-over: end it, and start this one"
    )]
    NoSocket(PathBuf),
    /// What was handed over does not do.
    #[error("this process is not ready to serve what the one before it serves: {0}")]
    NotReady(String),
}

/// What the running proxy has handed over, and waits for.
#[derive(Debug)]
pub(crate) struct Takeover {
    successor: Successor,
    /// Whether the running one is ready.
    was_ready: bool,
    pid: u32,
}

/// Asks the proxy that runs with this admin socket for what it has; none: nobody runs. From here on it follows no
/// distributor until this process serves, or is gone.
pub(crate) async fn take_over(admin: &Path) -> Result<Option<(Takeover, Inherited)>, ReplaceError> {
    let limit = Instant::now() + ENDING_WAIT;
    let asked = loop {
        let asked = ask(handover::socket_beside(admin)).await?;
        if asked.is_some() || UnixStream::connect(admin).is_err() {
            break asked;
        }
        // One that is dying closes its sockets one after the other.
        if Instant::now() >= limit {
            return Err(ReplaceError::NoSocket(admin.to_owned()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let Some((successor, offer, sockets)) = asked else {
        return Ok(None);
    };
    tracing::info!(
        pid = offer.pid,
        release = offer.release,
        sockets = sockets.len(),
        "taking over from the proxy that runs"
    );
    let inherited = Inherited::new(offer.sockets.into_iter().zip(sockets).collect());
    let takeover = Takeover {
        successor,
        was_ready: offer.ready,
        pid: offer.pid,
    };
    Ok(Some((takeover, inherited)))
}

/// What a running process has offered.
type Asked = (Successor, Offer, Vec<OwnedFd>);

async fn ask(path: PathBuf) -> Result<Option<Asked>, HandoverError> {
    blocking(move || {
        let Some(mut successor) = Successor::connect(&path)? else {
            return Ok(None);
        };
        match successor.ask(RELEASE) {
            Ok((offer, sockets)) => Ok(Some((successor, offer, sockets))),
            // It ended before it could answer.
            Err(HandoverError::Io(error)) if is_broken(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
}

fn is_broken(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}

impl Takeover {
    /// Waits until this process is as ready as the one before it.
    pub(crate) async fn ready(&self, view: &View) -> Result<(), ReplaceError> {
        if !self.was_ready {
            return Ok(());
        }
        let limit = Instant::now() + READY_TIMEOUT;
        loop {
            match view.ready() {
                Ok(_) => return Ok(()),
                Err(why) if Instant::now() >= limit => {
                    return Err(ReplaceError::NotReady(why));
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Says that this process accepts.
    pub(crate) async fn serving(self) -> Result<(), ReplaceError> {
        let successor = self.successor;
        if let Err(error) = blocking(move || successor.serving()).await {
            // It may have died, and then nobody else serves.
            if !is_gone(self.pid) {
                return Err(error.into());
            }
        }
        tracing::info!(
            pid = self.pid,
            "took over; the proxy before this one ends what it has"
        );
        Ok(())
    }
}

/// Whether a process has ended, also where nobody has asked yet how.
fn is_gone(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return true;
    };
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return true;
    }
    // proc(5): the state follows the name, which stands in brackets.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    state.starts_with(['Z', 'X'])
}

/// What a store holds is served at once, or never.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a process may take to close all of its sockets.
const ENDING_WAIT: Duration = Duration::from_secs(5);

/// How often readiness is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where successors of this process ask.
#[derive(Debug)]
pub(crate) struct Door {
    socket: AdminSocket,
    handle: SocketHandle,
}

impl Door {
    /// Opens it beside the admin socket, or takes the one that was handed over.
    pub(crate) fn open(admin: &Path, inherited: &Inherited) -> io::Result<Self> {
        let path = handover::socket_beside(admin);
        let socket = match inherited.socket(DOOR) {
            Some(socket) => AdminSocket::inherited(socket, &path)?,
            None => AdminSocket::bind(&path)?,
        };
        let handle = socket.handle()?;
        Ok(Self { socket, handle })
    }

    /// A copy for a successor.
    pub(crate) fn copy(&self) -> io::Result<(String, OwnedFd)> {
        Ok((DOOR.to_owned(), self.handle.copy()?))
    }

    /// Takes its file over from the process that handed it over.
    pub(crate) fn keep(&self) {
        self.handle.keep();
    }

    /// Leaves the door to the process that has a copy.
    pub(crate) fn leave(&self) {
        self.handle.leave();
    }

    /// Waits for a successor.
    pub(crate) async fn asked(&self) -> Predecessor {
        loop {
            match self.meet().await {
                Ok(predecessor) => return predecessor,
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "somebody asked for a hand-over in vain"
                    );
                }
            }
        }
    }

    async fn meet(&self) -> Result<Predecessor, HandoverError> {
        let stream = match self.socket.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors: trying again at once would spin.
                tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
                return Err(error.into());
            }
        };
        let (predecessor, ask) = blocking(move || Predecessor::meet(stream)).await?;
        tracing::info!(
            pid = ask.pid,
            release = ask.release,
            "a successor asks for a hand-over"
        );
        Ok(predecessor)
    }
}

/// Name of the door among the sockets.
const DOOR: &str = "handover";

/// Hands these over; returns once the successor accepts.
pub(crate) async fn hand_over(
    mut predecessor: Predecessor,
    ready: bool,
    sockets: Vec<(String, OwnedFd)>,
) -> Result<(), HandoverError> {
    blocking(move || {
        predecessor.offer(RELEASE, ready, &sockets)?;
        // Copies: whoever takes over has them, and otherwise nobody needs them.
        drop(sockets);
        predecessor.served()
    })
    .await
}

async fn blocking<T: Send + 'static>(
    exchange: impl FnOnce() -> Result<T, HandoverError> + Send + 'static,
) -> Result<T, HandoverError> {
    match tokio::task::spawn_blocking(exchange).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_has_asked_about_is_gone_too() {
        assert!(!is_gone(std::process::id()));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let pid = ended.id();
        while !is_gone(pid) {
            std::thread::yield_now();
        }
        ended.wait().unwrap();
        assert!(is_gone(pid));
    }
}
