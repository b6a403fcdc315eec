//! A slice: everything that one workload identity's proxy needs. The verified form of the message
//! of the same name; the compiler makes it, the engine runs on it.
//!
//! Lists that the format orders are ordered here too: [`Slice::encode`] sorts what the format calls
//! a set, so that whoever builds a slice need not.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::digest::Digest;
use crate::feature;
use crate::reject::Rejection;
use crate::spiffe::SpiffeId;

#[cfg(test)]
pub(crate) mod tests;
mod wire;

/// Byte format of the slices of this release.
pub const SLICE_FORMAT: u32 = 1;

/// Everything that one workload identity's proxy needs, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What the proxy must be able to do, [`crate::feature`] names.
    pub required_features: Vec<String>,
    /// Whose slice this is.
    pub identity: SpiffeId,
    /// Who may enter; "same access" is equality of this field.
    pub access: Access,
    /// The services that this workload calls or may call.
    pub callees: Vec<Callee>,
}

impl Slice {
    /// The canonical bytes. Sets are sorted and repeated elements dropped; durations are rounded up
    /// to milliseconds. A value that the format has no room for (two callees of one name, say)
    /// encodes to bytes that [`Self::decode`] refuses.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// The slice of which these are the canonical bytes, if this release has all features it needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        Self::decode_with(bytes, feature::SUPPORTED)
    }

    /// Like [`Self::decode`], for a program with these features. Format and features are judged
    /// before anything else is read.
    pub fn decode_with(bytes: &[u8], supported: &[&str]) -> Result<Self, Rejection> {
        wire::decode(bytes, supported)
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

impl Access {
    /// The canonical bytes: two generations have the same access rules for a workload when these
    /// are equal.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_access(self)
    }
}

/// All that decides about entering the workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The services that this identity serves, told apart by inbound port.
    pub services: Vec<InboundService>,
}

/// One service as its own proxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundService {
    /// Name of the service.
    pub service: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Rules; deny beats allow, nothing allowed means denied.
    pub rules: Vec<AccessRule>,
}

/// A port and what the application speaks there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// 1 to 65,535.
    pub number: u16,
    /// What the application speaks.
    pub protocol: Protocol,
}

/// What an application speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS that the application itself ends.
    Tls,
}

/// One `allow` or `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// As people wrote it, `allow productpage`.
    pub name: String,
    /// What it does.
    pub effect: Effect,
    /// Whether it decides or only logs.
    pub enforcement: Enforcement,
    /// Or. Empty only with [`Effect::Deny`], and then everyone.
    pub who: Vec<Principal>,
    /// And.
    pub conditions: Vec<Condition>,
}

/// What an access rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Admits.
    Allow,
    /// Refuses, and beats every [`Effect::Allow`].
    Deny,
}

/// Whether an access rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It decides.
    Enforce,
    /// It is logged and decides nothing.
    Audit,
}

/// Who a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Exactly this identity.
    SpiffeId(SpiffeId),
    /// Every identity that starts with this text; it ends in `/`.
    SpiffePrefix(String),
    /// Any peer with a verified identity.
    Any,
    /// A peer without a certificate, and no other.
    Unauthenticated,
}

/// One condition on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Upper-case method tokens, or.
    Method(Vec<String>),
    /// Patterns over the normalised path, or.
    Path(Vec<PathPattern>),
    /// `a.b`, `*.b` (one label), `**.b` (one or more), `**`; or.
    Host(Vec<String>),
    /// Ports of the service, or.
    Port(Vec<u16>),
    /// A request header; the name is lower-case.
    Header(FieldMatch),
    /// A query parameter.
    Query(FieldMatch),
    /// A cookie.
    Cookie(FieldMatch),
    /// A claim of the verified JWT.
    Claim(FieldMatch),
    /// Address of the client, as established by the listener; or.
    ClientIp(Vec<IpNet>),
    /// Address of the peer of the connection; or.
    PeerIp(Vec<IpNet>),
    /// The caller; or.
    From(Vec<Principal>),
    /// The opposite of one condition.
    Not(Box<Self>),
}

