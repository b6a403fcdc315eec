//! What the mesh is pinned to, as `meshc keygen` wrote it: the chain of trust roots, the trust
//! bundles and the revocations, each verified before it is served.

pub(crate) mod follow;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh_bundle::envelope::Envelope;
use mesh_bundle::head::{RevocationsRef, TrustBundleRef};
use mesh_bundle::key::KeyId;
use mesh_bundle::messages::bundle as signed;
use mesh_bundle::reject::Rejection;
use mesh_bundle::revocations::Revocations;
use mesh_bundle::statement::Verified;
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_bundle::trust_root::{RoleKind, TrustRoot};
use mesh_daemon::identity::{TrustStore, TrustStoreError};

use crate::folder::{FolderError, read_public};
use crate::limits;
use crate::published::Object;

/// Everything public that is signed and does not change while the process runs, and the
/// revocations, which do.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// The newest root.
    pub(crate) root: TrustRoot,
    /// Every root, ascending.
    pub(crate) chain: Vec<Object>,
    /// By trust domain.
    pub(crate) bundles: BTreeMap<String, Bundle>,
    /// By key of the stream.
    pub(crate) revocations: BTreeMap<KeyId, Stream>,
}

/// One trust bundle.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    /// What it says.
    pub(crate) value: TrustBundle,
    /// As sent.
    pub(crate) object: Object,
    /// As heads name it.
    pub(crate) reference: TrustBundleRef,
}

/// One stream of revocations.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// What it says.
    pub(crate) value: Revocations,
    /// As sent.
    pub(crate) object: Object,
    /// As heads name it.
    pub(crate) reference: RevocationsRef,
}

/// Why the trust folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A file.
    #[error(transparent)]
    File(#[from] FolderError),
    /// The folder cannot be listed.
    #[error("could not list {}", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A signed object is not believed.
    #[error("{} is not believed", path.display())]
    Rejected {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        rejection: Rejection,
    },
    /// There is no bundle of the own trust domain.
    #[error("there is no trust bundle of {0}")]
    NoBundle(String),
    /// A certificate authority does not parse.
    #[error(transparent)]
    Authorities(#[from] TrustStoreError),
    /// The chain of roots is another one than before.
    #[error(
        "the trust roots in the folder are not those that this distributor serves, and what follows them"
    )]
    OtherChain,
    /// One version of one statement, with two contents.
    #[error("{what}: another version {version} was served before; sign it anew with a higher one")]
    Equivocation {
        /// Which statement.
        what: String,
        /// The version.
        version: u64,
    },
}

/// What is new in the trust folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A trust root.
    Root(u64),
    /// The trust bundle of a domain.
    Bundle(String, u64),
    /// A stream of revocations, by its key.
    Revocations(String, u64),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root(version) => write!(f, "trust root {version}"),
            Self::Bundle(domain, version) => write!(f, "trust bundle {version} of {domain}"),
            Self::Revocations(stream, version) => {
                write!(f, "revocations {version} of key {stream}")
            }
        }
    }
}

