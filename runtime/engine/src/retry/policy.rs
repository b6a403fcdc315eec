//! What is retried: causes, methods, attempts and back-off of one route.

use std::time::Duration;

use mesh_bundle::slice::{Retry, RetryCause};

use super::jitter;

/// The retries of one route, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    retry: Retry,
}

/// How a try failed. Failures without a status and statuses are disjoint: a proxy that makes up a 503
/// for a refused connection reports [`Failure::Connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or no TLS.
    Connect,
    /// The peer refused the request before it looked at it.
    Refused,
    /// The connection broke before the request was on it.
    ResetBeforeRequest,
    /// The connection broke after the request was on it and before an answer.
    Reset,
    /// The try took longer than its per-try timeout.
    PerTryTimeout,
    /// A received HTTP status.
    Status(u16),
    /// A received gRPC status.
    GrpcStatus(u8),
}

impl RetryPolicy {
    /// Compiles the retries of a route.
    pub fn new(retry: &Retry) -> Self {
        Self {
            retry: retry.clone(),
        }
    }

    /// All tries, the first included.
    pub fn attempts(&self) -> u32 {
        self.retry.attempts.max(1)
    }

    /// Of each try; `None`: the timeout of the exchange.
    pub fn per_try(&self) -> Option<Duration> {
        self.retry.per_try
    }

    /// Whether a received HTTP status could be followed by another try for some method, so that its
    /// answer must not be passed on before that is decided.
    pub fn watches_status(&self, status: u16) -> bool {
        self.has_cause(Failure::Status(status))
    }

    /// Whether this failure is followed by another try, as far as causes and methods say.
    pub fn retries(&self, failure: Failure, idempotent: bool) -> bool {
        self.has_cause(failure) && (idempotent || self.retry.any_method || failure.is_harmless())
    }

    fn has_cause(&self, failure: Failure) -> bool {
        self.retry
            .causes
            .iter()
            .any(|cause| covers(*cause, failure))
    }

    /// How long to wait before the `k`th retry, the first being 1: full jitter, evenly from 0 to
    /// `min(max, (2^k − 1) · base)` (retry-model.md, inputs).
    pub fn backoff(&self, k: u32, rng: &mut (impl rand::Rng + ?Sized)) -> Duration {
        jitter(self.backoff_max(k), rng)
    }

    /// The longest wait before the `k`th retry.
    pub fn backoff_max(&self, k: u32) -> Duration {
        let factor = 1_u32.checked_shl(k).map_or(u32::MAX, |power| power - 1);
        self.retry
            .backoff_base
            .saturating_mul(factor)
            .min(self.retry.backoff_max)
    }
}

impl Failure {
    /// Whether another try is harmless whatever the method: the peer has not acted on the request. A
    /// gRPC status is listed by whoever knows that the call bears repetition.
    fn is_harmless(self) -> bool {
        match self {
            Self::Connect | Self::Refused | Self::ResetBeforeRequest | Self::GrpcStatus(_) => true,
            Self::Reset | Self::PerTryTimeout | Self::Status(_) => false,
        }
    }
}

fn covers(cause: RetryCause, failure: Failure) -> bool {
    match (cause, failure) {
        (RetryCause::ConnectFailure, Failure::Connect)
        | (RetryCause::Refused, Failure::Refused)
        | (RetryCause::Reset, Failure::Reset | Failure::ResetBeforeRequest)
        | (RetryCause::ResetBeforeRequest, Failure::ResetBeforeRequest)
        | (RetryCause::PerTryTimeout, Failure::PerTryTimeout) => true,
        (RetryCause::Status(listed), Failure::Status(status)) => listed == status,
        (RetryCause::ServerError, Failure::Status(status)) => (500..=599).contains(&status),
        (RetryCause::Gateway, Failure::Status(status)) => (502..=504).contains(&status),
        (RetryCause::GrpcStatus(listed), Failure::GrpcStatus(status)) => listed == status,
        _ => false,
    }
}

/// RFC 9110 §9.2.2. Methods that it does not name may do anything.
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    )
}