/// One pattern over normalised paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// Template or regular expression.
    pub kind: PathPatternKind,
    /// ASCII letters match in either case.
    pub ignore_case: bool,
}

/// How a path pattern is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPatternKind {
    /// `/a`, `/a/*`, `/a/{id}`, `/a/**`.
    Template(String),
    /// Anchored at both ends.
    Regex(String),
}

/// A header, query parameter, cookie or claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// Lower-case for headers.
    pub name: String,
    /// Or. Empty: present, whatever its value.
    pub values: Vec<StringMatch>,
}

/// One pattern over a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatch {
    /// How to compare.
    pub kind: StringMatchKind,
    /// ASCII letters match in either case.
    pub ignore_case: bool,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatchKind {
    /// The whole value.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Any part.
    Contains(String),
    /// Anchored at both ends.
    Regex(String),
}

/// One service that the workload calls or may call.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Unique within the service.
    pub name: String,
    /// Labels that an endpoint must carry.
    pub labels: Vec<Label>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// Written in policy.
    Declared(Vec<DeclaredEndpoint>),
    /// Streamed beside the slices.
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

/// One route of a callee, effective for this caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique within the service.
    pub name: String,
    /// Or. Empty: every request.
    pub matches: Vec<RouteMatch>,
    /// Where its requests go; never empty.
    pub destinations: Vec<Destination>,
    /// Timeouts and retries.
    pub exchange: Exchange,
}

/// And. Empty: every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// One branch of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Service whose endpoints take the request.
    pub target: Target,
    /// Share among the branches; a route with one branch has weight 1.
    pub weight: u32,
    /// In order, when the destination has no healthy endpoint.
    pub otherwise: Vec<Target>,
}

/// A service or one of its subsets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Service.
    pub service: String,
    /// None: all of its endpoints.
    pub subset: Option<String>,
}

/// Timeouts and retries of a route, for one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Whole exchange, tries included.
    pub timeout: Option<Duration>,
    /// Until a connection, TLS included, is up.
    pub connect_timeout: Duration,
    /// Attempts and causes.
    pub retry: Retry,
    /// Longest silence of a stream.
    pub stream_idle: Option<Duration>,
    /// Longest life of a stream.
    pub max_duration: Option<Duration>,
}

/// When and how often a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All calls, the first included; at least 1.
    pub attempts: u32,
    /// What is tried again.
    pub causes: Vec<RetryCause>,
    /// Of each try; None: the timeout.
    pub per_try: Option<Duration>,
    /// Every cause also for methods that are not idempotent.
    pub any_method: bool,
    /// First step of the full-jitter back-off.
    pub backoff_base: Duration,
    /// Its cap.
    pub backoff_max: Duration,
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryCause {
    /// No connection, or no TLS.
    ConnectFailure,
    /// The peer refused the request before it looked at it (HTTP/2 `REFUSED_STREAM`, GOAWAY).
    Refused,
    /// The connection broke before an answer.
    Reset,
    /// The connection broke before the request was on it.
    ResetBeforeRequest,
    /// A try took too long.
    PerTryTimeout,
    /// A received status.
    Status(u16),
    /// 500 to 599, received.
    ServerError,
    /// 502 to 504, received.
    Gateway,
    /// A received gRPC status.
    GrpcStatus(u8),
}

/// How many retries one calling proxy may send one callee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of 10,000.
    pub share: u32,
    /// Share of what.
    pub kind: RetryBudgetKind,
}

/// What a retry budget is a share of, and what it always allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryBudgetKind {
    /// Of the requests of the last `window`.
    Requests {
        /// This many retries are always allowed …
        min_count: u64,
        /// … in this time.
        min_per: Duration,
        /// How far back requests count.
        window: Duration,
    },
    /// Of the requests in flight.
    Active {
        /// This many retries at once are always allowed.
        min_count: u64,
    },
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
    /// At random.
    Random,
}
