//! How a service is reached, beyond its endpoints.

use std::net::SocketAddr;

use ipnet::IpNet;
use mesh_syntax::Span;

use super::{Spanned, Tls};

/// How a service or external is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// Virtual addresses that name it.
    pub addresses: Vec<Spanned<IpNet>>,
    /// `unmeshed`: no proxy stands beside it.
    pub unmeshed: Option<Span>,
    /// Ports that are dialled in their own way.
    pub dials: Vec<Dial>,
}

/// How ports are dialled.
#[derive(Clone, Debug, PartialEq)]
pub struct Dial {
    /// The ports of the service.
    pub ports: Vec<Spanned<u16>>,
    /// The port really dialled; none: the same.
    pub dial: Option<Spanned<u16>>,
    /// This leg is TLS.
    pub tls: Option<Tls>,
    /// The whole node.
    pub span: Span,
}

/// Where a caller's proxy takes connections for a callee.
pub type ListenAddress = Spanned<SocketAddr>;
