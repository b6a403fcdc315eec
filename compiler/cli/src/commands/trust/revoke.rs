//! `meshc trust revoke`: for good, by the trust key, whatever becomes of an issuer.

use std::path::Path;

use mesh_bundle::digest::Digest;
use mesh_bundle::key::{KeyId, SigningKey};
use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::date::Date;
use serde::Serialize;

use super::{Failure, Folder, TrustError, bytes, now, replace, short};
use crate::args::{Format, Place, RevokeTrust};
use crate::commands::keygen::key_file;
use crate::exit_code::Exit;
use crate::output;
use crate::render::json;

/// Our issuers' certificates begin to be valid this long before they are issued, in seconds.
const BACKDATED: u64 = 5 * 60;

#[derive(Serialize)]
struct Made {
    file: String,
    version: u64,
    revoked: usize,
}

pub(super) fn run(args: &RevokeTrust, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let first = folder.key("trust.key");
    let paths = std::iter::once(&first).chain(&args.key);
    let keys: Vec<SigningKey> = paths
        .map(|path| key_file::read(path))
        .collect::<Result<_, _>>()?;
    let stream = keys.iter().map(|key| key.public().id()).min();
    let last = newest(&folder, stream);
    let mut entries = last.map(|last| last.entries.clone()).unwrap_or_default();
    let subject = subject(args)?;
    let before = entries.len();
    entries.retain(|entry| entry.subject != subject);
    if args.take_back {
        if entries.len() == before {
            let why = "the trust key has not revoked that; `meshc trust show` shows what it has";
            return Err(TrustError::Refused(why.to_owned()).into());
        }
    } else {
        entries.push(Revocation {
            subject,
            issued_before: limit(args)?,
        });
    }
    let revocations = Revocations {
        version: last.map_or(0, |last| last.version) + 1,
        issued_ms: u64::try_from(now()?.as_millis()).map_err(|_beyond| TrustError::Clock)?,
        entries,
    };
    let signers: Vec<_> = keys.iter().collect();
    let envelope = revocations.seal(&folder.root.scope, &signers);
    folder
        .root
        .verify_revocations(&envelope)
        .map_err(|rejection| TrustError::Own {
            key: first.clone(),
            rejection,
        })?;
    let file = folder.trust.join("revocations.trust.envelope");
    replace(&file, 0o644, &envelope.encode())?;
    let name = short(&folder, &file);
    let text = match args.format {
        Format::Json => json::line(&Made {
            file: name,
            version: revocations.version,
            revoked: revocations.entries.len(),
        })?,
        Format::Human => format!(
            "wrote {name}, version {}, {} revoked for good\ncopy it into the trust folder of every distributor: \
             they take it without a restart\n",
            revocations.version,
            revocations.entries.len()
        ),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

/// What these keys said last.
fn newest(folder: &Folder, stream: Option<KeyId>) -> Option<&Revocations> {
    let own = folder
        .streams
        .iter()
        .filter(|(_, known)| Some(known.stream_key()) == stream);
    own.map(|(_, known)| known.value())
        .max_by_key(|known| known.version)
}

fn limit(args: &RevokeTrust) -> Result<Option<u64>, TrustError> {
    let issued = match args.issued_before.as_deref() {
        None => return Ok(None),
        // One that is issued within this second is refused too.
        Some("now") => now()?.as_secs() + 1,
        Some(day) => Date::parse(day)
            .and_then(|date| u64::try_from(date.days()).ok())
            .map(|days| days * 24 * 60 * 60)
            .ok_or_else(|| {
                TrustError::Refused(format!(
                    "{day:?} is neither `now` nor a day as in 2027-03-01"
                ))
            })?,
    };
    // Zero would mean every certificate.
    Ok(Some(issued.saturating_sub(BACKDATED).max(1)))
}

fn subject(args: &RevokeTrust) -> Result<RevokedSubject, TrustError> {
    if let Some(identity) = &args.identity {
        let id = SpiffeId::parse(identity)
            .map_err(|error| TrustError::Refused(format!("{identity:?}: {error}")))?;
        return Ok(RevokedSubject::SpiffeId(id));
    }
    if let Some(enrolment) = &args.enrolment {
        let id = enrolment.to_ascii_lowercase();
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            let why =
                format!("{enrolment:?} is not an enrolment: those have 16 hexadecimal digits");
            return Err(TrustError::Refused(why));
        }
        return Ok(RevokedSubject::EnrolmentId(id));
    }
    if let Some(given) = &args.leaf_key {
        return Ok(RevokedSubject::LeafSpki(key(given)?));
    }
    let given = args.issuer_key.as_deref().unwrap_or_default();
    Ok(RevokedSubject::IssuerSpki(key(given)?))
}

/// A digest as it is, or that of the public key of a certificate.
fn key(given: &str) -> Result<Digest, TrustError> {
    if let Ok(digest) = Digest::from_hex(&given.to_ascii_lowercase()) {
        return Ok(digest);
    }
    let text = bytes(Path::new(given))?;
    public_key(&text).ok_or_else(|| {
        TrustError::Refused(format!(
            "{given} is neither 64 hexadecimal digits nor a certificate in PEM"
        ))
    })
}

/// SHA-256 of the subject public key info of the first certificate of a PEM text.
fn public_key(pem: &[u8]) -> Option<Digest> {
    let (_rest, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(Digest::of(certificate.public_key().raw))
}
