//! A generation: one compiled commit for one environment, and the Merkle root over its slices.
//!
//! It names no URL, no previous generation and no time, so that the same commit and compiler release
//! give the same bytes anywhere.

use crate::canonical::{self, NonCanonical, Wire, invalid, required, text, text_or_empty, within};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType};
use crate::key::SigningKey;
use crate::limits;
use crate::messages::bundle as wire;
use crate::order::Order;
use crate::reject::Rejection;
use crate::scope::Scope;
use crate::statement::{self, Statement};

/// A raw git object id: 20 bytes of SHA-1 or 32 of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    bytes: [u8; 32],
    length: usize,
}

/// Bytes are not a git object id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 20 or 32 bytes of a git object id")]
pub struct ObjectIdError;

impl ObjectId {
    /// Takes raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectIdError> {
        if !matches!(bytes.len(), 20 | 32) {
            return Err(ObjectIdError);
        }
        let mut padded = [0; 32];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Self {
            bytes: padded,
            length: bytes.len(),
        })
    }

    /// Parses 40 or 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, ObjectIdError> {
        match hex::decode(text) {
            Ok(bytes) => Self::from_bytes(&bytes),
            Err(_) => Err(ObjectIdError),
        }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// One compiled commit for one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its place in the order.
    pub order: Order,
    /// Full name of the followed ref, `refs/heads/main`.
    pub reference: String,
    /// Folder of the mesh in the repository; empty for the top.
    pub root_path: String,
    /// Merkle root over the slices.
    pub root: Digest,
    /// How many slices there are.
    pub leaf_count: u32,
    /// The commit.
    pub commit: ObjectId,
    /// Its tree.
    pub tree: ObjectId,
    /// SHA-256 over the policy files that were compiled.
    pub input_digest: Digest,
    /// Release of the compiler.
    pub compiler: String,
}

impl Generation {
    /// States this generation, signed by compile keys.
    pub fn seal(&self, scope: &Scope, keys: &[&SigningKey]) -> Envelope {
        statement::seal(self, scope, keys)
    }

    /// SHA-256 of the payload that states this generation: its identity.
    pub fn digest(&self, scope: &Scope) -> Digest {
        Digest::of(&statement::payload(self, scope))
    }
}

impl Statement for Generation {
    const TYPE: PayloadType = PayloadType::Generation;

    fn body(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    fn from_body(_scope: &Scope, body: &[u8]) -> Result<Self, Rejection> {
        canonical::decode("generation", body)
    }
}

impl Wire for Generation {
    type Message = wire::Generation;

    fn to_message(&self) -> wire::Generation {
        wire::Generation {
            order: Some(self.order.to_message()),
            r#ref: self.reference.clone(),
            root_path: self.root_path.clone(),
            root: self.root.as_bytes().to_vec(),
            leaf_count: self.leaf_count,
            commit: self.commit.as_bytes().to_vec(),
            tree: self.tree.as_bytes().to_vec(),
            input_digest: self.input_digest.as_bytes().to_vec(),
            compiler: self.compiler.clone(),
        }
    }

    fn from_message(message: wire::Generation) -> Result<Self, NonCanonical> {
        Ok(Self {
            order: Order::from_message(required("generation.order", message.order)?)?,
            reference: text("generation.ref", message.r#ref, limits::REF_BYTES_MAX)?,
            root_path: text_or_empty(
                "generation.root_path",
                message.root_path,
                limits::REF_BYTES_MAX,
            )?,
            root: digest("generation.root", &message.root)?,
            leaf_count: within(
                "generation.leaf_count",
                message.leaf_count,
                0,
                limits::LEAVES_MAX,
            )?,
            commit: object_id("generation.commit", &message.commit)?,
            tree: object_id("generation.tree", &message.tree)?,
            input_digest: digest("generation.input_digest", &message.input_digest)?,
            compiler: text(
                "generation.compiler",
                message.compiler,
                limits::NAME_BYTES_MAX,
            )?,
        })
    }
}

pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, NonCanonical> {
    canonical::array(field, bytes).map(Digest::from_bytes)
}

fn object_id(field: &'static str, bytes: &[u8]) -> Result<ObjectId, NonCanonical> {
    ObjectId::from_bytes(bytes).map_err(|error| invalid(field, &error.to_string()))
}
