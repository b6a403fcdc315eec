//! Every decision of the mesh: (snapshot, request, peer, now, randomness) → decision. The proxy, the
//! compiler's witnesses, `test` and `explain` all ask here. Pure: no sockets, no files, no clock, no
//! randomness of its own; time and random numbers are arguments.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![warn(missing_docs)]

pub mod adaptive;
pub mod balance;
pub mod breaker;
pub mod client_hello;
pub mod condition;
pub mod detect;
pub mod filter;
pub mod gateway;
pub mod health;
pub mod host;
pub mod http1;
pub mod http2_frames;
pub mod inbound;
pub mod jwt;
pub mod limit;
pub mod limits;
pub mod outlier;
pub mod path;
pub mod preface;
pub mod proxy_protocol;
pub mod rbac;
pub mod regex;
pub mod request;
pub mod retry;
pub mod route;
pub mod snapshot;
pub mod telemetry;
pub mod trace;

#[cfg(test)]
mod testing;

pub use gateway::GatewayTable;
pub use inbound::InboundTable;
pub use path::NormalisedPath;
pub use request::{HeaderView, Peer, Request};
pub use route::{CalleeTable, RouteTable};
pub use snapshot::{Snapshot, SnapshotError};
