//! What the two daemons of the mesh share: identities and TLS, the stream between them, the store
//! folder, telemetry, the admin socket and the way they end. It knows nothing of policy or of
//! requests; the programs put those in.

pub mod admin;
pub mod clock;
pub mod drain;
pub mod handover;
pub mod identity;
pub mod join_file;
pub mod limits;
pub mod rpc;
pub mod signal;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
