//! A request as the engine sees it: borrowed, sanitised and normalised by whoever asks.

use std::net::IpAddr;

use mesh_bundle::spiffe::SpiffeId;

use crate::path::NormalisedPath;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method token, as sent.
    pub method: &'a str,
    /// The host, from [`crate::host::normalise`], without its port.
    pub host: &'a str,
    /// The path.
    pub path: &'a NormalisedPath<'a>,
    /// What follows the first `?`, without it; empty if nothing does.
    pub query: &'a str,
    /// The header lines.
    pub headers: &'a dyn HeaderView,
    /// Claims of a verified token, one line per value; `None` without a verified token.
    pub claims: Option<&'a dyn HeaderView>,
    /// The port of the service.
    pub port: u16,
    /// Who calls: the peer of an inbound connection, the workload itself on its way out.
    pub peer: Peer<'a>,
    /// Address of the peer of the connection.
    pub peer_ip: Option<IpAddr>,
    /// Address of the client, as established by the listener.
    pub client_ip: Option<IpAddr>,
}

/// Who a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer<'a> {
    /// Its certificate was verified and says so.
    Identity(&'a SpiffeId),
    /// It came without a certificate.
    Unauthenticated,
}

/// Header lines, seen by name.
pub trait HeaderView: std::fmt::Debug {
    /// Calls `each` with the value of every line of that name, in order. The name is lower-case.
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// No header at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl HeaderView for NoHeaders {
    fn visit(&self, _name: &str, _each: &mut dyn FnMut(&[u8])) {}
}

impl HeaderView for http::HeaderMap {
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for value in self.get_all(name) {
            each(value.as_bytes());
        }
    }
}

impl<N, V> HeaderView for [(N, V)]
where
    N: AsRef<str> + std::fmt::Debug,
    V: AsRef<[u8]> + std::fmt::Debug,
{
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for (candidate, value) in self {
            if candidate.as_ref().eq_ignore_ascii_case(name) {
                each(value.as_ref());
            }
        }
    }
}

impl<N, V> HeaderView for Vec<(N, V)>
where
    N: AsRef<str> + std::fmt::Debug,
    V: AsRef<[u8]> + std::fmt::Debug,
{
    fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.as_slice().visit(name, each);
    }
}

impl<'a> Request<'a> {
    /// A request without query, headers and addresses, from an unauthenticated peer, for port 0; the
    /// fields that matter are set afterwards.
    pub fn new(method: &'a str, host: &'a str, path: &'a NormalisedPath<'a>) -> Self {
        Self {
            method,
            host,
            path,
            query: "",
            headers: &NoHeaders,
            claims: None,
            port: 0,
            peer: Peer::Unauthenticated,
            peer_ip: None,
            client_ip: None,
        }
    }
}
