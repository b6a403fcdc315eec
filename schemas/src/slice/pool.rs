//! How the endpoints of a callee are picked, limited and watched by one calling proxy.

use std::time::Duration;

use super::RequestKey;

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The least busy of [`Pool::choices`] picked at random.
    #[default]
    LeastRequest,
    /// At random.
    Random,
    /// The one of two picked at random that answers sooner, by a moving average that follows peaks.
    PeakEwma,
    /// By [`Pool::hash_keys`], on a ring.
    RingHash,
    /// By [`Pool::hash_keys`], in a table (Eisenbud et al., NSDI 2016).
    Maglev,
}

/// How the endpoints of a callee, or of a subset of it, are picked, limited and watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// What [`Balance::RingHash`] and [`Balance::Maglev`] hash.
    pub hash_keys: Vec<RequestKey>,
    /// Endpoints that [`Balance::LeastRequest`] compares; None: 2.
    pub choices: Option<u32>,
    /// A new endpoint reaches its full share after so long; None: at once.
    pub slow_start: Option<Duration>,
    /// Which endpoints are near.
    pub locality: Option<Locality>,
    /// How much goes there at once.
    pub limits: Limits,
    /// Which endpoints are left out for their answers.
    pub outlier: Option<Outlier>,
    /// Which endpoints are left out because they fail when asked.
    pub health_checks: Vec<HealthCheck>,
}

/// The pool of a subset, with what the service's gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetPool {
    /// How an endpoint is picked.
    pub balance: Balance,
    /// The rest.
    pub pool: Pool,
}

/// Which endpoints are near.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// Labels that an endpoint best shares with the caller, the most important first; never empty.
    pub labels: Vec<String>,
    /// Of 10,000: below this share of healthy endpoints the next best join in.
    pub min_healthy: u32,
    /// In order, when the caller's own value has too few.
    pub otherwise: Vec<LocalityFallback>,
    /// Never beyond `otherwise`.
    pub confined: bool,
}

/// Where else to look for endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityFallback {
    /// Values of the first label that are tried, in order; never empty.
    pub values: Vec<String>,
    /// Only for callers of this value; None: for all.
    pub from: Option<String>,
}

/// How much goes to a pool at once. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests in flight.
    pub requests: Option<u32>,
    /// Retries in flight.
    pub retries: Option<u32>,
    /// Requests until a connection is closed.
    pub requests_per_connection: Option<u32>,
    /// Bytes of a request's body.
    pub body_bytes: Option<u64>,
    /// Of 10,000: so much longer than at their best answers may take before fewer requests are sent at once; None: their
    /// number follows no answers. It never grows above `requests`.
    pub adaptive: Option<u32>,
}

/// Which endpoints are left out for their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// So many 5xx in a row, failures without a status among them; None: not counted.
    pub consecutive_5xx: Option<u32>,
    /// So many 502 to 504 in a row, failures without a status among them; None: not counted.
    pub consecutive_gateway: Option<u32>,
    /// So many failures without a status in a row; None: not counted apart.
    pub consecutive_local: Option<u32>,
    /// None: endpoints are not compared with each other.
    pub rates: Option<OutlierRates>,
    /// How often ejected endpoints are looked at.
    pub every: Duration,
    /// How long the first ejection lasts.
    pub eject: Duration,
    /// Of 10,000: so many endpoints are left out at most.
    pub max_ejected: u32,
}

/// Endpoints compared with each other every [`Outlier::every`]. One of the first two is there at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRates {
    /// Thousandths of a standard deviation: a success rate so far below the mean is too low; None: not compared.
    pub success_rate_deviations: Option<u32>,
    /// Of 10,000: such a share of failures is too large; None: not counted.
    pub failure_percentage: Option<u32>,
    /// Fewer endpoints with enough requests are not compared.
    pub min_hosts: u32,
    /// Fewer requests say nothing of an endpoint.
    pub min_requests: u32,
}

/// How an endpoint is asked whether it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: HealthCheckKind,
    /// How often.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Successes in a row until it is healthy again.
    pub healthy: u32,
    /// Failures in a row until it is not.
    pub unhealthy: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheckKind {
    /// GET of this path.
    Http(String),
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}
