//! What a proxy believes, offer by offer: every rule with what breaks it.

use super::*;
use crate::feature;
use crate::head::{Candidate, RevocationsRef, TrustBundleRef};
use crate::key::SigningKey;
use crate::merkle::Tree;
use crate::slice::tests::sample;
use crate::testing::*;

const MINUTE_MS: u64 = 60_000;

fn now() -> Now {
    at(0)
}

/// This many minutes later, by both clocks.
fn at(minutes: u64) -> Now {
    Now {
        unix_ms: NOW_MS + minutes * MINUTE_MS,
        boot_ms: 1_000_000 + minutes * MINUTE_MS,
    }
}

fn workload() -> Workload {
    Workload {
        identity: identity("reviews"),
        instance: "reviews-1".to_owned(),
        features: feature::SUPPORTED.to_vec(),
        release: "0.1.0".parse().unwrap(),
    }
}

fn pin() -> Pin {
    Pin {
        scope: scope(),
        trust_root: trust_root().digest(),
    }
}

fn begin() -> Acceptance {
    Acceptance::pinned(&pin(), workload(), None, &trust_root().seal(&[&key(ROOT)])).unwrap()
}

/// A generation with the sample's slice and two others, and what a distributor sends of it.
struct Sent {
    generation: Generation,
    envelope: Envelope,
    bytes: Vec<u8>,
    tree: Tree,
    proof: InclusionProof,
}

impl Sent {
    fn new(sequence: u64) -> Self {
        Self::of(sequence, &format!("allow {sequence}"), |_| {})
    }

    /// `rule` makes the content, and so the Merkle root.
    fn of(sequence: u64, rule: &str, change: impl FnOnce(&mut Generation)) -> Self {
        let slices = ["reviews", "ratings", "details"].map(|name| {
            let mut slice = sample();
            slice.identity = identity(name);
            slice.access.services[0].rules[0].name = rule.to_owned();
            slice.encode()
        });
        let leaves = ["reviews", "ratings", "details"]
            .into_iter()
            .zip(&slices)
            .map(|(name, bytes)| {
                let size = u32::try_from(bytes.len()).unwrap();
                (identity(name), Digest::of(bytes), size)
            });
        let tree = Tree::build(leaves.collect()).unwrap();
        let mut generation = generation(sequence, tree.root(), tree.leaf_count());
        change(&mut generation);
        let [bytes, ..] = slices;
        Self {
            envelope: generation.seal(&scope(), &[&key(COMPILE)]),
            proof: tree.prove(&identity("reviews")).unwrap(),
            bytes,
            tree,
            generation,
        }
    }

    fn reference(&self) -> GenerationRef {
        reference(&self.generation)
    }

    fn part(&self) -> Part<'_> {
        Part::Slice {
            bytes: &self.bytes,
            proof: &self.proof,
        }
    }
}

fn offer_head(state: &mut Acceptance, head: &Head, seed: u8, now: Now) {
    let offer = state
        .offer_head(&head.seal(&scope(), &[&key(seed)]), now)
        .unwrap();
    assert_eq!(offer.change, Change::Applied);
}

/// Serves and confirms a generation.
fn confirmed(state: &mut Acceptance, sent: &Sent) {
    served(state, sent);
    state.confirm(sent.reference()).unwrap();
}

fn served(state: &mut Acceptance, sent: &Sent) {
    state
        .offer_generation(&sent.envelope, sent.part(), now())
        .unwrap();
    state.set_serving(sent.reference()).unwrap();
}

/// A refused offer changes nothing.
#[track_caller]
fn refuses<T: std::fmt::Debug>(
    state: &mut Acceptance,
    reason: RejectReason,
    offer: impl FnOnce(&mut Acceptance) -> Result<T, Rejection>,
) {
    let before = state.clone();
    refused(offer(state), reason);
    assert_eq!(*state, before);
}

#[test]
fn from_the_pin_to_serving() {
    let mut state = begin();
    assert_eq!(state.target(now()), None);
    assert!(state.is_stale(now()));
    let sent = Sent::new(42);
    offer_head(&mut state, &head(NOW_MS, sent.reference()), HEAD, now());
    assert_eq!(state.target(now()), Some(sent.reference()));
    let accepted = state
        .offer_generation(&sent.envelope, sent.part(), now())
        .unwrap();
    assert_eq!(accepted.reference, sent.reference());
    assert!(!accepted.same_root);
    let AcceptedPart::Slice { slice, digest } = accepted.part else {
        panic!("it has a slice");
    };
    assert_eq!(slice.identity, identity("reviews"));
    assert_eq!(digest, Digest::of(&sent.bytes));
    assert_eq!(state.floor(), None);
    state.set_serving(sent.reference()).unwrap();
    assert_eq!(state.confirm(sent.reference()), Ok(order(42)));
    assert_eq!(state.floor(), Some(order(42)));
    assert_eq!(state.target(now()), Some(sent.reference()));
}

