//! All that a proxy believes, and why it stops believing. A pure state machine: the store feeds it
//! what was kept, the stream what arrives, both in the same words; time is an argument.
//!
//! An offer is judged completely before anything changes: a refusal leaves everything as it was.
//!
//! - Trust roots: a chain from the pin, each version signed by the one before and by itself.
//! - Heads: the newest of each head key, by its own counter. A head is fresh from five minutes before
//!   it was issued to five minutes after it expires; once taken, its age runs on the boot clock. One
//!   that was issued more than five minutes ahead is refused. Without a fresh head nothing advances.
//! - Generations: of the root's scope, ref, epoch and minimum, at or above the floor; the same order
//!   with another root or commit is equivocation. What is served is the highest that fresh heads
//!   authorise, minus what they aborted; naming a lower one changes nothing, only an abort steps
//!   down, and only from a generation that was not confirmed. What is at hand is not kept waiting
//!   for what is not. Of those at hand only what the root in force vouches for is flipped to.
//! - Trust bundles by domain and revocations by signing key, each with its own rising version. A
//!   bundle whose key was dropped holds on until a head names another: its version no longer counts.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::canonical;
use crate::cohort;
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::generation::Generation;
use crate::head::{GenerationRef, Head};
use crate::key::KeyId;
use crate::limits::{CLOCK_SKEW_MS, HELD_GENERATIONS_MAX, REVOCATIONS_AGE_MS_MAX};
use crate::merkle::{self, AbsenceProof, InclusionProof};
use crate::order::Order;
use crate::reject::{RejectReason, Rejection};
use crate::revocations::{CertificateFacts, Revocation, Revocations};
use crate::scope::Scope;
use crate::slice::Slice;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::statement::Verified;
use crate::trust_bundle::TrustBundle;
use crate::trust_root::{IdentitySource, Release, RoleKind, TrustRoot};

/// What the clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Unix milliseconds of the wall clock.
    pub unix_ms: u64,
    /// Milliseconds of a clock that never steps and runs through suspension (`CLOCK_BOOTTIME`).
    pub boot_ms: u64,
}

/// The one anchor: what a join file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Mesh, environment, trust domain.
    pub scope: Scope,
    /// Digest of the trust root to begin with.
    pub trust_root: Digest,
}

/// Who believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its identity.
    pub identity: SpiffeId,
    /// Unique among the instances of this identity.
    pub instance: String,
    /// Features it has, usually [`crate::feature::SUPPORTED`].
    pub features: Vec<&'static str>,
    /// Its release.
    pub release: Release,
}

/// Whether an offer that was believed changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is believed now.
    Applied,
    /// It already was.
    Unchanged,
}

/// A head that was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOffer {
    /// Whether it is new.
    pub change: Change,
    /// Whether it may advance anything.
    pub fresh: bool,
    /// The distributor holds a newer trust root than this, which should be fetched.
    pub newer_trust_root: Option<u64>,
}

/// This workload's part of an offered generation.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Its slice.
    Slice {
        /// Decompressed bytes.
        bytes: &'a [u8],
        /// That they belong to the generation.
        proof: &'a InclusionProof,
    },
    /// It has none: deny everything, then drain.
    Absent(&'a AbsenceProof),
}

/// A believed part of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptedPart {
    /// The slice, decoded.
    Slice {
        /// Content.
        slice: Box<Slice>,
        /// SHA-256 of its bytes.
        digest: Digest,
    },
    /// Proven absence.
    Absent,
}

/// A generation that may be prepared and, when [`Acceptance::target`] names it, served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub reference: GenerationRef,
    /// The generation.
    pub generation: Generation,
    /// This workload's part.
    pub part: AcceptedPart,
    /// Its Merkle root is that of the generation being served: the order rises, nothing flips.
    pub same_root: bool,
}

/// Something that a proxy which was never ready still needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A fresh head.
    Head,
    /// The trust bundle of this domain, in the version that a head names or a later one.
    TrustBundle(TrustDomain),
    /// The revocation stream of this key, in the version that a head names or a later one, no older
    /// than a day.
    Revocations(KeyId),
}

