//! What the tests of several modules begin with: one key per role, a scope, valid statements.

use std::collections::{BTreeMap, BTreeSet};

use crate::ceremony::{CeremonyKeys, CeremonySettings, RoleKeys, first_trust_root};
use crate::digest::Digest;
use crate::generation::{Generation, ObjectId};
use crate::head::{GenerationRef, Head};
use crate::key::SigningKey;
use crate::order::Order;
use crate::reject::{RejectReason, Rejection};
use crate::revocations::Revocations;
use crate::scope::Scope;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::trust_bundle::TrustBundle;
use crate::trust_root::{IdentitySource, TrustRoot};

pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

pub(crate) const ROOT: u8 = 1;
pub(crate) const TRUST: u8 = 2;
pub(crate) const COMPILE: u8 = 3;
pub(crate) const COMPILE_2: u8 = 4;
pub(crate) const HEAD: u8 = 5;
pub(crate) const HEAD_2: u8 = 6;
pub(crate) const ISSUER: u8 = 7;
pub(crate) const ISSUER_2: u8 = 8;
pub(crate) const FEDERATION: u8 = 9;
pub(crate) const STRANGER: u8 = 99;

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn identity(service: &str) -> SpiffeId {
    domain("bookshop.example")
        .identity(&format!("/service/{service}"))
        .unwrap()
}

pub(crate) fn scope() -> Scope {
    Scope {
        mesh: "bookshop".to_owned(),
        environment: "prod".to_owned(),
        trust_domain: domain("bookshop.example"),
    }
}

pub(crate) fn ceremony_keys() -> CeremonyKeys {
    let public = |seed| key(seed).public();
    CeremonyKeys {
        root: RoleKeys::one(public(ROOT)),
        trust: RoleKeys::one(public(TRUST)),
        compile: RoleKeys {
            threshold: 1,
            keys: vec![public(COMPILE), public(COMPILE_2)],
        },
        head: vec![public(HEAD), public(HEAD_2)],
        issuer: vec![public(ISSUER), public(ISSUER_2)],
        federation: BTreeMap::from([(
            domain("partner.example"),
            RoleKeys::one(public(FEDERATION)),
        )]),
    }
}

pub(crate) fn ceremony_settings() -> CeremonySettings {
    CeremonySettings {
        scope: scope(),
        reference: "refs/heads/main".to_owned(),
        root_path: String::new(),
        development: false,
        distributors: vec!["main".to_owned()],
        relays: Vec::new(),
        identity_source: IdentitySource::Issuer,
        min_proxy: None,
    }
}

pub(crate) fn trust_root() -> TrustRoot {
    first_trust_root(&ceremony_keys(), &ceremony_settings()).unwrap()
}

/// The next version, otherwise the same.
pub(crate) fn next_root(root: &TrustRoot) -> TrustRoot {
    TrustRoot {
        version: root.version + 1,
        ..root.clone()
    }
}

pub(crate) fn order(sequence: u64) -> Order {
    Order {
        epoch: 0,
        sequence,
        emit: 1,
    }
}

pub(crate) fn generation(sequence: u64, root: Digest, leaf_count: u32) -> Generation {
    Generation {
        order: order(sequence),
        reference: "refs/heads/main".to_owned(),
        root_path: String::new(),
        root,
        leaf_count,
        commit: ObjectId::from_bytes(&[u8::try_from(sequence).unwrap(); 20]).unwrap(),
        tree: ObjectId::from_bytes(&[0xee; 20]).unwrap(),
        input_digest: Digest::of(b"input"),
        compiler: "0.1.0".to_owned(),
    }
}

pub(crate) fn reference(generation: &Generation) -> GenerationRef {
    GenerationRef {
        order: generation.order,
        digest: generation.digest(&scope()),
    }
}

pub(crate) fn head(issued_ms: u64, current: GenerationRef) -> Head {
    Head {
        trust_root_version: 1,
        issued_ms,
        expires_ms: issued_ms + 600_000,
        current,
        candidate: None,
        aborted: Vec::new(),
        trust_bundles: Vec::new(),
        revocations: Vec::new(),
    }
}

pub(crate) fn trust_bundle(name: &str, version: u64) -> TrustBundle {
    TrustBundle {
        trust_domain: domain(name),
        version,
        x509_authorities: vec![b"ca".to_vec()],
    }
}

pub(crate) fn revocations(version: u64) -> Revocations {
    Revocations {
        version,
        issued_ms: NOW_MS,
        entries: Vec::new(),
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Rejection>, reason: RejectReason) {
    match result {
        Ok(value) => panic!("expected {reason}, accepted {value:?}"),
        Err(refusal) => assert_eq!(refusal.reason(), reason, "{refusal}"),
    }
}

/// The set of these, for fields of trust roots.
pub(crate) fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    values.into_iter().collect()
}

/// Encoded top-level fields, in order, whole with their tags.
pub(crate) fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, after) = rest.split_first().unwrap();
            *rest = after;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = rest;
        match varint(&mut rest) & 7 {
            0 => drop(varint(&mut rest)),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                rest = &rest[length..];
            }
            other => panic!("wire type {other}"),
        }
        fields.push(start[..start.len() - rest.len()].to_vec());
    }
    fields
}
