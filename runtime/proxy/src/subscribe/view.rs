//! What the control side shows: the answer of `GET /config`, readiness and its metrics, all from one
//! state, so that they agree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_bundle::reject::Rejection;
use mesh_daemon::clock::Clock;
use mesh_daemon::telemetry::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;

use super::endpoints::Refusal;
use crate::data_plane::EndpointSet;

type Reasons = Family<[(&'static str, &'static str); 1], Counter>;

/// Shared between the control side, which writes, and the admin listeners, which read.
#[derive(Clone, Debug)]
pub(crate) struct View {
    state: Arc<Mutex<State>>,
    endpoints: Arc<Mutex<Vec<ShownEndpoints>>>,
    rejected: Reasons,
    endpoints_refused: Reasons,
}

/// `GET /config`. Field names are a contract; what is not known is null.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct State {
    /// What is served: its place in the order, and what it was made from.
    pub(crate) sequence: Option<u64>,
    pub(crate) order: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) generation: Option<String>,
    pub(crate) slice: Option<String>,
    /// How long the pointer swap took; 0 where nothing had to be swapped.
    pub(crate) swap_ns: Option<u64>,
    /// It has no slice: everything is refused.
    pub(crate) denied: bool,
    pub(crate) confirmed: Option<String>,
    pub(crate) floor: Option<String>,
    /// No fresh head: what is served goes on, and nothing advances.
    pub(crate) stale: bool,
    pub(crate) trust_root_version: Option<u64>,
    pub(crate) identity: Option<String>,
    pub(crate) instance: String,
    pub(crate) version: &'static str,
    /// Distributor of the open stream.
    pub(crate) distributor: Option<String>,
    /// Unix seconds.
    pub(crate) certificate_expires: Option<u64>,
    pub(crate) certificate_expired: bool,
    pub(crate) last_rejection: Option<LastRejection>,
    pub(crate) draining: bool,
    /// When the newest head was issued, on the clock since boot.
    #[serde(skip)]
    pub(crate) head_issued: Option<Duration>,
}

/// One element of `GET /endpoints`: endpoints that came beside the slices.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShownEndpoints {
    service: String,
    labels: BTreeMap<String, String>,
    spiffe_id: Option<String>,
    addresses: Vec<ShownAddress>,
}

/// An address, and the port of the service that it serves.
#[derive(Clone, Debug, Serialize)]
struct ShownAddress {
    port: u16,
    address: SocketAddr,
}

impl From<&EndpointSet> for ShownEndpoints {
    fn from(set: &EndpointSet) -> Self {
        let labels = set
            .labels
            .iter()
            .map(|it| (it.key.clone(), it.value.clone()));
        let addresses = set.addresses.iter();
        Self {
            service: set.service.clone(),
            labels: labels.collect(),
            spiffe_id: set.spiffe_id.as_ref().map(ToString::to_string),
            addresses: addresses
                .map(|(port, address)| ShownAddress {
                    port: *port,
                    address: *address,
                })
                .collect(),
        }
    }
}

/// What was refused last.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LastRejection {
    /// One of the reasons for configuration.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) detail: String,
    /// Unix milliseconds.
    pub(crate) at_ms: u64,
}

impl View {
    /// Registers the metrics of the control side.
    pub(crate) fn new(instance: String, clock: Clock, metrics: &Metrics) -> Self {
        let state = State {
            instance,
            version: env!("CARGO_PKG_VERSION"),
            ..State::default()
        };
        let view = Self {
            state: Arc::new(Mutex::new(state)),
            endpoints: Arc::default(),
            rejected: metrics.register(
                "mesh_config_rejected",
                "configurations that were refused",
                Reasons::default(),
            ),
            endpoints_refused: metrics.register(
                "mesh_endpoints_refused",
                "discovered endpoints that may not be used",
                Reasons::default(),
            ),
        };
        metrics.register_collector(Box::new(Gauges {
            state: Arc::clone(&view.state),
            clock,
        }));
        view
    }

    /// The state as it is now.
    pub(crate) fn get(&self) -> State {
        lock(&self.state).clone()
    }

