//! The same counters under Istio's names, for dashboards that know those. Where Istio tells what the mesh does not know,
//! the nearest is said: a workload stands for its app and its canonical service. Routes and subsets are not told apart.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_daemon::telemetry::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::edge::{CLASSES, EdgeLabels, Ending, Measured, Tls};
use super::{Edges, Reporter, namespace, workload};
use crate::histogram::Histogram;
use crate::sums::{Labels, counters, histograms};

/// Reads the counters of edges.
#[derive(Debug)]
pub(super) struct Istio(pub(super) Arc<Edges>);

/// The two ends of a request or a connection, by identities and the name of the service.
pub(crate) fn ends<'e>(
    reporter: Reporter,
    source: &'e str,
    service: &'e str,
    destination: &'e str,
) -> Labels<'e> {
    fn known(text: &str) -> &str {
        if text.is_empty() { "unknown" } else { text }
    }
    let caller = known(workload(source));
    let callee = match workload(destination) {
        "" => known(service),
        callee => callee,
    };
    let (from, to) = (known(namespace(source)), known(namespace(destination)));
    Labels::default()
        .and("reporter", reporter.as_str())
        .and("source_workload", caller)
        .and("source_workload_namespace", from)
        .and("source_principal", known(source))
        .and("source_app", caller)
        .and("source_canonical_service", caller)
        .and("destination_service", known(service))
        .and("destination_service_name", known(service))
        .and("destination_service_namespace", to)
        .and("destination_workload", callee)
        .and("destination_workload_namespace", to)
        .and("destination_principal", known(destination))
        .and("destination_app", callee)
        .and("destination_canonical_service", callee)
}

/// As Istio has it.
pub(crate) fn security(tls: Tls) -> &'static str {
    match tls {
        Tls::Mutual => "mutual_tls",
        Tls::None | Tls::Simple => "none",
    }
}

/// Who answered is known of one request; of all together where there is only one who can.
fn of_edge(edge: &EdgeLabels, answered: Option<usize>) -> Labels<'_> {
    let destination = match (answered, edge.dst_identities.as_slice()) {
        (Some(at), identities) => identities.get(at),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let destination = destination.map_or("", String::as_str);
    ends(
        edge.reporter,
        &edge.src_identity,
        &edge.dst_service,
        destination,
    )
}

fn of_ending(edge: &EdgeLabels, ending: Ending) -> Labels<'_> {
    let protocol = if ending.is_grpc() { "grpc" } else { "http" };
    let flag = ending.reason.map_or("-", Reason::envoy_flag);
    of_edge(edge, ending.dst_identity)
        .and("request_protocol", protocol)
        .and("response_code", ending.code.to_string())
        .and("grpc_response_status", ending.grpc_status_label())
        .and("response_flags", flag)
        .and("connection_security_policy", security(ending.tls))
}

impl Collector for Istio {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.0.all();
        let edges: Vec<(&EdgeLabels, &Measured)> = all
            .iter()
            .filter_map(|(_, edge)| Some((edge.labels(), edge.measured()?)))
            .collect();
        let encoder = &mut encoder;
        let endings = edges.iter().flat_map(|(edge, measured)| {
            let endings = measured.endings();
            endings.map(|(ending, count)| (of_ending(edge, ending), count))
        });
        let requests = (
            "istio_requests",
            "requests that have ended, as Istio counts them",
        );
        counters(encoder, requests, endings)?;
        let durations = edges.iter().flat_map(|(edge, measured)| {
            let classes = CLASSES.iter().zip(&measured.duration);
            classes.filter_map(|(class, histogram)| {
                let labels = of_edge(edge, None).and("response_code_class", *class);
                Some((labels, histogram.get()?))
            })
        });
        let duration = (
            "istio_request_duration_milliseconds",
            "whole exchanges, as Istio counts them",
        );
        histograms(encoder, duration, 1_000.0, durations)?;
        for (described, of) in SIZES {
            let sizes = edges
                .iter()
                .map(|(edge, measured)| (of_edge(edge, None), of(measured)));
            histograms(encoder, described, 1.0, sizes)?;
        }
        for (at, described) in MESSAGES.into_iter().enumerate() {
            let messages = edges.iter().filter_map(|(edge, measured)| {
                let count = measured.messages.get(at)?.load(Ordering::Relaxed);
                (count > 0).then(|| (of_edge(edge, None), count))
            });
            counters(encoder, described, messages)?;
        }
        Ok(())
    }
}

/// Name and meaning.
type Described = (&'static str, &'static str);

type SizesOf = fn(&Measured) -> &Histogram;

const SIZES: [(Described, SizesOf); 2] = [
    (
        (
            "istio_request_bytes",
            "sizes of request bodies, as Istio counts them",
        ),
        |measured| &measured.request_bytes,
    ),
    (
        (
            "istio_response_bytes",
            "sizes of answers' bodies, as Istio counts them",
        ),
        |measured| &measured.response_bytes,
    ),
];

const MESSAGES: [Described; 2] = [
    (
        "istio_request_messages",
        "messages of gRPC clients, as Istio counts them",
    ),
    (
        "istio_response_messages",
        "messages of gRPC servers, as Istio counts them",
    ),
];
