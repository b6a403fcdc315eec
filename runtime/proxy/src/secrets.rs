//! Key material that policy calls by name and that the proxy is given at start, so that none of it
//! is ever in git: certificates with their keys, and bundles of roots. Files are read again when
//! they change; what cannot be read leaves what was read before.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::limits;

/// The file names of a folder of key material, as Kubernetes mounts it.
const FOLDER: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Where one secret is, as `--secret NAME=FILE` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretPath {
    /// The name that policy uses.
    pub(crate) name: String,
    /// A PEM file, or a folder with `tls.crt` and `tls.key`.
    pub(crate) path: PathBuf,
}

/// Why key material cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    /// A file.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not PEM.
    #[error("parse the PEM of {}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Nothing in it.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The key is none that we can use, or not that of the certificate.
    #[error("use the key of {}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// One name for two files.
    #[error("--secret {name} is given twice")]
    Twice {
        /// The name.
        name: String,
    },
}

/// What one name stands for.
#[derive(Debug)]
pub(crate) struct Material {
    /// All certificates, in the order of the file: a chain, or a bundle of roots.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// The chain with its key, if there is one.
    pub(crate) key: Option<Arc<CertifiedKey>>,
}

/// All key material of this proxy, by name. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Arc<BTreeMap<String, Secret>>);

#[derive(Debug)]
struct Secret {
    path: PathBuf,
    material: ArcSwap<Material>,
    /// What the files looked like when they were last read, well or not.
    seen: Mutex<Vec<Stamp>>,
}

/// What tells a file that was replaced or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Secrets {
    /// Reads all of it.
    pub(crate) fn read(paths: &[SecretPath]) -> Result<Self, SecretError> {
        let mut secrets = BTreeMap::new();
        for SecretPath { name, path } in paths {
            let seen = Mutex::new(stamps(path));
            let secret = Secret {
                path: path.clone(),
                material: ArcSwap::from_pointee(material(path)?),
                seen,
            };
            if secrets.insert(name.clone(), secret).is_some() {
                return Err(SecretError::Twice { name: name.clone() });
            }
        }
        Ok(Self(Arc::new(secrets)))
    }

    /// What the name stands for now.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Material>> {
        Some(self.0.get(name)?.material.load_full())
    }

    /// Whether there is anything to read again.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads what changed since it was read.
    pub(crate) fn refresh(&self) {
        for (name, secret) in self.0.iter() {
            secret.refresh(name);
        }
    }
}

impl Secret {
    fn refresh(&self, name: &str) {
        let now = stamps(&self.path);
        let before = {
            // A panic elsewhere leaves stamps that are still good.
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, now.clone())
        };
        if before == now {
            return;
        }
        match material(&self.path) {
            Ok(material) => {
                self.material.store(Arc::new(material));
                tracing::info!(secret = name, "key material was read again");
            }
            Err(error) => {
                let error = crate::subscribe::chain(&error);
                tracing::error!(
                    secret = name,
                    error,
                    "changed key material cannot be used; the earlier one stays"
                );
            }
        }
    }
}

/// The files that a path stands for.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_path_buf()];
    }
    let files = FOLDER.iter().map(|name| path.join(name));
    files.filter(|file| file.exists()).collect()
}

fn stamps(path: &Path) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some(Stamp {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    };
    files(path).iter().filter_map(stamp).collect()
}

fn material(path: &Path) -> Result<Material, SecretError> {
    let mut text = Vec::new();
    for file in files(path) {
        let read = std::fs::File::open(&file)
            .and_then(|open| open.take(limits::SECRET_BYTES_MAX).read_to_end(&mut text));
        read.map_err(|source| SecretError::Read { path: file, source })?;
        // The last line of a file need not end.
        text.push(b'\n');
    }
    parse(path, &text)
}

fn parse(path: &Path, text: &[u8]) -> Result<Material, SecretError> {
    let pem = |source| SecretError::Pem {
        path: path.to_path_buf(),
        source,
    };
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem)?;
    if certificates.is_empty() {
        return Err(SecretError::Empty {
            path: path.to_path_buf(),
        });
    }
    let key = match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Some(key),
        Err(pem::Error::NoItemsFound) => None,
        Err(error) => return Err(pem(error)),
    };
    let certified = key.map(|key| CertifiedKey::from_der(certificates.clone(), key, &provider()));
    let key = certified.transpose().map_err(|source| SecretError::Key {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Material {
        certificates,
        key: key.map(Arc::new),
    })
}

/// Always named explicitly: another crate in the process may install another default.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A certificate for a host, and its key, in one PEM text.
    pub(crate) fn certificate(host: &str) -> (String, CertificateDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let text = format!("{}{}", certificate.pem(), key.serialize_pem());
        (text, certificate.der().clone())
    }

    fn named(path: &Path) -> [SecretPath; 1] {
        [SecretPath {
            name: "shop-cert".to_owned(),
            path: path.to_path_buf(),
        }]
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.pem");
        let (first, der) = certificate("shop.example");
        std::fs::write(&file, first).unwrap();
        let secrets = Secrets::read(&named(&file)).unwrap();
        let shown = || secrets.get("shop-cert").unwrap().certificates[0].clone();
        assert_eq!(shown(), der);
        assert!(secrets.get("other").is_none());

        let (second, renewed) = certificate("shop.example");
        std::fs::write(folder.path().join("new.pem"), second).unwrap();
        std::fs::rename(folder.path().join("new.pem"), &file).unwrap();
        secrets.refresh();
        assert_eq!(shown(), renewed);

        std::fs::write(&file, "no PEM at all").unwrap();
        secrets.refresh();
        assert_eq!(shown(), renewed);
        std::fs::remove_file(&file).unwrap();
        secrets.refresh();
        assert_eq!(shown(), renewed);
    }

    #[test]
    fn a_folder_as_kubernetes_mounts_it() {
        let folder = tempfile::tempdir().unwrap();
        let (text, der) = certificate("shop.example");
        let split = text.find("-----BEGIN PRIVATE").unwrap();
        let (chain, key) = text.split_at(split);
        std::fs::write(folder.path().join("tls.crt"), chain.trim_end()).unwrap();
        std::fs::write(folder.path().join("tls.key"), key).unwrap();
        let secrets = Secrets::read(&named(folder.path())).unwrap();
        let material = secrets.get("shop-cert").unwrap();
        assert_eq!(material.certificates, [der]);
        assert!(material.key.is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.pem");
        let refused = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Secrets::read(&named(&file)).unwrap_err().to_string()
        };
        assert!(refused("").ends_with("holds no certificate"));
        let (one, _) = certificate("shop.example");
        let (other, _) = certificate("shop.example");
        let at = one.find("-----BEGIN PRIVATE").unwrap();
        let (chain, _) = one.split_at(at);
        let at = other.find("-----BEGIN PRIVATE").unwrap();
        let (_, key) = other.split_at(at);
        assert!(refused(&format!("{chain}{key}")).starts_with("use the key of"));
        let roots = Secrets::read(&{
            std::fs::write(&file, chain).unwrap();
            named(&file)
        });
        assert!(roots.unwrap().get("shop-cert").unwrap().key.is_none());
    }
}