    /// Changes the state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
    }

    /// Shows these endpoints.
    pub(crate) fn set_endpoints(&self, sets: &[EndpointSet]) {
        *lock(&self.endpoints) = sets.iter().map(ShownEndpoints::from).collect();
    }

    /// The endpoints as they are now.
    pub(crate) fn endpoints(&self) -> Vec<ShownEndpoints> {
        lock(&self.endpoints).clone()
    }

    /// Counts discovered endpoints that are not used.
    pub(crate) fn refused_endpoints(&self, why: Refusal, count: usize) {
        self.endpoints_refused
            .get_or_create(&[("reason", why.as_str())])
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Counts and remembers a refusal.
    pub(crate) fn rejected(&self, rejection: &Rejection, at_ms: u64) {
        self.rejected
            .get_or_create(&[("reason", rejection.as_str())])
            .inc();
        let last = LastRejection {
            reason: rejection.as_str(),
            detail: rejection.detail().to_owned(),
            at_ms,
        };
        self.update(|state| state.last_rejection = Some(last));
    }

    /// Whether traffic should be sent here: only when a generation is served and nothing ends.
    pub(crate) fn ready(&self) -> Result<String, String> {
        let state = lock(&self.state);
        let Some(order) = &state.order else {
            return Err("no configuration yet".to_owned());
        };
        if state.draining {
            return Err("draining".to_owned());
        }
        if state.denied {
            return Err(format!("generation {order} has no slice for this workload"));
        }
        if state.certificate_expires.is_none() {
            return Err("no certificate".to_owned());
        }
        if state.certificate_expired {
            return Err("certificate has expired".to_owned());
        }
        let stale = if state.stale { ", stale" } else { "" };
        Ok(format!("serving {order}{stale}"))
    }
}

fn lock<T>(state: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic elsewhere leaves a state that can still be shown.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is read when metrics are asked for: an age has no moment at which it changes.
#[derive(Debug)]
struct Gauges {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (sequence, expires, head_issued) = {
            let state = lock(&self.state);
            (state.sequence, state.certificate_expires, state.head_issued)
        };
        let age = head_issued.map(|issued| self.clock.boot().saturating_sub(issued).as_secs_f64());
        let as_float = |number: u64| {
            // Exact up to 2^53: sequences and seconds are far below.
            f64::from(u32::try_from(number >> 32).unwrap_or(u32::MAX)) * 4_294_967_296.0
                + f64::from(u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX))
        };
        let gauges = [
            (
                "mesh_config_generation",
                "sequence of the generation that is served",
                sequence.map(as_float),
            ),
            (
                "mesh_config_age_seconds",
                "time since the newest head was issued",
                age,
            ),
            (
                "mesh_cert_expiry_timestamp_seconds",
                "when the certificate expires, Unix time",
                expires.map(as_float),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mesh_bundle::reject::RejectReason;

    use super::*;

    #[test]
    fn readiness_and_metrics_say_the_same() {
        let clock = Clock::manual(1_000_000);
        let metrics = Metrics::new("meshp", "0.1.0");
        let view = View::new("1".to_owned(), clock.clone(), &metrics);
        assert!(view.ready().is_err());
        assert!(!metrics.encode().contains("mesh_config_generation "));

        view.update(|state| {
            state.sequence = Some(42);
            state.order = Some("0.42.1".to_owned());
            state.head_issued = Some(clock.boot());
        });
        assert_eq!(view.ready(), Err("no certificate".to_owned()));
        view.update(|state| state.certificate_expires = Some(2_000));
        clock.advance(Duration::from_millis(2500));
        view.update(|state| state.stale = true);
        assert_eq!(view.ready(), Ok("serving 0.42.1, stale".to_owned()));
        view.rejected(&Rejection::new(RejectReason::BadProof, "x"), 7);
        let text = metrics.encode();
        for line in [
            "mesh_config_generation 42.0",
            "mesh_config_age_seconds 2.5",
            "mesh_config_rejected_total{reason=\"bad_proof\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        view.update(|state| state.denied = true);
        assert!(view.ready().is_err());
    }
}