#[test]
fn a_pin_for_something_else() {
    let root = trust_root().seal(&[&key(ROOT)]);
    let mut other = pin();
    other.scope.environment = "staging".to_owned();
    refused(
        Acceptance::pinned(&other, workload(), None, &root),
        RejectReason::WrongEnvironment,
    );
    let mut other = pin();
    other.trust_root = Digest::of(b"other");
    refused(
        Acceptance::pinned(&other, workload(), None, &root),
        RejectReason::UnknownSigner,
    );
    let mut stranger = workload();
    stranger.identity = SpiffeId::parse("spiffe://other.example/service/a").unwrap();
    refused(
        Acceptance::pinned(&pin(), stranger, None, &root),
        RejectReason::WrongTrustDomain,
    );
}

#[test]
fn a_lower_sequence_than_the_floor() {
    let mut state = begin();
    confirmed(&mut state, &Sent::new(42));
    let old = Sent::new(41);
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_generation(&old.envelope, old.part(), now())
    });
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.restore_generation(&old.envelope, 1, old.part())
    });
    // A revert has the old content under a higher order.
    let revert = Sent::of(43, "allow 41", |_| {});
    assert_eq!(revert.generation.root, old.generation.root);
    state
        .offer_generation(&revert.envelope, revert.part(), now())
        .unwrap();
}

#[test]
fn the_floor_of_the_join_file() {
    let root = trust_root().seal(&[&key(ROOT)]);
    let mut state = Acceptance::pinned(&pin(), workload(), Some(order(42)), &root).unwrap();
    let old = Sent::new(41);
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_generation(&old.envelope, old.part(), now())
    });
    offer_head(&mut state, &head(NOW_MS, old.reference()), HEAD, now());
    assert_eq!(state.target(now()), None);
}

#[test]
fn equivocation() {
    let mut state = begin();
    confirmed(&mut state, &Sent::new(42));
    let other_root = Sent::of(42, "allow everyone", |_| {});
    refuses(&mut state, RejectReason::Equivocation, |state| {
        state.offer_generation(&other_root.envelope, other_root.part(), now())
    });
    let other_commit = Sent::of(42, "allow 42", |generation| {
        generation.commit = crate::generation::ObjectId::from_bytes(&[9; 20]).unwrap();
    });
    refuses(&mut state, RejectReason::Equivocation, |state| {
        state.offer_generation(&other_commit.envelope, other_commit.part(), now())
    });
    // Another patch release of the compiler, with the same bytes, says the same.
    let other_compiler = Sent::of(42, "allow 42", |generation| {
        generation.compiler = "0.1.1".to_owned();
    });
    let accepted = state
        .offer_generation(&other_compiler.envelope, other_compiler.part(), now())
        .unwrap();
    assert!(accepted.same_root);
}

#[test]
fn same_root_under_a_higher_order() {
    let mut state = begin();
    served(&mut state, &Sent::of(42, "same", |_| {}));
    let next = Sent::of(43, "same", |_| {});
    let accepted = state
        .offer_generation(&next.envelope, next.part(), now())
        .unwrap();
    assert!(accepted.same_root);
}

#[test]
fn slices_that_are_not_what_was_signed() {
    let mut state = begin();
    let sent = Sent::new(42);
    let offer = |state: &mut Acceptance, bytes: &[u8], proof: &InclusionProof| {
        state.offer_generation(&sent.envelope, Part::Slice { bytes, proof }, now())
    };
    let cut = &sent.bytes[..sent.bytes.len() - 1];
    refuses(&mut state, RejectReason::Truncated, |state| {
        offer(state, cut, &sent.proof)
    });
    let longer = [sent.bytes.as_slice(), b"x"].concat();
    refuses(&mut state, RejectReason::TooLarge, |state| {
        offer(state, &longer, &sent.proof)
    });
    for bit in 0..sent.bytes.len() * 8 {
        let mut flipped = sent.bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(
            offer(&mut state, &flipped, &sent.proof),
            RejectReason::BadProof,
        );
    }
    let mut wrong = sent.proof.clone();
    wrong.siblings.pop();
    refuses(&mut state, RejectReason::BadProof, |state| {
        offer(state, &sent.bytes, &wrong)
    });
    let four_gib = InclusionProof {
        size: u32::MAX,
        ..sent.proof.clone()
    };
    refuses(&mut state, RejectReason::TooLarge, |state| {
        offer(state, &sent.bytes, &four_gib)
    });
    refused(
        state.judge_proof(&sent.generation, &four_gib),
        RejectReason::TooLarge,
    );
}

