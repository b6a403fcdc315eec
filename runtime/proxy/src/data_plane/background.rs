//! The threads of the traffic, and what runs on them beside it.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::plane::Plane;
use crate::limits;
use crate::upstream::names::Schedule;

/// One thread per core that the process may use, by its quota.
pub(super) fn runtime(workers: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let workers = match workers {
        Some(workers) => workers,
        // Reads the cgroup's quota and the affinity mask.
        None => std::thread::available_parallelism()?,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.get())
        // Only names are resolved there.
        .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
        .thread_name("traffic")
        .enable_all()
        .build()
}

/// Lets go of what lies unused.
#[expect(clippy::infinite_loop, reason = "it ends with its runtime")]
pub(super) async fn sweep(plane: Arc<Plane>) {
    loop {
        tokio::time::sleep(limits::POOL_SWEEP_EVERY).await;
        plane.directory.sweep();
    }
}

/// Keeps the names of declared endpoints resolved, each as often as it wants to be.
pub(super) async fn resolve_names(plane: Arc<Plane>) {
    let mut schedule = Schedule::default();
    loop {
        let names = plane
            .tables()
            .map(|tables| tables.dns_names())
            .unwrap_or_default();
        let mut news = false;
        for ((name, port), addresses) in schedule.resolve_due(names).await {
            if let Some(addresses) = addresses {
                news |= plane.directory.resolved(&name, port, &addresses);
            }
        }
        if news {
            plane.refresh_endpoints();
        }
        tokio::select! {
            () = plane.names_changed.notified() => {}
            () = tokio::time::sleep_until(schedule.next()) => {}
        }
    }
}
