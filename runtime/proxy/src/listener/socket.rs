//! Listening sockets, and how many connections there may be.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::Inherited;
use crate::limits;

/// Takes the listening socket that was handed over under this name, or opens one.
pub(crate) fn inherit_or_bind(
    inherited: &Inherited,
    name: &str,
    address: SocketAddr,
) -> io::Result<std::net::TcpListener> {
    match inherited.listener(name, address) {
        Some(listener) => Ok(listener),
        None => bind(address),
    }
}

/// Opens a listening socket. A proxy that is started again takes its port back at once.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    open(address).map_err(|source| cannot_listen(address, source))
}

/// The same for one family alone: a connection of the other has its own socket, which knows where it was
/// going. None: the kernel does not have the family.
pub(crate) fn bind_family(address: SocketAddr) -> io::Result<Option<std::net::TcpListener>> {
    match listen_at(address, true) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if is_without_family(&error) && address.is_ipv6() => Ok(None),
        Err(error) => Err(cannot_listen(address, error)),
    }
}

/// `EAFNOSUPPORT` where the kernel was built or started without IPv6, `EADDRNOTAVAIL` where it is switched
/// off.
fn is_without_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
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
    listen_at(address, false)
}

fn listen_at(address: SocketAddr, alone: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if alone && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// How many connections one direction may accept, with as many file descriptors as the process can
/// get.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    let descriptors = raised
        .inspect_err(|error| tracing::warn!(%error, "file descriptors stay few"))
        .or_else(|_kept| getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft));
    limits::connections_max(descriptors.unwrap_or(0), wanted)
}
