//! What a request must bring to enter, how many may, and what is told about them: with names resolved.

use std::time::Duration;

use mesh_bundle::slice::{
    self, AccessLogFilter, AccessLogFormat, AuthorizerProtocol, OnFailure, PathPattern, RequestKey,
};
use mesh_syntax::Span;

use super::{Source, Target};
use crate::model::{RequirementKind, Spanned};

/// Whose tokens are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// Its name.
    pub name: Spanned<String>,
    /// As the proxies are told it.
    pub provider: slice::JwtProvider,
    /// The whole node.
    pub span: Span,
}

/// A service that is asked whether a request may enter.
#[derive(Clone, Debug, PartialEq)]
pub struct Authorizer {
    /// Its name.
    pub name: Spanned<String>,
    /// Who is asked, and where that is written.
    pub to: Spanned<Target>,
    /// How.
    pub protocol: AuthorizerProtocol,
    /// How long the answer may take.
    pub timeout: Duration,
    /// What happens when there is none.
    pub on_failure: Spanned<OnFailure>,
    /// Lower-case names, ascending: sent along.
    pub send_headers: Vec<String>,
    /// The same: of the answer, to the service.
    pub keep_headers: Vec<String>,
    /// The same: of a refusal, to the caller.
    pub return_headers: Vec<String>,
    /// Bytes of the body that are sent.
    pub body_bytes: u64,
    /// The whole node.
    pub span: Span,
}

/// What a request must bring beyond being allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// What it is about.
    pub kind: RequirementKind,
    /// Index in [`super::LinkedMesh::jwts`] or [`super::LinkedMesh::authorizers`].
    pub provider: usize,
    /// Only requests that this route of the gateway takes, as an index; none: all.
    pub route: Option<usize>,
    /// And.
    pub conditions: Vec<Spanned<slice::Condition>>,
    /// The level that holds it, and where.
    pub source: Source,
}

/// How many requests may enter.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// So many in such a time.
    pub rate: Spanned<(u64, Duration)>,
    /// Requests at once.
    pub burst: u64,
    /// The service that counts for all proxies, and what happens when it does not answer.
    pub via: Option<(Spanned<Target>, OnFailure)>,
    /// One compound key, ascending; empty: all requests together.
    pub keys: Vec<RequestKey>,
    /// What those that are too many are told; 429 where absent.
    pub respond: Option<slice::Respond>,
    /// Only requests that this route of the gateway takes, as an index; none: all.
    pub route: Option<usize>,
    /// And.
    pub conditions: Vec<Spanned<slice::Condition>>,
    /// The level that holds it, and where.
    pub source: Source,
}

/// What is admitted in plaintext to see whether a service lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Or.
    pub paths: Vec<PathPattern>,
    /// Peers, ascending; empty: any.
    pub peer_ip: Vec<ipnet::IpNet>,
    /// The level that holds it, and where.
    pub source: Source,
}

/// What is logged and traced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// None: the proxy's own default.
    pub access_log: Option<AccessLog>,
    /// None: no traces.
    pub traces: Option<Traces>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// How.
    pub format: AccessLogFormat,
    /// Or; empty: every request.
    pub only: Vec<AccessLogFilter>,
    /// Where it is written.
    pub span: Span,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// URL of the collector.
    pub otlp: Spanned<String>,
    /// Of 10,000 requests.
    pub share: u32,
    /// Where it is written.
    pub span: Span,
}