impl Trust {
    /// Reads the folder. Its first root is the pin: the folder is the operator's word.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrustError> {
        let (root, chain) = read_chain(folder)?;
        let mut trust = Self {
            root,
            chain,
            bundles: BTreeMap::new(),
            revocations: BTreeMap::new(),
        };
        for path in envelopes(folder)? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let rejected = |rejection| TrustError::Rejected {
                path: path.clone(),
                rejection,
            };
            if name.starts_with("trust-bundle") {
                let envelope = read(&path)?;
                let verified = trust
                    .root
                    .verify_trust_bundle(&envelope)
                    .map_err(rejected)?;
                trust.add_bundle(&envelope, verified);
            } else if name.starts_with("revocations") {
                let envelope = read(&path)?;
                let verified = trust.root.verify_revocations(&envelope).map_err(rejected)?;
                trust.add_revocations(&envelope, &verified);
            }
        }
        let own = trust.root.scope.trust_domain.as_str();
        if trust.bundles.contains_key(own) {
            Ok(trust)
        } else {
            Err(TrustError::NoBundle(own.to_owned()))
        }
    }

    /// Replaces a stream, unless a newer version of it is there.
    pub(crate) fn add_revocations(
        &mut self,
        envelope: &Envelope,
        verified: &Verified<Revocations>,
    ) {
        let key_id = verified.stream_key();
        let value = verified.value().clone();
        let known = self.revocations.get(&key_id);
        if known.is_some_and(|known| known.value.version > value.version) {
            return;
        }
        let object = object(key_id.to_hex(), value.version, envelope);
        let reference = RevocationsRef {
            key_id,
            version: value.version,
            digest: verified.digest(),
        };
        self.revocations.insert(
            key_id,
            Stream {
                value,
                object,
                reference,
            },
        );
    }

    /// This, with what another reading of the folder has beyond it, and what that is. Nothing is ever taken back: a
    /// file that is gone, or an older one in its place, changes nothing. The stream of `own`, a key that signs here, is
    /// only read at the start.
    pub(crate) fn followed_by(
        &self,
        read: &Self,
        own: KeyId,
    ) -> Result<(Self, Vec<Change>), TrustError> {
        let digests = |chain: &[Object]| chain.iter().map(|it| it.digest).collect::<Vec<_>>();
        if !digests(&read.chain).starts_with(&digests(&self.chain)) {
            return Err(TrustError::OtherChain);
        }
        let mut next = self.clone();
        let mut changes = Vec::new();
        if read.root.version > self.root.version {
            next.root = read.root.clone();
            next.chain.clone_from(&read.chain);
            changes.push(Change::Root(next.root.version));
            let root = &next.root;
            next.revocations.retain(|key, _| {
                let roles = root.roles_of(*key);
                roles.contains(&&RoleKind::Trust) || roles.contains(&&RoleKind::Issuer)
            });
            next.bundles.retain(|domain, bundle| {
                *domain == root.scope.trust_domain.as_str()
                    || root
                        .roles
                        .contains_key(&RoleKind::Federation(bundle.value.trust_domain.clone()))
            });
        }
        for (domain, bundle) in &read.bundles {
            let known = next.bundles.get(domain).map(|known| &known.object);
            if is_newer(known, &bundle.object, || {
                format!("trust bundle of {domain}")
            })? {
                changes.push(Change::Bundle(domain.clone(), bundle.value.version));
                next.bundles.insert(domain.clone(), bundle.clone());
            }
        }
        for (key, stream) in read.revocations.iter().filter(|(key, _)| **key != own) {
            let known = next.revocations.get(key).map(|known| &known.object);
            let name = &stream.object.name;
            if is_newer(known, &stream.object, || {
                format!("revocations of key {name}")
            })? {
                changes.push(Change::Revocations(name.clone(), stream.value.version));
                next.revocations.insert(*key, stream.clone());
            }
        }
        Ok((next, changes))
    }

    /// What certificates are judged by.
    pub(crate) fn store(&self) -> Result<TrustStore, TrustError> {
        let mut store = TrustStore::empty();
        for bundle in self.bundles.values() {
            store = store.with_bundle(&bundle.value)?;
        }
        let streams = self.revocations.values().map(|stream| stream.value.clone());
        Ok(streams.fold(store, TrustStore::with_revocations))
    }

    /// Replaces a bundle, unless a newer version of it is there.
    pub(crate) fn add_bundle(&mut self, envelope: &Envelope, verified: Verified<TrustBundle>) {
        let digest = verified.digest();
        let value = verified.into_value();
        let domain = value.trust_domain.to_string();
        // Whatever the files are called: an old one that was left there must not win.
        let known = self.bundles.get(&domain);
        if known.is_some_and(|known| known.value.version > value.version) {
            return;
        }
        let object = object(domain.clone(), value.version, envelope);
        let reference = TrustBundleRef {
            trust_domain: value.trust_domain.clone(),
            version: value.version,
            digest,
        };
        self.bundles.insert(
            domain,
            Bundle {
                value,
                object,
                reference,
            },
        );
    }
}

fn is_newer(
    known: Option<&Object>,
    read: &Object,
    what: impl FnOnce() -> String,
) -> Result<bool, TrustError> {
    match known {
        Some(known) if known.version == read.version && known.digest != read.digest => {
            Err(TrustError::Equivocation {
                what: what(),
                version: read.version,
            })
        }
        Some(known) => Ok(read.version > known.version),
        None => Ok(true),
    }
}

/// As it is sent.
pub(crate) fn object(name: String, version: u64, envelope: &Envelope) -> Object {
    Object {
        name,
        version,
        digest: envelope.payload_digest(),
        envelope: signed::Envelope::from(envelope),
    }
}

fn read_chain(folder: &Path) -> Result<(TrustRoot, Vec<Object>), TrustError> {
    let path = |version: usize| folder.join(format!("trust-root.{version}.envelope"));
    let rejected = |version| {
        move |rejection| TrustError::Rejected {
            path: path(version),
            rejection,
        }
    };
    let first = read(&path(1))?;
    let mut root = TrustRoot::verify_pinned(&first, &first.payload_digest())
        .map_err(rejected(1))?
        .into_value();
    let mut chain = vec![object(String::new(), root.version, &first)];
    for version in 2..=limits::TRUST_ROOTS_MAX {
        if !path(version).exists() {
            break;
        }
        let next = read(&path(version))?;
        root = root
            .verify_next(&next)
            .map_err(rejected(version))?
            .into_value();
        chain.push(object(String::new(), root.version, &next));
    }
    Ok((root, chain))
}

fn envelopes(folder: &Path) -> Result<Vec<PathBuf>, TrustError> {
    let failed = |source| TrustError::List {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "envelope")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Envelope, TrustError> {
    let bytes = read_public(path, limits::TRUST_FILE_BYTES_MAX)?;
    Envelope::decode(&bytes).map_err(|rejection| TrustError::Rejected {
        path: path.to_owned(),
        rejection,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn the_newest_bundle_counts_whatever_the_files_are_called() {
        let fixture = Fixture::new(false);
        let folder = fixture.folder.path().join("trust");
        let trust = Trust::read(&folder).unwrap();
        let mut newer = trust.bundles.values().next().unwrap().value.clone();
        newer.version += 1;
        let envelope = newer.seal(&fixture.root.scope, &[&fixture.key("trust")]);
        std::fs::write(folder.join("trust-bundle.2.envelope"), envelope.encode()).unwrap();
        let trust = Trust::read(&folder).unwrap();
        let versions: Vec<_> = trust.bundles.values().map(|it| it.value.version).collect();
        assert_eq!(versions, [newer.version]);
    }
}
