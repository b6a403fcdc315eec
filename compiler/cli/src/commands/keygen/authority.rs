//! The certificate authority of the mesh, and the intermediate one that a distributor issues with.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

const DAY: u64 = 24 * 60 * 60;
/// The authority itself is replaced by a new version of the trust bundle, in good time.
const CA_LIFE: u64 = 10 * 365 * DAY;
/// An intermediate is replaced about yearly; a little more, so that a yearly habit is in time.
const INTERMEDIATE_LIFE: u64 = 400 * DAY;
/// Certificates hold a little before they are made, for clocks that are behind.
const BACKDATED: u64 = 5 * 60;

/// Two authorities, keys in PKCS#8 PEM.
pub(super) struct Authorities {
    pub(super) ca_key: String,
    pub(super) ca_pem: String,
    pub(super) ca_der: Vec<u8>,
    pub(super) intermediate_key: String,
    pub(super) intermediate_pem: String,
}

/// Makes both; `now` is in Unix seconds.
pub(super) fn make(trust_domain: &str, now: u64) -> Result<Authorities, rcgen::Error> {
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let ca_key_pem = ca_key.serialize_pem();
    let any_depth = BasicConstraints::Unconstrained;
    let ca = CertifiedIssuer::self_signed(
        params(trust_domain, "root", now, CA_LIFE, any_depth)?,
        ca_key,
    )?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let key_pem = key.serialize_pem();
    // Below it there are only workloads.
    let leaves_only = BasicConstraints::Constrained(0);
    let mut intermediate = params(
        trust_domain,
        "intermediate",
        now,
        INTERMEDIATE_LIFE,
        leaves_only,
    )?;
    intermediate.use_authority_key_identifier_extension = true;
    let intermediate = CertifiedIssuer::signed_by(intermediate, key, &ca)?;
    Ok(Authorities {
        ca_key: ca_key_pem,
        ca_pem: ca.pem(),
        ca_der: ca.der().to_vec(),
        intermediate_key: key_pem,
        intermediate_pem: intermediate.pem(),
    })
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
