//! The state directory: what a restart begins with. Signed objects are kept exactly as signed and
//! verified again when read; a file that cannot be read or believed is skipped and reported, except
//! for the counters, without which nothing may be signed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::TrustRoot;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::endpoints::EndpointFeed;
use crate::folder::{Folder, FolderError};
use crate::generation::Served;
use crate::issue::ledger::Ledger;
use crate::issue::token::Tokens;
use crate::limits;
use crate::output::chain;
use crate::revoke::Entries;

const MANIFEST: &str = "manifest.json";
const COUNTERS: &str = "counters.json";
const TOKENS: &str = "tokens.json";
const LOCK: &str = "lock";
const ENDPOINTS: &str = "endpoints.json";
const REVOCATIONS: &str = "revocations.json";
const LEDGER: &str = "enrolments.json";
const BUNDLE: &str = "trust-bundle.envelope";

/// Number of the layout; another is refused, never guessed at.
const LAYOUT: u32 = 1;

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    folder: Folder,
    generations: Folder,
    slices: Folder,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A folder or file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another process has it.
    #[error("another distributor uses the state directory")]
    Locked,
    /// One of our own files is damaged.
    #[error("{name} in the state directory is damaged")]
    Damaged {
        /// Which.
        name: &'static str,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// Revocations were signed, and what they were is not there.
    #[error(
        "{REVOCATIONS} is missing from the state directory, and revocations were signed from it; put it back, or, to take \
         every revocation of this issuer back, write {{\"entries\":[]}} there, with mode 0600"
    )]
    LostRevocations,
    /// Written by another release, or for another mesh.
    #[error("the state directory has layout {found}, this release has {LAYOUT}")]
    Layout {
        /// What it says.
        found: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    layout: u32,
    /// Oldest first.
    generations: Vec<StoredGeneration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredGeneration {
    digest: String,
    /// Identity and digest of each slice.
    slices: BTreeMap<String, String>,
}

/// A state directory that is ours alone.
#[derive(Debug)]
pub(crate) struct StoreLock(
    #[expect(dead_code, reason = "what counts is that it lives")] Flock<File>,
);

/// What must never go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Last `issued` of each head key, by key id.
    #[serde(default)]
    pub(crate) issued_ms: BTreeMap<String, u64>,
    /// Last version of each own revocation stream, by key id.
    #[serde(default)]
    pub(crate) revocations: BTreeMap<String, u64>,
}

