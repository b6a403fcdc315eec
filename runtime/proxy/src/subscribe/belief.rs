//! What this proxy believes, and the same on disk: every change goes through here, so that memory and
//! store say the same. Judging is [`Acceptance`]'s; this keeps the exact envelopes that it judged.

use std::collections::BTreeMap;

use mesh_bundle::acceptance::{Acceptance, Accepted, Change, HeadOffer, Now, Part, Pin, Workload};
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::head::GenerationRef;
use mesh_bundle::merkle::{AbsenceProof, InclusionProof};
use mesh_bundle::messages::bundle as wire;
use mesh_bundle::messages::distribution::generation_update::Slice as Sent;
use mesh_bundle::messages::distribution::{self as sent, FetchTrustResponse, GenerationUpdate};
use mesh_bundle::reject::{RejectReason, Rejection};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{TrustStore, TrustStoreError};
use mesh_daemon::join_file::JoinFile;
use mesh_daemon::rpc::compression::{self, DecompressError};
use mesh_daemon::store::{Confirmed, Contents, Store, StoreError, StoredGeneration, StoredKeys};
use prost::Message;

/// What is believed, with its store.
#[derive(Debug)]
pub(crate) struct Belief {
    acceptance: Acceptance,
    contents: Contents,
    store: Store,
    clock: Clock,
}

/// A generation that was accepted, with what is stored of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// What it says.
    pub(crate) accepted: Accepted,
    stored: StoredGeneration,
}

/// What became of a generation that arrived.
#[derive(Debug)]
pub(crate) enum Received {
    /// It may be prepared.
    Accepted(Box<Offer>),
    /// Its slice was sent as the difference to one that is not held.
    NeedsWholeSlice(Digest),
}

/// A generation that was refused, and which it was, as far as that could be read.
#[derive(Debug)]
pub(crate) struct Refused {
    /// As status messages name it.
    pub(crate) generation: wire::GenerationRef,
    /// Why.
    pub(crate) rejection: Rejection,
}

impl Belief {
    /// Begins with a join file, and the public objects of a server that is not trusted.
    pub(crate) fn begin(
        store: Store,
        join: &JoinFile,
        objects: &FetchTrustResponse,
        workload: Workload,
        clock: Clock,
    ) -> Result<Self, (Store, Rejection)> {
        let pin = Pin {
            scope: join.scope.clone(),
            trust_root: join.trust_root,
        };
        let pinned = match find_pinned(objects, &join.trust_root) {
            Ok(pinned) => pinned,
            Err(rejection) => return Err((store, rejection)),
        };
        let acceptance = match Acceptance::pinned(&pin, workload, join.floor, &pinned) {
            Ok(acceptance) => acceptance,
            Err(rejection) => return Err((store, rejection)),
        };
        let contents = Contents {
            pin: join.trust_root,
            scope: join.scope.clone(),
            identity: join.identity.clone(),
            addresses: join.addresses.clone(),
            trust_roots: vec![pinned],
            trust_bundles: Vec::new(),
            revocations: Vec::new(),
            heads: Vec::new(),
            floor: join.floor,
            confirmed: None,
            generations: Vec::new(),
            keys: StoredKeys::default(),
            endpoints: None,
        };
        Ok(Self {
            acceptance,
            contents,
            store,
            clock,
        })
    }

    /// Verifies all that a store holds, from the pin, and returns the generations that may be served,
    /// the one that was served last first. What does not verify is dropped and told.
    pub(crate) fn restore(
        store: Store,
        contents: Contents,
        workload: Workload,
        clock: Clock,
    ) -> Result<(Self, Vec<Offer>, Vec<Rejection>), Rejection> {
        let pin = Pin {
            scope: contents.scope.clone(),
            trust_root: contents.pin,
        };
        let mut roots = contents.trust_roots.iter();
        let pinned = roots
            .next()
            .ok_or_else(|| refusal(RejectReason::UnknownSigner, "the store holds no trust root"))?;
        let acceptance = Acceptance::pinned(&pin, workload, contents.floor, pinned)?;
        let mut belief = Self {
            acceptance,
            contents: Contents {
                trust_roots: vec![pinned.clone()],
                trust_bundles: Vec::new(),
                revocations: Vec::new(),
                heads: Vec::new(),
                generations: Vec::new(),
                ..contents.clone()
            },
            store,
            clock,
        };
        // Each object under the root it was accepted with: a later one may have dropped its key.
        let mut refused = Vec::new();
        let mut verdicts = BTreeMap::new();
        belief.restore_trust(&contents, &mut verdicts);
        for root in roots {
            match belief.offer_trust_root(root.clone()) {
                Ok(_) => belief.restore_trust(&contents, &mut verdicts),
                Err(rejection) => refused.push(rejection),
            }
        }
        refused.extend(verdicts.into_values().filter_map(Result::err));
        for head in contents.heads {
            refused.extend(belief.offer_head(head).err());
        }
        let mut offers = Vec::new();
        for stored in contents.generations {
            match belief.restore_generation(&stored) {
                Ok(offer) => {
                    offers.push(offer);
                    belief.contents.generations.push(stored);
                }
                // Below the floor it is never served again, but its slice may be sent as "same".
                Err(rejection) if rejection.reason() == RejectReason::OrderTooLow => {
                    belief.contents.generations.push(stored);
                }
                Err(rejection) => refused.push(rejection),
            }
        }
        if let Some(confirmed) = belief.contents.confirmed {
            belief.acceptance.restore_confirmed(GenerationRef {
                order: confirmed.order,
                digest: confirmed.generation,
            });
        }
        Ok((belief, offers, refused))
    }

