//! Replacing certificate authorities while everything runs. People put a new intermediate authority, or a trust bundle
//! with one root more or less, into the trust folder; each is taken when no proxy would lose a connection by it, and
//! who is waited for can be asked.

use std::path::Path;
use std::sync::PoisonError;

use mesh_bundle::digest::Digest;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_bundle::TrustBundle;
use mesh_daemon::clock::Clock;
use mesh_daemon::identity::{TrustStore, Usage};
use serde::{Deserialize, Serialize};

use crate::folder::{read_private, read_public};
use crate::issue::certificate::Authority;
use crate::issue::ledger::Waiting;
use crate::issue::{self, Active};
use crate::limits;
use crate::mesh::Mesh;
use crate::output::chain;
use crate::trust::{Bundle, Trust};

/// Answer of `GET /rotation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    /// Version of the own trust bundle that is served.
    pub(crate) trust_bundle: u64,
    /// SHA-256 of each root authority in it.
    pub(crate) roots: Vec<String>,
    /// Good certificates that were issued.
    pub(crate) certificates: usize,
    /// Who does not have this bundle yet.
    pub(crate) without_bundle: Vec<Waiting>,
    /// SHA-256 of the key of the intermediate authority in use.
    pub(crate) intermediate: String,
    /// SHA-256 of the root authority above it.
    pub(crate) root: String,
    /// Who has a certificate below another root.
    pub(crate) below_other: Vec<Waiting>,
    /// What lies in the trust folder and is not taken yet, and why.
    pub(crate) held: Vec<String>,
}

