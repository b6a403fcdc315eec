//! Bytes that other proxies were fooled by, and ones that nobody has thought of yet, sent raw to every side of a proxy.
//!
//! The oracle is the same for all: either the request is refused and not a byte of it is forwarded, or exactly one
//! canonical request reaches the application, which no two parsers read in two ways. A second connection, a victim's,
//! shares the pools and gets its own answers all along. What is refused has a reason, in the answer, in the metrics
//! and in the access log.

mod generated;
mod http2;
mod responses;
mod rig;
mod rows;
