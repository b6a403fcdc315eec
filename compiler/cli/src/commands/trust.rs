//! `meshc trust`: what the offline keys sign after `meshc keygen`. Everything is written into the folder that it made;
//! what a distributor needs of it lies in `trust/`, and is copied there.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_bundle::envelope::Envelope;
use mesh_bundle::reject::Rejection;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::statement::Verified;
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::TrustRoot;

use super::Failure;
use crate::args::{AuthorityStep, Place, Trust, TrustCommand};
use crate::exit_code::Exit;
use crate::limits;

mod authority;
mod revoke;
mod show;

/// Runs one of its commands.
pub(super) fn run(args: &Trust, place: &Place) -> Result<Exit, Failure> {
    match &args.command {
        TrustCommand::Show(args) => show::run(args, place),
        TrustCommand::Revoke(args) => revoke::run(args, place),
        TrustCommand::Intermediate(args) => authority::intermediate(args, place),
        TrustCommand::Authority(AuthorityStep::Add(args)) => authority::add(args, place),
        TrustCommand::Authority(AuthorityStep::Switch(args)) => authority::switch(args, place),
        TrustCommand::Authority(AuthorityStep::Drop(args)) => authority::drop(args, place),
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
enum TrustError {
    #[error("could not {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is too large", .0.display())]
    TooLarge(PathBuf),
    #[error("{} is not believed", path.display())]
    Rejected {
        path: PathBuf,
        #[source]
        rejection: Rejection,
    },
    #[error("{} has no trust-root.1.envelope; give the folder that `meshc keygen` wrote", .0.display())]
    NoRoot(PathBuf),
    #[error("there is no trust bundle of {0}")]
    NoBundle(String),
    #[error("what was signed would not be believed; is {} the trust key of this mesh, and are its keys enough?", key.display())]
    Own {
        key: PathBuf,
        #[source]
        rejection: Rejection,
    },
    #[error("the clock is before 1970")]
    Clock,
    #[error("{0}")]
    Refused(String),
}

/// What a folder of `meshc keygen` says, verified from its first root on.
struct Folder {
    path: PathBuf,
    /// Where the envelopes are.
    trust: PathBuf,
    root: TrustRoot,
    /// Of every trust domain, with the file that has the newest.
    bundles: Vec<(PathBuf, Verified<TrustBundle>)>,
    streams: Vec<(PathBuf, Verified<Revocations>)>,
}

impl Folder {
    fn read(place: &Place, folder: &Path) -> Result<Self, TrustError> {
        let path = super::folder(place, Some(folder));
        let below = path.join("trust");
        let trust = if below.is_dir() { below } else { path.clone() };
        let root = chain(&trust)?;
        let mut read = Self {
            path,
            trust,
            root,
            bundles: Vec::new(),
            streams: Vec::new(),
        };
        for (file, name) in envelopes(&read.trust)? {
            let rejected = |rejection| TrustError::Rejected {
                path: file.clone(),
                rejection,
            };
            if name.starts_with("trust-bundle") {
                let bundle = read.root.verify_trust_bundle(&envelope(&file)?);
                read.bundles.push((file.clone(), bundle.map_err(rejected)?));
            } else if name.starts_with("revocations") {
                let stream = read.root.verify_revocations(&envelope(&file)?);
                read.streams.push((file.clone(), stream.map_err(rejected)?));
            }
        }
        Ok(read)
    }

    /// The newest trust bundle of the own domain.
    fn own_bundle(&self) -> Result<&TrustBundle, TrustError> {
        let own = &self.root.scope.trust_domain;
        let bundles = self.bundles.iter().map(|(_, bundle)| bundle.value());
        bundles
            .filter(|bundle| bundle.trust_domain == *own)
            .max_by_key(|bundle| bundle.version)
            .ok_or_else(|| TrustError::NoBundle(own.to_string()))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.path.join("keys").join(name)
    }
}

fn chain(trust: &Path) -> Result<TrustRoot, TrustError> {
    let path = |version: u64| trust.join(format!("trust-root.{version}.envelope"));
    if !path(1).exists() {
        return Err(TrustError::NoRoot(trust.to_path_buf()));
    }
    let first = envelope(&path(1))?;
    // The folder is the operator's own word.
    let mut root = TrustRoot::verify_pinned(&first, &first.payload_digest())
        .map_err(|rejection| TrustError::Rejected {
            path: path(1),
            rejection,
        })?
        .into_value();
    while path(root.version + 1).exists() {
        let next = path(root.version + 1);
        root = root
            .verify_next(&envelope(&next)?)
            .map_err(|rejection| TrustError::Rejected {
                path: next,
                rejection,
            })?
            .into_value();
    }
    Ok(root)
}

fn envelopes(folder: &Path) -> Result<Vec<(PathBuf, String)>, TrustError> {
    let failed = |source| TrustError::Io {
        action: "list",
        path: folder.to_path_buf(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name
            && name.ends_with(".envelope")
        {
            found.push((path.clone(), name.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

fn envelope(path: &Path) -> Result<Envelope, TrustError> {
    let bytes = bytes(path)?;
    Envelope::decode(&bytes).map_err(|rejection| TrustError::Rejected {
        path: path.to_path_buf(),
        rejection,
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(limits::TRUST_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits::TRUST_FILE_BYTES_MAX {
        return Err(TrustError::TooLarge(path.to_path_buf()));
    }
    Ok(bytes)
}

fn text(path: &Path) -> Result<String, TrustError> {
    String::from_utf8(bytes(path)?).map_err(|error| TrustError::Io {
        action: "read",
        path: path.to_path_buf(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// Replaces a file whole, on the disk before its name is.
fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), TrustError> {
    let failed = |source| TrustError::Io {
        action: "write",
        path: path.to_path_buf(),
        source,
    };
    let aside = path.with_extension("new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written
        .and_then(|()| fs::rename(&aside, path))
        .map_err(failed)
}

fn rename(from: &Path, to: &Path) -> Result<(), TrustError> {
    fs::rename(from, to).map_err(|source| TrustError::Io {
        action: "rename",
        path: from.to_path_buf(),
        source,
    })
}

fn now() -> Result<std::time::Duration, TrustError> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_before| TrustError::Clock)
}

/// A file as its own folder calls it.
fn short(folder: &Folder, path: &Path) -> String {
    let below = path.strip_prefix(&folder.path).unwrap_or(path);
    below.display().to_string()
}