/// A generation was named that was never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generation {} is not held", .0.order)]
pub struct NotHeld(pub GenerationRef);

/// All that a proxy believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    workload: Workload,
    /// The root in force.
    root: Verified<TrustRoot>,
    /// Roots before it, from the pinned one, ascending.
    earlier_roots: Vec<Verified<TrustRoot>>,
    floor: Option<Order>,
    held: BTreeMap<GenerationRef, Held>,
    serving: Option<GenerationRef>,
    confirmed: Option<GenerationRef>,
    heads: BTreeMap<KeyId, HeldHead>,
    trust_bundles: BTreeMap<TrustDomain, Verified<TrustBundle>>,
    revocations: BTreeMap<KeyId, Verified<Revocations>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    envelope: Envelope,
    generation: Generation,
    /// Whether the root in force takes it.
    vouched: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct HeldHead {
    head: Verified<Head>,
    /// Fresh until then, on the boot clock; none: it was stale when it came.
    fresh_until_boot_ms: Option<u64>,
}

impl HeldHead {
    fn is_fresh(&self, now: Now) -> bool {
        self.fresh_until_boot_ms
            .is_some_and(|until| now.boot_ms <= until)
    }
}

impl Acceptance {
    /// Begins with the pinned trust root and the floor of the join file or the store.
    pub fn pinned(
        pin: &Pin,
        workload: Workload,
        floor: Option<Order>,
        trust_root: &Envelope,
    ) -> Result<Self, Rejection> {
        let root = TrustRoot::verify_pinned(trust_root, &pin.trust_root)?;
        pin.scope.expect(&root.scope)?;
        if workload.identity.trust_domain() != root.scope.trust_domain.as_str() {
            return Err(Rejection::new(
                RejectReason::WrongTrustDomain,
                format!(
                    "{} is not of {}",
                    workload.identity, root.scope.trust_domain
                ),
            ));
        }
        Ok(Self {
            workload,
            root,
            earlier_roots: Vec::new(),
            floor,
            held: BTreeMap::new(),
            serving: None,
            confirmed: None,
            heads: BTreeMap::new(),
            trust_bundles: BTreeMap::new(),
            revocations: BTreeMap::new(),
        })
    }

    /// The trust root in force.
    pub fn trust_root(&self) -> &Verified<TrustRoot> {
        &self.root
    }

    /// A trust root of the chain since the pin.
    pub fn trust_root_version(&self, version: u64) -> Option<&Verified<TrustRoot>> {
        self.trust_roots().find(|root| root.version == version)
    }

    /// The chain of trust roots, from the pinned one to the one in force.
    pub fn trust_roots(&self) -> impl Iterator<Item = &Verified<TrustRoot>> {
        self.earlier_roots.iter().chain(std::iter::once(&self.root))
    }

    /// Nothing below this is ever served.
    pub fn floor(&self) -> Option<Order> {
        self.floor
    }

    /// What is being served, as told by [`Self::set_serving`].
    pub fn serving(&self) -> Option<GenerationRef> {
        self.serving
    }

    /// The highest generation that was confirmed.
    pub fn confirmed(&self) -> Option<GenerationRef> {
        self.confirmed
    }

    /// A generation that was accepted and is remembered.
    pub fn generation(&self, reference: &GenerationRef) -> Option<&Generation> {
        self.held.get(reference).map(|held| &held.generation)
    }

    /// The newest head of each head key.
    pub fn heads(&self) -> impl Iterator<Item = &Verified<Head>> {
        self.heads.values().map(|held| &held.head)
    }

    /// The highest counter among the heads, 0 without any; what hello says.
    pub fn head_issued_ms(&self) -> u64 {
        self.heads()
            .map(|head| head.issued_ms)
            .max()
            .unwrap_or_default()
    }

    /// The trust bundles, one per trust domain.
    pub fn trust_bundles(&self) -> impl Iterator<Item = &Verified<TrustBundle>> {
        self.trust_bundles.values()
    }

