//! A Unix socket that is never open to others, not even between bind and chmod.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixListener;

/// A bound admin socket; the file is removed when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Another process has it now.
    left: Arc<AtomicBool>,
}

/// What is needed to hand an admin socket over while it is served.
#[derive(Debug)]
pub struct SocketHandle {
    socket: OwnedFd,
    left: Arc<AtomicBool>,
}

impl SocketHandle {
    /// A copy of the socket.
    pub fn copy(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Takes the file over from the process that bound it.
    pub fn keep(&self) {
        self.left.store(false, Ordering::Release);
    }

    /// Leaves the file to the process that has a copy.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }
}

impl AdminSocket {
    /// Binds beside `path`, restricts the mode to 0600 and moves it there. A socket that nobody
    /// listens on is replaced; anything else at `path` is an error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        make_room(path)?;
        let aside = path.with_extension(format!("{}.tmp", std::process::id()));
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&aside)?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&aside, path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            left: Arc::default(),
        })
    }

    /// One that another process bound and hands over; the file is that process' until [`SocketHandle::keep`]. Needs a
    /// tokio runtime.
    pub fn inherited(socket: OwnedFd, path: &Path) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            path: path.to_owned(),
            left: Arc::new(AtomicBool::new(true)),
        })
    }

    /// To hand it over later.
    pub fn handle(&self) -> io::Result<SocketHandle> {
        Ok(SocketHandle {
            socket: self.listener.as_fd().try_clone_to_owned()?,
            left: Arc::clone(&self.left),
        })
    }

    /// Accepts one connection, of whomever.
    pub async fn accept(&self) -> io::Result<std::os::unix::net::UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        stream.into_std()
    }

    /// What it accepts on.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.left.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "admin socket was gone already");
        }
    }
}

fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is not a socket is in the way",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
        Err(_) => std::fs::remove_file(path),
    }
}
