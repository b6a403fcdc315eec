//! What the policy files declare, as written: references are still names, everything optional is
//! optional, and everything carries its span. It knows nothing of levels, defaults or other files.

use std::sync::Arc;

use mesh_bundle::slice;
pub use mesh_bundle::slice::{Effect, Enforcement, Principal};
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::Span;

use crate::library::Used;

mod access;
mod action;
mod entry;
mod exchange;
mod gateway;
mod governance;
mod invariant;
mod pool;
mod reach;
mod service;
mod telemetry;
mod test;

pub use crate::keyword::{Balance, HealthCheck, Limits, Locality, Method, Nearness, Outlier};
pub use access::{Access, Condition, ConditionKind, Who};
pub use action::{Actions, Fault, Mirror};
pub use entry::{Authorizer, JwksSource, Jwt, Probe, RateLimit, Requirement, RequirementKind};
pub use exchange::{Exchange, Hedge, Retry, Timeout};
pub use gateway::{
    ClientAddress, ClientCertificate, Delegate, Gateway, GatewayRoute, Listener, Tls, TlsVersion,
};
pub use governance::{
    Certificate, Instances, Inventoried, Inventory, Observed, Overriding, SuppressedAt, Suppression,
};
pub use invariant::{Claim, ClaimKind, Invariant};
pub use pool::EffectivePool;
pub use pool::{BudgetMinimum, Pool, RetryBudget};
pub use reach::{Dial, ListenAddress, Reach};
pub use service::{
    Call, CallMode, Destination, EndpointSource, Endpoints, Extendable, External, Facts, Kind,
    Match, Port, Route, Service, Subset, Target,
};
pub use telemetry::{AccessLog, AccessLogFilter, Flip, Rollout, Telemetry, Traces};
pub use test::{Expect, ExpectedHeader, HeaderValue, Share, Test, TestRequest, Verdict};

/// Something written in a policy file, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(change(self.value), self.span)
    }
}

/// What one level says about a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting<T> {
    /// `none`: takes away what lower levels say.
    Removed,
    /// A value.
    Value(T),
}

/// A field at one level; absent where the level says nothing about it.
pub type Field<T> = Option<Spanned<Setting<T>>>;

/// Everything that the files of one root declare.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// The `mesh` node.
    pub root: Option<Root>,
    /// Services, gateways and externals, in no particular order; shared with what remembers their file.
    pub services: Vec<Arc<Service>>,
    /// Routes of gateways in files of their own, in no particular order.
    pub gateway_routes: Vec<GatewayRoute>,
    /// What must hold for the whole mesh, in no particular order.
    pub invariants: Vec<Invariant>,
    /// Providers of tokens, in no particular order.
    pub jwts: Vec<Jwt>,
    /// Authorizers, in no particular order.
    pub authorizers: Vec<Authorizer>,
    /// Named policies, in no particular order.
    pub policies: Vec<Policy>,
    /// Tests, in no particular order.
    pub tests: Vec<Test>,
    /// Suppressions, in no particular order.
    pub suppressions: Vec<Suppression>,
    /// What the environment changes, in no particular order.
    pub overridings: Vec<Overriding>,
    /// What git alone can't know; there should be one at most.
    pub inventories: Vec<Inventory>,
    /// What is used of the standard library, by the place of the `use`.
    pub(crate) library: Used,
}

impl Mesh {
    /// Adds what another part of the files declares, but for a second `mesh` node, which is returned.
    pub(crate) fn add(&mut self, part: Self) -> Option<Root> {
        let Self {
            root,
            services,
            gateway_routes,
            invariants,
            jwts,
            authorizers,
            policies,
            tests,
            suppressions,
            overridings,
            inventories,
            library,
        } = part;
        self.services.extend(services);
        self.gateway_routes.extend(gateway_routes);
        self.invariants.extend(invariants);
        self.jwts.extend(jwts);
        self.authorizers.extend(authorizers);
        self.policies.extend(policies);
        self.tests.extend(tests);
        self.suppressions.extend(suppressions);
        self.overridings.extend(overridings);
        self.inventories.extend(inventories);
        self.library.extend(library);
        if self.root.is_some() {
            return root;
        }
        self.root = root;
        None
    }
}

/// The `mesh` node.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// Name of the mesh.
    pub name: Spanned<String>,
    /// Its SPIFFE trust domain.
    pub trust_domain: Option<Spanned<String>>,
    /// Declared environments.
    pub environments: Vec<Spanned<String>>,
    /// `defaults`.
    pub defaults: Settings,
    /// `refuse`.
    pub refuse: Refuse,
    /// Teams.
    pub teams: Vec<Team>,
    /// Whether peers must use mutual TLS; inside, none is strict.
    pub mtls: Option<Spanned<Option<slice::MtlsMode>>>,
    /// Foreign trust domains whose identities rules may name.
    pub federates: Vec<Spanned<String>>,
    /// How a generation spreads.
    pub rollout: Option<Rollout>,
    /// What is logged and traced.
    pub telemetry: Telemetry,
    /// The whole node.
    pub span: Span,
    /// The word `mesh`.
    pub name_span: Span,
}

/// Limits that `check` enforces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refuse {
    /// Highest amplification by retries.
    pub amplification: Option<Spanned<u32>>,
    /// Highest number of attempts.
    pub attempts: Option<Spanned<u32>>,
    /// Most that one commit may move between branches, of 10,000.
    pub canary_step: Option<Spanned<u32>>,
    /// Most workloads whose slices one commit may change, of 10,000.
    pub blast_radius: Option<Spanned<u32>>,
}

/// A team and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// Its name.
    pub name: Spanned<String>,
    /// Files, as patterns.
    pub owns: Vec<Spanned<String>>,
    /// Services, gateways and externals.
    pub services: Vec<Spanned<String>>,
    /// The whole node.
    pub span: Span,
}

/// A named policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: Spanned<String>,
    /// What it sets.
    pub settings: Settings,
    /// The whole node.
    pub span: Span,
}

/// What a level that holds all groups of settings says: `defaults`, `policy`, `service`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `use`.
    pub uses: Vec<Spanned<String>>,
    /// Timeouts and retries.
    pub exchange: Exchange,
    /// How callers pick, limit and watch endpoints.
    pub pool: Pool,
    /// `retry-budget`.
    pub retry_budget: Field<RetryBudget>,
    /// `allow` and `deny`.
    pub access: Vec<Access>,
    /// `require` and `accept`.
    pub requirements: Vec<Requirement>,
    /// `rate-limit`.
    pub rate_limits: Vec<RateLimit>,
    /// `probe`.
    pub probes: Vec<Probe>,
}

/// An identity as policy names it.
pub type Identity = Spanned<SpiffeId>;

/// A label that an instance carries or must carry.
pub type Label = Spanned<slice::Label>;
