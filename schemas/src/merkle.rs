//! The Merkle tree that ties slices to one signed root.
//!
//! A leaf's key is SHA-256(SPIFFE ID), and keys are strictly ascending.
//! `leaf = SHA-256(0x00 ‖ key ‖ size as u32 big endian ‖ SHA-256(slice))`,
//! `node = SHA-256(0x01 ‖ left ‖ right)`, the empty tree is `SHA-256("")`; the shape is that of
//! RFC 6962 §2.1: the left half is the largest power of two below the count. A proof's index is
//! below the signed count and its length exactly what index and count ask for. Absence is proven by
//! the two neighbours between which the key would stand, or by one edge of the tree.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::limits::{LEAVES_MAX, PROOF_SIBLINGS_MAX, SLICE_BYTES_MAX};
use crate::messages::distribution as wire;
use crate::reject::{RejectReason, Rejection};
use crate::spiffe::SpiffeId;

/// The place of an identity in the tree: SHA-256 of its SPIFFE ID.
pub fn key(identity: &SpiffeId) -> Digest {
    Digest::of(identity.as_str().as_bytes())
}

/// Root of a tree without leaves.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

fn leaf_hash(key: &Digest, size: u32, slice: &Digest) -> Digest {
    Digest::of_parts(&[
        &[0x00],
        key.as_bytes(),
        &size.to_be_bytes(),
        slice.as_bytes(),
    ])
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// The leaves do not make a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// One identity has two slices.
    #[error("{0} has two slices")]
    Duplicate(SpiffeId),
    /// More slices than [`LEAVES_MAX`].
    #[error("more than {LEAVES_MAX} slices")]
    TooMany,
    /// A slice is larger than [`SLICE_BYTES_MAX`].
    #[error("slice of {0} is larger than {SLICE_BYTES_MAX} bytes")]
    TooLarge(SpiffeId),
}

/// A whole tree, as compiler and distributor hold it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Ascending by key.
    leaves: Vec<TreeLeaf>,
    /// `levels[0]` are the leaf hashes, each next level joins pairs and carries an odd last one up,
    /// which gives the shape of RFC 6962.
    levels: Vec<Vec<Digest>>,
}

#[derive(Clone, Debug)]
struct TreeLeaf {
    key: Digest,
    identity: SpiffeId,
    digest: Digest,
    size: u32,
}

impl Tree {
    /// Builds the tree over (identity, digest of its slice, size of its slice), in any order.
    pub fn build(leaves: Vec<(SpiffeId, Digest, u32)>) -> Result<Self, TreeError> {
        if u32::try_from(leaves.len()).map_or(true, |count| count > LEAVES_MAX) {
            return Err(TreeError::TooMany);
        }
        let mut by_key = BTreeMap::new();
        for (identity, digest, size) in leaves {
            if !size_allowed(size) {
                return Err(TreeError::TooLarge(identity));
            }
            let key = key(&identity);
            let leaf = TreeLeaf {
                key,
                identity,
                digest,
                size,
            };
            if let Some(other) = by_key.insert(key, leaf) {
                return Err(TreeError::Duplicate(other.identity));
            }
        }
        let leaves: Vec<_> = by_key.into_values().collect();
        let bottom = leaves
            .iter()
            .map(|leaf| leaf_hash(&leaf.key, leaf.size, &leaf.digest))
            .collect();
        Ok(Self {
            leaves,
            levels: levels(bottom),
        })
    }

    /// The root that a generation signs.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(empty_root)
    }

    /// How many slices there are.
    pub fn leaf_count(&self) -> u32 {
        u32::try_from(self.leaves.len()).unwrap_or(u32::MAX)
    }

    /// The identities, in the order of their keys.
    pub fn identities(&self) -> impl Iterator<Item = &SpiffeId> {
        self.leaves.iter().map(|leaf| &leaf.identity)
    }

    /// Proof that this identity has a slice; none if it has not.
    pub fn prove(&self, identity: &SpiffeId) -> Option<InclusionProof> {
        let place = self.place(identity).ok()?;
        self.proof_at(place)
    }

    /// Proof that this identity has no slice; none if it has one.
    pub fn prove_absent(&self, identity: &SpiffeId) -> Option<AbsenceProof> {
        let place = self.place(identity).err()?;
        Some(AbsenceProof {
            before: place.checked_sub(1).and_then(|at| self.neighbour(at)),
            after: self.neighbour(place),
        })
    }

    fn place(&self, identity: &SpiffeId) -> Result<usize, usize> {
        let key = key(identity);
        self.leaves.binary_search_by(|leaf| leaf.key.cmp(&key))
    }

    fn neighbour(&self, place: usize) -> Option<Leaf> {
        Some(Leaf {
            key: self.leaves.get(place)?.key,
            proof: self.proof_at(place)?,
        })
    }

    fn proof_at(&self, place: usize) -> Option<InclusionProof> {
        let leaf = self.leaves.get(place)?;
        let mut siblings = Vec::new();
        for (height, level) in self.levels.iter().enumerate() {
            // An odd last node has no sibling on its level.
            if let Some(sibling) = level.get((place >> height) ^ 1) {
                siblings.push(*sibling);
            }
        }
        Some(InclusionProof {
            index: u32::try_from(place).ok()?,
            size: leaf.size,
            digest: leaf.digest,
            siblings,
        })
    }
}

fn levels(bottom: Vec<Digest>) -> Vec<Vec<Digest>> {
    let mut levels = Vec::new();
    let mut level = bottom;
    while level.len() > 1 {
        let above = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                [odd, ..] => *odd,
                [] => empty_root(),
            })
            .collect();
        levels.push(level);
        level = above;
    }
    levels.push(level);
    levels
}

