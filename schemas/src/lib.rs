//! What both halves of the mesh share: the messages, their canonical bytes, Merkle proofs, signed
//! envelopes and the rules by which they are believed. Pure: no files, no sockets, no clock.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod messages;