#[test]
fn another_workloads_slice() {
    let mut state = begin();
    let sent = Sent::new(42);
    let theirs = Sent {
        bytes: {
            let mut slice = sample();
            slice.identity = identity("ratings");
            slice.access.services[0].rules[0].name = "allow 42".to_owned();
            slice.encode()
        },
        proof: sent.tree.prove(&identity("ratings")).unwrap(),
        ..Sent::new(42)
    };
    refuses(&mut state, RejectReason::WrongWorkload, |state| {
        state.offer_generation(&theirs.envelope, theirs.part(), now())
    });
    // A compiler that put one identity's slice under another's key.
    let mut slice = sample();
    slice.identity = identity("ratings");
    let bytes = slice.encode();
    let size = u32::try_from(bytes.len()).unwrap();
    let tree = Tree::build(vec![(identity("reviews"), Digest::of(&bytes), size)]).unwrap();
    let envelope = generation(43, tree.root(), 1).seal(&scope(), &[&key(COMPILE)]);
    let proof = tree.prove(&identity("reviews")).unwrap();
    refuses(&mut state, RejectReason::WrongWorkload, |state| {
        let part = Part::Slice {
            bytes: &bytes,
            proof: &proof,
        };
        state.offer_generation(&envelope, part, now())
    });
}

#[test]
fn a_feature_or_release_that_is_missing() {
    let sent = Sent::new(42);
    let mut without = workload();
    without.features.retain(|name| *name != feature::RETRY);
    let root = trust_root().seal(&[&key(ROOT)]);
    let mut state = Acceptance::pinned(&pin(), without, None, &root).unwrap();
    refuses(&mut state, RejectReason::UnknownFeature, |state| {
        state.offer_generation(&sent.envelope, sent.part(), now())
    });
    let mut state = begin();
    let next = TrustRoot {
        min_proxy: Some("0.2.0".parse().unwrap()),
        ..next_root(&trust_root())
    };
    state.offer_trust_root(&next.seal(&[&key(ROOT)])).unwrap();
    refuses(&mut state, RejectReason::UnknownFeature, |state| {
        state.offer_generation(&sent.envelope, sent.part(), now())
    });
}

#[test]
fn absence_counts_only_under_a_fresh_head() {
    let mut state = begin();
    let mut gone = Sent::new(42);
    gone.tree = Tree::build(vec![(identity("ratings"), Digest::of(b"x"), 1)]).unwrap();
    gone.generation.root = gone.tree.root();
    gone.generation.leaf_count = 1;
    gone.envelope = gone.generation.seal(&scope(), &[&key(COMPILE)]);
    let proof = gone.tree.prove_absent(&identity("reviews")).unwrap();
    let part = Part::Absent(&proof);
    refuses(&mut state, RejectReason::BadProof, |state| {
        state.offer_generation(&gone.envelope, part, now())
    });
    offer_head(&mut state, &head(NOW_MS, gone.reference()), HEAD, now());
    refuses(&mut state, RejectReason::BadProof, |state| {
        state.offer_generation(&gone.envelope, part, at(16))
    });
    let accepted = state
        .offer_generation(&gone.envelope, part, at(15))
        .unwrap();
    assert_eq!(accepted.part, AcceptedPart::Absent);
    // Not for whoever is there.
    let sent = Sent::new(43);
    let elsewhere = sent.tree.prove_absent(&identity("nobody")).unwrap();
    offer_head(&mut state, &head(NOW_MS + 1, sent.reference()), HEAD, now());
    refuses(&mut state, RejectReason::BadProof, |state| {
        state.offer_generation(&sent.envelope, Part::Absent(&elsewhere), now())
    });
}

#[test]
fn heads_are_counted_per_key() {
    let mut state = begin();
    let sent = Sent::new(42);
    let seal = |issued, seed| head(issued, sent.reference()).seal(&scope(), &[&key(seed)]);
    state.offer_head(&seal(NOW_MS, HEAD), now()).unwrap();
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_head(&seal(NOW_MS - 1, HEAD), now())
    });
    let other = Sent::new(43);
    refuses(&mut state, RejectReason::Equivocation, |state| {
        let twin = head(NOW_MS, other.reference()).seal(&scope(), &[&key(HEAD)]);
        state.offer_head(&twin, now())
    });
    let again = state.offer_head(&seal(NOW_MS, HEAD), now()).unwrap();
    assert_eq!(again.change, Change::Unchanged);
    // Another distributor counts for itself.
    let lower = state.offer_head(&seal(NOW_MS - 1, HEAD_2), now()).unwrap();
    assert_eq!(lower.change, Change::Applied);
    assert_eq!(state.head_issued_ms(), NOW_MS);
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_head(&seal(NOW_MS, STRANGER), now())
    });
}

