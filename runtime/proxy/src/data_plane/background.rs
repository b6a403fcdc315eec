//! The threads of the traffic, and what runs on them beside it.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::plane::Plane;
use crate::limits;
use crate::tcp::metrics::TcpLabels;
use crate::upstream::health::Checks;
use crate::upstream::names::Schedule;
use crate::upstream::pools::Name;

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
pub(super) async fn sweep(plane: Arc<Plane>) {
    loop {
        let pause = sweep_pause(plane.tables().and_then(|tables| tables.shortest_idle()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                plane.directory.sweep();
                let now = Instant::now();
                plane.metrics.expire(now);
                let tables = plane.tables();
                let knows = |labels: &TcpLabels| {
                    tables.as_ref().is_some_and(|tables| tables.knows(labels))
                };
                plane.tcp.expire(now, knows);
            }
            // Other tables may want it sooner.
            () = plane.idle_changed.notified() => {}
        }
    }
}

/// Often enough that nothing lies unused for a quarter longer than policy has it.
fn sweep_pause(shortest: Option<Duration>) -> Duration {
    let pause = shortest.map_or(limits::POOL_SWEEP_EVERY, |shortest| shortest / 4);
    pause.clamp(limits::POOL_SWEEP_MIN, limits::POOL_SWEEP_EVERY)
}

/// Looks which endpoints that were left out may come back, as often as the policies of their pools say.
pub(super) async fn look_at_pools(plane: Arc<Plane>) {
    let mut changed = plane.pools_changed.subscribe();
    let mut due: BTreeMap<Name, Instant> = BTreeMap::new();
    loop {
        let now = Instant::now();
        let mut wanted = BTreeMap::new();
        for pool in plane.directory.pools().all() {
            let at = due.get(pool.name()).copied();
            let at = match at.filter(|at| *at > now) {
                Some(at) => Some(at),
                None => pool
                    .look(now.into_std())
                    .map(|every| now + every.max(limits::LOOK_EVERY_MIN)),
            };
            if let Some(at) = at {
                wanted.insert(pool.name().clone(), at);
            }
        }
        due = wanted;
        let next = due.values().min().copied();
        let until_next = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = until_next => {}
        }
    }
}

/// Asks endpoints whether they live, wherever policy says so.
pub(super) async fn check_health(plane: Arc<Plane>) {
    let mut changed = plane.pools_changed.subscribe();
    let mut checks = Checks::default();
    loop {
        let wanted = plane.tables().map(|tables| tables.health_checks());
        checks.run(wanted.unwrap_or_default());
        if changed.changed().await.is_err() {
            return;
        }
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

/// Keeps the keys that verify tokens.
pub(super) async fn fetch_keys(plane: Arc<Plane>) {
    plane.access.keys.keep().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_are_looked_at_more_often() {
        let pause = |millis| sweep_pause(Some(Duration::from_millis(millis))).as_millis();
        assert_eq!(sweep_pause(None), limits::POOL_SWEEP_EVERY);
        assert_eq!(pause(4_000), 1_000);
        assert_eq!(pause(1), limits::POOL_SWEEP_MIN.as_millis());
        assert_eq!(pause(600_000), limits::POOL_SWEEP_EVERY.as_millis());
    }
}