    /// The trust bundle of a domain.
    pub fn trust_bundle(&self, domain: &TrustDomain) -> Option<&Verified<TrustBundle>> {
        self.trust_bundles.get(domain)
    }

    /// The revocation streams, one per signing key.
    pub fn revocations(&self) -> impl Iterator<Item = &Verified<Revocations>> {
        self.revocations.values()
    }

    /// The entry of any stream that revokes this certificate.
    pub fn revoked(&self, certificate: CertificateFacts<'_>) -> Option<&Revocation> {
        self.revocations()
            .find_map(|stream| stream.value().revokes(certificate))
    }

    /// Offers a trust root: one already in the chain changes nothing, the next version is applied.
    ///
    /// Applying one never stops serving. Heads and revocation streams of keys that it dropped are
    /// forgotten, and trust bundles of domains that it no longer federates with.
    pub fn offer_trust_root(&mut self, envelope: &Envelope) -> Result<Change, Rejection> {
        let digest = envelope.payload_digest();
        if self.trust_roots().any(|known| known.digest() == digest) {
            return Ok(Change::Unchanged);
        }
        let next = self.root.verify_next(envelope)?;
        let previous = std::mem::replace(&mut self.root, next);
        self.earlier_roots.push(previous);
        let root = &self.root;
        self.heads
            .retain(|key, _| root.roles_of(*key).contains(&&RoleKind::Head));
        self.revocations
            .retain(|key, _| signs_revocations(root, *key));
        self.trust_bundles.retain(|domain, _| {
            *domain == root.scope.trust_domain
                || root
                    .roles
                    .contains_key(&RoleKind::Federation(domain.clone()))
        });
        for held in self.held.values_mut() {
            held.vouched = root.verify_generation(&held.envelope).is_ok();
        }
        Ok(Change::Applied)
    }

    /// Offers a head.
    pub fn offer_head(&mut self, envelope: &Envelope, now: Now) -> Result<HeadOffer, Rejection> {
        let head = self.root.verify_head(envelope)?;
        if head.issued_ms > now.unix_ms.saturating_add(CLOCK_SKEW_MS) {
            return Err(Rejection::new(
                RejectReason::ClockSkew,
                format!(
                    "head was issued {} ms ahead of this clock",
                    head.issued_ms - now.unix_ms
                ),
            ));
        }
        let newer_trust_root =
            (head.trust_root_version > self.root.version).then_some(head.trust_root_version);
        if let Some(held) = self.heads.get(&head.key()) {
            let last = held.head.issued_ms;
            if head.digest() == held.head.digest() {
                return Ok(HeadOffer {
                    change: Change::Unchanged,
                    fresh: held.is_fresh(now),
                    newer_trust_root,
                });
            }
            if head.issued_ms < last {
                return Err(Rejection::new(
                    RejectReason::OrderTooLow,
                    format!("head {}, already at {last}", head.issued_ms),
                ));
            }
            if head.issued_ms == last {
                return Err(Rejection::new(
                    RejectReason::Equivocation,
                    format!("another head {last} of the same key"),
                ));
            }
        }
        let held = HeldHead {
            fresh_until_boot_ms: head
                .expires_ms
                .saturating_add(CLOCK_SKEW_MS)
                .checked_sub(now.unix_ms)
                .map(|left| now.boot_ms.saturating_add(left)),
            head,
        };
        let offer = HeadOffer {
            change: Change::Applied,
            fresh: held.is_fresh(now),
            newer_trust_root,
        };
        self.heads.insert(held.head.key(), held);
        Ok(offer)
    }

    /// Judges a generation without this workload's part: signatures, scope, ref, epoch, minimums,
    /// floor, equivocation.
    pub fn judge_generation(&self, envelope: &Envelope) -> Result<Verified<Generation>, Rejection> {
        let generation = self.root.verify_generation(envelope)?;
        if self
            .root
            .min_proxy
            .is_some_and(|min| self.workload.release < min)
        {
            return Err(Rejection::new(
                RejectReason::UnknownFeature,
                format!(
                    "release {} is below the trust root's minimum",
                    self.workload.release
                ),
            ));
        }
        self.judge_order(&generation)?;
        Ok(generation)
    }