#[test]
fn clocks() {
    let sent = Sent::new(42);
    let skew = 5 * MINUTE_MS;
    let offer = |issued, now| {
        let mut state = begin();
        let envelope = head(issued, sent.reference()).seal(&scope(), &[&key(HEAD)]);
        let before = state.clone();
        let offer = state.offer_head(&envelope, now);
        if offer.is_err() {
            assert_eq!(state, before);
        }
        (offer, state)
    };
    let (ahead, _) = offer(NOW_MS + skew, now());
    assert!(ahead.unwrap().fresh);
    let (ahead, _) = offer(NOW_MS + skew + 1, now());
    refused(ahead, RejectReason::ClockSkew);
    // Ten minutes of life and five of grace, by the boot clock, whatever the wall clock does then.
    let (offered, state) = offer(NOW_MS, now());
    assert!(offered.unwrap().fresh);
    assert!(!state.is_stale(at(15)));
    assert!(state.is_stale(at(16)));
    let set_back = Now {
        unix_ms: NOW_MS,
        ..at(16)
    };
    assert!(state.is_stale(set_back));
    let set_forward = Now {
        unix_ms: NOW_MS * 2,
        ..at(1)
    };
    assert!(!state.is_stale(set_forward));
    // An expired one is remembered for its counter, and advances nothing.
    let (offered, mut state) = offer(NOW_MS - 15 * MINUTE_MS - 1, now());
    assert!(!offered.unwrap().fresh);
    assert_eq!(state.target(now()), None);
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        let older = head(NOW_MS - 16 * MINUTE_MS, sent.reference());
        state.offer_head(&older.seal(&scope(), &[&key(HEAD)]), now())
    });
}

#[test]
fn an_expired_head_keeps_what_is_served() {
    let mut state = begin();
    let (one, two) = (Sent::new(42), Sent::new(43));
    served(&mut state, &one);
    offer_head(&mut state, &head(NOW_MS, two.reference()), HEAD, now());
    assert_eq!(state.target(at(15)), Some(two.reference()));
    assert_eq!(state.target(at(16)), Some(one.reference()));
}

#[test]
fn naming_a_lower_one_changes_nothing() {
    let mut state = begin();
    let (low, high) = (Sent::new(42), Sent::new(43));
    served(&mut state, &high);
    offer_head(&mut state, &head(NOW_MS, low.reference()), HEAD, now());
    assert_eq!(state.target(now()), Some(high.reference()));
}

#[test]
fn the_highest_of_all_fresh_heads() {
    let mut state = begin();
    let (low, high) = (Sent::new(42), Sent::new(43));
    offer_head(&mut state, &head(NOW_MS, high.reference()), HEAD, now());
    offer_head(
        &mut state,
        &head(NOW_MS + 5 * MINUTE_MS, low.reference()),
        HEAD_2,
        now(),
    );
    assert_eq!(state.target(now()), Some(high.reference()));
    // The first one expires.
    assert_eq!(state.target(at(17)), Some(low.reference()));
}

#[test]
fn an_abort_steps_down_only_from_what_was_not_confirmed() {
    let (one, two) = (Sent::new(42), Sent::new(43));
    let aborting = |current: &Sent| Head {
        aborted: vec![two.reference().digest],
        ..head(NOW_MS, current.reference())
    };
    let mut state = begin();
    confirmed(&mut state, &one);
    served(&mut state, &two);
    offer_head(&mut state, &aborting(&one), HEAD, now());
    assert_eq!(state.target(now()), Some(one.reference()));
    // Also if the other distributor still names it.
    offer_head(&mut state, &head(NOW_MS, two.reference()), HEAD_2, now());
    assert_eq!(state.target(now()), Some(one.reference()));
    // Also if the aborting head names nothing else.
    let mut state = begin();
    confirmed(&mut state, &one);
    served(&mut state, &two);
    offer_head(&mut state, &aborting(&two), HEAD, now());
    assert_eq!(state.target(now()), Some(one.reference()));
    // Confirmed before: it stays.
    let mut state = begin();
    confirmed(&mut state, &one);
    confirmed(&mut state, &two);
    offer_head(&mut state, &aborting(&one), HEAD, now());
    assert_eq!(state.target(now()), Some(two.reference()));
    // Also after a restart, when it is not served yet.
    let mut restarted = begin();
    restarted
        .restore_generation(&two.envelope, 1, two.part())
        .unwrap();
    restarted.restore_confirmed(two.reference());
    offer_head(&mut restarted, &aborting(&two), HEAD, now());
    assert_eq!(restarted.target(now()), Some(two.reference()));
    // The way on is a new commit.
    let three = Sent::new(44);
    let next = Head {
        aborted: vec![two.reference().digest],
        ..head(NOW_MS + 1, three.reference())
    };
    offer_head(&mut state, &next, HEAD, now());
    assert_eq!(state.target(now()), Some(three.reference()));
}

#[test]
fn candidates_go_to_their_cohort() {
    let (one, two) = (Sent::new(42), Sent::new(43));
    let with = |share, prepare_only| Head {
        candidate: Some(Candidate {
            generation: two.reference(),
            share,
            prepare_only,
        }),
        ..head(NOW_MS, one.reference())
    };
    let place = cohort::place(
        &two.reference().digest,
        &workload().identity,
        &workload().instance,
    );
    let target = |head: &Head| {
        let mut state = begin();
        offer_head(&mut state, head, HEAD, now());
        (state.target(now()), state.prepare(now()))
    };
    let (one, two) = (Some(one.reference()), Some(two.reference()));
    assert_eq!(target(&with(place, false)), (one, None));
    assert_eq!(target(&with(place + 1, false)), (two, None));
    assert_eq!(target(&with(cohort::WHOLE, true)), (one, two));
}

