//! One concrete request.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use mesh_syntax::Witness;

/// The address of a request for which no address matters.
pub const ORDINARY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Where a named value of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// A request header, its name in lower case.
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
    /// A claim of a verified JWT.
    Claim,
}

/// One concrete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The method.
    pub method: String,
    /// The host asked for.
    pub host: String,
    /// The normalised path.
    pub path: String,
    /// The port of the callee.
    pub port: u16,
    /// The identity of the caller; none: no verified identity.
    pub from: Option<String>,
    /// The address of the client.
    pub client_ip: IpAddr,
    /// The address of the peer.
    pub peer_ip: IpAddr,
    /// Headers and the like; what is not here is absent.
    pub fields: BTreeMap<(FieldKind, String), Vec<String>>,
}

/// What a picked request has where its set leaves the choice, best first.
#[derive(Clone, Debug, Default)]
pub struct Likely {
    /// Hosts.
    pub hosts: Vec<String>,
    /// Identities of callers.
    pub callers: Vec<String>,
    /// Paths.
    pub paths: Vec<String>,
}

impl Point {
    /// Whether it has no headers and the like, and comes from an ordinary address: what sets it apart is its method,
    /// host, path, port and caller.
    pub fn is_plain(&self) -> bool {
        self.fields.is_empty() && self.client_ip == ORDINARY_IP && self.peer_ip == ORDINARY_IP
    }

    /// The values of one kind, in order of their names.
    pub fn fields_of(&self, wanted: FieldKind) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .filter(move |((kind, _), _)| *kind == wanted)
            .flat_map(|((_, name), values)| {
                values
                    .iter()
                    .map(move |value| (name.as_str(), value.as_str()))
            })
    }

    /// The headers as sent, cookies among them.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = self
            .fields_of(FieldKind::Header)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let cookies: Vec<String> = self
            .fields_of(FieldKind::Cookie)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            headers.push(("cookie".to_owned(), cookies.join("; ")));
        }
        headers
    }

    /// The request as a finding shows it. `from` is the name of the caller, where it has one.
    pub fn to_witness(&self, from: Option<String>, to: String, several_ports: bool) -> Witness {
        Witness {
            method: self.method.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            headers: self.headers(),
            query: self
                .fields_of(FieldKind::Query)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            from,
            to,
            port: several_ports.then_some(self.port),
            client_ip: Some(self.client_ip).filter(|ip| *ip != ORDINARY_IP),
            peer_ip: Some(self.peer_ip).filter(|ip| *ip != ORDINARY_IP),
            claims: self
                .fields_of(FieldKind::Claim)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}
