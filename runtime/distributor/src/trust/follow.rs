//! Looks at the trust folder for as long as the process runs: what people sign elsewhere and put there is served
//! without a restart.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Trust;
use crate::limits;
use crate::mesh::Mesh;
use crate::output::chain;

/// What tells a file that was replaced or rewritten.
type Stamp = (PathBuf, u64, u64, (i64, i64));

/// Follows a folder; ends with the process.
#[expect(clippy::infinite_loop, reason = "whoever spawned it ends it")]
pub(crate) async fn run(mesh: Arc<Mesh>, folder: PathBuf) {
    // Nothing: what was changed while the process started is read once more.
    let mut seen = Vec::new();
    loop {
        let now = stamps(&folder);
        if now != seen {
            seen = now;
            let (mesh, folder) = (Arc::clone(&mesh), folder.clone());
            let read = tokio::task::spawn_blocking(move || read(&mesh, &folder));
            if let Err(error) = read.await {
                tracing::error!(%error, "reading the trust folder failed");
            }
        }
        tokio::time::sleep(limits::TRUST_REFRESH).await;
    }
}

fn read(mesh: &Mesh, folder: &Path) {
    let taken = Trust::read(folder)
        .map_err(Into::into)
        .and_then(|read| mesh.publisher.take_trust(&read));
    match taken {
        Ok(changes) => {
            for change in changes {
                mesh.events.trust_taken(&change);
            }
        }
        Err(error) => mesh.events.trust_refused(&chain(&error)),
    }
}

fn stamps(folder: &Path) -> Vec<Stamp> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let stamp = |entry: std::fs::DirEntry| {
        let data = entry.metadata().ok()?;
        let modified = (data.mtime(), data.mtime_nsec());
        Some((entry.path(), data.ino(), data.len(), modified))
    };
    let mut stamps: Vec<_> = entries.flatten().filter_map(stamp).collect();
    stamps.sort();
    stamps
}
