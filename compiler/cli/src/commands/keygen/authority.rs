//! The certificate authority of the mesh, and the intermediate one that a distributor issues with.

use std::time::Duration;

use mesh_bundle::digest::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

const DAY: u64 = 24 * 60 * 60;
/// The authority itself is replaced by a new version of the trust bundle, in good time.
const CA_LIFE: u64 = 10 * 365 * DAY;
/// An intermediate is replaced about yearly; a little more, so that a yearly habit is in time.
const INTERMEDIATE_LIFE: u64 = 400 * DAY;
/// Certificates hold a little before they are made, for clocks that are behind.
const BACKDATED: u64 = 5 * 60;

/// One authority, its key in PKCS#8 PEM.
pub(in crate::commands) struct Made {
    pub(in crate::commands) key: String,
    pub(in crate::commands) pem: String,
    pub(in crate::commands) der: Vec<u8>,
}

/// A root authority; `now` is in Unix seconds.
pub(in crate::commands) fn root(trust_domain: &str, now: u64) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let key_pem = key.serialize_pem();
    let name = format!("root {}", mark(&key));
    let any_depth = BasicConstraints::Unconstrained;
    let root =
        CertifiedIssuer::self_signed(params(trust_domain, &name, now, CA_LIFE, any_depth)?, key)?;
    Ok(Made {
        key: key_pem,
        pem: root.pem(),
        der: root.der().to_vec(),
    })
}

/// An intermediate authority under that of this key and certificate, both in PEM.
pub(in crate::commands) fn intermediate(
    trust_domain: &str,
    now: u64,
    root_key: &str,
    root: &str,
) -> Result<Made, rcgen::Error> {
    let root = Issuer::from_ca_cert_pem(root, KeyPair::from_pem(root_key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let key_pem = key.serialize_pem();
    // Below it there are only workloads.
    let leaves_only = BasicConstraints::Constrained(0);
    let name = format!("intermediate {}", mark(&key));
    let mut parameters = params(trust_domain, &name, now, INTERMEDIATE_LIFE, leaves_only)?;
    parameters.use_authority_key_identifier_extension = true;
    let certificate = parameters.signed_by(&key, &root)?;
    Ok(Made {
        key: key_pem,
        pem: certificate.pem(),
        der: certificate.der().to_vec(),
    })
}

/// One that replaces another has another name: chains are built by names.
fn mark(key: &KeyPair) -> String {
    let digest = Digest::of(key.public_key_raw()).to_hex();
    digest.chars().take(8).collect()
}

fn params(
    trust_domain: &str,
    name: &str,
    now: u64,
    life: u64,
    constraints: BasicConstraints,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{trust_domain} {name}"));
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // SPIFFE X509-SVID, section 4.2: a signing certificate may carry the ID of its trust domain.
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED));
    params.not_after = epoch + Duration::from_secs(now + life);
    Ok(params)
}