    /// Judges where a slice stands, before its bytes are fetched or decompressed: the proof says
    /// how long they are and what they hash to.
    pub fn judge_proof(
        &self,
        generation: &Generation,
        proof: &InclusionProof,
    ) -> Result<(), Rejection> {
        merkle::verify_inclusion(
            &generation.root,
            generation.leaf_count,
            &self.workload.identity,
            proof,
        )
    }

    /// Offers a generation and this workload's part of it. Accepting one does not serve it:
    /// [`Self::target`] says what should be.
    pub fn offer_generation(
        &mut self,
        envelope: &Envelope,
        part: Part<'_>,
        now: Now,
    ) -> Result<Accepted, Rejection> {
        let generation = self.judge_generation(envelope)?;
        let reference = name(&generation);
        if matches!(part, Part::Absent(_)) && !self.is_chosen(&reference, now) {
            return Err(Rejection::new(
                RejectReason::BadProof,
                "absence counts only under a fresh head that names the generation",
            ));
        }
        self.accept(envelope, generation, part)
    }

    /// Takes a generation from the store, verified under the root it was accepted with. It may be
    /// one that the root in force would refuse: then it is served on, and never confirmed.
    pub fn restore_generation(
        &mut self,
        envelope: &Envelope,
        root_version: u64,
        part: Part<'_>,
    ) -> Result<Accepted, Rejection> {
        let root = self.trust_root_version(root_version).ok_or_else(|| {
            Rejection::new(
                RejectReason::UnknownSigner,
                format!("trust root version {root_version} is not in the chain"),
            )
        })?;
        let generation = root.verify_generation(envelope)?;
        self.judge_order(&generation)?;
        self.accept(envelope, generation, part)
    }

    /// Whether the root in force still vouches for a held generation.
    pub fn vouched(&self, reference: &GenerationRef) -> Result<(), Rejection> {
        let held = self.held.get(reference).ok_or_else(|| {
            Rejection::new(RejectReason::UnknownSigner, NotHeld(*reference).to_string())
        })?;
        self.root.verify_generation(&held.envelope).map(drop)
    }

    /// Notes that a held generation is now the one being served.
    pub fn set_serving(&mut self, reference: GenerationRef) -> Result<(), NotHeld> {
        if !self.held.contains_key(&reference) {
            return Err(NotHeld(reference));
        }
        self.serving = Some(reference);
        Ok(())
    }

