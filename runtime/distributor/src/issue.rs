//! The issuer: who may have which certificate. The identity always comes from an attestation (a
//! join token, or a certificate that is still good), never from the request.

pub(crate) mod certificate;
pub(crate) mod token;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_bundle::key::SigningKey;
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::svid::SvidKeyError;
use mesh_daemon::identity::{PeerIdentity, Svid, WorkloadKey};
use rustls_pki_types::CertificateDer;

use crate::issue::certificate::{Authority, EnrolmentId, RequestError, Subject, verify_request};
use crate::issue::token::{Admission, CreateError, EnrolError, Enrolment, Tokens};
use crate::store::{Store, StoreError};

/// Issues certificates.
#[derive(Debug)]
pub(crate) struct Issuer {
    authority: Authority,
    trust_domain: TrustDomain,
    tokens: Mutex<Tokens>,
    store: Store,
    clock: Clock,
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
        authority: Authority,
        trust_domain: TrustDomain,
        store: Store,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let tokens = Mutex::new(store.tokens()?);
        Ok(Self {
            authority,
            trust_domain,
            tokens,
            store,
            clock,
        })
    }

    /// How long its certificates live.
    pub(crate) fn life(&self) -> Duration {
        self.authority.life()
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

    /// Certifies a key for a join token.
    pub(crate) fn enrol(
        &self,
        request: &mesh_bundle::messages::distribution::EnrolRequest,
        exporter: &mesh_daemon::rpc::Exporter,
        is_current: impl FnOnce(&SpiffeId) -> bool,
    ) -> Result<Issued, IssueError> {
        let (csr, csr_key) = verify_request(&request.csr)?;
        let now_ms = self.clock.wall_ms();
        let admission = self.admit(
            &Enrolment {
                token_id: &request.token_id,
                csr: &request.csr,
                csr_key,
                exporter,
                signature: &request.signature,
            },
            now_ms,
            is_current,
        )?;
        let subject = Subject {
            identity: &admission.identity,
            enrolment: admission.enrolment,
            random: random()?,
        };
        let chain = self.authority.sign(&csr, &subject, now_ms)?;
        Ok(Issued {
            chain,
            admission,
            key: csr_key.to_string(),
        })
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
        let (csr, csr_key) = verify_request(csr)?;
        let subject = Subject {
            identity: &peer.spiffe_id,
            enrolment,
            random: random()?,
        };
        let chain = self.authority.sign(&csr, &subject, self.clock.wall_ms())?;
        let admission = Admission {
            identity: peer.spiffe_id.clone(),
            enrolment,
        };
        Ok(Issued {
            chain,
            admission,
            key: csr_key.to_string(),
        })
    }

    /// The distributor's own certificate, for a new key that never leaves this process.
    pub(crate) fn own(&self, identity: &SpiffeId) -> Result<Svid, IssueError> {
        let key = WorkloadKey::generate().map_err(SvidKeyError::Key)?;
        let (csr, _key) = verify_request(&key.csr().map_err(SvidKeyError::Key)?)?;
        let subject = Subject {
            identity,
            enrolment: EnrolmentId(random()?),
            random: random()?,
        };
        let chain = self.authority.sign(&csr, &subject, self.clock.wall_ms())?;
        Ok(Svid::new(chain, key)?)
    }

    /// A use is on the disk before its certificate leaves. An identity that is not there yet uses
    /// nothing up: the commit that brings it may be on its way.
    fn admit(
        &self,
        enrolment: &Enrolment<'_>,
        now_ms: u64,
        is_current: impl FnOnce(&SpiffeId) -> bool,
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
