//! HTTP: what enters is checked and made one normalised request, decided by the engine, forwarded,
//! and ends as one record.

pub(crate) mod body;
pub(crate) mod gather;
pub(crate) mod grpc;
pub(crate) mod local_reply;
pub(crate) mod metrics;
pub(crate) mod mirrors;
pub(crate) mod rate_limit;
pub(crate) mod record;
pub(crate) mod sanitise;
pub(crate) mod server;
pub(crate) mod stack;
pub(crate) mod stream;
pub(crate) mod timeout;
pub(crate) mod upgrade;
pub(crate) mod wire;
