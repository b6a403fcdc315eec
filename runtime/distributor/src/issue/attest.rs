//! The ways in which a proxy proves who it is. Each gives an identity and an enrolment, or a reason; what is issued on
//! them, and that it is logged, is the same for all.

use std::time::Duration;

use mesh_bundle::envelope::ENROLMENT_TYPE;
use mesh_bundle::messages::distribution::EnrolRequest;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::csr::VerifiedCsr;
use mesh_daemon::identity::{PeerIdentity, SvidError, TrustStore, Usage};
use mesh_daemon::rpc::Exporter;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::events::Attestation;
use crate::issue::token::{Admission, Enrolment};
use crate::issue::{IssueError, Issuer, enrolment};

/// What a proxy shows, and what is known of its connection.
pub(crate) struct Evidence<'a> {
    /// As it came.
    pub(crate) request: &'a EnrolRequest,
    /// The key that is to be certified, and its digest.
    pub(crate) csr: (&'a VerifiedCsr, mesh_bundle::digest::Digest),
    /// A signature is worth nothing on another connection.
    pub(crate) exporter: &'a Exporter,
    /// What certificates are judged by.
    pub(crate) trust: &'a TrustStore,
    /// Whether the current generation has a workload.
    pub(crate) is_current: &'a dyn Fn(&SpiffeId) -> bool,
    /// Unix milliseconds.
    pub(crate) now_ms: u64,
}

impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("token_id", &self.request.token_id)
            .finish_non_exhaustive()
    }
}

/// One way to prove who one is.
pub(crate) trait Attestor {
    /// Its name in logs and metrics.
    fn kind(&self) -> Attestation;

    /// Judges the evidence. Whatever must be remembered is on the disk before it says yes.
    fn admit(&self, evidence: &Evidence<'_>) -> Result<Admission, IssueError>;
}

impl Issuer {
    /// The way that a request takes.
    pub(crate) fn attestor(&self, request: &EnrolRequest) -> Box<dyn Attestor + '_> {
        if request.chain.is_empty() {
            Box::new(JoinToken(self))
        } else {
            Box::new(Possession(self))
        }
    }
}

/// A one-time token, whose seed signs the request.
struct JoinToken<'a>(&'a Issuer);

impl Attestor for JoinToken<'_> {
    fn kind(&self) -> Attestation {
        Attestation::JoinToken
    }

    fn admit(&self, evidence: &Evidence<'_>) -> Result<Admission, IssueError> {
        let enrolment = Enrolment {
            token_id: &evidence.request.token_id,
            csr: &evidence.request.csr,
            csr_key: evidence.csr.1,
            exporter: evidence.exporter,
            signature: &evidence.request.signature,
        };
        self.0
            .admit(&enrolment, evidence.now_ms, evidence.is_current)
    }
}

/// The key of a certificate of this mesh that has expired not long ago. TLS takes none such; its signature over the
/// request on this connection is proof enough that whoever asks is still the one it was issued to, as long as
/// nobody revoked it and no other key has taken its place.
struct Possession<'a>(&'a Issuer);

