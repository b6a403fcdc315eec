//! Timeouts, retries, hedging and retry budgets.

use std::fmt;
use std::time::Duration;

/// Timeouts and retries of a route, for one caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Longest life of a connection without requests, or of one of opaque bytes without bytes.
    pub idle: Option<Duration>,
    /// Another try beside one that takes long.
    pub hedge: Option<Hedge>,
}

impl Default for Exchange {
    /// What holds where nobody says anything.
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(15)),
            connect_timeout: Duration::from_secs(1),
            retry: Retry::default(),
            stream_idle: Some(Duration::from_mins(1)),
            max_duration: None,
            idle: None,
            hedge: None,
        }
    }
}

/// Another try beside one that takes long; whichever answers first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hedge {
    /// How long a try takes before the next one joins it.
    pub delay: Duration,
    /// All tries, the first included; at least 2.
    pub attempts: u32,
}

/// When and how often a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

impl Default for Retry {
    /// One try.
    fn default() -> Self {
        Self {
            attempts: 1,
            causes: Vec::new(),
            per_try: None,
            any_method: false,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }
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

/// As policy names it.
impl fmt::Display for RetryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectFailure => "connect-failure",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::ResetBeforeRequest => "reset-before-request",
            Self::PerTryTimeout => "per-try-timeout",
            Self::ServerError => "5xx",
            Self::Gateway => "gateway",
            Self::Status(status) => return status.fmt(f),
            Self::GrpcStatus(status) => return write!(f, "grpc-{status}"),
        })
    }
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
