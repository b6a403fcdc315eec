//! What both halves of the mesh share: the messages, their canonical bytes, Merkle proofs, signed
//! envelopes and the rules by which they are believed. Pure: no files, no sockets, no clock, no
//! randomness; time is an argument.
//!
//! From the bytes up: [`mod@slice`] and the statements ([`generation`], [`head`], [`trust_root`],
//! [`trust_bundle`], [`revocations`]) are typed values with one encoding each; [`envelope`] carries
//! signatures over a statement; [`merkle`] ties slices to a generation; [`acceptance`] is all that a
//! proxy believes. Every bound is in [`limits`], every refusal a [`reject::Rejection`].
//! `schemas/vectors` has examples with their bytes.
#![warn(missing_docs, clippy::disallowed_methods, clippy::disallowed_types)]

pub mod acceptance;
mod canonical;
pub mod ceremony;
pub mod cohort;
pub mod digest;
pub mod envelope;
pub mod feature;
pub mod generation;
pub mod head;
pub mod key;
pub mod limits;
pub mod merkle;
pub mod messages;
pub mod order;
pub mod reject;
pub mod revocations;
pub mod scope;
pub mod slice;
pub mod spiffe;
pub mod statement;
pub mod trust_bundle;
pub mod trust_root;

#[cfg(test)]
mod testing;