#[test]
fn a_new_root_never_stops_serving() {
    let mut state = begin();
    let sent = Sent::new(42);
    served(&mut state, &sent);
    offer_head(&mut state, &head(NOW_MS, sent.reference()), HEAD, now());
    offer_head(&mut state, &head(NOW_MS, sent.reference()), HEAD_2, now());
    state
        .offer_revocations(&revocations(1).seal(&scope(), &[&key(ISSUER)]))
        .unwrap();
    state
        .offer_trust_bundle(&trust_bundle("partner.example", 1).seal(&scope(), &[&key(FEDERATION)]))
        .unwrap();
    let mut next = next_root(&trust_root());
    let keep = |root: &mut TrustRoot, kind, seed| {
        root.roles.get_mut(&kind).unwrap().keys = set([key(seed).public()]);
    };
    keep(&mut next, RoleKind::Compile, COMPILE_2);
    keep(&mut next, RoleKind::Head, HEAD_2);
    keep(&mut next, RoleKind::Issuer, ISSUER_2);
    next.roles
        .remove(&RoleKind::Federation(domain("partner.example")));
    let envelope = next.seal(&[&key(ROOT)]);
    assert_eq!(state.offer_trust_root(&envelope), Ok(Change::Applied));
    assert_eq!(state.offer_trust_root(&envelope), Ok(Change::Unchanged));
    assert_eq!(state.heads().count(), 1);
    assert_eq!(state.revocations().count(), 0);
    assert_eq!(state.trust_bundles().count(), 0);
    // Served on, reported, never confirmed.
    assert_eq!(state.target(now()), Some(sent.reference()));
    refused(
        state.vouched(&sent.reference()),
        RejectReason::UnknownSigner,
    );
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.confirm(sent.reference())
    });
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_generation(&sent.envelope, sent.part(), now())
    });
    // After a restart it is still believed under the root it came with.
    state
        .restore_generation(&sent.envelope, 1, sent.part())
        .unwrap();
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.restore_generation(&sent.envelope, 2, sent.part())
    });
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.restore_generation(&sent.envelope, 3, sent.part())
    });
    // The same payload signed again is the same generation, and confirmed.
    let resigned = sent.generation.seal(&scope(), &[&key(COMPILE_2)]);
    let accepted = state
        .offer_generation(&resigned, sent.part(), now())
        .unwrap();
    assert_eq!(accepted.reference, sent.reference());
    state.confirm(sent.reference()).unwrap();
    // The chain still knows the first.
    let first = trust_root().seal(&[&key(ROOT)]);
    assert_eq!(state.offer_trust_root(&first), Ok(Change::Unchanged));
    assert_eq!(state.trust_roots().count(), 2);
}

#[test]
fn a_new_epoch_outranks_every_sequence() {
    let mut state = begin();
    confirmed(&mut state, &Sent::new(42));
    let next = TrustRoot {
        epoch: 1,
        ..next_root(&trust_root())
    };
    state.offer_trust_root(&next.seal(&[&key(ROOT)])).unwrap();
    let old_epoch = Sent::new(43);
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_generation(&old_epoch.envelope, old_epoch.part(), now())
    });
    let rewritten = Sent::of(7, "allow 7", |generation| generation.order.epoch = 1);
    state
        .offer_generation(&rewritten.envelope, rewritten.part(), now())
        .unwrap();
    offer_head(
        &mut state,
        &head(NOW_MS, rewritten.reference()),
        HEAD,
        now(),
    );
    assert_eq!(state.target(now()), Some(rewritten.reference()));
}

#[test]
fn roots_that_do_not_follow() {
    let mut state = begin();
    let mut gap = next_root(&trust_root());
    gap.version = 3;
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_trust_root(&gap.seal(&[&key(ROOT)]))
    });
    let other = TrustRoot {
        min_emit: 9,
        ..trust_root()
    };
    refuses(&mut state, RejectReason::Equivocation, |state| {
        state.offer_trust_root(&other.seal(&[&key(ROOT)]))
    });
    let seal = |version: u64, signer: &SigningKey| {
        let bundle = trust_bundle("bookshop.example", version);
        bundle.seal(&scope(), &[signer])
    };
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_trust_bundle(&seal(1, &key(FEDERATION)))
    });
}

