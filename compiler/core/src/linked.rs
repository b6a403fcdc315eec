//! The mesh with every reference resolved and every value effective: what the analyses, the lints
//! and the emitter read. Each value still says where it came from. Nothing here depends on the order
//! of files or definitions: services, routes, subsets and edges are sorted by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::{
    self, DeclaredEndpoint, Effect, Enforcement, HeaderEdits, Principal, RetryCause,
};
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{FileId, Span};

use crate::date::Date;
pub use crate::keyword::{
    EffectiveBalance as Balance, EffectiveHealthCheck as HealthCheck, EffectiveLimits as Limits,
    EffectiveLocality as Locality, EffectiveOutlier as Outlier,
};
pub use crate::model::EffectivePool as Pool;
use crate::model::{
    Actions, CallMode, Certificate, Extendable, Facts, Instances, Label, ListenAddress, Overriding,
    Port, Reach, RetryBudget, Rollout, Spanned, Suppression, Test, Tls,
};
use crate::ownership::Ownership;

mod entry;
mod invariant;
mod routes;
mod shown;
mod written;

pub use entry::{AccessLog, Authorizer, Jwt, Probe, RateLimit, Requirement, Telemetry, Traces};
pub use invariant::{Claim, ClaimKind, Invariant};
pub use routes::Routes;
pub use written::condition_text;

/// Index of a service in [`LinkedMesh::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub(crate) u32);

impl ServiceId {
    /// The position in [`LinkedMesh::services`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A route of a service: index of the route in [`Service::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    /// Whose route.
    pub service: ServiceId,
    /// The position in [`Service::routes`].
    pub index: usize,
}

/// A mesh whose names are resolved.
#[derive(Clone, Debug)]
pub struct LinkedMesh {
    /// Name of the mesh.
    pub name: Spanned<String>,
    /// Its trust domain.
    pub trust_domain: Spanned<String>,
    /// What it says of mutual TLS for every service; none: nothing.
    pub mtls: Option<Spanned<Option<slice::MtlsMode>>>,
    /// The environment that is compiled.
    pub environment: String,
    /// Every declared environment.
    pub environments: Vec<String>,
    /// Services, gateways and externals, ascending by name; [`ServiceId`] is the index.
    pub services: Vec<Service>,
    /// Ascending by (caller, callee).
    pub edges: Edges,
    /// Limits that `check` enforces.
    pub refuse: Refuse,
    /// Ascending by name.
    pub teams: Vec<Team>,
    /// What must hold for the whole mesh, ascending by text.
    pub invariants: Vec<Invariant>,
    /// Providers of tokens, ascending by name.
    pub jwts: Vec<Jwt>,
    /// Ascending by name.
    pub authorizers: Vec<Authorizer>,
    /// Named policies, ascending by name, without those of the standard library.
    pub policies: Vec<PolicyUse>,
    /// How a generation spreads.
    pub rollout: Option<Rollout>,
    /// Foreign trust domains whose identities rules may name, ascending.
    pub federates: Vec<String>,
    /// Tests, ascending by (name, place).
    pub tests: Vec<Test>,
    /// Suppressions, ascending by place.
    pub suppressions: Vec<Suppression>,
    /// What the environment changes of what all share.
    pub overridings: Vec<Overriding>,
    /// What git alone can't know; none: nobody wrote it down.
    pub inventory: Option<Inventory>,
    /// Who owns which file.
    pub ownership: Ownership,
}

impl Service {
    /// Whether it is outside the mesh.
    pub const fn is_external(&self) -> bool {
        matches!(self.kind, Kind::External(_))
    }

    /// Whether it is a gateway, and what only a gateway has.
    pub const fn gateway(&self) -> Option<&Gateway> {
        match &self.kind {
            Kind::Gateway(gateway) => Some(gateway),
            Kind::Service | Kind::External(_) => None,
        }
    }

    /// Whether peers must use mutual TLS on one of its ports; none is strict.
    pub fn mtls_of(&self, port: &Port) -> Option<slice::MtlsMode> {
        port.mtls.map_or(self.mtls.value, |mode| mode.value)
    }

    /// Whether every port has this mode; none is strict.
    pub fn has_mtls_everywhere(&self, mode: Option<slice::MtlsMode>) -> bool {
        self.ports.iter().all(|port| self.mtls_of(port) == mode)
    }

    /// Hosts that name it, one for each that it declares, with a label for each star.
    pub fn example_hosts(&self) -> impl Iterator<Item = String> {
        self.hosts.iter().map(|host| match host.as_str() {
            "**" => self.name.value.clone(),
            host => host.replace("**", "www").replace('*', "www"),
        })
    }
}