    /// What is believed.
    pub(crate) fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// What is stored.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            unix_ms: self.clock.wall_ms(),
            boot_ms: u64::try_from(self.clock.boot().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Writes what is believed.
    pub(crate) fn save(&mut self) -> Result<(), StoreError> {
        self.store.save(&self.contents)
    }

    /// Distributors to connect to, as a newer join file tells.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<String>) {
        self.contents.addresses = addresses;
    }

    /// The keys of this proxy.
    pub(crate) fn keys_mut(&mut self) -> &mut StoredKeys {
        &mut self.contents.keys
    }

    /// The endpoints as they last came.
    pub(crate) fn set_endpoints(&mut self, endpoints: &sent::Endpoints) {
        self.contents.endpoints = Some(endpoints.encode_to_vec());
    }

    /// Believes what public objects say, in the order in which they vouch for each other.
    pub(crate) fn offer_public(&mut self, objects: FetchTrustResponse) -> Vec<Rejection> {
        let mut refused = Vec::new();
        // What comes before the pinned one is not ours to judge.
        let pin = self.contents.pin;
        let from_pin = objects
            .trust_roots
            .into_iter()
            .skip_while(|root| Digest::of(&root.payload) != pin);
        for root in from_pin {
            let result = Envelope::try_from(root).and_then(|it| self.offer_trust_root(it));
            refused.extend(result.err());
        }
        for bundle in objects.trust_bundles {
            let result = Envelope::try_from(bundle).and_then(|it| self.offer_trust_bundle(it));
            refused.extend(result.err());
        }
        for stream in objects.revocations {
            let result = Envelope::try_from(stream).and_then(|it| self.offer_revocations(it));
            refused.extend(result.err());
        }
        for head in objects.heads {
            let result = Envelope::try_from(head).and_then(|it| self.offer_head(it));
            refused.extend(result.err());
        }
        refused
    }

    /// Offers the next trust root.
    pub(crate) fn offer_trust_root(&mut self, envelope: Envelope) -> Result<Change, Rejection> {
        let change = self.acceptance.offer_trust_root(&envelope)?;
        if change == Change::Applied {
            self.contents.trust_roots.push(envelope);
            self.forget();
        }
        Ok(change)
    }

    /// Offers a trust bundle.
    pub(crate) fn offer_trust_bundle(&mut self, envelope: Envelope) -> Result<Change, Rejection> {
        let change = self.acceptance.offer_trust_bundle(&envelope)?;
        if change == Change::Applied {
            self.contents.trust_bundles.push(envelope);
            self.forget();
        }
        Ok(change)
    }

    /// Offers the state of a revocation stream.
    pub(crate) fn offer_revocations(&mut self, envelope: Envelope) -> Result<Change, Rejection> {
        let change = self.acceptance.offer_revocations(&envelope)?;
        if change == Change::Applied {
            self.contents.revocations.push(envelope);
            self.forget();
        }
        Ok(change)
    }

    /// Offers a head.
    pub(crate) fn offer_head(&mut self, envelope: Envelope) -> Result<HeadOffer, Rejection> {
        let now = self.now();
        let offer = self.acceptance.offer_head(&envelope, now)?;
        if offer.change == Change::Applied {
            self.contents.heads.push(envelope);
            self.forget();
        }
        Ok(offer)
    }