impl Attestor for Possession<'_> {
    fn kind(&self) -> Attestation {
        Attestation::Possession
    }

    fn admit(&self, evidence: &Evidence<'_>) -> Result<Admission, IssueError> {
        let chain = evidence.request.chain.iter();
        let chain: Vec<_> = chain
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let peer = PeerIdentity::from_handshake(Some(&chain)).map_err(IssueError::Evidence)?;
        let now = evidence.now_ms / 1000;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.min(peer.not_after)));
        let peer = evidence
            .trust
            .verify_chain(&chain, at, Usage::Client)
            .map_err(IssueError::Evidence)?;
        if now.saturating_sub(peer.not_after) > self.0.grace().as_secs() {
            return Err(IssueError::Evidence(SvidError::Expired));
        }
        let mut signed = evidence.request.csr.clone();
        signed.extend_from_slice(evidence.exporter);
        if !peer.verify_signature(ENROLMENT_TYPE, &signed, &evidence.request.signature) {
            return Err(IssueError::Signature);
        }
        self.0.check_identity(&peer.spiffe_id)?;
        if !(evidence.is_current)(&peer.spiffe_id) {
            return Err(IssueError::NotInGeneration(peer.spiffe_id));
        }
        let enrolment = enrolment(&peer).ok_or(IssueError::NotEnrolled)?;
        self.0.judge_renewal(enrolment, &peer, evidence.csr.0)?;
        Ok(Admission {
            identity: peer.spiffe_id,
            enrolment,
        })
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::key::SigningKey;
    use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
    use mesh_daemon::clock::Clock;
    use mesh_daemon::identity::{Svid, WorkloadKey};
    use mesh_daemon::rpc::enrolment_message;

    use super::*;
    use crate::fixture::{Fixture, NOW_MS, id};
    use crate::issue::certificate::Authority;
    use crate::rotation;
    use crate::trust::Trust;

    const EXPORTER: Exporter = [9; 32];

    struct World {
        issuer: Issuer,
        trust: TrustStore,
        clock: Clock,
        _fixture: Fixture,
    }

    fn world() -> World {
        let fixture = Fixture::new(false);
        let clock = Clock::manual(NOW_MS);
        let folder = fixture.folder.path();
        let trust = Trust::read(&folder.join("trust")).unwrap();
        let pem = std::fs::read_to_string(folder.join("trust/intermediate.pem")).unwrap();
        let keys = fixture.keys();
        let life = Duration::from_mins(10);
        let authority = Authority::new(&keys.intermediate_pem, &pem, life).unwrap();
        let bundle = &trust.bundles.values().next().unwrap().value;
        let own = "spiffe://test.example/mesh/distributor/main"
            .parse()
            .unwrap();
        let active = rotation::active(authority, bundle, &own, &clock).unwrap();
        let domain = fixture.root.scope.trust_domain.clone();
        let issuer = Issuer::new(active.unwrap(), domain, fixture.store(), clock.clone()).unwrap();
        World {
            issuer,
            trust: trust.store().unwrap(),
            clock,
            _fixture: fixture,
        }
    }

    impl World {
        fn ask(&self, request: &EnrolRequest, key: &WorkloadKey) -> Result<Svid, IssueError> {
            let (_, issued) = self
                .issuer
                .enrol(request, &EXPORTER, &self.trust, &|_identity| true);
            issued.map(|issued| Svid::new(issued.chain, key.clone()).unwrap())
        }

        fn enrol(&self, name: &str) -> Svid {
            let token = self
                .issuer
                .create_token(&id(name), Duration::from_mins(1))
                .unwrap();
            let key = WorkloadKey::generate().unwrap();
            let csr = key.csr().unwrap();
            let message = enrolment_message(&csr, &EXPORTER);
            let request = EnrolRequest {
                token_id: token.id,
                signature: SigningKey::from_seed(token.seed).sign(&message).to_vec(),
                csr,
                chain: Vec::new(),
            };
            self.ask(&request, &key).unwrap()
        }

        fn prove(
            &self,
            expired: &Svid,
            signer: &WorkloadKey,
            key: &WorkloadKey,
        ) -> Result<Svid, IssueError> {
            let csr = key.csr().unwrap();
            let mut signed = csr.clone();
            signed.extend_from_slice(&EXPORTER);
            let request = EnrolRequest {
                token_id: String::new(),
                csr,
                signature: signer.sign(ENROLMENT_TYPE, &signed).unwrap(),
                chain: expired.chain().iter().map(|der| der.to_vec()).collect(),
            };
            self.ask(&request, key)
        }
    }

    #[test]
    fn the_key_of_an_expired_certificate_gets_a_new_one_for_as_long_as_that_lived() {
        let world = world();
        let (first, second) = (world.enrol("a"), world.enrol("b"));
        world.clock.advance(Duration::from_mins(11));
        let key = WorkloadKey::generate().unwrap();
        // The certificate is public; its key is not.
        let thief = world.prove(&first, &key, &key);
        assert!(matches!(thief, Err(IssueError::Signature)), "{thief:?}");
        let renewed = world.prove(&first, first.key(), &key).unwrap();
        assert_eq!(renewed.spiffe_id(), first.spiffe_id());
        assert_eq!(
            renewed.identity().enrolment_id(),
            first.identity().enrolment_id()
        );
        // Its answer was lost.
        assert!(world.prove(&first, first.key(), &key).is_ok());
        let other = WorkloadKey::generate().unwrap();
        let clone = world.prove(&first, first.key(), &other);
        assert!(matches!(clone, Err(IssueError::Cloned(..))), "{clone:?}");

        world.clock.advance(Duration::from_mins(10));
        let late = world.prove(&second, second.key(), &other);
        assert!(
            matches!(late, Err(IssueError::Evidence(SvidError::Expired))),
            "{late:?}"
        );
    }

    #[test]
    fn whoever_is_revoked_proves_nothing() {
        let mut world = world();
        let svid = world.enrol("a");
        world.clock.advance(Duration::from_mins(11));
        world.trust = world.trust.clone().with_revocations(Revocations {
            version: 1,
            issued_ms: NOW_MS,
            entries: vec![Revocation {
                subject: RevokedSubject::SpiffeId(id("a")),
                issued_before: None,
            }],
        });
        let refused = world.prove(&svid, svid.key(), &WorkloadKey::generate().unwrap());
        assert!(
            matches!(refused, Err(IssueError::Evidence(SvidError::Revoked))),
            "{refused:?}"
        );
    }
}
