//! The services that a workload calls, and where they are.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Balance, ClientTls, Pool, Port, RetryBudget, Route, SubsetPool};
use crate::spiffe::SpiffeId;

/// One service that the workload calls or may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callee {
    /// Name of the service.
    pub service: String,
    /// Hosts that name it, as in [`Condition::Host`].
    pub hosts: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Identities that its endpoints may have.
    pub identities: Vec<SpiffeId>,
    /// Its subsets.
    pub subsets: Vec<Subset>,
    /// Where its endpoints come from.
    pub endpoints: EndpointSource,
    /// Never empty. The engine ranks them by specificity.
    pub routes: Vec<Route>,
    /// None: retries are not budgeted.
    pub retry_budget: Option<RetryBudget>,
    /// How an endpoint is picked.
    pub balance: Balance,
    /// Whether it is of the mesh.
    pub kind: CalleeKind,
    /// Its virtual addresses.
    pub addresses: Vec<IpNet>,
    /// Ports that are dialled in their own way.
    pub dials: Vec<PortDial>,
    /// Where the caller's proxy listens for it.
    pub listeners: Vec<CalleeListener>,
    /// How its endpoints are picked, limited and watched.
    pub pool: Pool,
}

/// Whether a callee is of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CalleeKind {
    /// A service of the mesh or a gateway, dialled with mTLS always.
    #[default]
    Meshed,
    /// A service without a sidecar.
    Unmeshed,
    /// Outside; who may call it is in [`super::Access::externals`].
    External {
        /// The gateway, a callee too, that its requests pass; None: they leave from here.
        via: Option<String>,
    },
}

/// How one port of a callee that is not of the mesh is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDial {
    /// The port of the service.
    pub port: u16,
    /// The port really dialled; None: the same.
    pub dial: Option<u16>,
    /// None: plaintext.
    pub tls: Option<ClientTls>,
}

/// An address where the caller's proxy takes connections for a callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CalleeListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The port of the service that is meant.
    pub port: u16,
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// Unique within the service.
    pub name: String,
    /// Labels that an endpoint must carry.
    pub labels: Vec<Label>,
    /// None: that of the service.
    pub pool: Option<SubsetPool>,
}

/// One label of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// `version`, `zone`, …
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where the endpoints of a callee come from; a service has one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EndpointSource {
    /// Written in policy.
    Declared(Vec<DeclaredEndpoint>),
    /// Streamed beside the slices.
    #[default]
    Discovered,
}

/// An endpoint written in policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredEndpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// The port of the service that it serves.
    pub port: u16,
    /// Its labels.
    pub labels: Vec<Label>,
}

/// The address that peers dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An address and a port.
    Static(SocketAddr),
    /// A name to resolve, and a port.
    Dns {
        /// Name.
        name: String,
        /// Port.
        port: u16,
    },
}