fn size_allowed(size: u32) -> bool {
    usize::try_from(size).is_ok_and(|size| size <= SLICE_BYTES_MAX)
}

/// That a slice of this size and digest stands at this index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Index of the leaf.
    pub index: u32,
    /// Length of the slice.
    pub size: u32,
    /// Digest of the slice.
    pub digest: Digest,
    /// From the leaf up.
    pub siblings: Vec<Digest>,
}

/// A leaf that bounds a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-256 of its SPIFFE ID.
    pub key: Digest,
    /// That it is there.
    pub proof: InclusionProof,
}

/// The neighbours between which a key would stand; one is missing at an edge of the tree, both are
/// in an empty tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsenceProof {
    /// The last leaf below the key.
    pub before: Option<Leaf>,
    /// The first leaf above the key.
    pub after: Option<Leaf>,
}

/// Verifies that this identity's slice has the digest and size that the proof names, under a signed
/// root over `count` leaves.
pub fn verify_inclusion(
    root: &Digest,
    count: u32,
    identity: &SpiffeId,
    proof: &InclusionProof,
) -> Result<(), Rejection> {
    verify_leaf(root, count, &key(identity), proof)
}

/// Verifies that this identity has no slice, under a signed root over `count` leaves. Whether that
/// counts is another question: only under a fresh head.
pub fn verify_absence(
    root: &Digest,
    count: u32,
    identity: &SpiffeId,
    proof: &AbsenceProof,
) -> Result<(), Rejection> {
    let key = key(identity);
    for leaf in proof.before.iter().chain(&proof.after) {
        verify_leaf(root, count, &leaf.key, &leaf.proof)?;
    }
    let below = proof.before.as_ref().is_none_or(|leaf| leaf.key < key);
    let above = proof.after.as_ref().is_none_or(|leaf| key < leaf.key);
    if !below || !above {
        return Err(bad("the neighbours do not enclose the identity"));
    }
    // Where the leaf after the gap stands, by either side's word; the edges are 0 and the count.
    let gap_ends = match &proof.before {
        Some(leaf) => leaf.proof.index.checked_add(1),
        None => Some(0),
    };
    let gap_begins = match &proof.after {
        Some(leaf) => leaf.proof.index,
        None => count,
    };
    if gap_ends != Some(gap_begins) {
        return Err(bad("the neighbours are not next to each other"));
    }
    if count == 0 && *root != empty_root() {
        return Err(bad("no leaves, and not the root of an empty tree"));
    }
    Ok(())
}

/// RFC 9162 §2.1.3.2, which is RFC 6962's shape walked from the leaf.
fn verify_leaf(
    root: &Digest,
    count: u32,
    key: &Digest,
    proof: &InclusionProof,
) -> Result<(), Rejection> {
    if !size_allowed(proof.size) {
        return Err(Rejection::new(
            RejectReason::TooLarge,
            format!("slice of {} bytes, at most {SLICE_BYTES_MAX}", proof.size),
        ));
    }
    if proof.index >= count || count > LEAVES_MAX {
        return Err(bad("index is not below the signed count"));
    }
    let mut hash = leaf_hash(key, proof.size, &proof.digest);
    let mut place = proof.index;
    let mut last = count - 1;
    for sibling in &proof.siblings {
        if last == 0 {
            return Err(bad("longer than the tree is high"));
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(bad("shorter than the tree is high"));
    }
    if hash != *root {
        return Err(bad("does not lead to the signed root"));
    }
    Ok(())
}

fn bad(detail: &str) -> Rejection {
    Rejection::new(RejectReason::BadProof, detail)
}

impl From<&InclusionProof> for wire::InclusionProof {
    fn from(proof: &InclusionProof) -> Self {
        Self {
            index: proof.index,
            size: proof.size,
            digest: proof.digest.as_bytes().to_vec(),
            siblings: proof
                .siblings
                .iter()
                .map(|sibling| sibling.as_bytes().to_vec())
                .collect(),
        }
    }
}

impl TryFrom<&wire::InclusionProof> for InclusionProof {
    type Error = Rejection;

    fn try_from(message: &wire::InclusionProof) -> Result<Self, Rejection> {
        if message.siblings.len() > PROOF_SIBLINGS_MAX {
            return Err(bad("more siblings than the largest tree is high"));
        }
        Ok(Self {
            index: message.index,
            size: message.size,
            digest: digest(&message.digest)?,
            siblings: message
                .siblings
                .iter()
                .map(|sibling| digest(sibling))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&AbsenceProof> for wire::AbsenceProof {
    fn from(proof: &AbsenceProof) -> Self {
        let leaf = |leaf: &Leaf| wire::Leaf {
            key: leaf.key.as_bytes().to_vec(),
            proof: Some((&leaf.proof).into()),
        };
        Self {
            before: proof.before.as_ref().map(leaf),
            after: proof.after.as_ref().map(leaf),
        }
    }
}

impl TryFrom<&wire::AbsenceProof> for AbsenceProof {
    type Error = Rejection;

    fn try_from(message: &wire::AbsenceProof) -> Result<Self, Rejection> {
        let leaf = |leaf: &wire::Leaf| {
            let proof = leaf.proof.as_ref().ok_or_else(|| bad("proof is missing"))?;
            Ok::<_, Rejection>(Leaf {
                key: digest(&leaf.key)?,
                proof: proof.try_into()?,
            })
        };
        Ok(Self {
            before: message.before.as_ref().map(leaf).transpose()?,
            after: message.after.as_ref().map(leaf).transpose()?,
        })
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, Rejection> {
    match Digest::try_from(bytes) {
        Ok(digest) => Ok(digest),
        Err(_) => Err(bad("a digest is not 32 bytes")),
    }
}

#[cfg(test)]
mod tests;
