//! How many copies of requests run, and what became of them.

use std::sync::Arc;

use mesh_daemon::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// The copies of requests that run.
#[derive(Clone, Debug)]
pub(crate) struct Mirrors {
    running: Arc<Semaphore>,
    counted: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Mirrors {
    /// None runs yet.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        Self {
            running: Arc::new(Semaphore::new(limits::MIRRORS_MAX)),
            counted: metrics.register(
                "mesh_mirrored_requests",
                "copies of requests: sent, or dropped for want of an endpoint or of room",
                Family::default(),
            ),
        }
    }

    /// Room for one more.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.running).try_acquire_owned().ok()
    }

    /// Counts a copy.
    pub(crate) fn count(&self, outcome: &'static str) {
        self.counted.get_or_create(&[("outcome", outcome)]).inc();
    }
}
