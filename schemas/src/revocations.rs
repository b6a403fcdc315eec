//! Revocations: identities, keys, issuers and enrolments that are no longer believed. Each signing
//! key has a stream of its own with its own versions; a proxy enforces the union.

use crate::canonical::{
    self, NonCanonical, Wire, ascending_by_bytes, each, required, set_by_bytes, text,
};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType};
use crate::generation::digest;
use crate::head::{RevocationsRef, version};
use crate::key::{KeyId, SigningKey};
use crate::limits;
use crate::messages::bundle as wire;
use crate::reject::Rejection;
use crate::scope::Scope;
use crate::spiffe::SpiffeId;
use crate::statement::{self, Statement, Verified};

/// One stream at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    /// Rises with each signing, also of unchanged entries; at least 1.
    pub version: u64,
    /// Unix milliseconds; re-signed hourly.
    pub issued_ms: u64,
    /// What is revoked.
    pub entries: Vec<Revocation>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub subject: RevokedSubject,
    /// Unix seconds: certificates issued before this are refused; none: all.
    pub issued_before: Option<u64>,
}

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokedSubject {
    /// A workload identity.
    SpiffeId(SpiffeId),
    /// SHA-256 of the subject public key info of a leaf certificate.
    LeafSpki(Digest),
    /// SHA-256 of the subject public key info of an authority above the leaf.
    IssuerSpki(Digest),
    /// One enrolment; the issuer writes its id into the certificate's serial number.
    EnrolmentId(String),
}

/// What a revocation check asks about one certificate chain.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFacts<'a> {
    /// The leaf's identity.
    pub spiffe_id: &'a SpiffeId,
    /// SHA-256 of the leaf's subject public key info.
    pub leaf_spki: &'a Digest,
    /// The same of every authority above it.
    pub issuer_spkis: &'a [Digest],
    /// Its enrolment, if its serial number carries one.
    pub enrolment_id: Option<&'a str>,
    /// Unix seconds of the leaf's `notBefore`.
    pub issued_s: u64,
}

impl Revocations {
    /// States this stream, signed by its one key (or by the `trust` role).
    pub fn seal(&self, scope: &Scope, keys: &[&SigningKey]) -> Envelope {
        statement::seal(self, scope, keys)
    }

    /// How a head names this state of the stream of that key.
    pub fn reference(&self, scope: &Scope, key_id: KeyId) -> RevocationsRef {
        RevocationsRef {
            key_id,
            version: self.version,
            digest: Digest::of(&statement::payload(self, scope)),
        }
    }

    /// The entry that revokes this certificate, if one does.
    pub fn revokes(&self, certificate: CertificateFacts<'_>) -> Option<&Revocation> {
        self.entries.iter().find(|entry| {
            let subject = match &entry.subject {
                RevokedSubject::SpiffeId(id) => id == certificate.spiffe_id,
                RevokedSubject::LeafSpki(spki) => spki == certificate.leaf_spki,
                RevokedSubject::IssuerSpki(spki) => certificate.issuer_spkis.contains(spki),
                RevokedSubject::EnrolmentId(id) => certificate.enrolment_id == Some(id.as_str()),
            };
            subject
                && entry
                    .issued_before
                    .is_none_or(|limit| certificate.issued_s < limit)
        })
    }
}

impl Verified<Revocations> {
    /// Whose stream this is: the lowest key id among its signers. An issuer's has just one; the
    /// trust role's may have more.
    pub fn stream_key(&self) -> KeyId {
        *self
            .signers()
            .first()
            .expect("a verified statement has a signer, thresholds are at least 1")
    }
}

impl Statement for Revocations {
    const TYPE: PayloadType = PayloadType::Revocations;

    fn body(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    fn from_body(_scope: &Scope, body: &[u8]) -> Result<Self, Rejection> {
        canonical::decode("revocations", body)
    }
}

impl Wire for Revocations {
    type Message = wire::Revocations;

    fn to_message(&self) -> wire::Revocations {
        wire::Revocations {
            version: self.version,
            issued_ms: self.issued_ms,
            entries: set_by_bytes(&self.entries),
        }
    }

    fn from_message(message: wire::Revocations) -> Result<Self, NonCanonical> {
        ascending_by_bytes(
            "revocations.entries",
            &message.entries,
            limits::REVOCATIONS_MAX,
        )?;
        Ok(Self {
            version: version("revocations.version", message.version)?,
            issued_ms: message.issued_ms,
            entries: each(message.entries)?,
        })
    }
}

impl Wire for Revocation {
    type Message = wire::Revocation;

    fn to_message(&self) -> wire::Revocation {
        use wire::revocation::Subject;
        wire::Revocation {
            subject: Some(match &self.subject {
                RevokedSubject::SpiffeId(id) => Subject::SpiffeId(id.to_string()),
                RevokedSubject::LeafSpki(spki) => Subject::LeafSpki(spki.as_bytes().to_vec()),
                RevokedSubject::IssuerSpki(spki) => Subject::IssuerSpki(spki.as_bytes().to_vec()),
                RevokedSubject::EnrolmentId(id) => Subject::EnrolmentId(id.clone()),
            }),
            issued_before: self.issued_before.unwrap_or_default(),
        }
    }

    fn from_message(message: wire::Revocation) -> Result<Self, NonCanonical> {
        use wire::revocation::Subject;
        Ok(Self {
            subject: match required("revocation.subject", message.subject)? {
                Subject::SpiffeId(id) => {
                    RevokedSubject::SpiffeId(canonical::spiffe_id("revocation.spiffe_id", &id)?)
                }
                Subject::LeafSpki(spki) => {
                    RevokedSubject::LeafSpki(digest("revocation.leaf_spki", &spki)?)
                }
                Subject::IssuerSpki(spki) => {
                    RevokedSubject::IssuerSpki(digest("revocation.issuer_spki", &spki)?)
                }
                Subject::EnrolmentId(id) => RevokedSubject::EnrolmentId(text(
                    "revocation.enrolment_id",
                    id,
                    limits::NAME_BYTES_MAX,
                )?),
            },
            issued_before: (message.issued_before != 0).then_some(message.issued_before),
        })
    }
}
