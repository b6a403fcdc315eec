//! The key of a workload (P-256) and the request to certify it. The request carries a key and
//! nothing else: who the workload is comes from attestation, never from it.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use mesh_bundle::digest::Digest;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::limits::CSR_BYTES_MAX;

/// Why a workload key could not be made or used.
#[derive(Debug, Error)]
pub enum WorkloadKeyError {
    /// The system gave no randomness.
    #[error("make a key")]
    Generate,
    /// Not a P-256 key in PKCS#8.
    #[error("read a key: {0}")]
    Parse(&'static str),
    /// Signing failed.
    #[error("sign with the workload key")]
    Sign,
    /// The request could not be made.
    #[error("make a certificate signing request")]
    Request(#[source] rcgen::Error),
}

/// A P-256 key pair. It leaves its process only for the store.
#[derive(Clone)]
pub struct WorkloadKey(Arc<Pair>);

struct Pair {
    ecdsa: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadKey").finish_non_exhaustive()
    }
}

impl WorkloadKey {
    /// A new key.
    pub fn generate() -> Result<Self, WorkloadKeyError> {
        let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_unspecified| WorkloadKeyError::Generate)?;
        let pkcs8 = ecdsa
            .to_pkcs8v1()
            .map_err(|_unspecified| WorkloadKeyError::Generate)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// Reads PKCS#8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, WorkloadKeyError> {
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map_err(|_rejected| WorkloadKeyError::Parse("not a P-256 key in PKCS#8"))?;
        Ok(Self(Arc::new(Pair {
            ecdsa,
            pkcs8: der.to_vec(),
        })))
    }

    /// Reads PKCS#8 PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, WorkloadKeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_error| WorkloadKeyError::Parse("not a PEM file with a PKCS#8 key"))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// PKCS#8 DER, for the store.
    pub fn pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// The point, uncompressed, as certificates hold it.
    pub fn public_key(&self) -> &[u8] {
        self.0.ecdsa.public_key().as_ref()
    }

    /// Signs DSSE's PAE of `payload_type` and `body`.
    pub fn sign(&self, payload_type: &str, body: &[u8]) -> Result<Vec<u8>, WorkloadKeyError> {
        let message = mesh_bundle::envelope::pae(payload_type, body);
        self.0
            .ecdsa
            .sign(&SystemRandom::new(), &message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_unspecified| WorkloadKeyError::Sign)
    }

    /// A PKCS#10 request for this key, without a subject and without names.
    pub fn csr(&self) -> Result<Vec<u8>, WorkloadKeyError> {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(self.0.pkcs8.as_slice()),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map_err(WorkloadKeyError::Request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params
            .serialize_request(&pair)
            .map_err(WorkloadKeyError::Request)?;
        Ok(csr.der().to_vec())
    }

    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, WorkloadKeyError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.pkcs8.clone()));
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)
            .map_err(|_error| WorkloadKeyError::Parse("not usable for TLS"))
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    /// Larger than any sensible request.
    #[error("certificate signing request is too large")]
    TooLarge,
    /// Not PKCS#10, or not signed by the key in it.
    #[error("certificate signing request is malformed or not signed by its own key")]
    Malformed,
    /// Only P-256 keys are certified.
    #[error("certificate signing request is not for a P-256 key")]
    Algorithm,
}

/// A request whose sender has proved to hold the key. Names in it are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    public_key: rcgen::PublicKey,
}

impl VerifiedCsr {
    /// Reads a request and checks its signature.
    pub fn verify(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > CSR_BYTES_MAX {
            return Err(CsrError::TooLarge);
        }
        let csr = CertificateSigningRequestParams::from_der(&der.into())
            .map_err(|_error| CsrError::Malformed)?;
        if csr.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CsrError::Algorithm);
        }
        Ok(Self {
            public_key: csr.public_key,
        })
    }

    /// The key to certify, as rcgen takes it.
    pub fn public_key(&self) -> &rcgen::PublicKey {
        &self.public_key
    }

    /// SHA-256 of the subject public key info: how certificates of this key are known.
    pub fn spki(&self) -> Digest {
        Digest::of(&self.public_key.subject_public_key_info())
    }

    /// The point, uncompressed: what an enrolment is bound to.
    pub fn key_bytes(&self) -> &[u8] {
        self.public_key.der_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_its_key_and_names_nobody() {
        let key = WorkloadKey::generate().unwrap();
        let csr = key.csr().unwrap();
        let verified = VerifiedCsr::verify(&csr).unwrap();
        assert_eq!(verified.key_bytes(), key.public_key());

        let mut damaged = csr.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(VerifiedCsr::verify(&damaged), Err(CsrError::Malformed));
        assert_eq!(VerifiedCsr::verify(&csr[..20]), Err(CsrError::Malformed));
        assert_eq!(
            VerifiedCsr::verify(&vec![0; CSR_BYTES_MAX + 1]),
            Err(CsrError::TooLarge)
        );
    }

    #[test]
    fn only_p256_is_certified() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&pair)
            .unwrap();
        assert_eq!(VerifiedCsr::verify(csr.der()), Err(CsrError::Algorithm));
    }

    #[test]
    fn a_key_survives_its_storage() {
        let key = WorkloadKey::generate().unwrap();
        let again = WorkloadKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert!(WorkloadKey::from_pkcs8(b"no key").is_err());
        assert!(WorkloadKey::from_pem(b"no key").is_err());
    }
}
