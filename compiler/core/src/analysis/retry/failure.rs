//! How a call fails, who tries it again and what the caller's own caller sees (D2).

use std::collections::BTreeSet;
use std::fmt;

use mesh_bundle::slice::RetryCause;

use crate::analysis::call_graph::{CallGraph, Policy};

/// A class of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No connection.
    ConnectFailure,
    /// Refused before the request was looked at.
    Refused,
    /// The connection broke before an answer.
    Reset,
    /// The connection broke before the request was on it.
    ResetBeforeRequest,
    /// A received status.
    Status(u16),
    /// A received gRPC status.
    GrpcStatus(u8),
    /// A try took too long.
    PerTryTimeout,
}

impl Failure {
    /// The failure that people meet most: of equally bad ones this is named.
    pub const USUAL: Self = Self::Status(503);

    /// What the caller answers its own caller once it gives up.
    #[must_use]
    pub fn upstream(self) -> Self {
        match self {
            Self::ConnectFailure | Self::Refused | Self::Reset | Self::ResetBeforeRequest => {
                Self::Status(503)
            }
            Self::PerTryTimeout => Self::Status(504),
            Self::Status(_) | Self::GrpcStatus(_) => self,
        }
    }

    /// Whether a policy tries it again.
    pub fn is_retried_by(self, policy: &Policy) -> bool {
        policy.causes.iter().any(|cause| self.is(*cause))
    }

    fn is(self, cause: RetryCause) -> bool {
        match (self, cause) {
            (Self::ConnectFailure, RetryCause::ConnectFailure)
            | (Self::Refused, RetryCause::Refused)
            | (Self::ResetBeforeRequest, RetryCause::ResetBeforeRequest)
            // Whatever breaks before the request breaks before the answer.
            | (Self::Reset | Self::ResetBeforeRequest, RetryCause::Reset)
            | (Self::PerTryTimeout, RetryCause::PerTryTimeout) => true,
            (Self::Status(status), RetryCause::Status(wanted)) => status == wanted,
            (Self::Status(status), RetryCause::ServerError) => (500..600).contains(&status),
            (Self::Status(status), RetryCause::Gateway) => (502..505).contains(&status),
            (Self::GrpcStatus(status), RetryCause::GrpcStatus(wanted)) => status == wanted,
            _ => false,
        }
    }

    /// Tries of a call that fails in this way, under a policy.
    pub fn tries(self, policy: &Policy) -> u32 {
        if self.is_retried_by(policy) {
            policy.tries()
        } else {
            policy.hedged_tries()
        }
    }

    /// The classes of failures at once that some policy of the graph could tell apart, ascending. A
    /// hang is not among them: see [`super::SlowCalls`].
    pub fn classes(graph: &CallGraph) -> Vec<Self> {
        let mut classes = BTreeSet::from([
            Self::ConnectFailure,
            Self::Refused,
            Self::Reset,
            Self::ResetBeforeRequest,
            Self::Status(500),
            Self::Status(502),
            Self::Status(503),
            Self::Status(504),
        ]);
        let policies = graph.edges().flat_map(|id| &graph.edge(id).policies);
        for cause in policies.flat_map(|policy| &policy.causes) {
            match cause {
                RetryCause::Status(status) => classes.insert(Self::Status(*status)),
                RetryCause::GrpcStatus(status) => classes.insert(Self::GrpcStatus(*status)),
                _ => false,
            };
        }
        classes.into_iter().collect()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailure => f.write_str("connect-failure"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::ResetBeforeRequest => f.write_str("reset-before-request"),
            Self::PerTryTimeout => f.write_str("per-try-timeout"),
            Self::Status(status) => write!(f, "{status}"),
            Self::GrpcStatus(status) => write!(f, "grpc-{status}"),
        }
    }
}
