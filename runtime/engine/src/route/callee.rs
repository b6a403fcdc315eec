//! One service that the workload calls, as its proxy needs it.

use ipnet::IpNet;
use mesh_bundle::slice::{
    Balance, Callee, CalleeKind, CalleeListener, EndpointSource, Pool, Port, PortDial, RetryBudget,
    Subset,
};
use mesh_bundle::spiffe::SpiffeId;

use super::{Explanation, RouteError, RouteSet, RouteTable};
use crate::host::HostPattern;
use crate::path::Accepts;
use crate::request::Request;

/// One service that the workload calls, as its proxy needs it.
#[derive(Clone, Debug)]
pub struct CalleeTable {
    service: Box<str>,
    hosts: Box<[HostPattern]>,
    ports: Box<[Port]>,
    identities: Box<[SpiffeId]>,
    subsets: Box<[Subset]>,
    endpoints: EndpointSource,
    balance: Balance,
    retry_budget: Option<RetryBudget>,
    routes: RouteSet,
    kind: CalleeKind,
    addresses: Box<[IpNet]>,
    dials: Box<[PortDial]>,
    listeners: Box<[CalleeListener]>,
    pool: Pool,
}

impl CalleeTable {
    /// Compiles a callee of a slice.
    pub fn build(callee: &Callee) -> Result<Self, RouteError> {
        let hosts = callee.hosts.iter().map(|pattern| {
            HostPattern::parse(pattern).map_err(|source| RouteError::Host {
                pattern: pattern.clone(),
                source,
            })
        });
        Ok(Self {
            service: callee.service.as_str().into(),
            hosts: hosts.collect::<Result<_, _>>()?,
            ports: callee.ports.as_slice().into(),
            identities: callee.identities.as_slice().into(),
            subsets: callee.subsets.as_slice().into(),
            endpoints: callee.endpoints.clone(),
            balance: callee.balance,
            retry_budget: callee.retry_budget.clone(),
            routes: RouteSet::build(&callee.routes)?,
            kind: callee.kind.clone(),
            addresses: callee.addresses.as_slice().into(),
            dials: callee.dials.as_slice().into(),
            listeners: callee.listeners.as_slice().into(),
            pool: callee.pool.clone(),
        })
    }

    /// The route that takes the request; `None` is `no_route`.
    pub fn route(&self, request: &Request<'_>) -> Option<&RouteTable> {
        self.routes.find(request)
    }

    /// The route that takes the request, and why each of the others does not.
    pub fn explain(&self, request: &Request<'_>) -> Explanation<'_> {
        self.routes.explain(request)
    }

    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Hosts that name it.
    pub fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// Its ports.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port that a request means: the one it names, or the only one. `None`: it names one that the
    /// service has not, or names none and the service has several.
    pub fn port(&self, named: Option<u16>) -> Option<Port> {
        match (named, &*self.ports) {
            (Some(number), ports) => ports.iter().find(|port| port.number == number).copied(),
            (None, [only]) => Some(*only),
            (None, _) => None,
        }
    }

    /// Identities that its endpoints may have.
    pub fn identities(&self) -> &[SpiffeId] {
        &self.identities
    }

    /// Its subsets.
    pub fn subsets(&self) -> &[Subset] {
        &self.subsets
    }

    /// The subset of that name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    /// Where its endpoints come from.
    pub fn endpoints(&self) -> &EndpointSource {
        &self.endpoints
    }

    /// How an endpoint is picked.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// Its retry budget; `None`: retries are not budgeted.
    pub fn retry_budget(&self) -> Option<&RetryBudget> {
        self.retry_budget.as_ref()
    }

    /// Its routes, in the order of the slice.
    pub fn routes(&self) -> &[RouteTable] {
        self.routes.routes()
    }

    /// What a path may hold for some route, see [`RouteSet::path_accepts`].
    pub fn path_accepts(&self) -> Accepts {
        self.routes.path_accepts()
    }

    /// Whether it is of the mesh.
    pub fn kind(&self) -> &CalleeKind {
        &self.kind
    }

    /// Whether it is outside; then [`crate::Snapshot::leave`] says who may call it.
    pub fn is_external(&self) -> bool {
        matches!(self.kind, CalleeKind::External { .. })
    }

    /// Its virtual addresses.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// How this port of it is dialled, if it has a way of its own.
    pub fn dial(&self, port: u16) -> Option<&PortDial> {
        self.dials.iter().find(|dial| dial.port == port)
    }

    /// Where the caller's proxy listens for it.
    pub fn listeners(&self) -> &[CalleeListener] {
        &self.listeners
    }

    /// How its endpoints, or those of this subset, are picked, limited and watched.
    pub fn pool(&self, subset: Option<&str>) -> (Balance, &Pool) {
        let own = subset.and_then(|name| self.subset(name)?.pool.as_ref());
        match own {
            Some(own) => (own.balance, &own.pool),
            None => (self.balance, &self.pool),
        }
    }
}