impl Store {
    /// Opens the folder, making it when it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder::open(path)?;
        let generations = folder.folder("generations")?;
        let slices = folder.folder("slices")?;
        Ok(Self {
            folder,
            generations,
            slices,
        })
    }

    /// Keeps every other distributor out of the folder while it lives, however this process ends.
    pub(crate) fn lock(&self) -> Result<StoreLock, StoreError> {
        let file = self.folder.lock_file(LOCK)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(StoreLock(lock)),
            Err((_file, _held)) => Err(StoreError::Locked),
        }
    }

    /// The stored generations, oldest first; what is not believed under this root is left out.
    pub(crate) fn load(&self, root: &TrustRoot) -> Result<Vec<Arc<Served>>, StoreError> {
        let Some(manifest) = self.manifest()? else {
            return Ok(Vec::new());
        };
        let mut served = Vec::new();
        for stored in &manifest.generations {
            match self.load_one(root, stored) {
                Ok(generation) => served.push(Arc::new(generation)),
                Err(error) => {
                    tracing::warn!(
                        generation = stored.digest,
                        error,
                        "a stored generation is not served"
                    );
                }
            }
        }
        Ok(served)
    }

    /// Replaces the stored generations. The manifest goes last, so a crash leaves the old ones.
    pub(crate) fn save(&self, generations: &[Arc<Served>]) -> Result<(), StoreError> {
        let mut stored = Vec::new();
        for served in generations {
            for slice in served.slices().values() {
                write_once(&self.slices, &slice.digest().to_hex(), slice.bytes())?;
            }
            write_once(
                &self.generations,
                &served.digest().to_hex(),
                &served.signed().encode(),
            )?;
            let slices = served
                .slices()
                .iter()
                .map(|(identity, slice)| (identity.to_string(), slice.digest().to_hex()))
                .collect();
            stored.push(StoredGeneration {
                digest: served.digest().to_hex(),
                slices,
            });
        }
        self.slices.sync()?;
        self.generations.sync()?;
        self.write_json(
            MANIFEST,
            &Manifest {
                layout: LAYOUT,
                generations: stored.clone(),
            },
        )?;
        self.prune(&stored)
    }

    /// The counters; zero in a new folder.
    pub(crate) fn counters(&self) -> Result<Counters, StoreError> {
        Ok(self.read_json(COUNTERS)?.unwrap_or_default())
    }

    /// Replaces the counters; before anything that they count leaves the process.
    pub(crate) fn save_counters(&self, counters: &Counters) -> Result<(), StoreError> {
        self.write_json(COUNTERS, counters)
    }

    /// The join tokens.
    pub(crate) fn tokens(&self) -> Result<Tokens, StoreError> {
        Ok(self.read_json(TOKENS)?.unwrap_or_default())
    }

    /// Replaces the join tokens; before an answer that relies on them.
    pub(crate) fn save_tokens(&self, tokens: &Tokens) -> Result<(), StoreError> {
        self.write_json(TOKENS, tokens)
    }

    /// The endpoints that were last fed, if any.
    pub(crate) fn endpoints(&self) -> Result<Option<EndpointFeed>, StoreError> {
        self.read_json(ENDPOINTS)
    }

    /// Replaces the endpoints.
    pub(crate) fn save_endpoints(&self, feed: &EndpointFeed) -> Result<(), StoreError> {
        self.write_json(ENDPOINTS, feed)
    }

    /// What this issuer has revoked, if anything was kept of it.
    pub(crate) fn revocations(&self) -> Result<Option<Entries>, StoreError> {
        self.read_json(REVOCATIONS)
    }

    /// Replaces the revocations; before anyone is told.
    pub(crate) fn save_revocations(&self, entries: &Entries) -> Result<(), StoreError> {
        self.write_json(REVOCATIONS, entries)
    }

    /// Which certificate each enrolment has.
    pub(crate) fn ledger(&self) -> Result<Ledger, StoreError> {
        Ok(self.read_json(LEDGER)?.unwrap_or_default())
    }

    /// Replaces the ledger; before a certificate leaves.
    pub(crate) fn save_ledger(&self, ledger: &Ledger) -> Result<(), StoreError> {
        self.write_json(LEDGER, ledger)
    }

    /// The own trust bundle that was last served, if one was.
    pub(crate) fn trust_bundle(&self) -> Result<Option<Envelope>, StoreError> {
        let Some(bytes) = self.folder.read(BUNDLE, limits::TRUST_FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        // The trust folder has what is not readable here.
        Ok(Envelope::decode(&bytes).ok())
    }

    /// Replaces the own trust bundle that is served.
    pub(crate) fn save_trust_bundle(&self, envelope: &Envelope) -> Result<(), StoreError> {
        Ok(self.folder.write(BUNDLE, &envelope.encode())?)
    }

    fn manifest(&self) -> Result<Option<Manifest>, StoreError> {
        let manifest: Option<Manifest> = self.read_json(MANIFEST)?;
        match manifest {
            Some(manifest) if manifest.layout != LAYOUT => Err(StoreError::Layout {
                found: manifest.layout,
            }),
            manifest => Ok(manifest),
        }
    }

    fn load_one(&self, root: &TrustRoot, stored: &StoredGeneration) -> Result<Served, String> {
        let digest = Digest::from_hex(&stored.digest).map_err(|error| chain(&error))?;
        let envelope = read(&self.generations, digest)?;
        let envelope = Envelope::decode(&envelope).map_err(|error| chain(&error))?;
        let mut slices = BTreeMap::new();
        for (identity, digest) in &stored.slices {
            let identity = SpiffeId::parse(identity).map_err(|error| chain(&error))?;
            let digest = Digest::from_hex(digest).map_err(|error| chain(&error))?;
            slices.insert(identity, Bytes::from(read(&self.slices, digest)?));
        }
        Served::verify(root, envelope, slices).map_err(|error| chain(&error))
    }

    fn prune(&self, kept: &[StoredGeneration]) -> Result<(), StoreError> {
        for name in self.generations.names()? {
            if !kept.iter().any(|stored| stored.digest == name) {
                self.generations.remove(&name)?;
            }
        }
        for name in self.slices.names()? {
            if !kept
                .iter()
                .any(|stored| stored.slices.values().any(|digest| *digest == name))
            {
                self.slices.remove(&name)?;
            }
        }
        Ok(())
    }

    fn read_json<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.folder.read(name, limits::STATE_FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreError::Damaged { name, source })
    }

    fn write_json<T: Serialize>(&self, name: &'static str, value: &T) -> Result<(), StoreError> {
        let bytes =
            serde_json::to_vec(value).map_err(|source| StoreError::Damaged { name, source })?;
        Ok(self.folder.write(name, &bytes)?)
    }
}