#[test]
fn versions_of_trust_data_rise() {
    let mut state = begin();
    let seal = |bundle: &TrustBundle| bundle.seal(&scope(), &[&key(TRUST)]);
    let two = trust_bundle("bookshop.example", 2);
    assert_eq!(state.offer_trust_bundle(&seal(&two)), Ok(Change::Applied));
    assert_eq!(state.offer_trust_bundle(&seal(&two)), Ok(Change::Unchanged));
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_trust_bundle(&seal(&trust_bundle("bookshop.example", 1)))
    });
    refuses(&mut state, RejectReason::Equivocation, |state| {
        let twin = TrustBundle {
            x509_authorities: vec![b"another ca".to_vec()],
            ..two.clone()
        };
        state.offer_trust_bundle(&seal(&twin))
    });
    let seal = |version, seed| revocations(version).seal(&scope(), &[&key(seed)]);
    assert_eq!(
        state.offer_revocations(&seal(2, ISSUER)),
        Ok(Change::Applied)
    );
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_revocations(&seal(1, ISSUER))
    });
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_revocations(&seal(3, STRANGER))
    });
    // Another key's stream counts for itself.
    assert_eq!(
        state.offer_revocations(&seal(1, ISSUER_2)),
        Ok(Change::Applied)
    );
    assert_eq!(state.revocations().count(), 2);
}

#[test]
fn revocations_are_a_union() {
    use crate::revocations::RevokedSubject;
    let mut state = begin();
    let (id, spki) = (identity("reviews"), Digest::of(b"spki"));
    let facts = CertificateFacts {
        spiffe_id: &id,
        leaf_spki: &spki,
        issuer_spkis: &[Digest::of(b"issuer")],
        enrolment_id: Some("e1"),
        issued_s: 1_000,
    };
    let stream = |subject, issued_before| Revocations {
        entries: vec![Revocation {
            subject,
            issued_before,
        }],
        ..revocations(1)
    };
    let revoked = |subject, issued_before| stream(subject, issued_before).revokes(facts).is_some();
    assert!(revoked(RevokedSubject::SpiffeId(id.clone()), None));
    assert!(revoked(RevokedSubject::SpiffeId(id.clone()), Some(1_001)));
    assert!(!revoked(RevokedSubject::SpiffeId(id.clone()), Some(1_000)));
    assert!(!revoked(RevokedSubject::SpiffeId(identity("other")), None));
    assert!(revoked(RevokedSubject::LeafSpki(spki), None));
    assert!(revoked(
        RevokedSubject::IssuerSpki(Digest::of(b"issuer")),
        None
    ));
    assert!(revoked(RevokedSubject::EnrolmentId("e1".to_owned()), None));
    assert_eq!(state.revoked(facts), None);
    let by_issuer = stream(RevokedSubject::LeafSpki(spki), None);
    for (stream, seed) in [(by_issuer, ISSUER), (revocations(1), ISSUER_2)] {
        state
            .offer_revocations(&stream.seal(&scope(), &[&key(seed)]))
            .unwrap();
    }
    assert!(state.revoked(facts).is_some());
}

#[test]
fn what_a_fresh_proxy_still_needs() {
    let mut state = begin();
    assert_eq!(state.missing(now()), [Missing::Head]);
    let bundle = trust_bundle("bookshop.example", 3);
    let stream = revocations(5);
    let named = Head {
        trust_bundles: vec![bundle.reference(&scope())],
        revocations: vec![
            stream.reference(&scope(), key(ISSUER).id()),
            // No key of the root: it can't hold readiness up.
            RevocationsRef {
                key_id: key(STRANGER).id(),
                version: 1,
                digest: Digest::of(b"x"),
            },
        ],
        ..head(NOW_MS, Sent::new(42).reference())
    };
    let unknown_domain = Head {
        trust_bundles: vec![
            bundle.reference(&scope()),
            TrustBundleRef {
                trust_domain: domain("third.example"),
                version: 1,
                digest: Digest::of(b"x"),
            },
        ],
        issued_ms: NOW_MS + 1,
        ..named.clone()
    };
    offer_head(&mut state, &named, HEAD, now());
    offer_head(&mut state, &unknown_domain, HEAD_2, now());
    let own = Missing::TrustBundle(domain("bookshop.example"));
    let issuers = || Missing::Revocations(key(ISSUER).id());
    assert_eq!(state.missing(now()), [own.clone(), issuers()]);
    let older = trust_bundle("bookshop.example", 2);
    state
        .offer_trust_bundle(&older.seal(&scope(), &[&key(TRUST)]))
        .unwrap();
    assert_eq!(state.missing(now()), [own, issuers()]);
    state
        .offer_trust_bundle(&bundle.seal(&scope(), &[&key(TRUST)]))
        .unwrap();
    assert_eq!(state.missing(now()), [issuers()]);
    state
        .offer_revocations(&stream.seal(&scope(), &[&key(ISSUER)]))
        .unwrap();
    assert_eq!(state.missing(now()), []);
    // A stream older than a day is not enough to become ready with.
    let day = 24 * 60;
    let later = head(NOW_MS + day * MINUTE_MS, Sent::new(42).reference());
    let later = Head {
        revocations: named.revocations.clone(),
        ..later
    };
    offer_head(&mut state, &later, HEAD, at(day));
    assert_eq!(state.missing(at(day)), []);
    assert_eq!(state.missing(at(day + 1)), [issuers()]);
}

