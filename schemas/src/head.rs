//! A head: one distributor's short-lived choice of the current generation, the same for all proxies.

use std::time::Duration;

use crate::canonical::{self, NonCanonical, Wire, ascending, each, invalid, required, within};
use crate::digest::Digest;
use crate::envelope::{Envelope, PayloadType};
use crate::generation::digest;
use crate::key::{KeyId, SigningKey};
use crate::limits;
use crate::messages::bundle as wire;
use crate::order::Order;
use crate::reject::Rejection;
use crate::scope::Scope;
use crate::spiffe::TrustDomain;
use crate::statement::{self, Statement, Verified};

/// Names a generation: what it is, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationRef {
    /// Its order.
    pub order: Order,
    /// SHA-256 of its statement's payload.
    pub digest: Digest,
}

/// A distributor's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Version of the trust root that the distributor holds.
    pub trust_root_version: u64,
    /// Unix milliseconds, and the counter of its head key: see [`Head::next_issued`].
    pub issued_ms: u64,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// The generation that proxies should serve.
    pub current: GenerationRef,
    /// A generation that some of them should try.
    pub candidate: Option<Candidate>,
    /// Generations that no proxy may serve unless it has confirmed them.
    pub aborted: Vec<Digest>,
    /// The newest trust bundle of each domain.
    pub trust_bundles: Vec<TrustBundleRef>,
    /// The newest of each revocation stream.
    pub revocations: Vec<RevocationsRef>,
}

/// A generation on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub generation: GenerationRef,
    /// How many proxies, of 10,000; see [`crate::cohort`].
    pub share: u32,
    /// Make it ready and do not serve it.
    pub prepare_only: bool,
}

/// Names a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundleRef {
    /// Whose authorities.
    pub trust_domain: TrustDomain,
    /// Version.
    pub version: u64,
    /// SHA-256 of its statement's payload.
    pub digest: Digest,
}

/// Names the state of a revocation stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsRef {
    /// The stream's signing key.
    pub key_id: KeyId,
    /// Version.
    pub version: u64,
    /// SHA-256 of its statement's payload.
    pub digest: Digest,
}

impl Head {
    /// States this head, signed by one head key.
    pub fn seal(&self, scope: &Scope, keys: &[&SigningKey]) -> Envelope {
        statement::seal(self, scope, keys)
    }

    /// The `issued_ms` to use after `last`, by this clock: it always rises, also when the clock
    /// steps back.
    pub fn next_issued(last: u64, now_ms: u64) -> u64 {
        last.saturating_add(1).max(now_ms)
    }

    /// Time from issue to expiry.
    pub fn life(&self) -> Duration {
        Duration::from_millis(self.expires_ms.saturating_sub(self.issued_ms))
    }
}

impl Verified<Head> {
    /// Whose head this is; its counter is kept per key.
    pub fn key(&self) -> KeyId {
        *self
            .signers()
            .first()
            .expect("a verified statement has a signer, thresholds are at least 1")
    }
}

impl Statement for Head {
    const TYPE: PayloadType = PayloadType::Head;

    fn body(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    fn from_body(_scope: &Scope, body: &[u8]) -> Result<Self, Rejection> {
        canonical::decode("head", body)
    }
}

impl Wire for Head {
    type Message = wire::Head;

    fn to_message(&self) -> wire::Head {
        let mut trust_bundles: Vec<_> = self.trust_bundles.iter().map(Wire::to_message).collect();
        trust_bundles.sort_by(|a: &wire::TrustBundleRef, b| a.trust_domain.cmp(&b.trust_domain));
        let mut revocations: Vec<_> = self.revocations.iter().map(Wire::to_message).collect();
        revocations.sort_by(|a: &wire::RevocationsRef, b| a.key_id.cmp(&b.key_id));
        wire::Head {
            trust_root_version: self.trust_root_version,
            issued_ms: self.issued_ms,
            expires_ms: self.expires_ms,
            current: Some(self.current.to_message()),
            candidate: self.candidate.as_ref().map(Wire::to_message),
            aborted: canonical::set(&self.aborted)
                .iter()
                .map(|digest| digest.as_bytes().to_vec())
                .collect(),
            trust_bundles,
            revocations,
        }
    }