fn read(folder: &Folder, digest: Digest) -> Result<Vec<u8>, String> {
    let read = folder
        .read(&digest.to_hex(), limits::STATE_FILE_BYTES_MAX)
        .map_err(|error| chain(&error))?;
    read.ok_or_else(|| format!("{digest} is missing"))
}

/// Names are digests, so a file of that name has these bytes; a damaged one is found when read.
fn write_once(folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    if folder
        .read(name, limits::STATE_FILE_BYTES_MAX)?
        .is_some_and(|found| found == bytes)
    {
        return Ok(());
    }
    Ok(folder.put(name, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, id, slice};

    #[test]
    fn a_restart_finds_what_was_saved() {
        let fixture = Fixture::new(false);
        let store = fixture.store();
        assert!(store.load(&fixture.root).unwrap().is_empty());
        let one = Arc::new(fixture.served(1, &[slice("a", &["b"]), slice("b", &[])]));
        let two = Arc::new(fixture.served(2, &[slice("a", &[]), slice("b", &[])]));
        store.save(&[Arc::clone(&one), Arc::clone(&two)]).unwrap();

        let loaded = fixture.store().load(&fixture.root).unwrap();
        assert_eq!(
            loaded
                .iter()
                .map(|served| served.digest())
                .collect::<Vec<_>>(),
            [one.digest(), two.digest()]
        );
        assert_eq!(
            loaded[0].slices()[&id("a")].bytes(),
            one.slices()[&id("a")].bytes()
        );

        store.save(&[Arc::clone(&two)]).unwrap();
        assert_eq!(store.generations.names().unwrap().len(), 1);
        assert_eq!(store.slices.names().unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_slice_costs_its_generation_and_no_other() {
        let fixture = Fixture::new(false);
        let store = fixture.store();
        let one = Arc::new(fixture.served(1, &[slice("a", &["b"])]));
        let two = Arc::new(fixture.served(2, &[slice("a", &[])]));
        store.save(&[Arc::clone(&one), Arc::clone(&two)]).unwrap();
        let damaged = one.slices()[&id("a")].digest().to_hex();
        store
            .slices
            .write(&damaged, two.slices()[&id("a")].bytes())
            .unwrap();
        let loaded = store.load(&fixture.root).unwrap();
        assert_eq!(
            loaded
                .iter()
                .map(|served| served.digest())
                .collect::<Vec<_>>(),
            [two.digest()]
        );
    }

    #[test]
    fn a_generation_of_an_older_epoch_is_not_served() {
        let fixture = Fixture::new(false);
        fixture
            .store()
            .save(&[Arc::new(fixture.served(1, &[slice("a", &[])]))])
            .unwrap();
        let mut root = fixture.root.clone();
        root.epoch = 1;
        assert!(fixture.store().load(&root).unwrap().is_empty());
    }

    #[test]
    fn one_distributor_has_it() {
        let fixture = Fixture::new(false);
        let lock = fixture.store().lock().unwrap();
        assert!(matches!(fixture.store().lock(), Err(StoreError::Locked)));
        drop(lock);
        assert!(fixture.store().lock().is_ok());
    }

    #[test]
    fn damaged_counters_stop_the_start() {
        let fixture = Fixture::new(false);
        let store = fixture.store();
        store.folder.write(COUNTERS, b"{ \"issued_ms\": ").unwrap();
        assert!(matches!(
            store.counters(),
            Err(StoreError::Damaged { name: COUNTERS, .. })
        ));
        store
            .folder
            .write(MANIFEST, b"{ \"layout\": 2, \"generations\": [] }")
            .unwrap();
        assert!(matches!(
            store.load(&fixture.root),
            Err(StoreError::Layout { found: 2 })
        ));
    }
}