impl LinkedMesh {
    /// The service with this id.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    /// The service with this name.
    pub fn service_named(&self, name: &str) -> Option<ServiceId> {
        let index = self
            .services
            .binary_search_by(|service| service.name.value.as_str().cmp(name))
            .ok()?;
        u32::try_from(index).ok().map(ServiceId)
    }

    /// How callers pick, limit and watch the endpoints of a destination.
    pub fn pool(&self, target: Target) -> &Pool {
        let service = self.service(target.service);
        target
            .subset
            .and_then(|subset| service.subsets.get(subset))
            .map_or(&service.pool, |subset| &subset.pool)
    }

    /// The team that owns a file; none: whoever keeps the mesh.
    pub fn owner(&self, file: FileId) -> Option<&Team> {
        self.teams.get(self.ownership.owner(file)?)
    }

    /// The route with this id.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.service(id.service).routes[id.index]
    }

    /// Every service id, ascending.
    pub fn service_ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        (0..self.services.len()).filter_map(|index| u32::try_from(index).ok().map(ServiceId))
    }

    /// The edges of one caller, ascending by callee.
    pub fn edges_of(&self, caller: ServiceId) -> impl Iterator<Item = &Edge> {
        let first = self.edges.partition_point(|edge| edge.caller < caller);
        self.edges
            .iter()
            .skip(first)
            .take_while(move |edge| edge.caller == caller)
    }

    /// The edge between two services.
    pub fn edge(&self, caller: ServiceId, callee: ServiceId) -> Option<&Edge> {
        let index = self
            .edges
            .binary_search_by_key(&(caller, callee), |edge| (edge.caller, edge.callee))
            .ok()?;
        self.edges.get(index)
    }
}

/// Limits that `check` enforces.
#[derive(Clone, Debug, PartialEq)]
pub struct Refuse {
    /// Highest amplification by retries.
    pub amplification: Effective<u32>,
    /// Highest number of attempts.
    pub attempts: Effective<u32>,
    /// Most that one commit may move between branches of a route, of 10,000; none: all.
    pub canary_step: Option<Spanned<u32>>,
    /// Most workloads whose slices one commit may change, of 10,000; none: the lint's own.
    pub blast_radius: Option<Spanned<u32>>,
}

/// A named policy. What it sets is in the services that use it.
#[derive(Clone, Debug)]
pub struct PolicyUse {
    /// Its name.
    pub name: Spanned<String>,
    /// Whether anything takes its settings.
    pub used: bool,
    /// The whole node.
    pub span: Span,
}

/// A team and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// Its name.
    pub name: Spanned<String>,
    /// Files, as patterns.
    pub owns: Vec<Spanned<String>>,
    /// Services, gateways and externals, ascending.
    pub services: Vec<ServiceId>,
    /// The whole node.
    pub span: Span,
}

/// A value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective<T> {
    /// What holds.
    pub value: T,
    /// Who says so.
    pub source: Source,
}

impl<T> Effective<T> {
    /// A value that no file sets.
    pub const fn built_in(value: T) -> Self {
        Self {
            value,
            source: Source::BuiltIn,
        }
    }
}

/// The level that set a value, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// No file sets it.
    BuiltIn,
    /// `defaults`.
    Defaults(Span),
    /// A `policy` that `defaults` or the service uses.
    Policy(Span),
    /// The service.
    Service(Span),
    /// The subset.
    Subset(Span),
    /// The route.
    Route(Span),
    /// The caller's `calls`.
    Calls(Span),
}

impl Source {
    /// The place among the levels: the higher beats the lower.
    pub const fn level(self) -> u8 {
        match self {
            Self::BuiltIn => 0,
            Self::Defaults(_) => 1,
            Self::Policy(_) => 2,
            Self::Service(_) => 3,
            Self::Subset(_) | Self::Route(_) => 4,
            Self::Calls(_) => 5,
        }
    }

    /// Where it was written; none for a built-in.
    pub const fn span(self) -> Option<Span> {
        match self {
            Self::BuiltIn => None,
            Self::Defaults(span)
            | Self::Policy(span)
            | Self::Service(span)
            | Self::Subset(span)
            | Self::Route(span)
            | Self::Calls(span) => Some(span),
        }
    }
}

/// What was found in the fleet on a day.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The day.
    pub date: Spanned<Date>,
    /// What is known of each service.
    pub services: BTreeMap<ServiceId, Inventoried>,
    /// Calls that were seen.
    pub observed: Vec<Observed>,
    /// Identities that exist outside of the mesh's own services, ascending.
    pub identities: Vec<Spanned<SpiffeId>>,
    /// Certificates that proxies are given, ascending by name.
    pub certificates: Vec<Certificate>,
    /// The whole node.
    pub span: Span,
}

