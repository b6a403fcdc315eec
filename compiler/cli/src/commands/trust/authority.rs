//! `meshc trust intermediate` and `meshc trust authority`: new certificate authorities. What a step needs of the one
//! before is looked up in the folder; whether the mesh is ready for it is judged by the distributor, which takes a step
//! only when no proxy would lose a connection by it.

use std::path::Path;

use mesh_bundle::trust_bundle::TrustBundle;
use serde::Serialize;

use super::{Failure, Folder, TrustError, now, rename, replace, short, text};
use crate::args::{Format, Place, TrustFolderArgument};
use crate::commands::keygen::{authority as made, key_file};
use crate::exit_code::Exit;
use crate::output;
use crate::render::json;

/// Modes of files.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

#[derive(Serialize)]
struct Done {
    files: Vec<String>,
    next: String,
}

/// A new intermediate authority under the root authority in use.
pub(super) fn intermediate(args: &TrustFolderArgument, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let authority = text(&folder.trust.join("ca.pem"))?;
    must_be_in(&folder, &authority)?;
    let key = text(&folder.key("ca.key"))?;
    let files = make_intermediate(&folder, &key, &authority)?;
    let next = "copy both to the distributor: it issues with them from then on, and what was issued before stays good";
    done(args, &folder, files, next)
}

/// The first step of replacing the root authority.
pub(super) fn add(args: &TrustFolderArgument, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let key_path = folder.key("ca.next.key");
    if key_path.exists() {
        let why = "keys/ca.next.key is there: an authority was added already; go on with `meshc trust authority switch`";
        return Err(TrustError::Refused(why.to_owned()).into());
    }
    let domain = folder.root.scope.trust_domain.to_string();
    let new = made::root(&domain, now()?.as_secs())?;
    let last = folder.own_bundle()?;
    let mut authorities = last.x509_authorities.clone();
    authorities.push(new.der);
    let file = sign_bundle(&folder, last.version + 1, authorities)?;
    // The keys last: whoever finds them finds the bundle too.
    let pem = folder.trust.join("ca.next.pem");
    replace(&pem, PUBLIC, new.pem.as_bytes())?;
    replace(&key_path, PRIVATE, new.key.as_bytes())?;
    let files = vec![
        short(&folder, &file),
        short(&folder, &pem),
        short(&folder, &key_path),
    ];
    let next = "copy trust/trust-bundle.envelope to every distributor; when `meshd rotation` says that every proxy has \
                it, go on with `meshc trust authority switch`";
    done(args, &folder, files, next)
}

/// The second step.
pub(super) fn switch(args: &TrustFolderArgument, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let (key_path, pem_path) = (folder.key("ca.next.key"), folder.trust.join("ca.next.pem"));
    if !key_path.exists() {
        let why = "there is no keys/ca.next.key: begin with `meshc trust authority add`";
        return Err(TrustError::Refused(why.to_owned()).into());
    }
    let authority = text(&pem_path)?;
    let new = must_be_in(&folder, &authority)?;
    let made = text(&folder.trust.join("intermediate.next.pem"));
    if made.is_ok_and(|made| is_issued_by(&made, &new)) {
        let why = "trust/intermediate.next.pem is of the new authority already; go on with `meshc trust authority drop`";
        return Err(TrustError::Refused(why.to_owned()).into());
    }
    let files = make_intermediate(&folder, &text(&key_path)?, &authority)?;
    let next = "copy both to the distributor, which takes them when every proxy trusts the new authority; when `meshd \
                rotation` says that every certificate is below it, go on with `meshc trust authority drop`";
    done(args, &folder, files, next)
}

