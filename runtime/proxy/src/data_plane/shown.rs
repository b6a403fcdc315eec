//! What the tables of the moment are counted by when somebody asks.

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::plane::Plane;

/// The endpoints of callees.
#[derive(Debug)]
pub(super) struct Endpoints(pub(super) Weak<Plane>);

impl Collector for Endpoints {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(tables) = self.0.upgrade().and_then(|plane| plane.tables()) else {
            return Ok(());
        };
        if tables.snapshot().callees().is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "mesh_endpoints",
            "endpoints that a service has as this proxy knows it, by state, each port counted",
            None,
            MetricType::Gauge,
        )?;
        for callee in tables.snapshot().callees() {
            for (state, count) in tables.endpoints(callee) {
                let labels = [("dst_service", callee.service()), ("state", state)];
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
