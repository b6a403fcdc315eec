//! The issuer: who may have which certificate. The identity always comes from an attestation (a
//! join token, or a certificate that is still good), never from the request.

pub(crate) mod attest;
pub(crate) mod certificate;
pub(crate) mod ledger;
pub(crate) mod token;
pub(crate) mod unix;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::key::SigningKey;
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::csr::VerifiedCsr;
use mesh_daemon::identity::svid::SvidKeyError;
use mesh_daemon::identity::{PeerIdentity, Svid, SvidError, TrustStore, WorkloadKey};
use rustls_pki_types::CertificateDer;

use crate::events::Attestation;
use crate::issue::attest::Evidence;
use crate::issue::certificate::{Authority, EnrolmentId, RequestError, Subject, verify_request};
use crate::issue::ledger::{Cloned, Entry, Ledger, Waiting};
use crate::issue::token::{Admission, CreateError, EnrolError, Enrolment, Tokens};
use crate::store::{Store, StoreError};

/// Issues certificates.
#[derive(Debug)]
pub(crate) struct Issuer {
    active: RwLock<Arc<Active>>,
    trust_domain: TrustDomain,
    tokens: Mutex<Tokens>,
    ledger: Mutex<Kept>,
    store: Store,
    clock: Clock,
}

/// What it signs with.
#[derive(Debug)]
pub(crate) struct Active {
    /// The intermediate authority.
    pub(crate) authority: Authority,
    /// Digest of the root authority above it.
    pub(crate) root: Digest,
}

/// The ledger, and whether the disk has all of it. What only proxies report is written now and then.
#[derive(Debug)]
struct Kept {
    ledger: Ledger,
    is_saved: bool,
}

/// A certificate, and what it was issued on.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Who, and by which enrolment.
    pub(crate) admission: Admission,
    /// Digest of the public key.
    pub(crate) key: String,
}

