//! `timeout`, `retry` and `hedge` as one level gives them.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;

use super::Field;

/// The settings of an exchange at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchange {
    /// `timeout`.
    pub timeout: Timeout,
    /// `retry`.
    pub retry: Retry,
    /// `hedge`.
    pub hedge: Hedge,
}

/// `timeout` at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeout {
    /// The whole exchange, tries included.
    pub whole: Field<Duration>,
    /// Until a connection is up.
    pub connect: Field<Duration>,
    /// Longest silence of a stream.
    pub stream_idle: Field<Duration>,
    /// Longest life of a stream.
    pub max_duration: Field<Duration>,
    /// Longest life of a connection that carries nothing.
    pub idle: Field<Duration>,
}

/// `hedge` at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hedge {
    /// How long a try takes before the next one joins it.
    pub delay: Field<Duration>,
    /// All tries, the first included.
    pub attempts: Field<u32>,
}

/// `retry` at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// What is tried again.
    pub causes: Field<Vec<RetryCause>>,
    /// All calls, the first included.
    pub attempts: Field<u32>,
    /// Longest time of one try.
    pub per_try: Field<Duration>,
    /// Every cause also for methods that are not idempotent.
    pub any_method: Field<bool>,
    /// First step of the back-off.
    pub backoff_base: Field<Duration>,
    /// Its cap.
    pub backoff_max: Field<Duration>,
}
