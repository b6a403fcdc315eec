//! A gateway and everything that only stands in one.

use mesh_bundle::slice::Protocol;
pub use mesh_bundle::slice::{ClientAddress, ClientCertificate, TlsVersion};
use mesh_syntax::Span;

use super::{Condition, Route, Spanned};

/// What only a `gateway` has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateway {
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// What teams' routes may take.
    pub delegates: Vec<Delegate>,
}

/// One `listen`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// 1 to 65,535.
    pub port: Spanned<u16>,
    /// What clients speak.
    pub protocol: Protocol,
    /// Hosts that are served; empty: every host.
    pub hosts: Vec<Spanned<String>>,
    /// None: plaintext.
    pub tls: Option<Tls>,
    /// Where the client's address is taken from; none: the peer of the connection.
    pub client_address: Option<Spanned<ClientAddress>>,
    /// The whole node.
    pub span: Span,
    /// Its word and port, without properties and block.
    pub head: Span,
}

/// `tls`: this leg is TLS that is not the mesh's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Name of the certificate and key that the proxy shows.
    pub certificate: Option<Spanned<String>>,
    /// Name of the authorities of the other side.
    pub trust: Option<Spanned<String>>,
    /// Whether clients need a certificate.
    pub client: Option<Spanned<ClientCertificate>>,
    /// Name that is asked for.
    pub sni: Option<Spanned<String>>,
    /// Name that the other side's certificate must have.
    pub san: Option<Spanned<String>>,
    /// Lowest version.
    pub min: Option<Spanned<TlsVersion>>,
    /// The word `tls`.
    pub span: Span,
}

/// One `delegate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegate {
    /// Whose routes.
    pub team: Spanned<String>,
    /// And: the requests that they may take.
    pub conditions: Vec<Condition>,
    /// The whole node.
    pub span: Span,
}

/// A route of a gateway that stands in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayRoute {
    /// The gateway.
    pub gateway: Spanned<String>,
    /// The route.
    pub route: Route,
}