/// What an inventory knows of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventoried {
    /// Its instances, by their labels; empty: nobody counted.
    pub instances: Vec<Instances>,
    /// The whole node.
    pub span: Span,
}

/// A call that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Who called: a service, or the name or identity of something that policy does not declare.
    pub from: Result<ServiceId, String>,
    /// Who was called, the same.
    pub to: Result<ServiceId, String>,
    /// How often, in requests per second.
    pub rate: Option<f64>,
    /// The whole node.
    pub span: Span,
}

impl Inventory {
    /// How many instances a service has; none: nobody counted.
    pub fn instances(&self, service: ServiceId) -> Option<u32> {
        self.instances_with(service, &[])
    }

    /// How many instances of a service carry all of these labels; none: nobody counted.
    pub fn instances_with(&self, service: ServiceId, labels: &[Label]) -> Option<u32> {
        let instances = &self.services.get(&service)?.instances;
        let carries = |one: &&Instances| {
            labels
                .iter()
                .all(|label| one.labels.iter().any(|own| own.value == label.value))
        };
        (!instances.is_empty()).then(|| {
            let counts = instances.iter().filter(carries).map(|one| one.count.value);
            counts.fold(0, u32::saturating_add)
        })
    }
}

/// A service, gateway or external whose names are resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Index of itself.
    pub id: ServiceId,
    /// Which of them.
    pub kind: Kind,
    /// Its name.
    pub name: Spanned<String>,
    /// Hosts that name it, at least one.
    pub hosts: Vec<String>,
    /// Ascending by number, at least one.
    pub ports: Vec<Port>,
    /// Identities of its instances, ascending, at least one.
    pub identities: Vec<SpiffeId>,
    /// Ascending by name.
    pub subsets: Vec<Subset>,
    /// Where its endpoints come from.
    pub endpoints: Endpoints,
    /// Ascending by name. A service without routes has the implicit `default`, a gateway none.
    pub routes: Routes,
    /// What requests must bring, of all levels, own first, then those of a gateway's routes.
    pub requirements: Vec<Requirement>,
    /// How many requests may enter; the same.
    pub rate_limits: Vec<RateLimit>,
    /// What is admitted in plaintext, of all levels, own first.
    pub probes: Vec<Probe>,
    /// Whether peers must use mutual TLS; none is strict.
    pub mtls: Effective<Option<slice::MtlsMode>>,
    /// What is logged and traced.
    pub telemetry: Telemetry,
    /// Rules of all levels, own first.
    pub access: Vec<Access>,
    /// Retry budget of each calling proxy.
    pub retry_budget: Effective<Option<RetryBudget>>,
    /// How callers pick, limit and watch its endpoints.
    pub pool: Pool,
    /// Calls that it makes, ascending by (callee, route).
    pub calls: Vec<Call>,
    /// What callers may loosen, ascending.
    pub callers_may_extend: Vec<Extendable>,
    /// What its team knows about it.
    pub facts: Facts,
    /// How it is reached, beyond its endpoints.
    pub reach: Reach,
    /// The whole node.
    pub span: Span,
}

/// What a [`Service`] is. All kinds share names, ids, edges and routes.
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

/// What only a gateway has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateway {
    /// Ascending by (port, hosts), at least one.
    pub listeners: Vec<Listener>,
    /// What teams' routes may take, ascending by team.
    pub delegates: Vec<Delegate>,
    /// Its routes that stand in files of their own, ascending.
    pub delegated: Vec<DelegatedRoute>,
}

/// A port of a gateway, or a part of its hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The port, and where it is written.
    pub port: Spanned<u16>,
    /// Hosts that are served, ascending; empty: every host.
    pub hosts: Vec<String>,
    /// None: plaintext.
    pub tls: Option<Tls>,
    /// Where the client's address is taken from.
    pub client_address: slice::ClientAddress,
    /// Its word and port.
    pub span: Span,
}

/// Requests that a team's routes may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegate {
    /// Name of the team.
    pub team: Spanned<String>,
    /// And.
    pub conditions: Vec<Spanned<slice::Condition>>,
    /// The whole node.
    pub span: Span,
}

/// A route of a gateway that stands in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct DelegatedRoute {
    /// Index in [`Service::routes`].
    pub route: usize,
    /// Where it names its gateway.
    pub gateway_span: Span,
}

