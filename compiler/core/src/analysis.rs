//! Facts about a mesh, computed when a check asks for them: sets of requests and the call graph.
//!
//! Nothing in here reports a finding or changes what is emitted.

pub mod access;
pub mod audit;
pub mod call_graph;
pub(crate) mod connections;
pub mod entrance;
pub mod gateways;
pub mod invariant;
pub mod passage;
pub mod probe;
pub mod redirects;
pub mod request_space;
pub mod retry;
pub mod routes;