#[test]
fn only_what_is_held_is_served_and_only_what_is_served_is_confirmed() {
    let mut state = begin();
    let (one, two) = (Sent::new(42), Sent::new(43));
    assert_eq!(
        state.set_serving(one.reference()),
        Err(NotHeld(one.reference()))
    );
    served(&mut state, &one);
    state
        .offer_generation(&two.envelope, two.part(), now())
        .unwrap();
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.confirm(two.reference())
    });
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut state = begin();
    let first = Sent::new(1);
    served(&mut state, &first);
    for sequence in 2..=u64::try_from(HELD_GENERATIONS_MAX).unwrap() + 5 {
        let sent = Sent::new(sequence);
        state
            .offer_generation(&sent.envelope, sent.part(), now())
            .unwrap();
    }
    assert_eq!(state.held.len(), HELD_GENERATIONS_MAX);
    assert!(state.generation(&first.reference()).is_some());
    assert!(state.generation(&Sent::new(2).reference()).is_none());
}

#[test]
fn a_newer_trust_root_is_asked_for() {
    let mut state = begin();
    let ahead = Head {
        trust_root_version: 2,
        ..head(NOW_MS, Sent::new(42).reference())
    };
    let offer = state
        .offer_head(&ahead.seal(&scope(), &[&key(HEAD)]), now())
        .unwrap();
    assert_eq!(offer.newer_trust_root, Some(2));
}

/// A head key alone can name what does not exist; that must not hold back what the others name.
#[test]
fn what_is_named_and_not_there_holds_nothing_back() {
    let (one, two, nowhere) = (Sent::new(42), Sent::new(43), Sent::new(99));
    let mut state = begin();
    offer_head(&mut state, &head(NOW_MS, nowhere.reference()), HEAD, now());
    offer_head(&mut state, &head(NOW_MS, one.reference()), HEAD_2, now());
    assert_eq!(state.target(now()), Some(nowhere.reference()));
    state
        .offer_generation(&one.envelope, one.part(), now())
        .unwrap();
    assert_eq!(state.target(now()), Some(one.reference()));
    state.set_serving(one.reference()).unwrap();
    assert_eq!(state.target(now()), Some(nowhere.reference()));
    offer_head(
        &mut state,
        &head(NOW_MS + 1, two.reference()),
        HEAD_2,
        now(),
    );
    state
        .offer_generation(&two.envelope, two.part(), now())
        .unwrap();
    assert_eq!(state.target(now()), Some(two.reference()));
}

/// What was aborted is left for what was confirmed, and not for what is still to come.
#[test]
fn an_abort_does_not_wait_for_the_next() {
    let (one, two, three) = (Sent::new(42), Sent::new(43), Sent::new(44));
    let mut state = begin();
    confirmed(&mut state, &one);
    served(&mut state, &two);
    let abort = Head {
        aborted: vec![two.reference().digest],
        ..head(NOW_MS, three.reference())
    };
    offer_head(&mut state, &abort, HEAD, now());
    assert_eq!(state.target(now()), Some(one.reference()));
    state
        .offer_generation(&three.envelope, three.part(), now())
        .unwrap();
    assert_eq!(state.target(now()), Some(three.reference()));
}

#[test]
fn what_was_aborted_is_never_confirmed() {
    let one = Sent::new(42);
    let mut state = begin();
    served(&mut state, &one);
    let abort = Head {
        aborted: vec![one.reference().digest],
        ..head(NOW_MS, one.reference())
    };
    offer_head(&mut state, &abort, HEAD, now());
    // There is nothing to step down to, and serving does not stop.
    assert_eq!(state.target(now()), Some(one.reference()));
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.confirm(one.reference())
    });
}

/// A generation whose key was dropped stays served; one that is only held is not served any more.
#[test]
fn a_dropped_key_serves_nothing_new() {
    let (one, two) = (Sent::new(42), Sent::new(43));
    let mut state = begin();
    served(&mut state, &one);
    state
        .offer_generation(&two.envelope, two.part(), now())
        .unwrap();
    offer_head(&mut state, &head(NOW_MS, two.reference()), HEAD, now());
    assert_eq!(state.target(now()), Some(two.reference()));
    let mut next = next_root(&trust_root());
    next.roles.get_mut(&RoleKind::Compile).unwrap().keys = set([key(COMPILE_2).public()]);
    state.offer_trust_root(&next.seal(&[&key(ROOT)])).unwrap();
    assert_eq!(state.target(now()), Some(one.reference()));
    // After a restart likewise.
    state
        .restore_generation(&two.envelope, 1, two.part())
        .unwrap();
    assert_eq!(state.target(now()), Some(one.reference()));
    // Signed again, it is the same generation.
    let resigned = two.generation.seal(&scope(), &[&key(COMPILE_2)]);
    state
        .offer_generation(&resigned, two.part(), now())
        .unwrap();
    assert_eq!(state.target(now()), Some(two.reference()));
    state
        .restore_generation(&two.envelope, 1, two.part())
        .unwrap();
    assert_eq!(state.target(now()), Some(two.reference()));
    assert_eq!(state.vouched(&two.reference()), Ok(()));
}