/// What only an external has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct External {
    /// The gateway by which requests leave, and where it is named.
    pub via: Option<Spanned<ServiceId>>,
}

/// A named part of the endpoints of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: Spanned<String>,
    /// Labels that an endpoint must carry, ascending by key.
    pub labels: Vec<Label>,
    /// How callers pick, limit and watch its endpoints, the service's settings included.
    pub pool: Pool,
    /// Whether it says anything of its own about that.
    pub has_own_pool: bool,
    /// The whole node.
    pub span: Span,
}

/// Where the endpoints of a service come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// Written in policy.
    Declared(Vec<Spanned<DeclaredEndpoint>>),
    /// Streamed beside the slices.
    Discovered,
}

/// A route whose names are resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name; that of an implicit route has the place of its service's name.
    pub name: Spanned<String>,
    /// Whether no file declares it.
    pub implicit: bool,
    /// Or; empty: every request.
    pub matches: Vec<Match>,
    /// At least one, unless the proxy answers itself.
    pub destinations: Vec<Destination>,
    /// What it does besides.
    pub actions: Actions<Target>,
    /// Effective for a caller that tightens nothing; shared with all of them.
    pub exchange: Arc<Exchange>,
    /// The whole node; of an implicit route, the service's name.
    pub span: Span,
}

/// One `match` block.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// And.
    pub conditions: Vec<Spanned<slice::Condition>>,
    /// The whole node.
    pub span: Span,
}

/// Endpoints of a service that requests go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The service; in most routes, the route's own.
    pub service: ServiceId,
    /// Index in that service's [`Service::subsets`]; none: all endpoints.
    pub subset: Option<usize>,
    /// The port of that service; none: the one that the request asked for.
    pub port: Option<u16>,
}

/// One branch of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where its requests go.
    pub target: Target,
    /// Share among the branches.
    pub weight: u32,
    /// In order, when the destination has no healthy endpoint.
    pub otherwise: Vec<Target>,
    /// Edits of requests' headers, after those of the route.
    pub request_headers: HeaderEdits,
    /// Edits of answers' headers, after those of the route.
    pub response_headers: HeaderEdits,
    /// The whole node; of an implicit destination, the route.
    pub span: Span,
}

/// A rule about who may enter a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// As people wrote it, `allow productpage`.
    pub name: String,
    /// Admits or refuses.
    pub effect: Effect,
    /// Whether it decides.
    pub enforcement: Enforcement,
    /// Or; empty only for `deny`: everyone.
    pub who: Vec<Principal>,
    /// Services that it names, ascending.
    pub named: Vec<ServiceId>,
    /// And.
    pub conditions: Vec<Spanned<slice::Condition>>,
    /// Whether no file writes it: a health check of the service needs it.
    pub implied: bool,
    /// The level that holds it, and where.
    pub source: Source,
}

impl Access {
    /// Whether the rule speaks of this identity, whatever the request.
    pub fn covers(&self, identity: &SpiffeId) -> bool {
        self.who.is_empty()
            || self.who.iter().any(|who| match who {
                Principal::SpiffeId(id) => id == identity,
                Principal::SpiffePrefix(prefix) => identity.as_str().starts_with(prefix.as_str()),
                Principal::Any => true,
                Principal::Unauthenticated => false,
            })
    }
}

/// A call that a service declares.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service it calls, and where it is named.
    pub callee: Spanned<ServiceId>,
    /// The one route of the callee that it speaks of; none: every route without its own.
    pub route: Option<RouteId>,
    /// Calls for each request handled.
    pub per_request: Option<Spanned<f64>>,
    /// How often a request makes the call at all, of 10,000.
    pub share: Option<Spanned<u32>>,
    /// One after the other, or at once.
    pub mode: Option<Spanned<CallMode>>,
    /// Where the caller's proxy takes connections for the callee, and for which of its ports.
    pub listen: Option<(ListenAddress, u16)>,
    /// The whole node.
    pub span: Span,
}

/// A pair of services of which one calls the other, or may.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Who calls.
    pub caller: ServiceId,
    /// Who is called.
    pub callee: ServiceId,
    /// Indices in the caller's [`Service::calls`]; empty: only permitted, never declared.
    pub declared: Vec<usize>,
    /// Indices in the callee's [`Service::access`] of the enforced `allow`s that admit the caller;
    /// empty: declared, never permitted.
    pub permitted: Vec<usize>,
    /// The routes of the caller, which is a gateway, that lead to the callee, ascending.
    pub routed: Vec<Routed>,
    /// Routes of other services that the caller calls and that lead to the callee, ascending. Such an
    /// edge may be neither declared nor permitted.
    pub led: Vec<RouteId>,
    /// Where the caller's proxy itself asks the callee before it lets a request in.
    pub asked: Vec<Asked>,
    /// Timeouts and retries of each route of the callee, for this caller; as [`Service::routes`].
    pub exchanges: Vec<Arc<Exchange>>,
}

