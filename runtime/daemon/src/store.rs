//! The folder that a proxy boots from when nobody answers: exact envelopes, slices, key and
//! certificate, each in a file named by its digest, and one manifest that says which of them count.
//!
//! Nothing here is believed because it is here. [`Store::load`] only proves that the files are the
//! ones that were written; whoever boots verifies the signatures again, from the pin. The manifest is
//! the one point of commitment: before it is renamed a change did not happen, after it, it did.

mod folder;
mod manifest;

use std::collections::BTreeSet;
use std::path::Path;

use mesh_bundle::digest::Digest;
use mesh_bundle::envelope::Envelope;
use mesh_bundle::order::Order;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::SpiffeId;
use thiserror::Error;

use crate::limits::{STORE_MANIFEST_BYTES_MAX, STORE_OBJECT_BYTES_MAX};
use folder::Folder;

/// Name of the manifest; every other file is named by its digest.
const MANIFEST: &str = "manifest";

/// Why a store is refused, or a change did not happen.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system refused an operation.
    #[error("{action} in the store")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It belongs to someone else, or others may enter.
    #[error("store folder must belong to this user with mode 0700: {0}")]
    NotPrivate(&'static str),
    /// Another process has it open.
    #[error("store is in use by another process")]
    InUse,
    /// A file that the manifest names is not there, or not what it was.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// A newer release wrote it.
    #[error("store has format {0}, which this release does not know")]
    Format(u32),
}

/// Everything that a store holds. Whatever is in it is written or read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// SHA-256 of the statement of the trust root that was pinned.
    pub pin: Digest,
    /// What the proxy joined.
    pub scope: Scope,
    /// Whom it is.
    pub identity: SpiffeId,
    /// Distributors, `host:port`.
    pub addresses: Vec<String>,
    /// From the pinned one on, ascending.
    pub trust_roots: Vec<Envelope>,
    /// The newest of each trust domain.
    pub trust_bundles: Vec<Envelope>,
    /// The newest of each stream.
    pub revocations: Vec<Envelope>,
    /// The newest of each head key.
    pub heads: Vec<Envelope>,
    /// The lowest generation that may be served: of the join file, or the highest confirmed one.
    pub floor: Option<Order>,
    /// The highest generation that was confirmed.
    pub confirmed: Option<Confirmed>,
    /// The one to boot with first; at most five.
    pub generations: Vec<StoredGeneration>,
    /// The key of the certificate, and the one that a certificate is being asked for.
    pub keys: StoredKeys,
    /// Encoded endpoints, as they last came; unsigned.
    pub endpoints: Option<Vec<u8>>,
}

/// A generation that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Where it stands.
    pub order: Order,
    /// SHA-256 of its statement.
    pub generation: Digest,
}

/// A generation and what it holds for this proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGeneration {
    /// As received.
    pub envelope: Envelope,
    /// Version of the trust root that it was accepted under.
    pub trust_root_version: u64,
    /// The slice; none if the generation has none for this identity.
    pub slice: Option<Vec<u8>>,
    /// Encoded proof that the slice, or its absence, is of this generation.
    pub proof: Vec<u8>,
}

/// Keys of the proxy. The files are as private as the folder.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredKeys {
    /// Key (PKCS#8) and certificates (DER, leaf first).
    pub svid: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    /// Key (PKCS#8) of an enrolment that may have been answered without our hearing of it.
    pub pending: Option<Vec<u8>>,
}

impl std::fmt::Debug for StoredKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKeys")
            .field("svid", &self.svid.is_some())
            .field("pending", &self.pending.is_some())
            .finish()
    }
}

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// What can be used.
    pub contents: Contents,
    /// Why generations, heads or endpoints are missing from it.
    pub left_out: Vec<StoreError>,
}

/// An open store. While it lives no other process can open it.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    /// Files that are known to be what their names say.
    intact: BTreeSet<String>,
}

impl Store {
    /// Opens a folder, or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder::open(path)?;
        // What an interrupted change left behind.
        for name in folder.names()? {
            if name.starts_with('.') {
                folder.remove(&name)?;
            }
        }
        Ok(Self {
            folder,
            intact: BTreeSet::new(),
        })
    }

    /// Reads everything, or nothing if nothing was ever written.
    ///
    /// A generation whose files are damaged is left out, since the ones before it may still serve:
    /// the floor says which of them may. So are heads and endpoints, which come again. Damage
    /// anywhere else refuses the store.
    pub fn load(&mut self) -> Result<Option<Loaded>, StoreError> {
        let Some(bytes) = self.folder.read(MANIFEST, STORE_MANIFEST_BYTES_MAX)? else {
            return Ok(None);
        };
        let mut intact = BTreeSet::new();
        let (contents, left_out) = manifest::decode(&bytes, &mut |name| {
            let object = self.read_object(name)?;
            intact.insert(name.to_hex());
            Ok(object)
        })?;
        self.intact = intact;
        Ok(Some(Loaded { contents, left_out }))
    }

    /// Writes everything, so that a loss of power at any moment leaves what was there before or what
    /// is written now.
    pub fn save(&mut self, contents: &Contents) -> Result<(), StoreError> {
        let (manifest, objects) = manifest::encode(contents);
        for (name, bytes) in &objects {
            if !self.intact.contains(name) {
                self.folder.replace(name, bytes)?;
                self.intact.insert(name.clone());
            }
        }
        // The names of the objects must last before a manifest speaks of them.
        self.folder.sync()?;
        self.folder.replace(MANIFEST, &manifest)?;
        self.folder.sync()?;
        self.intact.retain(|name| objects.contains_key(name));
        for name in self.folder.names()? {
            if name != MANIFEST && !objects.contains_key(&name) {
                self.folder.remove(&name)?;
            }
        }
        Ok(())
    }

    fn read_object(&self, name: Digest) -> Result<Vec<u8>, StoreError> {
        let file = name.to_hex();
        let bytes = self
            .folder
            .read(&file, STORE_OBJECT_BYTES_MAX)?
            .ok_or_else(|| StoreError::Damaged(format!("{file} is missing")))?;
        if Digest::of(&bytes) != name {
            return Err(StoreError::Damaged(format!("{file} was changed")));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
