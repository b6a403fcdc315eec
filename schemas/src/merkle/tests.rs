//! Proofs that verify, and forged ones that do not.

use proptest::prelude::*;

use super::*;
use crate::testing::{identity, refused};

fn leaves(count: usize) -> Vec<(SpiffeId, Digest, u32)> {
    (0..count)
        .map(|n| {
            let slice = format!("slice {n}");
            let size = u32::try_from(slice.len()).unwrap();
            (
                identity(&format!("s{n}")),
                Digest::of(slice.as_bytes()),
                size,
            )
        })
        .collect()
}

fn tree(count: usize) -> Tree {
    Tree::build(leaves(count)).unwrap()
}

/// RFC 6962 §2.1, word for word.
fn mth(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [only] => *only,
        _ => {
            let mut split = 1;
            while split * 2 < leaves.len() {
                split *= 2;
            }
            node_hash(&mth(&leaves[..split]), &mth(&leaves[split..]))
        }
    }
}

#[test]
fn shape_of_rfc_6962() {
    for count in 0..40 {
        let tree = tree(count);
        let hashes: Vec<_> = tree
            .leaves
            .iter()
            .map(|leaf| leaf_hash(&leaf.key, leaf.size, &leaf.digest))
            .collect();
        assert_eq!(tree.root(), mth(&hashes), "{count}");
        assert_eq!(tree.leaf_count(), u32::try_from(count).unwrap());
    }
}

#[test]
fn order_of_leaves_does_not_matter() {
    let mut turned = leaves(13);
    turned.reverse();
    assert_eq!(Tree::build(turned).unwrap().root(), tree(13).root());
}

#[test]
fn leaves_that_make_no_tree() {
    let twice = [leaves(1), leaves(1)].concat();
    assert!(matches!(Tree::build(twice), Err(TreeError::Duplicate(_))));
    let large = vec![(identity("a"), Digest::of(b""), u32::MAX)];
    assert!(matches!(Tree::build(large), Err(TreeError::TooLarge(_))));
}

#[test]
fn every_leaf_is_proven_and_no_other() {
    for count in 0..20 {
        let tree = tree(count);
        let (root, signed) = (tree.root(), tree.leaf_count());
        for (id, digest, size) in leaves(count) {
            let proof = tree.prove(&id).unwrap();
            assert_eq!((proof.digest, proof.size), (digest, size));
            verify_inclusion(&root, signed, &id, &proof).unwrap();
            assert_eq!(tree.prove_absent(&id), None);
            refused(
                verify_inclusion(&root, signed, &identity("other"), &proof),
                RejectReason::BadProof,
            );
            // Another count asks for another index or length, or leads to another root.
            for wrong in (0..signed).chain(signed + 1..=2 * signed + 1) {
                let other = verify_inclusion(&root, wrong, &id, &proof);
                let same_path = proof.siblings.len() == path_length(proof.index, wrong);
                assert!(other.is_err() || same_path, "{count} as {wrong}");
            }
        }
        assert_eq!(tree.prove(&identity("other")), None);
    }
}

/// Siblings of the leaf at this index among `count`.
fn path_length(index: u32, count: u32) -> usize {
    if index >= count {
        return usize::MAX;
    }
    let (mut place, mut last, mut length) = (index, count - 1, 0);
    while last > 0 {
        if place & 1 == 1 || place < last {
            length += 1;
        }
        place >>= 1;
        last >>= 1;
    }
    length
}

#[test]
fn absence_of_every_other() {
    for count in 0..20 {
        let tree = tree(count);
        let (root, signed) = (tree.root(), tree.leaf_count());
        for n in 0..50 {
            let id = identity(&format!("absent{n}"));
            let proof = tree.prove_absent(&id).unwrap();
            verify_absence(&root, signed, &id, &proof).unwrap();
            let wire = wire::AbsenceProof::from(&proof);
            assert_eq!(AbsenceProof::try_from(&wire).unwrap(), proof);
        }
        // No proof of absence fits an identity that is there.
        for (id, ..) in leaves(count) {
            for n in 0..50 {
                let proof = tree.prove_absent(&identity(&format!("absent{n}"))).unwrap();
                refused(
                    verify_absence(&root, signed, &id, &proof),
                    RejectReason::BadProof,
                );
            }
        }
    }
}

