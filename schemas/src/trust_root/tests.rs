//! Chains, roles and thresholds of trust roots, and what breaks each.

use prost::Message;

use super::*;
use crate::ceremony::{CeremonyError, RoleKeys, first_trust_root};
use crate::envelope::pae;
use crate::testing::*;

fn compiled() -> Generation {
    generation(42, Digest::of(b"root"), 3)
}

/// Signs this statement message with the compile key, whatever it says.
fn sealed(statement: &wire::Statement) -> Envelope {
    let payload = statement.encode_to_vec();
    Envelope::sign(PayloadType::Generation, payload, &[&key(COMPILE)])
}

fn statement() -> wire::Statement {
    let envelope = compiled().seal(&scope(), &[]);
    wire::Statement::decode(envelope.payload()).unwrap()
}

#[test]
fn every_statement_round_trips() {
    let root = trust_root();
    let by_root = root.seal(&[&key(ROOT)]);
    assert_eq!(
        *TrustRoot::verify_pinned(&by_root, &root.digest()).unwrap(),
        root
    );
    let generation = compiled();
    let envelope = generation.seal(&scope(), &[&key(COMPILE)]);
    let verified = root.verify_generation(&envelope).unwrap();
    assert_eq!(*verified, generation);
    assert_eq!(verified.digest(), generation.digest(&scope()));
    let choice = head(NOW_MS, reference(&generation));
    let envelope = choice.seal(&scope(), &[&key(HEAD)]);
    assert_eq!(*root.verify_head(&envelope).unwrap(), choice);
    let own = trust_bundle("bookshop.example", 1);
    let envelope = own.seal(&scope(), &[&key(TRUST)]);
    assert_eq!(*root.verify_trust_bundle(&envelope).unwrap(), own);
    let foreign = trust_bundle("partner.example", 1);
    let envelope = foreign.seal(&scope(), &[&key(FEDERATION)]);
    assert_eq!(*root.verify_trust_bundle(&envelope).unwrap(), foreign);
    for signer in [TRUST, ISSUER] {
        let envelope = revocations(1).seal(&scope(), &[&key(signer)]);
        let stream = root.verify_revocations(&envelope).unwrap();
        assert_eq!(*stream, revocations(1));
        assert_eq!(stream.stream_key(), key(signer).id());
    }
    for envelope in [by_root, envelope] {
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
}

/// A role's key states its own kind and no other.
#[test]
fn signed_by_the_wrong_role() {
    let root = trust_root();
    let scope = scope();
    for seed in [ROOT, TRUST, COMPILE, HEAD, ISSUER, FEDERATION, STRANGER] {
        let signer = key(seed);
        let by = |expected: &[u8], result: Result<(), Rejection>| {
            if expected.contains(&seed) {
                result.unwrap();
            } else {
                refused(result, RejectReason::UnknownSigner);
            }
        };
        let envelope = compiled().seal(&scope, &[&signer]);
        by(&[COMPILE], root.verify_generation(&envelope).map(drop));
        let envelope = head(NOW_MS, reference(&compiled())).seal(&scope, &[&signer]);
        by(&[HEAD], root.verify_head(&envelope).map(drop));
        let envelope = trust_bundle("bookshop.example", 1).seal(&scope, &[&signer]);
        by(&[TRUST], root.verify_trust_bundle(&envelope).map(drop));
        let envelope = trust_bundle("partner.example", 1).seal(&scope, &[&signer]);
        by(&[FEDERATION], root.verify_trust_bundle(&envelope).map(drop));
        let envelope = trust_bundle("third.example", 1).seal(&scope, &[&signer]);
        by(&[], root.verify_trust_bundle(&envelope).map(drop));
        let envelope = revocations(1).seal(&scope, &[&signer]);
        by(
            &[TRUST, ISSUER],
            root.verify_revocations(&envelope).map(drop),
        );
        let envelope = next_root(&root).seal(&[&signer]);
        by(&[ROOT], root.verify_next(&envelope).map(drop));
    }
}

#[test]
fn unsigned() {
    refused(
        trust_root().verify_generation(&compiled().seal(&scope(), &[])),
        RejectReason::Unsigned,
    );
}

/// Signatures are over the type: an envelope can't be passed off as another.
#[test]
fn another_payload_type() {
    let payload = compiled().seal(&scope(), &[]).payload().to_vec();
    let envelope = Envelope::sign(PayloadType::Head, payload.clone(), &[&key(COMPILE)]);
    refused(
        trust_root().verify_generation(&envelope),
        RejectReason::NonCanonical,
    );
    let renamed = wire::Envelope {
        payload_type: PayloadType::Generation.as_str().to_owned(),
        ..wire::Envelope::from(&envelope)
    };
    refused(
        trust_root().verify_generation(&renamed.try_into().unwrap()),
        RejectReason::UnknownSigner,
    );
    let unknown = wire::Envelope {
        payload_type: "application/json".to_owned(),
        payload,
        signatures: Vec::new(),
    };
    refused(Envelope::try_from(unknown), RejectReason::NonCanonical);
}

#[test]
fn threshold_counts_distinct_keys() {
    let mut root = trust_root();
    root.roles.get_mut(&RoleKind::Compile).unwrap().threshold = 2;
    let (one, two) = (key(COMPILE), key(COMPILE_2));
    let verify = |keys: &[&SigningKey]| root.verify_generation(&compiled().seal(&scope(), keys));
    refused(verify(&[&one]), RejectReason::Threshold);
    refused(verify(&[&one, &one]), RejectReason::Threshold);
    refused(verify(&[&one, &key(STRANGER)]), RejectReason::Threshold);
    assert_eq!(
        *verify(&[&one, &two, &key(STRANGER)]).unwrap().signers(),
        set([one.id(), two.id()])
    );
}

#[test]
fn of_another_scope() {
    let root = trust_root();
    let check = |reason, change: fn(&mut Scope)| {
        let mut other = scope();
        change(&mut other);
        let envelope = compiled().seal(&other, &[&key(COMPILE)]);
        refused(root.verify_generation(&envelope), reason);
    };
    check(RejectReason::WrongMesh, |scope| {
        scope.mesh = "other".to_owned();
    });
    check(RejectReason::WrongEnvironment, |scope| {
        scope.environment = "staging".to_owned();
    });
    check(RejectReason::WrongTrustDomain, |scope| {
        scope.trust_domain = domain("other.example");
    });
}

#[test]
fn format_and_features_come_before_the_body() {
    let root = trust_root();
    let verify = |statement: &wire::Statement| root.verify_generation(&sealed(statement));
    verify(&statement()).unwrap();
    let later = wire::Statement {
        format: 2,
        body: b"something else".to_vec(),
        ..statement()
    };
    refused(verify(&later), RejectReason::UnknownFeature);
    let feature = wire::Statement {
        required_features: vec!["telepathy".to_owned()],
        body: b"something else".to_vec(),
        scope: None,
        ..statement()
    };
    refused(verify(&feature), RejectReason::UnknownFeature);
}

#[test]
fn statements_that_are_not_canonical() {
    let root = trust_root();
    let verify = |statement: &wire::Statement| root.verify_generation(&sealed(statement));
    let no_scope = wire::Statement {
        scope: None,
        ..statement()
    };
    refused(verify(&no_scope), RejectReason::NonCanonical);
    let mut unknown_field = statement();
    unknown_field.body.extend([0x78, 0x01]);
    refused(verify(&unknown_field), RejectReason::NonCanonical);
    let mut cut = statement();
    cut.body.pop();
    refused(verify(&cut), RejectReason::Truncated);
    let payload = [statement().encode_to_vec(), vec![0x78, 0x01]].concat();
    let envelope = Envelope::sign(PayloadType::Generation, payload, &[&key(COMPILE)]);
    refused(
        root.verify_generation(&envelope),
        RejectReason::NonCanonical,
    );
}

#[test]
fn ref_epoch_and_minimum_of_the_root() {
    let root = TrustRoot {
        epoch: 3,
        min_emit: 2,
        ..trust_root()
    };
    let good = Generation {
        order: crate::order::Order {
            epoch: 3,
            sequence: 9,
            emit: 2,
        },
        ..compiled()
    };
    let verify = |generation: &Generation| {
        root.verify_generation(&generation.seal(&scope(), &[&key(COMPILE)]))
    };
    verify(&good).unwrap();
    let check = |reason, change: fn(&mut Generation)| {
        let mut generation = good.clone();
        change(&mut generation);
        refused(verify(&generation), reason);
    };
    check(RejectReason::OrderTooLow, |it| it.order.epoch = 2);
    check(RejectReason::UnknownSigner, |it| it.order.epoch = 4);
    check(RejectReason::OrderTooLow, |it| it.order.emit = 1);
    check(RejectReason::RefRewritten, |it| {
        it.reference = "refs/heads/other".to_owned();
    });
    check(RejectReason::RefRewritten, |it| {
        it.root_path = "mesh".to_owned();
    });
}

#[test]
fn the_next_root_is_signed_by_both() {
    let root = trust_root();
    let mut next = next_root(&root);
    let new_key = key(50);
    next.roles.get_mut(&RoleKind::Root).unwrap().keys = set([new_key.public()]);
    refused(
        root.verify_next(&next.seal(&[&key(ROOT)])),
        RejectReason::UnknownSigner,
    );
    refused(
        root.verify_next(&next.seal(&[&new_key])),
        RejectReason::UnknownSigner,
    );
    let both = next.seal(&[&key(ROOT), &new_key]);
    assert_eq!(*root.verify_next(&both).unwrap(), next);
    assert_eq!(root.verify_next(&both).unwrap().digest(), next.digest());
}

#[test]
fn the_chain_of_roots_only_moves_forward() {
    let root = TrustRoot {
        version: 5,
        epoch: 2,
        ..trust_root()
    };
    let check = |reason, change: fn(&mut TrustRoot)| {
        let mut next = next_root(&root);
        change(&mut next);
        refused(root.verify_next(&next.seal(&[&key(ROOT)])), reason);
    };
    check(RejectReason::OrderTooLow, |next| next.epoch = 1);
    check(RejectReason::OrderTooLow, |next| next.version = 4);
    check(RejectReason::UnknownSigner, |next| next.version = 7);
    check(RejectReason::Equivocation, |next| {
        next.version = 5;
        next.min_emit = 9;
    });
    check(RejectReason::WrongMesh, |next| {
        next.scope.mesh = "other".to_owned();
    });
}

#[test]
fn pinned() {
    let root = trust_root();
    let envelope = root.seal(&[&key(ROOT)]);
    refused(
        TrustRoot::verify_pinned(&envelope, &Digest::of(b"another")),
        RejectReason::UnknownSigner,
    );
    refused(
        TrustRoot::verify_pinned(&root.seal(&[]), &root.digest()),
        RejectReason::Unsigned,
    );
    refused(
        TrustRoot::verify_pinned(&root.seal(&[&key(STRANGER)]), &root.digest()),
        RejectReason::UnknownSigner,
    );
}

/// More signatures don't change what is said.
#[test]
fn digest_is_of_the_payload() {
    let mut envelope = compiled().seal(&scope(), &[&key(COMPILE)]);
    let digest = envelope.payload_digest();
    envelope.add_signature(&key(COMPILE_2)).unwrap();
    envelope.add_signature(&key(COMPILE_2)).unwrap();
    assert_eq!(envelope.signatures().len(), 2);
    assert_eq!(envelope.payload_digest(), digest);
    trust_root().verify_generation(&envelope).unwrap();
    for seed in 100..114 {
        envelope.add_signature(&key(seed)).unwrap();
    }
    refused(
        envelope.add_signature(&key(STRANGER)),
        RejectReason::TooLarge,
    );
}

/// Not one bit of an envelope can be changed.
#[test]
fn any_bit_flipped() {
    let root = trust_root();
    let bytes = compiled().seal(&scope(), &[&key(COMPILE)]).encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let verified =
            Envelope::decode(&flipped).and_then(|envelope| root.verify_generation(&envelope));
        assert!(verified.is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        let verified = Envelope::decode(&bytes[..length])
            .and_then(|envelope| root.verify_generation(&envelope));
        assert!(verified.is_err(), "{length} bytes");
    }
    refused(
        Envelope::decode(&bytes[..bytes.len() - 1]),
        RejectReason::Truncated,
    );
}

#[test]
fn envelopes_too_large() {
    refused(
        Envelope::decode(&vec![0; limits::ENVELOPE_BYTES_MAX + 1]),
        RejectReason::TooLarge,
    );
    let payload = vec![0; limits::PAYLOAD_BYTES_MAX + 1];
    let envelope = Envelope::sign(PayloadType::Generation, payload, &[&key(COMPILE)]);
    refused(
        trust_root().verify_generation(&envelope),
        RejectReason::TooLarge,
    );
    let message = wire::Envelope::from(&envelope);
    refused(Envelope::try_from(message), RejectReason::TooLarge);
    let many = wire::Envelope {
        payload_type: PayloadType::Generation.as_str().to_owned(),
        payload: Vec::new(),
        signatures: (0..17)
            .map(|n| wire::Signature {
                signature: vec![n; 64],
            })
            .collect(),
    };
    refused(Envelope::try_from(many), RejectReason::NonCanonical);
}

#[test]
fn envelope_signatures_ascend() {
    let envelope = compiled().seal(&scope(), &[&key(COMPILE), &key(COMPILE_2)]);
    let mut message = wire::Envelope::from(&envelope);
    message.signatures.swap(0, 1);
    refused(
        Envelope::try_from(message.clone()),
        RejectReason::NonCanonical,
    );
    message.signatures[1] = message.signatures[0].clone();
    refused(Envelope::try_from(message), RejectReason::NonCanonical);
}

/// The largest head that the limits allow still fits into an envelope.
#[test]
fn a_full_head_fits() {
    use crate::head::{RevocationsRef, TrustBundleRef};
    let mut full = head(NOW_MS, reference(&compiled()));
    let numbered = |n: usize| Digest::of(&n.to_be_bytes());
    full.aborted = (0..limits::ABORTED_MAX).map(numbered).collect();
    full.trust_bundles = (0..limits::TRUST_DATA_REFS_MAX)
        .map(|n| TrustBundleRef {
            trust_domain: domain(&format!("{n:03}-{}", "a".repeat(60))),
            version: u64::MAX,
            digest: numbered(n),
        })
        .collect();
    full.revocations = (0..limits::TRUST_DATA_REFS_MAX)
        .map(|n| RevocationsRef {
            key_id: KeyId::from_digest(numbered(n)),
            version: u64::MAX,
            digest: numbered(n),
        })
        .collect();
    let envelope = full.seal(&scope(), &[&key(HEAD)]);
    trust_root()
        .verify_head(&Envelope::decode(&envelope.encode()).unwrap())
        .unwrap();
}

/// Changes the root's message, and expects that it is then no trust root.
#[track_caller]
fn no_root(change: impl FnOnce(&mut wire::TrustRoot)) {
    let mut message = wire::TrustRoot::decode(trust_root().body().as_slice()).unwrap();
    change(&mut message);
    refused(
        TrustRoot::from_body(&scope(), &message.encode_to_vec()),
        RejectReason::NonCanonical,
    );
}

#[test]
fn roots_that_are_not_valid() {
    trust_root().check().unwrap();
    no_root(|root| root.version = 0);
    no_root(|root| root.r#ref.clear());
    no_root(|root| root.identity_source = 0);
    no_root(|root| root.identity_source = 3);
    no_root(|root| root.min_proxy = "0.1".to_owned());
    no_root(|root| root.min_proxy = "0.01.0".to_owned());
    no_root(|root| root.keys.swap(0, 1));
    no_root(|root| root.keys[0].algorithm = 2);
    no_root(|root| root.keys[0].key.truncate(31));
    no_root(|root| root.roles.swap(0, 1));
    no_root(|root| root.roles[0].threshold = 0);
    no_root(|root| root.roles[0].threshold = 2);
    no_root(|root| root.roles[0].domain = "a".to_owned());
    no_root(|root| root.roles[0].kind = 0);
    no_root(|root| root.roles[5].kind = 7);
    no_root(|root| drop(root.roles.remove(0)));
    // A key in no role, a role without its key, a key in two roles.
    no_root(|root| drop(root.roles[2].key_ids.remove(0)));
    no_root(|root| drop(root.keys.remove(0)));
    no_root(|root| root.roles[1].key_ids = root.roles[0].key_ids.clone());
    // Heads are counted per key.
    no_root(|root| root.roles[3].threshold = 2);
    no_root(|root| root.distributors = vec!["spiffe://bookshop.example/service/a".to_owned()]);
    no_root(|root| root.distributors = vec!["spiffe://other/mesh/distributor/a".to_owned()]);
    no_root(|root| root.relays = vec!["spiffe://bookshop.example/mesh/distributor/a".to_owned()]);
    no_root(|root| root.roles[5].domain = "bookshop.example".to_owned());
    no_root(|root| root.commit_signers = vec![wire::CommitSigner { kind: None }]);
}

#[test]
fn ceremony_refuses() {
    let check = |change: fn(&mut crate::ceremony::CeremonyKeys)| {
        let mut keys = ceremony_keys();
        change(&mut keys);
        first_trust_root(&keys, &ceremony_settings()).unwrap_err()
    };
    assert!(matches!(
        check(|keys| keys.trust = keys.root.clone()),
        CeremonyError::SharedKey(_)
    ));
    assert!(matches!(
        check(|keys| keys.head.clear()),
        CeremonyError::Threshold { role: "head", .. }
    ));
    assert!(matches!(
        check(|keys| {
            keys.compile = RoleKeys {
                threshold: 2,
                keys: vec![keys.compile.keys[0]; 2],
            };
        }),
        CeremonyError::Threshold {
            role: "compile",
            keys: 1,
            ..
        }
    ));
    let mut settings = ceremony_settings();
    settings.distributors = vec!["a/b c".to_owned()];
    assert!(matches!(
        first_trust_root(&ceremony_keys(), &settings),
        Err(CeremonyError::Name { .. })
    ));
    let mut settings = ceremony_settings();
    settings.scope.mesh = String::new();
    assert!(matches!(
        first_trust_root(&ceremony_keys(), &settings),
        Err(CeremonyError::Invalid(_))
    ));
}

/// The example of DSSE's protocol.md.
#[test]
fn pre_authentication_encoding() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}
