//! Connections of bytes: whatever an application speaks that is not HTTP, or that it encrypts itself. They are
//! routed and authorised once, by who comes, from where, to which port and, for TLS, under which name; then the
//! bytes are passed on as they are, in both directions, and every way to end them too.
//!
//! accept → [name, for TLS] → record → snapshot
//!   from the application: callee by address → route → endpoint → preface → answer → bytes
//!   from a gateway's client: authorise → the gateway's route → as above
//!   from a mesh peer: preface → service by port → [name] → authorise → application → answer → bytes

pub(crate) mod downstream;
pub(crate) mod hello;
pub(crate) mod inbound;
pub(crate) mod metrics;
pub(crate) mod outbound;
pub(crate) mod passing;
pub(crate) mod peer;
pub(crate) mod pulse;
pub(crate) mod record;
pub(crate) mod watch;

use std::net::IpAddr;

use mesh_bundle::slice::{Port, Protocol};
use mesh_engine::{Peer, Request, path};

/// Whether a port carries bytes.
pub(crate) fn carries_bytes(port: Option<Port>) -> bool {
    port.is_some_and(|port| matches!(port.protocol, Protocol::Tcp | Protocol::Tls))
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The port of the service.
    pub(crate) port: u16,
    /// The name that TLS asks for; empty: none.
    pub(crate) name: &'a str,
    /// Who comes.
    pub(crate) peer: Peer<'a>,
    /// From where.
    pub(crate) peer_ip: IpAddr,
    /// Whose connection it is, if the peer is a trusted proxy that says so; else the peer's.
    pub(crate) client_ip: IpAddr,
}

impl Known<'_> {
    /// Asks the engine about this connection. None: it cannot be asked.
    pub(crate) fn ask<T>(self, question: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
        // A connection has no path, and no condition on one is ever met by it.
        let path = path::normalise("/").ok()?;
        Some(question(&Request {
            port: self.port,
            peer: self.peer,
            peer_ip: Some(self.peer_ip),
            client_ip: Some(self.client_ip),
            ..Request::new("", self.name, &path)
        }))
    }
}
