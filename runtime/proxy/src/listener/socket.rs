//! Listening sockets, and how many connections there may be.

use std::io;
use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;

/// Opens a listening socket. A proxy that is started again takes its port back at once.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    open(address).map_err(|source| cannot_listen(address, source))
}

/// An error that says where.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}")]
struct ListenError {
    address: String,
    source: io::Error,
}

/// Of the several addresses that a proxy opens, names the one that it could not.
pub(crate) fn cannot_listen(address: impl std::fmt::Display, source: io::Error) -> io::Error {
    let address = address.to_string();
    io::Error::new(source.kind(), ListenError { address, source })
}

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// How many connections one direction may accept, with as many file descriptors as the process can
/// get.
pub(crate) fn connections_max() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let descriptors = raised
        .inspect_err(|error| tracing::warn!(%error, "file descriptors stay few"))
        .or_else(|_kept| getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft));
    limits::connections_max(descriptors.unwrap_or(0))
}