    /// Takes in a generation and this proxy's part of it, whichever way it was sent.
    pub(crate) fn offer_generation(
        &mut self,
        update: GenerationUpdate,
    ) -> Result<Received, Refused> {
        let mut generation = wire::GenerationRef::default();
        self.offer_update(update, &mut generation)
            .map_err(|rejection| Refused {
                generation,
                rejection,
            })
    }

    fn offer_update(
        &mut self,
        update: GenerationUpdate,
        name: &mut wire::GenerationRef,
    ) -> Result<Received, Rejection> {
        let envelope = update
            .generation
            .ok_or_else(|| refusal(RejectReason::Truncated, "an update without a generation"))?;
        name.digest = Digest::of(&envelope.payload).as_bytes().to_vec();
        let envelope = Envelope::try_from(envelope)?;
        let generation = self.acceptance.judge_generation(&envelope)?;
        name.order = Some(generation.order.into());
        let slice = update
            .slice
            .ok_or_else(|| refusal(RejectReason::Truncated, "an update without a slice"))?;
        let now = self.now();
        let trust_root_version = self.acceptance.trust_root().version;
        if let Sent::Absent(proof) = &slice {
            let absence = AbsenceProof::try_from(proof)?;
            let part = Part::Absent(&absence);
            let accepted = self.acceptance.offer_generation(&envelope, part, now)?;
            let stored = StoredGeneration {
                envelope,
                trust_root_version,
                slice: None,
                proof: proof.encode_to_vec(),
            };
            return Ok(Received::Accepted(Box::new(Offer { accepted, stored })));
        }
        let sent_proof = update
            .proof
            .ok_or_else(|| refusal(RejectReason::BadProof, "a slice without a proof"))?;
        let proof = InclusionProof::try_from(&sent_proof)?;
        // Before anything is unpacked: from here on the size is a signed one, and bounded.
        self.acceptance.judge_proof(&generation, &proof)?;
        let Some(bytes) = self.unpack(slice, &proof)? else {
            return Ok(Received::NeedsWholeSlice(generation.digest()));
        };
        let part = Part::Slice {
            bytes: &bytes,
            proof: &proof,
        };
        let accepted = self.acceptance.offer_generation(&envelope, part, now)?;
        let stored = StoredGeneration {
            envelope,
            trust_root_version,
            slice: Some(bytes),
            proof: sent_proof.encode_to_vec(),
        };
        Ok(Received::Accepted(Box::new(Offer { accepted, stored })))
    }

    /// A generation that is stored, to serve it again.
    pub(crate) fn stored_offer(&mut self, wanted: &GenerationRef) -> Option<Offer> {
        let stored = self
            .contents
            .generations
            .iter()
            .find(|stored| stored.envelope.payload_digest() == wanted.digest)?
            .clone();
        self.restore_generation(&stored).ok()
    }

    /// Notes that a generation is being served, as the first to boot with.
    pub(crate) fn set_serving(&mut self, offer: &Offer) {
        let served = self.acceptance.set_serving(offer.accepted.reference);
        debug_assert!(served.is_ok(), "what is served was accepted before");
        let digest = offer.accepted.reference.digest;
        self.contents
            .generations
            .retain(|stored| stored.envelope.payload_digest() != digest);
        self.contents.generations.insert(0, offer.stored.clone());
        self.contents
            .generations
            .truncate(mesh_daemon::limits::STORE_GENERATIONS_MAX);
    }

    /// Raises the floor to what is being served.
    pub(crate) fn confirm(&mut self, reference: GenerationRef) -> Result<(), Rejection> {
        let order = self.acceptance.confirm(reference)?;
        self.contents.floor = self.acceptance.floor();
        self.contents.confirmed = Some(Confirmed {
            order,
            generation: reference.digest,
        });
        Ok(())
    }

    /// Digests of the slices that a difference may be sent to.
    pub(crate) fn held_slices(&self) -> Vec<Digest> {
        let mut digests: Vec<_> = self
            .contents
            .generations
            .iter()
            .filter_map(|stored| stored.slice.as_deref().map(Digest::of))
            .collect();
        digests.sort_unstable();
        digests.dedup();
        digests
    }

    /// What TLS judges peers by.
    pub(crate) fn trust_store(&self) -> Result<TrustStore, TrustStoreError> {
        let mut trust = TrustStore::empty();
        for bundle in self.acceptance.trust_bundles() {
            trust = trust.with_bundle(bundle)?;
        }
        for stream in self.acceptance.revocations() {
            trust = trust.with_revocations(stream.value().clone());
        }
        Ok(trust)
    }