/// Why an intermediate authority is not used.
#[derive(Debug, thiserror::Error)]
enum AuthorityRefused {
    #[error("it is below no authority of the trust bundle that is served")]
    NoRoot,
    #[error(
        "{0} good certificates belong to proxies that do not have the trust bundle yet; `meshd rotation` lists them"
    )]
    Waiting(usize),
    #[error(transparent)]
    Unusable(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// SHA-256 of every authority of a bundle.
pub(crate) fn roots(bundle: &TrustBundle) -> Vec<Digest> {
    let all = bundle.x509_authorities.iter();
    all.map(|der| Digest::of(der)).collect()
}

/// An authority with the root above it, of those in a bundle: what it issues is tried.
pub(crate) fn active(
    authority: Authority,
    bundle: &TrustBundle,
    identity: &SpiffeId,
    clock: &Clock,
) -> Result<Option<Active>, issue::IssueError> {
    let svid = issue::own(&authority, identity, clock.wall_ms())?;
    let root = bundle.x509_authorities.iter().find(|der| {
        let domain = bundle.trust_domain.as_str();
        TrustStore::empty()
            .with_roots(domain, [der.as_slice()])
            .is_ok_and(|store| {
                let now = clock.unix_time();
                store.verify_chain(svid.chain(), now, Usage::Server).is_ok()
            })
    });
    let root = root.map(|der| Digest::of(der));
    Ok(root.map(|root| Active { authority, root }))
}

/// The next intermediate authority, if there is one in the folder that `meshc` wrote.
pub(crate) fn next_authority(
    folder: &Path,
    life: std::time::Duration,
) -> Result<Option<Authority>, Box<dyn std::error::Error + Send + Sync>> {
    let certificate = folder.join("trust/intermediate.next.pem");
    let key = folder.join("keys/intermediate.next.key");
    if !certificate.exists() || !key.exists() {
        return Ok(None);
    }
    let certificate = read_public(&certificate, limits::TRUST_FILE_BYTES_MAX)?;
    let key = read_private(&key, limits::TRUST_FILE_BYTES_MAX)?;
    let authority = Authority::new(
        &String::from_utf8_lossy(&key),
        &String::from_utf8_lossy(&certificate),
        life,
    )?;
    Ok(Some(authority))
}

/// Whether the own bundle of a reading drops a root that certificates still need; what it is then held back for.
pub(crate) fn must_wait(
    served: &Bundle,
    read: &Bundle,
    root_in_use: Option<Digest>,
    below_none: impl FnOnce(&[Digest]) -> Vec<Waiting>,
) -> Option<String> {
    let (before, after) = (roots(&served.value), roots(&read.value));
    if read.value.version <= served.value.version || before.iter().all(|root| after.contains(root))
    {
        return None;
    }
    let version = read.value.version;
    if root_in_use.is_some_and(|root| !after.contains(&root)) {
        return Some(format!(
            "trust bundle {version} drops the authority that is issued with; `meshc trust authority switch` comes first"
        ));
    }
    let waiting = below_none(&after).len();
    (waiting > 0).then(|| {
        format!(
            "trust bundle {version} drops an authority that {waiting} good certificates need; `meshd rotation` lists \
             them, `meshd renew` hurries them"
        )
    })
}

/// Looks at the folder: takes what may be taken, and notes what has to wait.
pub(crate) fn step(mesh: &Mesh, folder: &Path, is_new: bool) {
    let mut held = Vec::new();
    let read = Trust::read(&folder.join("trust")).map_err(Into::into);
    let taken = read.and_then(|mut read| {
        let own = mesh.scope().trust_domain.as_str();
        if let (Some(served), Some(next)) = (mesh.publisher.bundle(own), read.bundles.get(own)) {
            let root = mesh.issuer.active().root;
            let wait = must_wait(&served, next, Some(root), |roots| {
                mesh.issuer.below_none(roots)
            });
            if let Some(why) = wait {
                held.push(why);
                read.bundles.insert(own.to_owned(), served);
            }
        }
        mesh.publisher.take_trust(&read)
    });
    match taken {
        Ok(changes) => {
            for change in changes {
                mesh.events.trust_taken(&change);
            }
        }
        // Told once for each state of the folder.
        Err(error) if is_new => mesh.events.trust_refused(&chain(&error)),
        Err(_told) => {}
    }
    match take_authority(mesh, folder) {
        Ok(()) => {}
        Err(error) => held.push(format!(
            "trust/intermediate.next.pem is not used: {}",
            chain(&error)
        )),
    }
    let mut last = mesh.held.lock().unwrap_or_else(PoisonError::into_inner);
    if *last != held {
        for why in &held {
            tracing::warn!(why, "what is in the trust folder has to wait");
        }
        *last = held;
    }
}

fn take_authority(mesh: &Mesh, folder: &Path) -> Result<(), AuthorityRefused> {
    let Some(next) = next_authority(folder, mesh.issuer.life())? else {
        return Ok(());
    };
    let current = mesh.issuer.active();
    if next.key() == current.authority.key() {
        return Ok(());
    }
    let own = mesh.scope().trust_domain.as_str();
    let bundle = mesh.publisher.bundle(own).ok_or(AuthorityRefused::NoRoot)?;
    let next = active(next, &bundle.value, &mesh.identity, &mesh.clock)
        .map_err(|error| AuthorityRefused::Unusable(error.into()))?
        .ok_or(AuthorityRefused::NoRoot)?;
    if next.root != current.root {
        let waiting = mesh.issuer.without_bundle(bundle.value.version).len();
        if waiting > 0 {
            return Err(AuthorityRefused::Waiting(waiting));
        }
    }
    let (key, root) = (next.authority.key(), next.root);
    mesh.issuer.set_active(next);
    mesh.show_own()
        .map_err(|error| AuthorityRefused::Unusable(error.into()))?;
    mesh.events.authority_taken(&key.to_hex(), &root.to_hex());
    Ok(())
}

/// Where a rotation stands.
pub(crate) fn report(mesh: &Mesh) -> Rotation {
    let active = mesh.issuer.active();
    let served = mesh.publisher.bundle(mesh.scope().trust_domain.as_str());
    let version = served.as_ref().map_or(0, |bundle| bundle.value.version);
    let roots = served
        .map(|bundle| roots(&bundle.value))
        .unwrap_or_default();
    let held = mesh.held.lock().unwrap_or_else(PoisonError::into_inner);
    Rotation {
        trust_bundle: version,
        roots: roots.iter().map(|root| root.to_hex()).collect(),
        certificates: mesh.issuer.live(),
        without_bundle: mesh.issuer.without_bundle(version),
        intermediate: active.authority.key().to_hex(),
        root: active.root.to_hex(),
        below_other: mesh.issuer.below_none(&[active.root]),
        held: held.clone(),
    }
}
