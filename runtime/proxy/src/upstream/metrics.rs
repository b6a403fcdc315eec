//! What is counted of destinations. How full they are is read when somebody asks.

use std::sync::{Arc, OnceLock, Weak};

use mesh_daemon::telemetry::Metrics;
use mesh_engine::breaker::Counted;
use mesh_engine::outlier::Cause;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;

use super::pools::{Name, PoolState, Pools};

type Labels = Vec<(&'static str, String)>;

/// What is counted of destinations.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    ejections: Family<Labels, Counter>,
    turned_away: Family<Labels, Counter>,
}

/// Reads the pools.
#[derive(Debug)]
struct Reading(Arc<OnceLock<Weak<Pools>>>);

impl UpstreamMetrics {
    /// Registers everything, and the pools that it then reads.
    pub(crate) fn register(metrics: &Metrics) -> Arc<Pools> {
        let read: Arc<OnceLock<Weak<Pools>>> = Arc::default();
        let registered = Self {
            ejections: metrics.register(
                "mesh_ejections",
                "endpoints that were left out for their answers",
                Family::default(),
            ),
            turned_away: metrics.register(
                "mesh_circuit_refused",
                "requests, retries and connections for which there was no room",
                Family::default(),
            ),
        };
        metrics.register_collector(Box::new(Reading(Arc::clone(&read))));
        let pools = Arc::new(Pools::new(registered));
        read.get_or_init(|| Arc::downgrade(&pools));
        pools
    }

    /// Counts an endpoint that is left out.
    pub(crate) fn ejected(&self, name: &Name, cause: Cause) {
        let mut labels = labels(name);
        labels.push(("cause", cause.as_str().to_owned()));
        self.ejections.get_or_create(&labels).inc();
    }

    /// Counts what there was no room for.
    pub(super) fn refused(&self, name: &Name, counted: Counted) {
        let mut labels = labels(name);
        labels.push(("kind", counted.as_str().to_owned()));
        self.turned_away.get_or_create(&labels).inc();
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let pools = self.0.get().and_then(Weak::upgrade);
        let pools = pools.map(|pools| pools.all()).unwrap_or_default();
        let gauge =
            |encoder: &mut DescriptorEncoder<'_>, name, help, values: Vec<(Labels, i64)>| {
                if values.is_empty() {
                    return Ok(());
                }
                let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                for (labels, value) in values {
                    ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
                }
                Ok(())
            };
        let open = pools.iter().flat_map(|pool| circuits(pool)).collect();
        let help = "1 where there is no room for another one";
        gauge(&mut encoder, "mesh_circuit_open", help, open)?;
        let found = pools.iter().filter_map(|pool| adaptive(pool)).collect();
        let help = "requests that may be in flight, where that follows how long answers take";
        gauge(&mut encoder, "mesh_concurrency_limit", help, found)
    }
}

fn adaptive(pool: &PoolState) -> Option<(Labels, i64)> {
    let limit = pool.gate()?.breaker().adaptive()?.limit();
    Some((labels(pool.name()), limit.into()))
}

fn labels(name: &Name) -> Labels {
    vec![
        ("dst_service", name.service.clone()),
        ("subset", name.subset.clone()),
    ]
}

fn circuits(pool: &PoolState) -> Vec<(Labels, i64)> {
    let Some(gate) = pool.gate() else {
        return Vec::new();
    };
    let breaker = gate.breaker();
    let limited = Counted::ALL
        .into_iter()
        .filter(|counted| breaker.most(*counted).is_some());
    limited
        .map(|counted| {
            let mut labels = labels(pool.name());
            labels.push(("kind", counted.as_str().to_owned()));
            (labels, i64::from(breaker.is_open(counted)))
        })
        .collect()
}