/// The last step.
pub(super) fn drop(args: &TrustFolderArgument, place: &Place) -> Result<Exit, Failure> {
    let folder = Folder::read(place, &args.folder)?;
    let (key_path, pem_path) = (folder.key("ca.next.key"), folder.trust.join("ca.next.pem"));
    if !key_path.exists() {
        let why = "there is no keys/ca.next.key: nothing is being replaced";
        return Err(TrustError::Refused(why.to_owned()).into());
    }
    let authority = text(&pem_path)?;
    let new = must_be_in(&folder, &authority)?;
    let intermediate = text(&folder.trust.join("intermediate.next.pem")).map_err(|_missing| {
        let why =
            "there is no trust/intermediate.next.pem: `meshc trust authority switch` comes first";
        TrustError::Refused(why.to_owned())
    })?;
    if !is_issued_by(&intermediate, &new) {
        let why = "trust/intermediate.next.pem is not of the new authority; `meshc trust authority switch` makes one";
        return Err(TrustError::Refused(why.to_owned()).into());
    }
    let last = folder.own_bundle()?;
    let file = sign_bundle(&folder, last.version + 1, vec![new])?;
    rename(&folder.key("ca.key"), &folder.key("ca.previous.key"))?;
    rename(&pem_path, &folder.trust.join("ca.pem"))?;
    rename(&key_path, &folder.key("ca.key"))?;
    let files = vec![
        short(&folder, &file),
        "keys/ca.key".to_owned(),
        "trust/ca.pem".to_owned(),
    ];
    let next = "copy trust/trust-bundle.envelope to every distributor, which takes it when no good certificate needs the \
                old authority; keep or destroy keys/ca.previous.key";
    done(args, &folder, files, next)
}

fn make_intermediate(folder: &Folder, key: &str, authority: &str) -> Result<Vec<String>, Failure> {
    let domain = folder.root.scope.trust_domain.to_string();
    let new = made::intermediate(&domain, now()?.as_secs(), key, authority)?;
    let key_path = folder.key("intermediate.next.key");
    let pem_path = folder.trust.join("intermediate.next.pem");
    // The one before is what a distributor falls back on until it may take this one.
    if key_path.exists() && pem_path.exists() {
        rename(&key_path, &folder.key("intermediate.key"))?;
        rename(&pem_path, &folder.trust.join("intermediate.pem"))?;
    }
    replace(&key_path, PRIVATE, new.key.as_bytes())?;
    replace(&pem_path, PUBLIC, new.pem.as_bytes())?;
    Ok(vec![short(folder, &key_path), short(folder, &pem_path)])
}

fn sign_bundle(
    folder: &Folder,
    version: u64,
    x509_authorities: Vec<Vec<u8>>,
) -> Result<std::path::PathBuf, Failure> {
    let scope = &folder.root.scope;
    let path = folder.key("trust.key");
    let key = key_file::read(&path)?;
    let bundle = TrustBundle {
        trust_domain: scope.trust_domain.clone(),
        version,
        x509_authorities,
    };
    let envelope = bundle.seal(scope, &[&key]);
    folder
        .root
        .verify_trust_bundle(&envelope)
        .map_err(|rejection| TrustError::Own {
            key: path,
            rejection,
        })?;
    let file = folder.trust.join("trust-bundle.envelope");
    replace(&file, PUBLIC, &envelope.encode())?;
    Ok(file)
}

/// The DER of an authority that proxies are told to trust.
fn must_be_in(folder: &Folder, pem: &str) -> Result<Vec<u8>, TrustError> {
    let der = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .ok()
        .map(|(_rest, pem)| pem.contents)
        .filter(|der| {
            folder
                .own_bundle()
                .is_ok_and(|bundle| bundle.x509_authorities.contains(der))
        });
    der.ok_or_else(|| {
        TrustError::Refused(
            "the authority's certificate is not in the newest trust bundle: nobody would believe it".to_owned(),
        )
    })
}

fn is_issued_by(pem: &str, authority: &[u8]) -> bool {
    let Ok((_rest, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let (Ok(certificate), Ok((_rest, authority))) = (
        pem.parse_x509(),
        x509_parser::parse_x509_certificate(authority),
    ) else {
        return false;
    };
    // The name of an authority has a part of its key's digest.
    certificate.issuer() == authority.subject()
}

fn done(
    args: &TrustFolderArgument,
    folder: &Folder,
    files: Vec<String>,
    next: &str,
) -> Result<Exit, Failure> {
    let text = match args.format {
        Format::Json => json::line(&Done {
            files,
            next: next.to_owned(),
        })?,
        Format::Human => format!(
            "wrote {} in {}\nnext: {next}\n",
            files.join(", "),
            shown(&folder.path)
        ),
    };
    output::data(&text)?;
    Ok(Exit::Clean)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
