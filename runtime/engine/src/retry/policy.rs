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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestRng, retry};

    /// Whether each failure is retried for GET and for POST.
    #[track_caller]
    fn check(causes: &[RetryCause], failure: Failure, expected: (bool, bool)) {
        let policy = RetryPolicy::new(&Retry {
            causes: causes.into(),
            ..retry()
        });
        let found = (
            policy.retries(failure, is_idempotent("GET")),
            policy.retries(failure, is_idempotent("POST")),
        );
        assert_eq!(found, expected, "{causes:?} {failure:?}");
    }

    const BOTH: (bool, bool) = (true, true);
    const GET: (bool, bool) = (true, false);
    const NONE: (bool, bool) = (false, false);

    /// design.md, *Retries*: "Non-idempotent methods are retried only on `connect-failure`, `refused`,
    /// `reset-before-request`, unless `methods=any`; gRPC by its status list."
    #[test]
    fn causes_and_methods() {
        use RetryCause as Cause;
        check(&[Cause::ConnectFailure], Failure::Connect, BOTH);
        check(&[Cause::Refused], Failure::Refused, BOTH);
        check(
            &[Cause::ResetBeforeRequest],
            Failure::ResetBeforeRequest,
            BOTH,
        );
        check(&[Cause::ResetBeforeRequest], Failure::Reset, NONE);
        check(&[Cause::Reset], Failure::ResetBeforeRequest, BOTH);
        check(&[Cause::Reset], Failure::Reset, GET);
        check(&[Cause::Reset], Failure::Refused, NONE);
        check(&[Cause::PerTryTimeout], Failure::PerTryTimeout, GET);
        check(&[Cause::Status(429)], Failure::Status(429), GET);
        check(&[Cause::Status(429)], Failure::Status(503), NONE);
        check(&[Cause::GrpcStatus(14)], Failure::GrpcStatus(14), BOTH);
        check(&[Cause::GrpcStatus(14)], Failure::GrpcStatus(4), NONE);
        check(&[], Failure::Connect, NONE);
    }

    /// "Failures without a status and statuses are disjoint: `"5xx"` and `gateway` (502–504) are
    /// received statuses."
    #[test]
    fn statuses_are_received() {
        for (status, server_error, gateway) in [
            (499, NONE, NONE),
            (500, GET, NONE),
            (502, GET, GET),
            (504, GET, GET),
            (505, GET, NONE),
            (599, GET, NONE),
            (600, NONE, NONE),
        ] {
            check(
                &[RetryCause::ServerError],
                Failure::Status(status),
                server_error,
            );
            check(&[RetryCause::Gateway], Failure::Status(status), gateway);
        }
        for failure in [
            Failure::Connect,
            Failure::Refused,
            Failure::Reset,
            Failure::PerTryTimeout,
        ] {
            check(
                &[RetryCause::ServerError, RetryCause::Gateway],
                failure,
                NONE,
            );
        }
    }

    #[test]
    fn any_method() {
        let causes = vec![RetryCause::ServerError];
        let policy = RetryPolicy::new(&Retry {
            causes,
            any_method: true,
            ..retry()
        });
        assert!(policy.retries(Failure::Status(503), is_idempotent("POST")));
        assert!(!policy.retries(Failure::Reset, is_idempotent("POST")));
    }

    /// RFC 9110 §9.2.2; methods are case-sensitive (§9.1).
    #[test]
    fn idempotent_methods() {
        let all = [
            "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "get",
        ];
        let idempotent = all.map(is_idempotent);
        assert_eq!(
            idempotent,
            [true, true, true, true, true, true, false, false, false]
        );
    }

    /// retry-model.md: "backoff before retry k in [0, min(cap, (2^k-1)*base)]".
    #[test]
    fn backoff_is_full_jitter() {
        let policy = RetryPolicy::new(&retry());
        let longest = [1, 2, 3, 4, 31, 32, u32::MAX].map(|k| policy.backoff_max(k).as_millis());
        assert_eq!(longest, [25, 75, 175, 250, 250, 250, 250]);
        let mut rng = TestRng(3);
        let drawn: Vec<_> = (0..1000).map(|_| policy.backoff(2, &mut rng)).collect();
        let max = Duration::from_millis(75);
        assert!(drawn.iter().all(|wait| *wait <= max));
        assert!(drawn.iter().any(|wait| *wait < max / 10));
        assert!(drawn.iter().any(|wait| *wait > max * 9 / 10));
    }

    #[test]
    fn attempts_are_at_least_one() {
        assert_eq!(
            RetryPolicy::new(&Retry {
                attempts: 0,
                ..retry()
            })
            .attempts(),
            1
        );
    }
}
