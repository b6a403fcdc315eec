//! A certificate authority for tests, of this crate and of those that use it.
#![expect(
    clippy::unwrap_used,
    reason = "only tests use it, and a failure is theirs"
)]

use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::spiffe::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

use crate::clock::Clock;
use crate::identity::{Credentials, Svid, TrustStore, WorkloadKey};

/// Wall time of the clocks that tests run on, in milliseconds: 2026-01-01.
pub const NOW_MS: u64 = 1_767_225_600_000;

/// A root, an intermediate below it, and the leaves that it signs.
#[derive(Debug)]
pub struct TestAuthority {
    /// `bookshop.example`.
    pub trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl TestAuthority {
    /// New keys for a trust domain.
    pub fn new(trust_domain: &str) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root", trust_domain), root_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(authority("intermediate", trust_domain), key, &root)
                .unwrap();
        Self {
            trust_domain: trust_domain.to_owned(),
            root,
            intermediate,
        }
    }

    /// The root certificate, DER.
    pub fn root(&self) -> &[u8] {
        self.root.der()
    }

    /// The intermediate certificate.
    pub fn intermediate(&self) -> CertificateDer<'static> {
        self.intermediate.der().clone()
    }

    /// Parameters of a good leaf: one day, from five minutes before [`NOW_MS`].
    pub fn leaf(&self, path: &str) -> CertificateParams {
        leaf(&format!("spiffe://{}{path}", self.trust_domain))
    }

    /// Signs a leaf for a key; the chain is the leaf and the intermediate.
    pub fn sign(
        &self,
        params: &CertificateParams,
        key: &WorkloadKey,
    ) -> Vec<CertificateDer<'static>> {
        let csr = crate::identity::csr::VerifiedCsr::verify(&key.csr().unwrap()).unwrap();
        self.sign_csr(params, &csr)
    }

    /// Signs a leaf for a request, as an issuer does.
    pub fn sign_csr(
        &self,
        params: &CertificateParams,
        csr: &crate::identity::csr::VerifiedCsr,
    ) -> Vec<CertificateDer<'static>> {
        let leaf = params
            .signed_by(csr.public_key(), &self.intermediate)
            .unwrap();
        vec![leaf.der().clone(), self.intermediate()]
    }

    /// A leaf, its chain and a new key.
    pub fn svid(&self, path: &str) -> Arc<Svid> {
        self.svid_with(&self.leaf(path))
    }

    /// A leaf of the given shape, its chain and a new key.
    pub fn svid_with(&self, params: &CertificateParams) -> Arc<Svid> {
        let key = WorkloadKey::generate().unwrap();
        Arc::new(Svid::new(self.sign(params, &key), key).unwrap())
    }

    /// Trusts this authority and nobody else.
    pub fn trust(&self) -> TrustStore {
        TrustStore::empty()
            .with_roots(&self.trust_domain, [self.root()])
            .unwrap()
    }

    /// A workload that trusts this authority, on a clock of its own that stands at [`NOW_MS`].
    pub fn credentials(&self, path: &str) -> Credentials {
        let credentials = Credentials::new(Clock::manual(NOW_MS));
        credentials.set_trust(self.trust());
        credentials.set_svid(self.svid(path));
        credentials
    }

    /// An identity of this trust domain.
    pub fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{}{path}", self.trust_domain)).unwrap()
    }
}

/// A temporary folder in memory, where there is one: tests that make much last would wait for a disk.
pub fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Parameters of a good leaf with any URI.
pub fn leaf(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.serial_number = Some(SerialNumber::from_slice(
        &crate::identity::svid::serial_number([7; 8], [9; 8]),
    ));
    set_validity(&mut params, NOW_MS / 1000 - 300, NOW_MS / 1000 + 86_400);
    params
}

/// Sets both ends of the validity, Unix seconds.
pub fn set_validity(params: &mut CertificateParams, not_before: u64, not_after: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before);
    params.not_after = epoch + Duration::from_secs(not_after);
}

fn authority(name: &str, trust_domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, format!("{trust_domain} {name}"));
    params.distinguished_name = distinguished;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = format!("spiffe://{trust_domain}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    set_validity(
        &mut params,
        NOW_MS / 1000 - 86_400,
        NOW_MS / 1000 + 10 * 86_400,
    );
    params
}