impl Edge {
    /// Whether policy says that such calls happen, and not only that they may.
    pub const fn is_used(&self) -> bool {
        !(self.declared.is_empty()
            && self.routed.is_empty()
            && self.led.is_empty()
            && self.asked.is_empty())
    }
}

/// A question of a proxy to a service, about each request that it may let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// What is asked.
    pub purpose: AskedPurpose,
    /// How long the answer may take; none: as long as the route of the callee gives it.
    pub timeout: Option<Duration>,
    /// Where it is required.
    pub span: Span,
}

/// What a proxy asks a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskedPurpose {
    /// Whether a request may enter.
    Authorize,
    /// Whether a limit is reached.
    RateLimit,
}

/// A route of a gateway that leads to a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// The route of the gateway.
    pub route: RouteId,
    /// Where it names the service.
    pub span: Span,
    /// Timeouts and retries of each route of the callee, tightened by the gateway's; as
    /// [`Service::routes`].
    pub exchanges: Vec<Arc<Exchange>>,
}

/// Every edge, ascending by (caller, callee), and by callee at hand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edges {
    all: Vec<Edge>,
    /// Positions in `all`, ascending by (callee, caller).
    by_callee: Vec<usize>,
}

impl Edges {
    /// Puts edges in their order.
    pub(crate) fn new(mut all: Vec<Edge>) -> Self {
        all.sort_unstable_by_key(|edge| (edge.caller, edge.callee));
        let mut by_callee: Vec<usize> = (0..all.len()).collect();
        by_callee.sort_by_key(|index| all[*index].callee);
        Self { all, by_callee }
    }

    /// The edges that lead to a service, ascending by caller.
    pub fn entering(&self, callee: ServiceId) -> impl Iterator<Item = &Edge> {
        let first = self
            .by_callee
            .partition_point(|index| self.all[*index].callee < callee);
        let rest = self.by_callee.get(first..).unwrap_or_default();
        rest.iter()
            .map(|index| &self.all[*index])
            .take_while(move |edge| edge.callee == callee)
    }
}

impl std::ops::Deref for Edges {
    type Target = [Edge];

    fn deref(&self) -> &[Edge] {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Edges {
    type Item = &'a Edge;
    type IntoIter = std::slice::Iter<'a, Edge>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// Effective timeouts and retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The whole exchange, tries included.
    pub timeout: Effective<Option<Duration>>,
    /// Until a connection is up.
    pub connect: Effective<Duration>,
    /// Longest silence of a stream.
    pub stream_idle: Effective<Option<Duration>>,
    /// Longest life of a stream.
    pub max_duration: Effective<Option<Duration>>,
    /// All calls, the first included.
    pub attempts: Effective<u32>,
    /// What is tried again, ascending.
    pub causes: Effective<Vec<RetryCause>>,
    /// Longest time of one try; none: as long as the timeout.
    pub per_try: Effective<Option<Duration>>,
    /// Every cause also for methods that are not idempotent.
    pub any_method: Effective<bool>,
    /// First step of the back-off.
    pub backoff_base: Effective<Duration>,
    /// Its cap.
    pub backoff_max: Effective<Duration>,
    /// Longest life of a connection that carries nothing.
    pub idle: Effective<Option<Duration>>,
    /// How long a try takes before the next one joins it; none: it is alone.
    pub hedge: Effective<Option<Duration>>,
    /// All tries of a hedge, the first included; without a `hedge` it says nothing.
    pub hedge_attempts: Effective<u32>,
}

impl Exchange {
    /// What holds where no file says anything.
    pub fn built_in() -> Self {
        Self {
            timeout: Effective::built_in(Some(Duration::from_secs(15))),
            connect: Effective::built_in(Duration::from_secs(1)),
            stream_idle: Effective::built_in(Some(Duration::from_mins(1))),
            max_duration: Effective::built_in(None),
            attempts: Effective::built_in(1),
            causes: Effective::built_in(Vec::new()),
            per_try: Effective::built_in(None),
            any_method: Effective::built_in(false),
            backoff_base: Effective::built_in(Duration::from_millis(25)),
            backoff_max: Effective::built_in(Duration::from_millis(250)),
            idle: Effective::built_in(None),
            hedge: Effective::built_in(None),
            hedge_attempts: Effective::built_in(2),
        }
    }
}
