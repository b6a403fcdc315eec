//! Certificates for proxies that have no distributor: one authority, P-256 as in a mesh.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::Failure;

/// Writes `ca.pem`, and for each name `NAME.crt`, `NAME.key` and `NAME.pem`, which holds both. A SPIFFE ID's
/// files have the last part of it for a name.
pub(crate) fn write(out: &Path, names: &[String]) -> Result<(), Failure> {
    fs::create_dir_all(out)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = common_name("authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    fs::write(out.join("ca.pem"), authority.pem())?;
    let issuer = Issuer::new(params, key);
    for name in names {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = common_name(name);
        params.subject_alt_names = vec![if name.contains("://") {
            SanType::URI(name.as_str().try_into()?)
        } else {
            SanType::DnsName(name.as_str().try_into()?)
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        let last = name.rsplit('/').next().unwrap_or(name);
        let key = key.serialize_pem();
        fs::write(out.join(format!("{last}.crt")), &certificate)?;
        fs::write(out.join(format!("{last}.key")), &key)?;
        fs::write(out.join(format!("{last}.pem")), certificate + &key)?;
    }
    Ok(())
}

/// OpenSSL takes a certificate that is named like its issuer for one that signed itself.
fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
