//! What is logged and traced, and in which steps a generation spreads: as written.

use std::time::Duration;

use mesh_bundle::slice::{AccessLogFormat, StatusRange};
use mesh_syntax::Span;

use super::{Condition, Spanned};

/// `telemetry` at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// `access-log`.
    pub access_log: Option<AccessLog>,
    /// `traces`.
    pub traces: Option<Traces>,
}

/// `access-log`.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// How.
    pub format: Spanned<AccessLogFormat>,
    /// Or; empty: every request.
    pub only: Vec<AccessLogFilter>,
    /// The whole node.
    pub span: Span,
}

/// One `only`; its fields are and.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessLogFilter {
    /// Or; empty: any.
    pub statuses: Vec<StatusRange>,
    /// However fast where absent.
    pub slower_than: Option<Spanned<Duration>>,
    /// And.
    pub conditions: Vec<Condition>,
}

/// `traces`.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// URL of the collector.
    pub otlp: Spanned<String>,
    /// Of 10,000 requests; all where absent.
    pub share: Option<Spanned<u32>>,
    /// The whole node.
    pub span: Span,
}

/// `rollout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Of 10,000 proxies, rising to all.
    pub steps: Vec<Spanned<u32>>,
    /// How long each step is watched.
    pub hold: Option<Spanned<Duration>>,
    /// How the proxies of a step switch.
    pub flip: Option<Spanned<Flip>>,
    /// The whole node.
    pub span: Span,
}

/// How the proxies of a step of a rollout switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// Each when it is ready.
    Each,
    /// All together.
    Together,
}
