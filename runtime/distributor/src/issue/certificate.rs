//! X.509 SVIDs. The identity comes from whoever attested it; of the request only the key counts.

use std::time::Duration;

use mesh_bundle::digest::Digest;
use mesh_bundle::spiffe::SpiffeId;
use mesh_daemon::identity::csr::{CsrError, VerifiedCsr};
use mesh_daemon::identity::svid::serial_number;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::limits;

/// Length of an uncompressed point on P-256.
const P256_POINT_BYTES: usize = 65;

/// Names an enrolment; it is part of the serial number of each of its certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnrolmentId(pub(crate) [u8; 8]);

/// A certificate authority that signs leaves.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// SHA-256 of its public key.
    key: Digest,
    /// Unix seconds at which the authority itself ends.
    ends: u64,
    life: Duration,
}

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The key or the certificate does not parse.
    #[error("certificate authority is unusable")]
    Parse(#[source] rcgen::Error),
    /// The certificate is of another key.
    #[error("certificate authority's key does not belong to its certificate")]
    Mismatch,
    /// The PEM holds no certificate.
    #[error("certificate authority's certificate is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Outside the bounds.
    #[error("certificates live between 10 minutes and 7 days")]
    Life,
}

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// Too large, not PKCS#10, or not signed by its own key.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// Signing failed.
    #[error("could not sign the certificate")]
    Sign(#[source] rcgen::Error),
    /// The system gave no randomness.
    #[error("system gave no randomness")]
    Randomness,
}

/// Reads a request for a P-256 key and returns what an enrolment is bound to.
pub(crate) fn verify_request(der: &[u8]) -> Result<(VerifiedCsr, Digest), RequestError> {
    let csr = VerifiedCsr::verify(der)?;
    // A signature with SHA-256 may also be by a key on another curve.
    if csr.key_bytes().len() != P256_POINT_BYTES {
        return Err(RequestError::Csr(CsrError::Algorithm));
    }
    let key = Digest::of(csr.key_bytes());
    Ok((csr, key))
}

/// What goes into a certificate beside the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The one subject alternative name.
    pub(crate) identity: &'a SpiffeId,
    /// Which enrolment it goes back to.
    pub(crate) enrolment: EnrolmentId,
    /// Fresh.
    pub(crate) random: [u8; 8],
}

impl Authority {
    /// Takes a key and its certificate.
    pub(crate) fn new(
        key_pem: &str,
        certificate_pem: &str,
        life: Duration,
    ) -> Result<Self, AuthorityError> {
        use rustls_pki_types::pem::PemObject as _;
        if !(limits::SVID_LIFE_MIN..=limits::SVID_LIFE_MAX).contains(&life) {
            return Err(AuthorityError::Life);
        }
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Parse)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(AuthorityError::Pem)?
            .into_owned();
        let ends = ends(&certificate, &key).ok_or(AuthorityError::Mismatch)?;
        let spki = Digest::of(&key.subject_public_key_info());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Parse)?;
        Ok(Self {
            issuer,
            certificate,
            key: spki,
            ends,
            life,
        })
    }

    /// SHA-256 of its public key.
    pub(crate) fn key(&self) -> Digest {
        self.key
    }

    /// How long its certificates live.
    pub(crate) fn life(&self) -> Duration {
        self.life
    }

    /// Signs the key of a request; the chain, leaf first, without the root.
    pub(crate) fn sign(
        &self,
        csr: &VerifiedCsr,
        subject: &Subject<'_>,
        now_ms: u64,
    ) -> Result<Vec<CertificateDer<'static>>, RequestError> {
        let parameters = self
            .parameters(subject, now_ms)
            .map_err(RequestError::Sign)?;
        let leaf = parameters
            .signed_by(csr.public_key(), &self.issuer)
            .map_err(RequestError::Sign)?;
        Ok(vec![leaf.der().clone(), self.certificate.clone()])
    }

    /// X509-SVID, sections 4 and 5: one URI, no CA, digital signature.
    fn parameters(
        &self,
        subject: &Subject<'_>,
        now_ms: u64,
    ) -> Result<CertificateParams, rcgen::Error> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = epoch + Duration::from_millis(now_ms);
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.not_before = now - limits::SVID_BACKDATED;
        // A leaf that outlives its authority would end without the proxy seeing it come.
        parameters.not_after = (now + self.life).min(epoch + Duration::from_secs(self.ends));
        parameters.serial_number = Some(SerialNumber::from_slice(&serial_number(
            subject.enrolment.0,
            subject.random,
        )));
        parameters.subject_alt_names = vec![SanType::URI(subject.identity.as_str().try_into()?)];
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        parameters.use_authority_key_identifier_extension = true;
        Ok(parameters)
    }
}

