//! A slice: everything that one workload identity's proxy needs. The verified form of the message
//! of the same name; the compiler makes it, the engine runs on it.
//!
//! Lists that the format orders are ordered here too: [`Slice::encode`] sorts what the format calls
//! a set, so that whoever builds a slice need not.

use crate::digest::Digest;
use crate::feature;
use crate::reject::Rejection;
use crate::spiffe::SpiffeId;

mod access;
mod action;
mod callee;
mod condition;
mod exchange;
mod gateway;
mod pool;
mod route;
mod telemetry;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod wire;

pub use access::{
    Access, AccessRule, Authorizer, AuthorizerProtocol, ClaimHeader, ClientAddress, Effect,
    Enforcement, InboundService, Jwks, JwtProvider, Listener, MtlsMode, OnFailure, OutboundService,
    Port, PortMtls, Principal, Probe, Protocol, RateLimit, RequestKey, Requirement,
    RequirementKind, TokenLocation,
};
pub use action::{
    Answer, Cors, Fault, FaultAbort, FaultDelay, HeaderEdits, HeaderLine, Mirror, PathAccepts,
    Redirect, Respond, Rewrite, RouteFilters, Upgrade,
};
pub use callee::{
    Callee, CalleeKind, CalleeListener, DeclaredEndpoint, EndpointAddress, EndpointSource, Label,
    PortDial, Subset,
};
pub use condition::{
    Condition, FieldMatch, PathPattern, PathPatternKind, StringMatch, StringMatchKind,
};
pub use exchange::{Exchange, Hedge, Retry, RetryBudget, RetryBudgetKind, RetryCause};
pub use gateway::{CalleeExchange, Gateway};
pub use pool::{
    Balance, HealthCheck, HealthCheckKind, Limits, Locality, LocalityFallback, Outlier,
    OutlierRates, Pool, SubsetPool,
};
pub use route::{Destination, Route, RouteMatch, Target};
pub use telemetry::{AccessLog, AccessLogFilter, AccessLogFormat, StatusRange, Telemetry, Traces};
pub use tls::{ClientCertificate, ClientTls, ServerTls, TlsVersion};

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
    /// The gateways that this identity is; how they are entered is in [`Self::access`].
    pub gateways: Vec<Gateway>,
    /// Logs and traces of its services and gateways.
    pub telemetry: Vec<Telemetry>,
}

impl Slice {
    /// The slice of a workload that nobody may call and that calls nobody.
    pub fn new(identity: SpiffeId) -> Self {
        Self {
            required_features: Vec::new(),
            identity,
            access: Access::default(),
            callees: Vec::new(),
            gateways: Vec::new(),
            telemetry: Vec::new(),
        }
    }

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

    /// What [`Self::decode_with`] makes of the bytes of [`Self::encode`]: how the value is read, or why it is refused.
    /// The bytes are not written, which is several times faster.
    pub fn recode_with(&self, supported: &[&str]) -> Result<Recoded<Self>, Rejection> {
        wire::recode(self, supported)
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// What a proxy reads where this release writes, and in how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recoded<T> {
    /// What is read.
    pub value: T,
    /// Length of the canonical bytes; within another message, a few more say whose part it is.
    pub bytes: usize,
}

impl Callee {
    /// [`Slice::recode_with`] of one callee. A slice whose parts are all read, whose callees have distinct names and are
    /// no more than [`CALLEES_MAX`](crate::limits::CALLEES_MAX), and whose bytes together are no more than
    /// [`SLICE_BYTES_MAX`](crate::limits::SLICE_BYTES_MAX), is read.
    pub fn recode(&self) -> Result<Recoded<Self>, Rejection> {
        wire::recode_callee(self)
    }
}

impl Access {
    /// The canonical bytes: two generations have the same access rules for a workload when these
    /// are equal.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode_access(self)
    }
}