    /// Confirms the generation being served: the floor rises to it. Refused if the root in force no
    /// longer vouches for it, if it is not the one being served, or if the newest head of any key
    /// aborted it, fresh or not: what is confirmed can't be stepped down from.
    pub fn confirm(&mut self, reference: GenerationRef) -> Result<Order, Rejection> {
        if self.serving != Some(reference) {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!("generation {} is not being served", reference.order),
            ));
        }
        self.vouched(&reference)?;
        let aborted = self
            .heads()
            .any(|head| head.aborted.contains(&reference.digest));
        if aborted && self.confirmed != Some(reference) {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!("generation {} was aborted", reference.order),
            ));
        }
        self.restore_confirmed(reference);
        Ok(reference.order)
    }

    /// Notes from the store that a generation was confirmed before a restart.
    pub fn restore_confirmed(&mut self, reference: GenerationRef) {
        self.confirmed = Some(reference);
        self.floor = self.floor.max(Some(reference.order));
        let floor = self.floor;
        self.held
            .retain(|held, _| Some(held.order) >= floor || Some(*held) == self.serving);
    }

    /// Whether no head is fresh: what is served is kept, and nothing advances.
    pub fn is_stale(&self, now: Now) -> bool {
        self.fresh_heads(now).next().is_none()
    }

    /// What should be served now: what is being served, unless fresh heads authorise a higher
    /// generation or aborted this one before it was confirmed.
    ///
    /// It is one that is held, if there is one: a head can name what nobody has, and only what is
    /// held is known to be signed. One that is not held is named only to be fetched.
    pub fn target(&self, now: Now) -> Option<GenerationRef> {
        let aborted = |serving: &GenerationRef| self.is_aborted(serving, now);
        let above = self.serving.filter(|serving| !aborted(serving));
        let allowed = || {
            self.named(now)
                .filter(|reference| self.is_allowed(reference, now))
                .filter(|reference| above.is_none_or(|above| reference.order > above.order))
        };
        let held = |reference: &GenerationRef| self.held.contains_key(reference);
        let step_down = match self.serving {
            Some(serving) if aborted(&serving) => self.confirmed.filter(held),
            _ => None,
        };
        let at_hand = allowed().filter(held).max();
        let to_fetch = || allowed().filter(|reference| !held(reference)).max();
        at_hand.or(step_down).or_else(to_fetch).or(self.serving)
    }

    /// What should be made ready and not served yet.
    pub fn prepare(&self, now: Now) -> Option<GenerationRef> {
        self.fresh_heads(now)
            .filter_map(|head| head.candidate)
            .filter(|candidate| candidate.prepare_only)
            .map(|candidate| candidate.generation)
            .filter(|reference| self.is_allowed(reference, now))
            .max()
    }

    /// Offers a trust bundle.
    ///
    /// The version of one whose key a later root dropped does not count: who stole the key may have
    /// stated the highest there is. A lower one still needs a head that names it, so that a bundle
    /// somebody kept does not bring an old authority back.
    pub fn offer_trust_bundle(&mut self, envelope: &Envelope) -> Result<Change, Rejection> {
        let bundle = self.root.verify_trust_bundle(envelope)?;
        let held = self.trust_bundles.get(&bundle.trust_domain);
        let replaceable = held.is_some_and(|held| !self.root.vouches_for(held))
            && (held.is_some_and(|held| held.digest() == bundle.digest())
                || self.is_named_bundle(&bundle));
        let held = held
            .filter(|_| !replaceable)
            .map(|held| (held.version, held.digest()));
        let what = format!("trust bundle of {}", bundle.trust_domain);
        let change = rise(&what, held, (bundle.version, bundle.digest()))?;
        if change == Change::Applied {
            self.trust_bundles
                .insert(bundle.trust_domain.clone(), bundle);
        }
        Ok(change)
    }

    /// Offers the state of a revocation stream.
    pub fn offer_revocations(&mut self, envelope: &Envelope) -> Result<Change, Rejection> {
        let stream = self.root.verify_revocations(envelope)?;
        let key = stream.stream_key();
        let held = self.revocations.get(&key);
        let held = held.map(|held| (held.version, held.digest()));
        let what = format!("revocations of {key}");
        let change = rise(&what, held, (stream.version, stream.digest()))?;
        if change == Change::Applied {
            self.revocations.insert(key, stream);
        }
        Ok(change)
    }

    /// What a proxy that was never ready still needs before it is. Streams that no key of the root
    /// may sign don't count, so a head can't hold readiness up with one that can't exist.
    pub fn missing(&self, now: Now) -> Vec<Missing> {
        if self.is_stale(now) {
            return vec![Missing::Head];
        }
        let mut missing = BTreeSet::new();
        let own = &self.root.scope.trust_domain;
        // With the Workload API the own bundle comes from there.
        let issued_here = self.root.identity_source == IdentitySource::Issuer;
        if issued_here && !self.trust_bundles.contains_key(own) {
            missing.insert(Missing::TrustBundle(own.clone()));
        }
        for head in self.fresh_heads(now) {
            for named in &head.trust_bundles {
                let federated = named.trust_domain == *own
                    || self
                        .root
                        .roles
                        .contains_key(&RoleKind::Federation(named.trust_domain.clone()));
                let held = self.trust_bundles.get(&named.trust_domain);
                let current = held.is_some_and(|held| {
                    held.digest() == named.digest
                        || (held.version >= named.version && self.root.vouches_for(held))
                });
                if federated && !current {
                    missing.insert(Missing::TrustBundle(named.trust_domain.clone()));
                }
            }
            for named in &head.revocations {
                let held = self.revocations.get(&named.key_id);
                let current = held.is_some_and(|held| {
                    held.version >= named.version
                        && held.issued_ms.saturating_add(REVOCATIONS_AGE_MS_MAX) >= now.unix_ms
                });
                if signs_revocations(&self.root, named.key_id) && !current {
                    missing.insert(Missing::Revocations(named.key_id));
                }
            }
        }
        missing.into_iter().collect()
    }

    fn fresh_heads(&self, now: Now) -> impl Iterator<Item = &Head> {
        self.heads
            .values()
            .filter(move |held| held.is_fresh(now))
            .map(|held| held.head.value())
    }

    /// What fresh heads name for this workload to serve.
    fn named(&self, now: Now) -> impl Iterator<Item = GenerationRef> {
        self.fresh_heads(now).flat_map(|head| {
            let candidate = head
                .candidate
                .filter(|candidate| {
                    !candidate.prepare_only
                        && cohort::includes(
                            candidate.share,
                            &candidate.generation.digest,
                            &self.workload.identity,
                            &self.workload.instance,
                        )
                })
                .map(|candidate| candidate.generation);
            [Some(head.current), candidate].into_iter().flatten()
        })
    }

    /// Whether a fresh head speaks of it, for whatever cohort and also to prepare it only.
    fn is_chosen(&self, reference: &GenerationRef, now: Now) -> bool {
        self.fresh_heads(now).any(|head| {
            let candidate = head.candidate.map(|candidate| candidate.generation);
            head.current == *reference || candidate == Some(*reference)
        })
    }

    fn is_named_bundle(&self, bundle: &Verified<TrustBundle>) -> bool {
        self.heads()
            .flat_map(|head| &head.trust_bundles)
            .any(|named| {
                named.trust_domain == bundle.trust_domain && named.digest == bundle.digest()
            })
    }

    fn is_allowed(&self, reference: &GenerationRef, now: Now) -> bool {
        reference.order.epoch == self.root.epoch
            && reference.order.emit >= self.root.min_emit
            && self.floor.is_none_or(|floor| reference.order >= floor)
            && self.held.get(reference).is_none_or(|held| held.vouched)
            && !self.is_aborted(reference, now)
    }

    /// An abort does not reach a generation that was confirmed.
    fn is_aborted(&self, reference: &GenerationRef, now: Now) -> bool {
        self.confirmed != Some(*reference)
            && self
                .fresh_heads(now)
                .any(|head| head.aborted.contains(&reference.digest))
    }

    fn judge_order(&self, generation: &Generation) -> Result<(), Rejection> {
        if let Some(floor) = self.floor.filter(|floor| generation.order < *floor) {
            return Err(Rejection::new(
                RejectReason::OrderTooLow,
                format!("generation {}, the floor is {floor}", generation.order),
            ));
        }
        let twin = self.held.values().find(|held| {
            held.generation.order == generation.order
                && (held.generation.root != generation.root
                    || held.generation.commit != generation.commit)
        });
        if let Some(twin) = twin {
            return Err(Rejection::new(
                RejectReason::Equivocation,
                format!(
                    "generation {} of commit {} with root {}, already known as commit {} with root {}",
                    generation.order,
                    generation.commit,
                    generation.root,
                    twin.generation.commit,
                    twin.generation.root
                ),
            ));
        }
        Ok(())
    }

    fn accept(
        &mut self,
        envelope: &Envelope,
        generation: Verified<Generation>,
        part: Part<'_>,
    ) -> Result<Accepted, Rejection> {
        let reference = name(&generation);
        let part = match part {
            Part::Slice { bytes, proof } => self.judge_slice(&generation, bytes, proof)?,
            Part::Absent(proof) => {
                merkle::verify_absence(
                    &generation.root,
                    generation.leaf_count,
                    &self.workload.identity,
                    proof,
                )?;
                AcceptedPart::Absent
            }
        };
        let same_root = self
            .serving
            .and_then(|serving| self.generation(&serving))
            .is_some_and(|serving| serving.root == generation.root);
        let generation = generation.into_value();
        let held = Held {
            envelope: envelope.clone(),
            generation: generation.clone(),
            vouched: self.root.verify_generation(envelope).is_ok(),
        };
        self.hold(reference, held);
        Ok(Accepted {
            reference,
            generation,
            part,
            same_root,
        })
    }

    fn judge_slice(
        &self,
        generation: &Generation,
        bytes: &[u8],
        proof: &InclusionProof,
    ) -> Result<AcceptedPart, Rejection> {
        if let Err(refusal) = self.judge_proof(generation, proof) {
            return Err(someone_elses(generation, bytes, proof).unwrap_or(refusal));
        }
        let size = usize::try_from(proof.size).unwrap_or(usize::MAX);
        let lengths = || format!("slice of {} bytes, signed as {size}", bytes.len());
        if bytes.len() < size {
            return Err(Rejection::new(RejectReason::Truncated, lengths()));
        }
        if bytes.len() > size {
            return Err(Rejection::new(RejectReason::TooLarge, lengths()));
        }
        if Digest::of(bytes) != proof.digest {
            return Err(Rejection::new(
                RejectReason::BadProof,
                "the slice does not have the digest that was signed",
            ));
        }
        let slice = Slice::decode_with(bytes, &self.workload.features)?;
        if slice.identity != self.workload.identity {
            return Err(wrong_workload(&slice.identity));
        }
        Ok(AcceptedPart::Slice {
            slice: Box::new(slice),
            digest: proof.digest,
        })
    }

    fn hold(&mut self, reference: GenerationRef, held: Held) {
        // An envelope that was signed again is not given up for the one in the store.
        let known = self.held.get(&reference);
        if held.vouched || known.is_none_or(|known| !known.vouched) {
            self.held.insert(reference, held);
        }
        while self.held.len() > HELD_GENERATIONS_MAX {
            let kept = [Some(reference), self.serving, self.confirmed];
            let lowest = self.held.keys().find(|held| !kept.contains(&Some(**held)));
            let Some(lowest) = lowest.copied() else {
                return;
            };
            self.held.remove(&lowest);
        }
    }
}

