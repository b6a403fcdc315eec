//! Traces: what a recorded hop becomes on its way to a collector over OTLP. Handing one over never waits: the queue
//! has a bound, and what finds no room is dropped and counted. Everything else happens on a thread of its own, which is
//! there only while policy says where traces go.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mesh_daemon::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use thiserror::Error;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;

mod export;
pub(crate) mod message;
pub(crate) mod span;
mod target;

pub(crate) use target::TargetError;

use crate::secrets::Secrets;
use span::Span;
use target::Target;

/// Why traces cannot go where policy says.
#[derive(Debug, Error)]
pub(crate) enum TracesError {
    /// The URL.
    #[error("traces to {url:?}")]
    Target {
        /// As written.
        url: String,
        /// Why.
        source: TargetError,
    },
    /// No thread.
    #[error("start what sends traces")]
    Thread(#[source] io::Error),
}

/// What is counted of spans.
#[derive(Clone, Debug)]
struct SpanMetrics {
    exported: Counter,
    dropped: Family<[(&'static str, &'static str); 1], Counter>,
}

impl SpanMetrics {
    fn dropped(&self, reason: &'static str, spans: usize) {
        let dropped = self.dropped.get_or_create(&[("reason", reason)]);
        dropped.inc_by(spans as u64);
    }
}

/// All collectors of the moment, by URL.
#[derive(Debug)]
pub(crate) struct Exporters {
    known: Mutex<BTreeMap<String, Weak<Exporter>>>,
    metrics: SpanMetrics,
    instance: String,
    /// Spans that wait for one collector.
    queue: usize,
}

/// What sends to one collector. It ends when nobody holds it any more and everything was sent.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: mpsc::Sender<Box<Span>>,
    /// Counted apart, for the way of a request.
    queue_full: Counter,
    finish: watch::Sender<bool>,
    finished: watch::Receiver<()>,
}

/// Where the hops of a service are told, and in whose name.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    pub(crate) exporter: Arc<Exporter>,
    pub(crate) resource: Arc<Resource>,
}

/// Whose hops they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    /// The service, or the workload where its calls are told.
    pub(crate) service: String,
    /// Its SPIFFE ID.
    pub(crate) identity: String,
    /// Which of its instances.
    pub(crate) instance: String,
}

impl Exporters {
    /// None yet.
    pub(crate) fn register(metrics: &Metrics, instance: String, queue: usize) -> Self {
        let exported = metrics.register(
            "mesh_spans_exported",
            "spans that a collector has taken",
            Counter::default(),
        );
        let dropped: Family<_, Counter> = metrics.register(
            "mesh_spans_dropped",
            "spans that were lost: the queue was full, the collector could not be reached, or it refused them",
            Family::default(),
        );
        Self {
            known: Mutex::default(),
            metrics: SpanMetrics { exported, dropped },
            instance,
            queue,
        }
    }

    /// Name of this instance.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// What sends to this collector; the same as long as somebody holds it.
    pub(crate) fn get(&self, url: &str, secrets: &Secrets) -> Result<Arc<Exporter>, TracesError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, exporter| exporter.strong_count() > 0);
        if let Some(exporter) = known.get(url).and_then(Weak::upgrade) {
            return Ok(exporter);
        }
        let target = Target::parse(url, secrets).map_err(|source| TracesError::Target {
            url: url.to_owned(),
            source,
        })?;
        let exporter = Exporter::start(target, self.queue, &self.metrics);
        let exporter = exporter.map_err(TracesError::Thread)?;
        let exporter = Arc::new(exporter);
        known.insert(url.to_owned(), Arc::downgrade(&exporter));
        Ok(exporter)
    }

    /// Has everything sent that was handed over, waiting at most `limit` in all.
    pub(crate) async fn finish(&self, limit: Duration) {
        let running: Vec<_> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.values().filter_map(Weak::upgrade).collect()
        };
        let all = async {
            for exporter in running {
                exporter.finish.send_replace(true);
                // It says nothing, and is gone with the thread.
                while exporter.finished.clone().changed().await.is_ok() {}
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("a collector takes nothing; the last spans are lost");
        }
    }
}

impl Exporter {
    fn start(target: Target, queue: usize, metrics: &SpanMetrics) -> io::Result<Self> {
        let (spans, queue) = mpsc::channel(queue);
        let (finish, asked) = watch::channel(false);
        let (running, finished) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()?;
        let counted = metrics.clone();
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                runtime.block_on(export::run(target, queue, asked, counted));
                drop(running);
            })?;
        Ok(Self {
            spans,
            queue_full: metrics
                .dropped
                .get_or_create(&[("reason", "queue_full")])
                .clone(),
            finish,
            finished,
        })
    }

    /// Hands a span over, or drops it.
    fn take(&self, span: Box<Span>) {
        match self.spans.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.queue_full.inc();
            }
        }
    }
}
