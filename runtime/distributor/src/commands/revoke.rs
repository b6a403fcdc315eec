//! `meshd revoke`

use std::path::Path;

use http::Method;
use mesh_bundle::digest::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::args::{Format, RevokeArguments};
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;
use crate::folder::read_public;
use crate::limits;
use crate::output::chain;
use crate::revoke::{Asked, Kind, Listed, Which};
use crate::status::table;

/// Revokes, takes back or lists.
pub(crate) fn run(arguments: &RevokeArguments) -> ExitCode {
    ask::print(text(arguments))
}

fn text(arguments: &RevokeArguments) -> Result<String, AskError> {
    let socket = &arguments.socket.socket;
    let Some((kind, value)) = subject(arguments)? else {
        let (all, json) = ask::get::<Vec<Listed>>(socket, "/revocations")?;
        return Ok(match arguments.format {
            Format::Json => String::from_utf8_lossy(&json).into_owned(),
            Format::Human if all.is_empty() => "nothing is revoked".to_owned(),
            Format::Human => table::revocations(&all),
        });
    };
    let which = match arguments.issued_before.as_deref() {
        None => Which::All,
        Some("now") => Which::UntilNow,
        Some(time) => Which::Before(time.to_owned()),
    };
    let asked = Asked {
        kind,
        value,
        which,
        reason: arguments.reason.clone(),
    };
    let body = serde_json::to_vec(&asked)?.into();
    if arguments.take_back {
        ask::ask(socket, Method::DELETE, "/revocations", body)?;
        return Ok(match arguments.format {
            Format::Json => "null".to_owned(),
            Format::Human => format!(
                "{} {} is no longer revoked by this issuer",
                kind.as_str(),
                asked.value
            ),
        });
    }
    let json = ask::ask(socket, Method::POST, "/revocations", body)?;
    let made: Listed = serde_json::from_slice(&json)?;
    Ok(match arguments.format {
        Format::Json => String::from_utf8_lossy(&json).into_owned(),
        Format::Human => {
            let which = match &made.issued_before {
                None => "every certificate, also those to come".to_owned(),
                Some(time) => format!("certificates that were issued before {time}"),
            };
            let (kind, value) = (made.kind.as_str(), &made.value);
            format!("revoked {kind} {value}: {which}")
        }
    })
}

fn subject(arguments: &RevokeArguments) -> Result<Option<(Kind, String)>, AskError> {
    if let Some(identity) = &arguments.identity {
        return Ok(Some((Kind::SpiffeId, identity.clone())));
    }
    if let Some(enrolment) = &arguments.enrolment {
        return Ok(Some((Kind::Enrolment, enrolment.to_ascii_lowercase())));
    }
    if let Some(given) = &arguments.leaf_key {
        return Ok(Some((Kind::LeafKey, key(given)?)));
    }
    match &arguments.issuer_key {
        Some(given) => Ok(Some((Kind::IssuerKey, key(given)?))),
        None => Ok(None),
    }
}

/// A digest as it is, or that of the public key of a certificate.
fn key(given: &str) -> Result<String, AskError> {
    if let Ok(digest) = Digest::from_hex(&given.to_ascii_lowercase()) {
        return Ok(digest.to_hex());
    }
    let wrong = |why: &str| AskError::Argument(format!("{given}: {why}"));
    let pem = read_public(Path::new(given), limits::TRUST_FILE_BYTES_MAX).map_err(|error| {
        wrong(&format!(
            "neither 64 hexadecimal digits nor a file: {}",
            chain(&error)
        ))
    })?;
    let der = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| wrong(&format!("no certificate in PEM: {error}")))?;
    let (_rest, parsed) =
        x509_parser::parse_x509_certificate(&der).map_err(|_error| wrong("not a certificate"))?;
    Ok(Digest::of(parsed.public_key().raw).to_hex())
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;

    use super::*;

    #[test]
    fn a_key_is_given_by_its_digest_or_by_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leaf.pem");
        let key_pair = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key_pair).unwrap();
        std::fs::write(&file, certificate.pem()).unwrap();
        let digest = Digest::of(&key_pair.subject_public_key_info()).to_hex();
        assert_eq!(key(file.to_str().unwrap()).unwrap(), digest);
        assert_eq!(key(&digest.to_ascii_uppercase()).unwrap(), digest);
        let missing = key("no-such-file").unwrap_err().to_string();
        assert!(
            missing.contains("neither 64 hexadecimal digits nor a file"),
            "{missing}"
        );
        std::fs::write(&file, "no PEM").unwrap();
        assert!(key(file.to_str().unwrap()).is_err());
    }
}