fn name(generation: &Verified<Generation>) -> GenerationRef {
    GenerationRef {
        order: generation.order,
        digest: generation.digest(),
    }
}

fn signs_revocations(root: &TrustRoot, key: KeyId) -> bool {
    root.roles_of(key)
        .iter()
        .any(|kind| matches!(kind, RoleKind::Trust | RoleKind::Issuer))
}

/// Versions rise; the same version says the same.
fn rise(
    what: &str,
    held: Option<(u64, Digest)>,
    offered: (u64, Digest),
) -> Result<Change, Rejection> {
    let Some(held) = held else {
        return Ok(Change::Applied);
    };
    if offered == held {
        return Ok(Change::Unchanged);
    }
    if offered.0 < held.0 {
        return Err(Rejection::new(
            RejectReason::OrderTooLow,
            format!("{what}: version {}, already at {}", offered.0, held.0),
        ));
    }
    if offered.0 == held.0 {
        return Err(Rejection::new(
            RejectReason::Equivocation,
            format!("{what}: another version {}", held.0),
        ));
    }
    Ok(Change::Applied)
}

/// A proof that fails may be sound for the identity that the slice names: then it is another
/// workload's, not a broken one.
fn someone_elses(
    generation: &Generation,
    bytes: &[u8],
    proof: &InclusionProof,
) -> Option<Rejection> {
    #[derive(Clone, PartialEq, Message)]
    struct Owner {
        #[prost(string, tag = "3")]
        identity: String,
    }
    if Digest::of(bytes) != proof.digest {
        return None;
    }
    let owner: Owner = canonical::decode_message("slice", bytes).ok()?;
    let owner = SpiffeId::parse(&owner.identity).ok()?;
    merkle::verify_inclusion(&generation.root, generation.leaf_count, &owner, proof).ok()?;
    Some(wrong_workload(&owner))
}

fn wrong_workload(owner: &SpiffeId) -> Rejection {
    Rejection::new(
        RejectReason::WrongWorkload,
        format!("the slice belongs to {owner}"),
    )
}

#[cfg(test)]
mod tests;