/// A new join token.
#[derive(Clone)]
pub(crate) struct NewToken {
    /// Names it.
    pub(crate) id: String,
    /// The token itself.
    pub(crate) seed: [u8; 32],
    /// Unix milliseconds.
    pub(crate) expires_ms: u64,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why there is no certificate or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The token admits nobody.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// No token was made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The request, or signing it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Not an identity that is issued here.
    #[error("{0} is not issued: it is reserved for the mesh itself or of another trust domain")]
    Reserved(SpiffeId),
    /// The current generation has no such workload.
    #[error("{0} is not in the current generation")]
    NotInGeneration(SpiffeId),
    /// Two proxies have its key.
    #[error("{1}")]
    Cloned(SpiffeId, Cloned),
    /// The certificate that is shown as evidence is not believed.
    #[error("the certificate that was shown proves nothing")]
    Evidence(#[source] SvidError),
    /// Not signed by the key of the certificate that is shown.
    #[error("signature is not that of the certificate's key over this request on this connection")]
    Signature,
    /// The certificate goes back to no enrolment of ours.
    #[error("the certificate names no enrolment")]
    NotEnrolled,
    /// What must be remembered could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The own certificate.
    #[error(transparent)]
    Svid(#[from] SvidKeyError),
}

impl Issuer {
    /// Goes on with the stored tokens.
    pub(crate) fn new(
        active: Active,
        trust_domain: TrustDomain,
        store: Store,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let tokens = Mutex::new(store.tokens()?);
        let kept = Kept {
            ledger: store.ledger()?,
            is_saved: true,
        };
        Ok(Self {
            active: RwLock::new(Arc::new(active)),
            trust_domain,
            tokens,
            ledger: Mutex::new(kept),
            store,
            clock,
        })
    }

    /// How long its certificates live.
    pub(crate) fn life(&self) -> Duration {
        self.active().authority.life()
    }

    /// What it signs with.
    pub(crate) fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs with another authority from now on.
    pub(crate) fn set_active(&self, active: Active) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(active);
    }

    /// Who has a good certificate, and not this version of the own trust bundle.
    pub(crate) fn without_bundle(&self, version: u64) -> Vec<Waiting> {
        let now = self.clock.wall_ms() / 1000;
        self.ledger().ledger.without_bundle(version, now)
    }

    /// Who has a good certificate below none of these root authorities.
    pub(crate) fn below_none(&self, roots: &[Digest]) -> Vec<Waiting> {
        let now = self.clock.wall_ms() / 1000;
        self.ledger().ledger.below_none(roots, now)
    }

    /// How many good certificates there are.
    pub(crate) fn live(&self) -> usize {
        let now = self.clock.wall_ms() / 1000;
        self.ledger().ledger.live(now)
    }

    /// A proxy says which trust bundle it has.
    pub(crate) fn reported(&self, peer: &PeerIdentity, bundle: u64) {
        let Some(enrolment) = peer.enrolment_id() else {
            return;
        };
        let mut kept = self.ledger();
        if kept.ledger.reported(&enrolment, bundle) {
            kept.is_saved = false;
        }
    }

    /// Writes what proxies have reported, if anything is new.
    pub(crate) fn save_reports(&self) -> Result<(), StoreError> {
        let mut kept = self.ledger();
        if !kept.is_saved {
            self.store.save_ledger(&kept.ledger)?;
            kept.is_saved = true;
        }
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, Kept> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a join token for an identity.
    pub(crate) fn create_token(
        &self,
        identity: &SpiffeId,
        life: Duration,
    ) -> Result<NewToken, IssueError> {
        self.check_identity(identity)?;
        let seed = random()?;
        let id = hex::encode(random::<16>()?);
        let admission = Admission {
            identity: identity.clone(),
            enrolment: EnrolmentId(random()?),
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = tokens.clone();
        let public_key = SigningKey::from_seed(seed).public();
        let expires_ms =
            changed.create(&id, &public_key, &admission, life, self.clock.wall_ms())?;
        self.store.save_tokens(&changed)?;
        *tokens = changed;
        Ok(NewToken {
            id,
            seed,
            expires_ms,
        })
    }

    /// Certifies a key for what its proxy shows, by the way of proving that this takes.
    pub(crate) fn enrol(
        &self,
        request: &mesh_bundle::messages::distribution::EnrolRequest,
        exporter: &mesh_daemon::rpc::Exporter,
        trust: &TrustStore,
        is_current: &dyn Fn(&SpiffeId) -> bool,
    ) -> (Attestation, Result<Issued, IssueError>) {
        let attestor = self.attestor(request);
        let issuing = || {
            let (csr, csr_key) = verify_request(&request.csr)?;
            let admission = attestor.admit(&Evidence {
                request,
                csr: (&csr, csr_key),
                exporter,
                trust,
                is_current,
                now_ms: self.clock.wall_ms(),
            })?;
            self.sign(&csr, admission)
        };
        (attestor.kind(), issuing())
    }

    /// Signs, and has it in the ledger before it leaves.
    fn sign(&self, csr: &VerifiedCsr, admission: Admission) -> Result<Issued, IssueError> {
        let subject = Subject {
            identity: &admission.identity,
            enrolment: admission.enrolment,
            random: random()?,
        };
        let active = self.active();
        let now_ms = self.clock.wall_ms();
        let chain = active.authority.sign(csr, &subject, now_ms)?;
        let leaf = PeerIdentity::from_handshake(Some(&chain)).map_err(SvidKeyError::Svid)?;
        let mut kept = self.ledger();
        let mut ledger = kept.ledger.clone();
        ledger.forget((now_ms / 1000).saturating_sub(self.grace().as_secs()));
        ledger.issued(&Entry {
            enrolment: admission.enrolment,
            identity: &admission.identity,
            key: leaf.leaf_spki,
            root: active.root,
            ends: leaf.not_after,
        });
        self.store.save_ledger(&ledger)?;
        *kept = Kept {
            ledger,
            is_saved: true,
        };
        Ok(Issued {
            chain,
            admission,
            key: leaf.leaf_spki.to_hex(),
        })
    }

    /// How long after its end a certificate still proves who its proxy is, to the issuer alone. As long as it lived:
    /// what an issuer was down for must not need a person for each proxy.
    fn grace(&self) -> Duration {
        self.life()
    }

    /// Refuses a renewal that only a clone would ask for; that it was seen outlives a restart.
    fn judge_renewal(
        &self,
        enrolment: EnrolmentId,
        peer: &PeerIdentity,
        csr: &VerifiedCsr,
    ) -> Result<(), IssueError> {
        let from = peer.leaf_spki;
        let to = csr.spki();
        let mut kept = self.ledger();
        let judged = kept.ledger.judge(enrolment, from, to);
        if judged.is_err() {
            self.store.save_ledger(&kept.ledger)?;
        }
        judged.map_err(|cloned| IssueError::Cloned(peer.spiffe_id.clone(), cloned))
    }

    /// Certifies a key for a certificate that TLS has verified; the enrolment stays the same, so
    /// that revoking it reaches every certificate that came of it.
    pub(crate) fn renew(
        &self,
        peer: &PeerIdentity,
        csr: &[u8],
        is_current: impl FnOnce(&SpiffeId) -> bool,
    ) -> Result<Issued, IssueError> {
        self.check_identity(&peer.spiffe_id)?;
        if !is_current(&peer.spiffe_id) {
            return Err(IssueError::NotInGeneration(peer.spiffe_id.clone()));
        }
        let enrolment = enrolment(peer).ok_or(IssueError::NotEnrolled)?;
        let (csr, _key) = verify_request(csr)?;
        self.judge_renewal(enrolment, peer, &csr)?;
        let admission = Admission {
            identity: peer.spiffe_id.clone(),
            enrolment,
        };
        self.sign(&csr, admission)
    }

    /// The distributor's own certificate, for a new key that never leaves this process.
    pub(crate) fn own(&self, identity: &SpiffeId) -> Result<Svid, IssueError> {
        own(&self.active().authority, identity, self.clock.wall_ms())
    }
}

/// A certificate of an authority for a new key that never leaves this process.
pub(crate) fn own(
    authority: &Authority,
    identity: &SpiffeId,
    now_ms: u64,
) -> Result<Svid, IssueError> {
    let key = WorkloadKey::generate().map_err(SvidKeyError::Key)?;
    let (csr, _key) = verify_request(&key.csr().map_err(SvidKeyError::Key)?)?;
    let subject = Subject {
        identity,
        enrolment: EnrolmentId(random()?),
        random: random()?,
    };
    let chain = authority.sign(&csr, &subject, now_ms)?;
    Ok(Svid::new(chain, key)?)
}

impl Issuer {
    /// A use is on the disk before its certificate leaves. An identity that is not there yet uses
    /// nothing up: the commit that brings it may be on its way.
    fn admit(
        &self,
        enrolment: &Enrolment<'_>,
        now_ms: u64,
        is_current: &dyn Fn(&SpiffeId) -> bool,
    ) -> Result<Admission, IssueError> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = tokens.clone();
        let admission = changed.admit(enrolment, now_ms)?;
        self.check_identity(&admission.identity)?;
        if !is_current(&admission.identity) {
            return Err(IssueError::NotInGeneration(admission.identity));
        }
        if changed != *tokens {
            self.store.save_tokens(&changed)?;
            *tokens = changed;
        }
        Ok(admission)
    }

    fn check_identity(&self, identity: &SpiffeId) -> Result<(), IssueError> {
        if identity.is_reserved() || identity.trust_domain() != self.trust_domain.as_str() {
            return Err(IssueError::Reserved(identity.clone()));
        }
        Ok(())
    }
}

fn enrolment(peer: &PeerIdentity) -> Option<EnrolmentId> {
    let mut id = [0; 8];
    hex::decode_to_slice(peer.enrolment_id()?, &mut id).ok()?;
    Some(EnrolmentId(id))
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> Result<[u8; N], RequestError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| RequestError::Randomness)?;
    Ok(bytes)
}
