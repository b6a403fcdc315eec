//! A generation that may be served: every byte of it has been verified, whether it was compiled a
//! moment ago or read from disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bytes::Bytes;
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::feature;
use mesh_bundle::generation::Generation;
use mesh_bundle::merkle::{Tree, TreeError};
use mesh_bundle::messages::bundle as signed;
use mesh_bundle::reject::Rejection;
use mesh_bundle::slice::Slice;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::TrustRoot;
use mesh_daemon::rpc::compression;

use crate::status::fleet::KnownGeneration;

/// A verified generation with all of its slices.
#[derive(Debug)]
pub(crate) struct Served {
    statement: Generation,
    digest: Digest,
    signed: Envelope,
    envelope: signed::Envelope,
    tree: Tree,
    slices: BTreeMap<SpiffeId, ServedSlice>,
}

/// One slice.
#[derive(Debug)]
pub(crate) struct ServedSlice {
    digest: Digest,
    bytes: Bytes,
    compressed: OnceLock<Bytes>,
    callees: BTreeSet<String>,
}

/// Why a generation may not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServedError {
    /// The statement is not believed under the trust root.
    #[error("the generation is not believed")]
    Statement(#[source] Rejection),
    /// A slice is not believed.
    #[error("the slice of {identity} is not believed")]
    Slice {
        /// Whose.
        identity: SpiffeId,
        /// Why.
        #[source]
        rejection: Rejection,
    },
    /// A slice names another identity.
    #[error("the slice of {0} names another identity")]
    Identity(SpiffeId),
    /// The slices do not make a tree.
    #[error("the slices do not make a tree")]
    Tree(#[source] TreeError),
    /// The slices are not those that were signed.
    #[error("the slices do not lead to the signed root")]
    Root,
}

impl Served {
    /// Verifies a generation as a proxy would, all of it.
    pub(crate) fn verify(
        root: &TrustRoot,
        envelope: Envelope,
        slices: BTreeMap<SpiffeId, Bytes>,
    ) -> Result<Self, ServedError> {
        let verified = root
            .verify_generation(&envelope)
            .map_err(ServedError::Statement)?;
        let digest = verified.digest();
        let statement = verified.into_value();
        let slices = slices
            .into_iter()
            .map(|(identity, bytes)| {
                let slice = ServedSlice::verify(&identity, bytes)?;
                Ok((identity, slice))
            })
            .collect::<Result<BTreeMap<_, _>, ServedError>>()?;
        let tree = tree(&slices)?;
        if tree.root() != statement.root || tree.leaf_count() != statement.leaf_count {
            return Err(ServedError::Root);
        }
        Ok(Self {
            statement,
            digest,
            envelope: signed::Envelope::from(&envelope),
            signed: envelope,
            tree,
            slices,
        })
    }

    /// What was signed.
    pub(crate) fn statement(&self) -> &Generation {
        &self.statement
    }

    /// Digest of the statement.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Exactly as signed.
    pub(crate) fn signed(&self) -> &Envelope {
        &self.signed
    }

    /// As it is sent.
    pub(crate) fn envelope(&self) -> &signed::Envelope {
        &self.envelope
    }

    /// The tree over the slices.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The slices.
    pub(crate) fn slices(&self) -> &BTreeMap<SpiffeId, ServedSlice> {
        &self.slices
    }

    /// What reports know of it.
    pub(crate) fn known(&self) -> KnownGeneration {
        KnownGeneration {
            digest: self.digest,
            order: self.statement.order,
            commit: self.statement.commit.to_string(),
        }
    }
}

impl ServedSlice {
    fn verify(identity: &SpiffeId, bytes: Bytes) -> Result<Self, ServedError> {
        // What a proxy of this release lacks is for the proxy to refuse; another may have it.
        let decoded = Slice::decode_with(&bytes, feature::KNOWN);
        let slice = decoded.map_err(|rejection| ServedError::Slice {
            identity: identity.clone(),
            rejection,
        })?;
        if slice.identity != *identity {
            return Err(ServedError::Identity(identity.clone()));
        }
        let callees = slice
            .callees
            .into_iter()
            .map(|callee| callee.service)
            .collect();
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            compressed: OnceLock::new(),
            callees,
        })
    }

    /// SHA-256 of the bytes.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The canonical bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compressed; made once.
    pub(crate) fn compressed(&self) -> std::io::Result<&Bytes> {
        if let Some(compressed) = self.compressed.get() {
            return Ok(compressed);
        }
        let compressed = Bytes::from(compression::compress(&self.bytes)?);
        Ok(self.compressed.get_or_init(|| compressed))
    }

    /// Services that the workload may call. A feed replaces also what policy declares of them.
    pub(crate) fn callees(&self) -> &BTreeSet<String> {
        &self.callees
    }
}

/// The tree over these slices.
fn tree(slices: &BTreeMap<SpiffeId, ServedSlice>) -> Result<Tree, ServedError> {
    let leaves = slices
        .iter()
        // A length beyond the number's range is beyond the tree's bound too.
        .map(|(identity, slice)| {
            (
                identity.clone(),
                slice.digest,
                u32::try_from(slice.bytes.len()).unwrap_or(u32::MAX),
            )
        })
        .collect();
    Tree::build(leaves).map_err(ServedError::Tree)
}
