//! How the data plane ends without dropping work. What comes in is finished before what goes out, for an
//! application that answers its last requests may have to call others for them:
//!
//! notice      readiness is withdrawn; everything is taken as before, and answers of HTTP/1 say `close`
//! inbound     its listeners close; HTTP/2 gets GOAWAY, idle connections end, others end their request
//! outbound    the same, once nothing is left inbound
//! deadline    what is left is cut, counted and recorded

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::DataPlane;
use crate::limits;

/// How the data plane is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainPlan {
    /// How long new connections are taken still: whoever sends them has to notice first.
    pub(crate) notice: Duration,
    /// From the beginning until whatever is left is cut.
    pub(crate) limit: Duration,
    /// Another process accepts from the same sockets, so this one stops at once.
    pub(crate) handed_over: bool,
}

/// What was still running at the deadline, and was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainReport {
    /// Requests without a whole answer.
    pub(crate) requests: usize,
    /// Connections that had become something else, such as WebSockets.
    pub(crate) upgrades: usize,
    /// Connections of bytes.
    pub(crate) connections: usize,
}

impl DrainReport {
    /// All of it.
    pub(crate) fn cut(self) -> usize {
        self.requests + self.upgrades + self.connections
    }
}

/// Tells listeners and connections that it is time to finish.
#[derive(Debug)]
pub(super) struct Endings {
    /// Listeners accept no more; what they accepted goes on.
    pub(super) accepting: DrainTrigger,
    /// What peers and clients of a gateway opened.
    pub(super) inbound: DrainTrigger,
    /// What the local application opened.
    pub(super) outbound: DrainTrigger,
}

impl Default for Endings {
    fn default() -> Self {
        Self {
            accepting: drain::channel().0,
            inbound: drain::channel().0,
            outbound: drain::channel().0,
        }
    }
}

/// What was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    kind: &'static str,
}

/// What is counted of a drain.
#[derive(Clone, Debug)]
pub(super) struct DrainMetrics {
    draining: Gauge,
    cut: Family<CutLabels, Counter>,
}

impl DrainMetrics {
    /// Registers everything.
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counted = Self {
            draining: metrics.register(
                "mesh_draining",
                "Whether the proxy is ending: 1 from when readiness is withdrawn",
                Gauge::default(),
            ),
            cut: metrics.register(
                "mesh_drain_cut",
                "What was still running at the deadline of a drain and was cut",
                Family::default(),
            ),
        };
        counted.cut(DrainReport::default());
        counted
    }

    fn cut(&self, report: DrainReport) {
        for (kind, count) in [
            ("request", report.requests),
            ("upgrade", report.upgrades),
            ("connection", report.connections),
        ] {
            let counter = self.cut.get_or_create(&CutLabels { kind });
            counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

impl DataPlane {
    /// Ends by the plan; returns once nothing runs any more.
    pub(crate) async fn drain(&self, plan: DrainPlan) -> DrainReport {
        let begun = Instant::now();
        let deadline = begun + plan.limit;
        let endings = &self.endings;
        self.plane.draining.store(true, Ordering::Release);
        self.drained.draining.set(1);
        if plan.handed_over {
            endings.accepting.start();
        }
        sleep_until((begun + plan.notice).min(deadline)).await;
        if plan.handed_over {
            // The other process takes the application's calls, too.
            endings.outbound.start();
        }
        let finishing = async {
            endings.inbound.finish(plan.limit).await;
            endings.outbound.finish(plan.limit).await;
        };
        // Where time has run out, nobody has come to an end by itself.
        if timeout_at(deadline, finishing).await.is_err() {
            endings.accepting.start();
            endings.outbound.start();
        }
        let report = self.plane.left();
        self.drained.cut(report);
        // Cut here, a connection ends so that nobody takes it for its own end.
        self.plane.cutting.start();
        let ending = async {
            endings.inbound.finish(limits::CUT_TIMEOUT).await;
            endings.outbound.finish(limits::CUT_TIMEOUT).await;
        };
        drop(timeout(limits::CUT_TIMEOUT, ending).await);
        self.stop_threads().await;
        // After the last record.
        let exporters = &self.plane.exporters;
        exporters.finish(limits::SPAN_FINISH_TIMEOUT).await;
        report
    }

    /// Ends the threads, and with them whatever did not end by itself: each writes its record.
    async fn stop_threads(&self) {
        let Some(runtime) = self.take_runtime() else {
            return;
        };
        // A runtime may not be waited for from within another one.
        let stopping = move || runtime.shutdown_timeout(limits::CUT_TIMEOUT);
        if let Err(error) = tokio::task::spawn_blocking(stopping).await {
            tracing::error!(%error, "the threads of the traffic did not end");
        }
    }
}