    /// Believes what verifies under the root in force. Good verdicts last: a later root may have
    /// dropped the key.
    fn restore_trust(
        &mut self,
        contents: &Contents,
        verdicts: &mut BTreeMap<Digest, Result<Change, Rejection>>,
    ) {
        let mut judged = |envelope: &Envelope, verdict: Result<Change, Rejection>| {
            let so_far = verdicts
                .entry(Digest::of(&envelope.encode()))
                .or_insert_with(|| verdict.clone());
            if verdict.is_ok() {
                *so_far = verdict;
            }
        };
        for bundle in &contents.trust_bundles {
            judged(bundle, self.offer_trust_bundle(bundle.clone()));
        }
        for stream in &contents.revocations {
            judged(stream, self.offer_revocations(stream.clone()));
        }
    }

    fn restore_generation(&mut self, stored: &StoredGeneration) -> Result<Offer, Rejection> {
        let malformed = |_error| refusal(RejectReason::NonCanonical, "stored proof");
        let (inclusion, absence);
        let part = if let Some(bytes) = &stored.slice {
            let proof = sent::InclusionProof::decode(stored.proof.as_slice()).map_err(malformed)?;
            inclusion = InclusionProof::try_from(&proof)?;
            Part::Slice {
                bytes,
                proof: &inclusion,
            }
        } else {
            let proof = sent::AbsenceProof::decode(stored.proof.as_slice()).map_err(malformed)?;
            absence = AbsenceProof::try_from(&proof)?;
            Part::Absent(&absence)
        };
        let accepted = self.acceptance.restore_generation(
            &stored.envelope,
            stored.trust_root_version,
            part,
        )?;
        Ok(Offer {
            accepted,
            stored: stored.clone(),
        })
    }

    fn unpack(&self, slice: Sent, proof: &InclusionProof) -> Result<Option<Vec<u8>>, Rejection> {
        let size = usize::try_from(proof.size).unwrap_or(usize::MAX);
        let unpacked = match slice {
            Sent::Full(full) => compression::decompress(&full.compressed, size),
            Sent::Delta(delta) => match self.held_slice(&delta.base) {
                Some(base) => compression::decompress_delta(base, &delta.compressed, size),
                None => return Ok(None),
            },
            Sent::Same(same) => {
                if same.digest != proof.digest.as_bytes() {
                    return Err(refusal(
                        RejectReason::BadProof,
                        "\"same\" as another slice than the proof's",
                    ));
                }
                return Ok(self.held_slice(&same.digest).map(<[u8]>::to_vec));
            }
            Sent::Absent(_) => return Ok(None),
        };
        unpacked.map(Some).map_err(|error| {
            let reason = match &error {
                DecompressError::TooLong(_) => RejectReason::TooLarge,
                DecompressError::TooShort { .. } => RejectReason::Truncated,
                DecompressError::Malformed(_) => RejectReason::NonCanonical,
            };
            refusal(reason, &error.to_string())
        })
    }

    fn held_slice(&self, digest: &[u8]) -> Option<&[u8]> {
        self.contents
            .generations
            .iter()
            .filter_map(|stored| stored.slice.as_deref())
            .find(|slice| Digest::of(slice).as_bytes() == digest)
    }

    /// Drops the envelopes of what is no longer believed: each was replaced, or its key was dropped.
    fn forget(&mut self) {
        let acceptance = &self.acceptance;
        self.contents.heads.retain(|envelope| {
            let digest = envelope.payload_digest();
            acceptance.heads().any(|head| head.digest() == digest)
        });
        self.contents.trust_bundles.retain(|envelope| {
            let digest = envelope.payload_digest();
            acceptance.trust_bundles().any(|it| it.digest() == digest)
        });
        self.contents.revocations.retain(|envelope| {
            let digest = envelope.payload_digest();
            acceptance.revocations().any(|it| it.digest() == digest)
        });
    }
}

fn find_pinned(objects: &FetchTrustResponse, pin: &Digest) -> Result<Envelope, Rejection> {
    let found = objects
        .trust_roots
        .iter()
        .find(|root| Digest::of(&root.payload) == *pin);
    match found {
        Some(found) => Envelope::try_from(found.clone()),
        None => Err(refusal(
            RejectReason::UnknownSigner,
            "the server does not have the pinned trust root",
        )),
    }
}

fn refusal(reason: RejectReason, detail: &str) -> Rejection {
    Rejection::new(reason, detail)
}
