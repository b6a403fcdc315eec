//! The same counters under Istio's names.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Counters, Edges, TcpLabels};
use crate::http::metrics::{ends, security};
use crate::sums::{self, Labels};

/// Reads the counters of connections.
#[derive(Debug)]
pub(super) struct Istio(pub(super) Arc<Edges>);

fn shown(labels: &TcpLabels) -> Labels<'_> {
    let TcpLabels {
        reporter,
        src_identity,
        dst_service,
        dst_identity,
        tls,
        protocol: _,
    } = labels;
    ends(*reporter, src_identity, dst_service, dst_identity)
        .and("request_protocol", "tcp")
        .and("connection_security_policy", security(*tls))
}

/// A counter of connections, by its name.
type Counted = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTED: [Counted; 4] = [
    (
        "istio_tcp_connections_opened",
        "connections of bytes that were opened, as Istio counts them",
        |counters| read(&counters.opened),
    ),
    (
        "istio_tcp_connections_closed",
        "connections of bytes that have ended, as Istio counts them",
        |counters| counters.closed.iter().map(read).sum(),
    ),
    (
        "istio_tcp_received_bytes",
        "bytes from whoever connected, as Istio counts them",
        |counters| read(&counters.received),
    ),
    (
        "istio_tcp_sent_bytes",
        "bytes to whoever connected, as Istio counts them",
        |counters| read(&counters.sent),
    ),
];

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Collector for Istio {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.0.all();
        for (name, help, of) in COUNTED {
            let counts = all
                .iter()
                .map(|(labels, counters)| (shown(labels), of(counters)));
            sums::counters(&mut encoder, (name, help), counts)?;
        }
        Ok(())
    }
}
