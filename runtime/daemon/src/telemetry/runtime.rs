//! How busy the threads of a runtime are, and how long what is ready waits for one of them.

use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::runtime::{Handle, RuntimeMetrics};

/// How often it is tried how long a task waits.
const PROBE_EVERY: Duration = Duration::from_secs(1);

const DELAYS: [f64; 7] = [0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 1.0];

/// A runtime that is watched.
#[derive(Debug)]
pub(super) struct Runtime {
    runtime: RuntimeMetrics,
    delays: Histogram,
}

impl Runtime {
    /// Watches it for as long as it runs.
    pub(super) fn watch(handle: &Handle) -> Self {
        let delays = Histogram::new(DELAYS);
        handle.spawn(probe(delays.clone()));
        Self {
            runtime: handle.metrics(),
            delays,
        }
    }
}

#[expect(clippy::infinite_loop, reason = "it ends with its runtime")]
async fn probe(delays: Histogram) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let ready = Instant::now();
        // Another task: this one has its turn.
        let waited = tokio::spawn(async move { ready.elapsed() }).await;
        if let Ok(waited) = waited {
            delays.observe(waited.as_secs_f64());
        }
    }
}

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let workers = self.runtime.num_workers();
        let busy = (0..workers).map(|worker| self.runtime.worker_total_busy_duration(worker));
        let busy = ConstCounter::new(busy.sum::<Duration>().as_secs_f64());
        busy.encode(encoder.encode_descriptor(
            "mesh_runtime_busy_seconds",
            "time that the threads of the traffic were busy, all together; its rate over their number is how busy they are",
            None,
            busy.metric_type(),
        )?)?;
        let gauges = [
            ("mesh_runtime_workers", "threads of the traffic", workers),
            (
                "mesh_runtime_tasks",
                "connections, streams and other tasks of the traffic",
                self.runtime.num_alive_tasks(),
            ),
            (
                "mesh_runtime_queue_depth",
                "tasks that are ready and that no thread has taken yet",
                self.runtime.global_queue_depth(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value as u64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        self.delays.encode(encoder.encode_descriptor(
            "mesh_runtime_poll_delay_seconds",
            "how long a task that is ready waits for a thread, tried once a second",
            None,
            self.delays.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[tokio::test(start_paused = true)]
    async fn delays_are_counted_while_it_runs() {
        let metrics = Metrics::new("meshp", "0");
        metrics.watch_runtime(&tokio::runtime::Handle::current());
        tokio::time::sleep(super::PROBE_EVERY * 3).await;
        let text = metrics.encode();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("mesh_runtime_poll_delay_seconds_count "));
        assert!(
            count.is_some_and(|count| count.parse::<u64>().unwrap() >= 2),
            "{text}"
        );
        assert!(text.contains("mesh_runtime_workers 1\n"), "{text}");
    }
}