/// Two-phase: what is made ready may be that the workload has gone.
#[test]
fn absence_may_be_prepared() {
    let mut state = begin();
    let one = Sent::new(42);
    let tree = Tree::build(vec![(identity("ratings"), Digest::of(b"x"), 1)]).unwrap();
    let gone = generation(43, tree.root(), 1);
    let candidate = Candidate {
        generation: reference(&gone),
        share: cohort::WHOLE,
        prepare_only: true,
    };
    let named = Head {
        candidate: Some(candidate),
        ..head(NOW_MS, one.reference())
    };
    offer_head(&mut state, &named, HEAD, now());
    let proof = tree.prove_absent(&identity("reviews")).unwrap();
    let envelope = gone.seal(&scope(), &[&key(COMPILE)]);
    let accepted = state
        .offer_generation(&envelope, Part::Absent(&proof), now())
        .unwrap();
    assert_eq!(accepted.part, AcceptedPart::Absent);
    assert_eq!(state.target(now()), Some(one.reference()));
}

/// A stolen trust key can state the highest version there is; the root that drops it is the way on.
#[test]
fn a_dropped_key_keeps_no_version() {
    const TRUST_2: u8 = 42;
    let bundle = |version, seed| {
        let bundle = trust_bundle("bookshop.example", version);
        bundle.seal(&scope(), &[&key(seed)])
    };
    let mut state = begin();
    state.offer_trust_bundle(&bundle(u64::MAX, TRUST)).unwrap();
    let mut next = next_root(&trust_root());
    next.roles.get_mut(&RoleKind::Trust).unwrap().keys = set([key(TRUST_2).public()]);
    state.offer_trust_root(&next.seal(&[&key(ROOT)])).unwrap();
    // Enforced on until there is another.
    assert_eq!(state.trust_bundles().count(), 1);
    // An older one that somebody kept does not come back by itself: a head must name it.
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_trust_bundle(&bundle(2, TRUST_2))
    });
    let named = Head {
        trust_bundles: vec![trust_bundle("bookshop.example", 2).reference(&scope())],
        ..head(NOW_MS, Sent::new(42).reference())
    };
    offer_head(&mut state, &named, HEAD, now());
    let own = Missing::TrustBundle(domain("bookshop.example"));
    assert_eq!(state.missing(now()), [own]);
    assert_eq!(
        state.offer_trust_bundle(&bundle(2, TRUST_2)),
        Ok(Change::Applied)
    );
    assert_eq!(state.missing(now()), []);
    refuses(&mut state, RejectReason::UnknownSigner, |state| {
        state.offer_trust_bundle(&bundle(u64::MAX, TRUST))
    });
    refuses(&mut state, RejectReason::OrderTooLow, |state| {
        state.offer_trust_bundle(&bundle(1, TRUST_2))
    });
}

/// The same bundle signed again by the new key counts on.
#[test]
fn a_bundle_that_is_signed_again() {
    const TRUST_2: u8 = 42;
    let two = trust_bundle("bookshop.example", 2);
    let mut state = begin();
    state
        .offer_trust_bundle(&two.seal(&scope(), &[&key(TRUST)]))
        .unwrap();
    let mut next = next_root(&trust_root());
    next.roles.get_mut(&RoleKind::Trust).unwrap().keys = set([key(TRUST_2).public()]);
    state.offer_trust_root(&next.seal(&[&key(ROOT)])).unwrap();
    let again = two.seal(&scope(), &[&key(TRUST_2)]);
    assert_eq!(state.offer_trust_bundle(&again), Ok(Change::Applied));
    assert_eq!(state.offer_trust_bundle(&again), Ok(Change::Unchanged));
}

/// trust.md, *How a proxy starts*: with SPIRE the own bundle comes from the Workload API.
#[test]
fn the_workload_api_brings_the_own_bundle() {
    let mut root = trust_root();
    root.identity_source = IdentitySource::WorkloadApi;
    let pin = Pin {
        trust_root: root.digest(),
        ..pin()
    };
    let sealed = root.seal(&[&key(ROOT)]);
    let mut state = Acceptance::pinned(&pin, workload(), None, &sealed).unwrap();
    offer_head(
        &mut state,
        &head(NOW_MS, Sent::new(42).reference()),
        HEAD,
        now(),
    );
    assert_eq!(state.missing(now()), []);
}
