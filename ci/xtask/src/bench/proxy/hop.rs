//! What one proxy of a scenario is to do, whichever it is.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// HTTP/1.1 on both sides.
    Http1,
    /// HTTP/1.1 from the client, HTTP/2 to the next hop.
    Http1AsHttp2,
    /// HTTP/2 from the hop before, HTTP/1.1 to the application.
    Http2AsHttp1,
    /// HTTP/2 on both sides.
    Grpc,
    /// Bytes.
    Bytes,
}

/// How a leg is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// Not at all.
    Plain,
    /// The server shows a certificate.
    Tls,
    /// Both do.
    Mutual,
}

/// One proxy.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) listen: SocketAddr,
    pub(super) next: SocketAddr,
    pub(super) carries: Carries,
    pub(super) downstream: Leg,
    pub(super) upstream: Leg,
    /// Prefix routes; all lead to the same place. A last one takes what they leave.
    pub(super) routes: usize,
    /// `ca.pem`, and `client` and `server` with `.crt`, `.key` and `.pem`.
    pub(super) certificates: PathBuf,
}

impl Hop {
    /// HTTP/1.1 in plaintext, everything to one place.
    pub(super) fn plain(listen: SocketAddr, next: SocketAddr, certificates: PathBuf) -> Self {
        Self {
            listen,
            next,
            carries: Carries::Http1,
            downstream: Leg::Plain,
            upstream: Leg::Plain,
            routes: 0,
            certificates,
        }
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.certificates.join(name).display().to_string()
    }
}

/// The prefix of a route.
pub(super) fn prefix(route: usize) -> String {
    format!("/r{route}")
}
