//! `meshc trust show`: what a trust folder says, verified.

use mesh_bundle::digest::Digest;
use mesh_bundle::revocations::{Revocation, RevokedSubject};
use mesh_bundle::trust_root::RoleKind;
use serde::Serialize;

use super::{Failure, Folder, short};
use crate::args::{Format, Place, ShowTrust};
use crate::exit_code::Exit;
use crate::output;
use crate::render::json;

#[derive(Serialize)]
struct Shown {
    mesh: String,
    environment: String,
    trust_domain: String,
    trust_root: Root,
    bundles: Vec<Bundle>,
    revocations: Vec<Stream>,
}

#[derive(Serialize)]
struct Root {
    version: u64,
    digest: String,
    epoch: u64,
}

#[derive(Serialize)]
struct Bundle {
    file: String,
    trust_domain: String,
    version: u64,
    authorities: Vec<Authority>,
}

#[derive(Serialize)]
struct Authority {
    key: String,
    subject: String,
    expires: Option<i64>,
}

#[derive(Serialize)]
struct Stream {
    file: String,
    key: String,
    by: &'static str,
    version: u64,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kind: &'static str,
    value: String,
    /// Unix seconds; certificates that begin to be valid before are refused; null: all.
    valid_before: Option<u64>,
}

pub(super) fn run(args: &ShowTrust, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let shown = shown(&folder);
    let text = match args.format {
        Format::Json => json::line(&shown)?,
        Format::Human => human(&shown),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn shown(folder: &Folder) -> Shown {
    let scope = &folder.root.scope;
    let bundles = folder.bundles.iter().map(|(file, bundle)| Bundle {
        file: short(folder, file),
        trust_domain: bundle.value().trust_domain.to_string(),
        version: bundle.value().version,
        authorities: bundle
            .value()
            .x509_authorities
            .iter()
            .map(|der| authority(der))
            .collect(),
    });
    let streams = folder.streams.iter().map(|(file, stream)| Stream {
        file: short(folder, file),
        key: stream.stream_key().to_hex(),
        by: match folder.root.roles_of(stream.stream_key()).as_slice() {
            [RoleKind::Trust] => "trust",
            _ => "issuer",
        },
        version: stream.value().version,
        entries: stream.value().entries.iter().map(entry).collect(),
    });
    Shown {
        mesh: scope.mesh.clone(),
        environment: scope.environment.clone(),
        trust_domain: scope.trust_domain.to_string(),
        trust_root: Root {
            version: folder.root.version,
            digest: folder.root.digest().to_string(),
            epoch: folder.root.epoch,
        },
        bundles: bundles.collect(),
        revocations: streams.collect(),
    }
}

fn authority(der: &[u8]) -> Authority {
    match x509_parser::parse_x509_certificate(der) {
        Ok((_rest, parsed)) => Authority {
            key: Digest::of(parsed.public_key().raw).to_hex(),
            subject: parsed.subject().to_string(),
            expires: Some(parsed.validity().not_after.timestamp()),
        },
        Err(_malformed) => Authority {
            key: String::new(),
            subject: "not a certificate".to_owned(),
            expires: None,
        },
    }
}

fn entry(revocation: &Revocation) -> Entry {
    let (kind, value) = match &revocation.subject {
        RevokedSubject::SpiffeId(id) => ("spiffe_id", id.to_string()),
        RevokedSubject::EnrolmentId(id) => ("enrolment", id.clone()),
        RevokedSubject::LeafSpki(key) => ("leaf_key", key.to_hex()),
        RevokedSubject::IssuerSpki(key) => ("issuer_key", key.to_hex()),
    };
    Entry {
        kind,
        value,
        valid_before: revocation.issued_before,
    }
}

fn human(shown: &Shown) -> String {
    let mut lines = vec![
        format!(
            "mesh {}, environment {}, trust domain {}",
            shown.mesh, shown.environment, shown.trust_domain
        ),
        format!(
            "trust root {} is {}, epoch {}",
            shown.trust_root.version, shown.trust_root.digest, shown.trust_root.epoch
        ),
    ];
    for bundle in &shown.bundles {
        lines.push(format!(
            "{}: trust bundle {} of {}",
            bundle.file, bundle.version, bundle.trust_domain
        ));
        for authority in &bundle.authorities {
            lines.push(format!("  {} key {}", authority.subject, authority.key));
        }
    }
    for stream in &shown.revocations {
        lines.push(format!(
            "{}: revocations {} of the {} key {}, {} entries",
            stream.file,
            stream.version,
            stream.by,
            stream.key,
            stream.entries.len()
        ));
        for entry in &stream.entries {
            let when = match entry.valid_before {
                None => "every certificate".to_owned(),
                Some(before) => format!("certificates valid from before {before} (Unix time)"),
            };
            lines.push(format!("  {} {}: {when}", entry.kind, entry.value));
        }
    }
    lines.join("\n") + "\n"
}
