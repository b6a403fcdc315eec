//! A service and everything that only stands in one.

use mesh_bundle::slice::{EndpointAddress, HeaderEdits, MtlsMode, Protocol};
use mesh_syntax::Span;

use super::{
    Actions, Condition, Exchange, Gateway, Identity, Label, ListenAddress, Pool, RateLimit, Reach,
    Requirement, Settings, Spanned, Telemetry,
};

/// What shares the name space of services: all of them are something that requests enter.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A workload of the mesh.
    Service,
    /// Where requests from outside enter the mesh.
    Gateway(Gateway),
    /// Something outside the mesh that its workloads call.
    External(External),
}

impl Kind {
    /// The word that declares it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Gateway(_) => "gateway",
            Self::External(_) => "external",
        }
    }
}

/// What only an `external` has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct External {
    /// The gateway by which requests leave.
    pub via: Option<Spanned<String>>,
}

/// A service, gateway or external.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Which of them.
    pub kind: Kind,
    /// Its name.
    pub name: Spanned<String>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Where its endpoints come from.
    pub endpoints: Vec<Endpoints>,
    /// Hosts that name it.
    pub hosts: Vec<Spanned<String>>,
    /// Identities of its instances.
    pub identities: Vec<Identity>,
    /// Subsets.
    pub subsets: Vec<Subset>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Calls that it makes.
    pub calls: Vec<Call>,
    /// What callers may loosen.
    pub callers_may_extend: Vec<Spanned<Extendable>>,
    /// Facts for the analyses.
    pub facts: Facts,
    /// What it sets as a level.
    pub settings: Settings,
    /// Whether peers must use mutual TLS; inside, none is strict.
    pub mtls: Option<Spanned<Option<MtlsMode>>>,
    /// What is logged and traced.
    pub telemetry: Telemetry,
    /// How it is reached, beyond its endpoints.
    pub reach: Reach,
    /// The whole node.
    pub span: Span,
}

impl Service {
    /// One that says nothing about itself, to be completed with struct update syntax.
    pub fn new(kind: Kind, name: Spanned<String>, span: Span) -> Self {
        Self {
            kind,
            name,
            ports: Vec::new(),
            endpoints: Vec::new(),
            hosts: Vec::new(),
            identities: Vec::new(),
            subsets: Vec::new(),
            routes: Vec::new(),
            calls: Vec::new(),
            callers_may_extend: Vec::new(),
            facts: Facts::default(),
            settings: Settings::default(),
            mtls: None,
            telemetry: Telemetry::default(),
            reach: Reach::default(),
            span,
        }
    }
}

impl Port {
    /// A port about which nothing else is said.
    pub const fn new(number: Spanned<u16>, protocol: Protocol) -> Self {
        Self {
            number,
            protocol,
            mtls: None,
        }
    }
}

/// One port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Port {
    /// 1 to 65,535.
    pub number: Spanned<u16>,
    /// What the application speaks.
    pub protocol: Protocol,
    /// Whether peers must use mutual TLS on it; none: as on the others. Inside, none is strict.
    pub mtls: Option<Spanned<Option<MtlsMode>>>,
}

/// One line of `endpoints`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoints {
    /// Where they come from.
    pub source: EndpointSource,
    /// Labels of all of them.
    pub labels: Vec<Label>,
    /// The whole line.
    pub span: Span,
}

/// Where endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointSource {
    /// Addresses written in policy.
    Declared(Vec<Spanned<EndpointAddress>>),
    /// Discovered in Kubernetes and streamed beside the slices.
    Kubernetes {
        /// Namespace; the cluster's default when absent.
        namespace: Option<Spanned<String>>,
        /// Name of the Kubernetes service, when it differs.
        name: Option<Spanned<String>>,
    },
}

/// A named part of the endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: Spanned<String>,
    /// Labels that an endpoint must carry.
    pub labels: Vec<Label>,
    /// What it sets as a level.
    pub pool: Pool,
    /// The whole node.
    pub span: Span,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: Spanned<String>,
    /// Or; none matches every request.
    pub matches: Vec<Match>,
    /// Where its requests go; none: all endpoints, or nowhere if there is an answer.
    pub destinations: Vec<Destination>,
    /// What it does besides.
    pub actions: Actions,
    /// Of a gateway's route: what its requests must bring.
    pub requirements: Vec<Requirement>,
    /// Of a gateway's route: how many may enter.
    pub rate_limits: Vec<RateLimit>,
    /// What it sets as a level.
    pub exchange: Exchange,
    /// The whole node.
    pub span: Span,
}

/// One `match` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// And.
    pub conditions: Vec<Condition>,
    /// The whole node.
    pub span: Span,
}

/// One `to`.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where the requests go.
    pub target: Target,
    /// Share among the branches.
    pub weight: Option<Spanned<u32>>,
    /// In order, when the destination has no healthy endpoint.
    pub otherwise: Vec<Target>,
    /// `request-headers`.
    pub request_headers: HeaderEdits,
    /// `response-headers`.
    pub response_headers: HeaderEdits,
    /// The whole node.
    pub span: Span,
}

/// What a `to` or an `else` names; nothing: all endpoints of the route's own service.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The argument: a subset in a service, a service in a gateway.
    pub name: Option<Spanned<String>>,
    /// `service=`.
    pub service: Option<Spanned<String>>,
    /// `subset=`.
    pub subset: Option<Spanned<String>>,
    /// `port=`.
    pub port: Option<Spanned<u16>>,
    /// The whole node.
    pub span: Span,
}

/// A call that a service makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service it calls.
    pub callee: Spanned<String>,
    /// The one route of the callee that this speaks of; none: every route.
    pub route: Option<Spanned<String>>,
    /// Calls for each request handled.
    pub per_request: Option<Spanned<f64>>,
    /// How often a request makes the call at all, of 10,000.
    pub share: Option<Spanned<u32>>,
    /// One after the other, or at once.
    pub mode: Option<Spanned<CallMode>>,
    /// The caller's own tightening.
    pub exchange: Exchange,
    /// Where the caller's proxy takes connections for the callee.
    pub listen: Option<ListenAddress>,
    /// The whole node.
    pub span: Span,
}

/// How several calls of one request relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMode {
    /// One after the other.
    Sequential,
    /// At the same time.
    Parallel,
}

/// A field that a service lets its callers loosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extendable {
    /// `timeout`.
    Timeout,
    /// `attempts=`.
    Attempts,
    /// `per-try=`.
    PerTry,
    /// The causes of `retry`.
    Causes,
}

/// What a team knows about its service; absent facts are never assumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Instances.
    pub replicas: Option<Spanned<u32>>,
    /// Requests per second that all instances together can take.
    pub capacity: Option<Spanned<f64>>,
    /// Requests per second on an ordinary day.
    pub load: Option<Spanned<f64>>,
    /// Time that the service itself needs for a request.
    pub handling: Option<Spanned<std::time::Duration>>,
}