#[test]
fn forged_absence() {
    let tree = tree(8);
    let (root, signed) = (tree.root(), tree.leaf_count());
    let leaf = |place| tree.neighbour(place);
    for present in 0..8 {
        let id = tree.leaves[present].identity.clone();
        let forge = |before, after| {
            refused(
                verify_absence(&root, signed, &id, &AbsenceProof { before, after }),
                RejectReason::BadProof,
            );
        };
        forge(None, None);
        forge(leaf(present), leaf(present + 1));
        forge(present.checked_sub(1).and_then(leaf), leaf(present));
        // Neighbours that leave the identity out.
        forge(present.checked_sub(1).and_then(leaf), leaf(present + 1));
        forge(None, leaf(present + 1));
        forge(present.checked_sub(1).and_then(leaf), None);
    }
    // An empty tree is only the root of an empty tree.
    let nothing = AbsenceProof {
        before: None,
        after: None,
    };
    let id = identity("other");
    verify_absence(&empty_root(), 0, &id, &nothing).unwrap();
    refused(
        verify_absence(&root, 0, &id, &nothing),
        RejectReason::BadProof,
    );
}

#[test]
fn claims_of_four_gibibytes() {
    let tree = tree(3);
    let id = identity("s1");
    let proof = InclusionProof {
        size: u32::MAX,
        ..tree.prove(&id).unwrap()
    };
    refused(
        verify_inclusion(&tree.root(), 3, &id, &proof),
        RejectReason::TooLarge,
    );
    let long = wire::InclusionProof {
        siblings: vec![vec![0; 32]; PROOF_SIBLINGS_MAX + 1],
        ..wire::InclusionProof::from(&proof)
    };
    refused(InclusionProof::try_from(&long), RejectReason::BadProof);
    let short_digest = wire::InclusionProof {
        digest: vec![0; 31],
        ..wire::InclusionProof::from(&proof)
    };
    refused(
        InclusionProof::try_from(&short_digest),
        RejectReason::BadProof,
    );
}

proptest! {
    /// Whatever is changed in a proof, it no longer verifies.
    #[test]
    fn forged_inclusion(
        count in 1_usize..40,
        which in any::<prop::sample::Index>(),
        change in 0..6,
        bit in 0_usize..256,
        sibling in any::<prop::sample::Index>(),
    ) {
        let tree = tree(count);
        let (id, ..) = leaves(count).swap_remove(which.index(count));
        let proof = tree.prove(&id).unwrap();
        let flip = |digest: &Digest| {
            let mut bytes = *digest.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Digest::from_bytes(bytes)
        };
        let mut forged = proof.clone();
        match change {
            0 => forged.digest = flip(&forged.digest),
            1 => forged.size ^= 1 << (bit % 24),
            2 => forged.index ^= 1 << (bit % 6),
            3 => forged.siblings.push(Digest::of(b"")),
            4 if !forged.siblings.is_empty() => drop(forged.siblings.pop()),
            5 if !forged.siblings.is_empty() => {
                let at = sibling.index(forged.siblings.len());
                forged.siblings[at] = flip(&forged.siblings[at]);
            }
            _ => forged.digest = Digest::of(b"another"),
        }
        prop_assert!(verify_inclusion(&tree.root(), tree.leaf_count(), &id, &forged).is_err());
        let wire = wire::InclusionProof::from(&proof);
        prop_assert_eq!(InclusionProof::try_from(&wire).unwrap(), proof);
    }
}
