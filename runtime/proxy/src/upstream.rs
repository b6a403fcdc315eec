//! Everything towards the next hop: which endpoints there are, how they are dialled, and the
//! connections that are kept.

pub(crate) mod connect;
pub(crate) mod dial;
pub(crate) mod endpoints;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod outside;
pub(crate) mod pool;
pub(crate) mod pools;
mod ttl;
mod turns;
