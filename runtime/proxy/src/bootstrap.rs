//! What a proxy starts from: its store, verified anew from the pin, or else a join file. Without a
//! pinned root there is no trust on first use; the program does not start.

use mesh_bundle::acceptance::Workload;
use mesh_bundle::feature;
use mesh_bundle::reject::Rejection;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::ReleaseError;
use mesh_daemon::clock::Clock;
use mesh_daemon::join_file::{JoinFile, JoinFileError};
use mesh_daemon::store::{Store, StoreError};
use thiserror::Error;

use crate::args::RunArguments;
use crate::subscribe::Start;
use crate::subscribe::belief::Belief;

/// Why the proxy does not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// The store cannot be used.
    #[error("open the store")]
    Store(#[from] StoreError),
    /// What the store holds does not verify.
    #[error("stored trust root is refused")]
    Rejected(#[from] Rejection),
    /// An empty store, and nothing to join with.
    #[error("no pinned trust root: the store is empty and there is no --join file")]
    NoPin,
    /// The join file cannot be used.
    #[error("read --join")]
    Join(#[from] JoinFileError),
    /// This program's own release is none.
    #[error("this program's release is malformed")]
    Release(#[from] ReleaseError),
}

/// What the proxy starts with, and who it is.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) start: Start,
    pub(crate) workload: Workload,
}

/// Opens the store, or falls back to the join file. A store that is there is never replaced by a
/// join file: it remembers a floor that the file may not know.
pub(crate) fn boot(arguments: &RunArguments, clock: &Clock) -> Result<Boot, StartError> {
    if !arguments.store.exists() {
        // Opening makes the folder, and whoever does not start leaves none behind.
        let path = arguments.join.as_ref().ok_or(StartError::NoPin)?;
        JoinFile::read(path)?;
    }
    let mut store = Store::open(&arguments.store)?;
    let Some(loaded) = store.load()? else {
        let path = arguments.join.as_ref().ok_or(StartError::NoPin)?;
        let join = Box::new(JoinFile::read(path)?);
        let workload = workload(join.identity.clone(), arguments)?;
        let start = Start::Join { join, store };
        return Ok(Boot { start, workload });
    };
    for error in loaded.left_out {
        tracing::error!(%error, "left a damaged part of the store out");
    }
    let workload = workload(loaded.contents.identity.clone(), arguments)?;
    let (belief, offers, refused) =
        Belief::restore(store, loaded.contents, workload.clone(), clock.clone())?;
    for rejection in refused {
        tracing::error!(
            reason = rejection.as_str(),
            detail = rejection.detail(),
            "refused what was stored"
        );
    }
    let belief = Box::new(belief);
    let start = Start::Stored { belief, offers };
    Ok(Boot { start, workload })
}

fn workload(identity: SpiffeId, arguments: &RunArguments) -> Result<Workload, ReleaseError> {
    Ok(Workload {
        identity,
        instance: arguments.instance.clone(),
        features: feature::SUPPORTED.to_vec(),
        release: env!("CARGO_PKG_VERSION").parse()?,
    })
}