    fn from_message(message: wire::Head) -> Result<Self, NonCanonical> {
        ascending(
            "head.aborted",
            &message.aborted,
            limits::ABORTED_MAX,
            |a, b| a < b,
        )?;
        ascending(
            "head.trust_bundles",
            &message.trust_bundles,
            limits::TRUST_DATA_REFS_MAX,
            |a, b| a.trust_domain < b.trust_domain,
        )?;
        ascending(
            "head.revocations",
            &message.revocations,
            limits::TRUST_DATA_REFS_MAX,
            |a, b| a.key_id < b.key_id,
        )?;
        if message.expires_ms <= message.issued_ms {
            return Err(invalid("head.expires_ms", "not after it was issued"));
        }
        within(
            "head.expires_ms",
            message.expires_ms,
            message.issued_ms,
            message.issued_ms.saturating_add(limits::HEAD_LIFE_MS_MAX),
        )?;
        Ok(Self {
            trust_root_version: version("head.trust_root_version", message.trust_root_version)?,
            issued_ms: message.issued_ms,
            expires_ms: message.expires_ms,
            current: GenerationRef::from_message(required("head.current", message.current)?)?,
            candidate: message.candidate.map(Candidate::from_message).transpose()?,
            aborted: message
                .aborted
                .iter()
                .map(|bytes| digest("head.aborted", bytes))
                .collect::<Result<_, _>>()?,
            trust_bundles: each(message.trust_bundles)?,
            revocations: each(message.revocations)?,
        })
    }
}

impl Wire for GenerationRef {
    type Message = wire::GenerationRef;

    fn to_message(&self) -> wire::GenerationRef {
        wire::GenerationRef {
            digest: self.digest.as_bytes().to_vec(),
            order: Some(self.order.to_message()),
        }
    }

    fn from_message(message: wire::GenerationRef) -> Result<Self, NonCanonical> {
        Ok(Self {
            order: Order::from_message(required("generation_ref.order", message.order)?)?,
            digest: digest("generation_ref.digest", &message.digest)?,
        })
    }
}

impl From<GenerationRef> for wire::GenerationRef {
    fn from(reference: GenerationRef) -> Self {
        reference.to_message()
    }
}

impl TryFrom<wire::GenerationRef> for GenerationRef {
    type Error = Rejection;

    fn try_from(message: wire::GenerationRef) -> Result<Self, Rejection> {
        Ok(Self::from_message(message)?)
    }
}

impl Wire for Candidate {
    type Message = wire::Candidate;

    fn to_message(&self) -> wire::Candidate {
        wire::Candidate {
            generation: Some(self.generation.to_message()),
            share: self.share,
            prepare_only: self.prepare_only,
        }
    }

    fn from_message(message: wire::Candidate) -> Result<Self, NonCanonical> {
        Ok(Self {
            generation: GenerationRef::from_message(required(
                "candidate.generation",
                message.generation,
            )?)?,
            share: within("candidate.share", message.share, 0, crate::cohort::WHOLE)?,
            prepare_only: message.prepare_only,
        })
    }
}

impl Wire for TrustBundleRef {
    type Message = wire::TrustBundleRef;

    fn to_message(&self) -> wire::TrustBundleRef {
        wire::TrustBundleRef {
            trust_domain: self.trust_domain.as_str().to_owned(),
            version: self.version,
            digest: self.digest.as_bytes().to_vec(),
        }
    }

    fn from_message(message: wire::TrustBundleRef) -> Result<Self, NonCanonical> {
        Ok(Self {
            trust_domain: canonical::trust_domain(
                "trust_bundle_ref.trust_domain",
                &message.trust_domain,
            )?,
            version: version("trust_bundle_ref.version", message.version)?,
            digest: digest("trust_bundle_ref.digest", &message.digest)?,
        })
    }
}

impl Wire for RevocationsRef {
    type Message = wire::RevocationsRef;

    fn to_message(&self) -> wire::RevocationsRef {
        wire::RevocationsRef {
            key_id: self.key_id.as_bytes().to_vec(),
            version: self.version,
            digest: self.digest.as_bytes().to_vec(),
        }
    }

    fn from_message(message: wire::RevocationsRef) -> Result<Self, NonCanonical> {
        Ok(Self {
            key_id: KeyId::from_digest(digest("revocations_ref.key_id", &message.key_id)?),
            version: version("revocations_ref.version", message.version)?,
            digest: digest("revocations_ref.digest", &message.digest)?,
        })
    }
}

/// Versions begin at 1.
pub(crate) fn version(field: &'static str, version: u64) -> Result<u64, NonCanonical> {
    within(field, version, 1, u64::MAX)
}
