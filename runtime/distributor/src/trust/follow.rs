//! Looks at the trust folder for as long as the process runs: what people sign elsewhere and put there is taken
//! without a restart.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::mesh::Mesh;
use crate::output::chain;
use crate::{limits, rotation};

/// What tells a file that was replaced or rewritten.
type Stamp = (PathBuf, u64, u64, (i64, i64));

/// Follows a folder; ends with the process.
#[expect(clippy::infinite_loop, reason = "whoever spawned it ends it")]
pub(crate) async fn run(mesh: Arc<Mesh>, folder: PathBuf) {
    // Nothing: what was changed while the process started is read once more.
    let mut seen = Vec::new();
    loop {
        let now = [stamps(&folder.join("trust")), stamps(&folder.join("keys"))].concat();
        let is_new = now != seen;
        let waits = !mesh
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty();
        seen = now;
        let (mesh, folder) = (Arc::clone(&mesh), folder.clone());
        let looking = tokio::task::spawn_blocking(move || {
            if let Err(error) = mesh.issuer.save_reports() {
                tracing::warn!(error = chain(&error), "could not write what proxies report");
            }
            if is_new || waits {
                rotation::step(&mesh, &folder, is_new);
            }
        });
        if let Err(error) = looking.await {
            tracing::error!(%error, "looking at the trust folder failed");
        }
        tokio::time::sleep(limits::TRUST_REFRESH).await;
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