/// When the certificate ends, if it is of this key.
fn ends(certificate: &CertificateDer<'_>, key: &KeyPair) -> Option<u64> {
    let (_rest, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let same_key = parsed.public_key().raw == key.subject_public_key_info();
    same_key.then(|| u64::try_from(parsed.validity().not_after.timestamp()).ok())?
}

#[cfg(test)]
pub(crate) mod tests {
    use mesh_daemon::identity::{PeerIdentity, WorkloadKey};
    use rcgen::{BasicConstraints, CertifiedIssuer};
    use x509_parser::extensions::GeneralName;

    use super::*;

    const NOW: u64 = 1_763_631_000_000;

    /// An authority of its own root, and the root.
    pub(crate) fn authority(life: Duration) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Parse)?;
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key_pem = key.serialize_pem();
        let root = CertifiedIssuer::self_signed(parameters, key).map_err(AuthorityError::Parse)?;
        Authority::new(&key_pem, &root.pem(), life)
    }

    fn identity() -> SpiffeId {
        SpiffeId::parse("spiffe://test.example/service/a").unwrap()
    }

    #[test]
    fn a_leaf_says_who_and_nothing_else() {
        let authority = authority(Duration::from_hours(24)).unwrap();
        let key = WorkloadKey::generate().unwrap();
        let (csr, _key) = verify_request(&key.csr().unwrap()).unwrap();
        let subject = Subject {
            identity: &identity(),
            enrolment: EnrolmentId([1; 8]),
            random: [2; 8],
        };
        let chain = authority.sign(&csr, &subject, NOW).unwrap();
        assert_eq!(chain.len(), 2);

        let (_rest, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            names.value.general_names,
            [GeneralName::URI("spiffe://test.example/service/a")]
        );
        assert!(
            names.critical,
            "an empty subject needs a critical name (RFC 5280, 4.2.1.6)"
        );
        assert_eq!(leaf.subject().iter().count(), 0);
        assert!(!leaf.is_ca());
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(
            usage.value.digital_signature()
                && !usage.value.key_cert_sign()
                && !usage.value.crl_sign()
        );
        let extended = leaf.extended_key_usage().unwrap().unwrap();
        assert!(extended.value.server_auth && extended.value.client_auth && !extended.value.any);
        assert_eq!(leaf.validity().not_before.timestamp(), 1_763_631_000 - 300);
        assert_eq!(
            leaf.validity().not_after.timestamp(),
            1_763_631_000 + 86_400
        );
        let peer = PeerIdentity::from_leaf(&chain[0]).unwrap();
        assert_eq!(peer.enrolment_id(), Some(hex::encode([1; 8])));
        let (_rest, above) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
        leaf.verify_signature(Some(above.public_key())).unwrap();
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let mut authority = authority(Duration::from_hours(24)).unwrap();
        authority.ends = NOW / 1000 + 60;
        let key = WorkloadKey::generate().unwrap();
        let (csr, _key) = verify_request(&key.csr().unwrap()).unwrap();
        let subject = Subject {
            identity: &identity(),
            enrolment: EnrolmentId([1; 8]),
            random: [2; 8],
        };
        let chain = authority.sign(&csr, &subject, NOW).unwrap();
        let peer = PeerIdentity::from_leaf(&chain[0]).unwrap();
        assert_eq!(peer.not_after, NOW / 1000 + 60);
    }

    #[test]
    fn names_in_a_request_do_not_count_and_other_keys_are_refused() {
        let request = |key: &KeyPair| {
            let parameters = CertificateParams::new(vec!["attacker.example".to_owned()]).unwrap();
            parameters.serialize_request(key).unwrap().der().to_vec()
        };
        assert!(verify_request(&request(&KeyPair::generate().unwrap())).is_ok());
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert!(matches!(
                verify_request(&request(&key)),
                Err(RequestError::Csr(CsrError::Algorithm))
            ));
        }
        assert!(matches!(
            verify_request(b""),
            Err(RequestError::Csr(CsrError::Malformed))
        ));
    }

    #[test]
    fn lives_are_bounded_and_keys_must_fit() {
        assert!(matches!(
            authority(Duration::from_secs(599)),
            Err(AuthorityError::Life)
        ));
        assert!(matches!(
            authority(Duration::from_hours(169)),
            Err(AuthorityError::Life)
        ));
        let other = KeyPair::generate().unwrap().serialize_pem();
        let root = CertifiedIssuer::self_signed(
            CertificateParams::default(),
            KeyPair::generate().unwrap(),
        )
        .unwrap();
        assert!(matches!(
            Authority::new(&other, &root.pem(), Duration::from_hours(1)),
            Err(AuthorityError::Mismatch)
        ));
    }
}
