//! Logs and traces.

use std::time::Duration;

use super::Condition;

/// Logs and traces of one service or gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Name of the service or gateway.
    pub service: String,
    /// None: the proxy's own default.
    pub access_log: Option<AccessLog>,
    /// None: no traces.
    pub traces: Option<Traces>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// How.
    pub format: AccessLogFormat,
    /// Or; empty: every request.
    pub only: Vec<AccessLogFilter>,
}

/// How a request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Not at all.
    None,
    /// A JSON object per line.
    Json,
    /// A line for people.
    Text,
}

/// Requests that are logged; its fields are and.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogFilter {
    /// Or; empty: any.
    pub statuses: Vec<StatusRange>,
    /// None: however fast.
    pub slower_than: Option<Duration>,
    /// And.
    pub conditions: Vec<Condition>,
}

/// Statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Of 10,000 requests.
    pub share: u32,
    /// URL of the collector.
    pub otlp: String,
}
