//! How the counters of edges are written when somebody asks for them.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::Edges;
use super::edge::{CLASSES, EdgeLabels, Ending, METHODS, Measured, PROTOCOLS, Tls};
use crate::histogram::Histogram;
use crate::sums::{Labels, counters, histograms};

/// The name of a workload: the last part of its identity.
pub(crate) fn workload(identity: &str) -> &str {
    identity.rsplit('/').next().unwrap_or_default()
}

/// The namespace of a workload, where its identity has one as those of Kubernetes do.
pub(crate) fn namespace(identity: &str) -> &str {
    let rest = identity.split_once("/ns/").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('/').next())
        .unwrap_or_default()
}

/// What tells an edge from others.
fn of_edge(edge: &EdgeLabels) -> Labels<'_> {
    Labels::default()
        .and("reporter", edge.reporter.as_str())
        .and("src_identity", &edge.src_identity)
        .and("src_workload", workload(&edge.src_identity))
        .and("src_namespace", namespace(&edge.src_identity))
        .and("dst_service", &edge.dst_service)
        .and("route", &edge.route)
}

/// What tells an ending of it from others; none: those that found no room.
fn of_ending(edge: &EdgeLabels, ending: Option<Ending>) -> Labels<'_> {
    fn name(names: &[String], at: Option<usize>) -> &str {
        at.and_then(|at| names.get(at)).map_or("", String::as_str)
    }
    let identity = ending.and_then(|ending| ending.dst_identity);
    let identity = name(&edge.dst_identities, identity);
    let subset = ending.and_then(|ending| ending.subset);
    let method = ending.and_then(|ending| METHODS.get(ending.method));
    let protocol = ending.and_then(|ending| PROTOCOLS.get(ending.protocol));
    let code = ending.map(|ending| ending.code).filter(|code| *code != 0);
    let status = ending.map(Ending::grpc_status_label);
    let tls = ending.map_or(Tls::None, |ending| ending.tls);
    let reason = ending.and_then(|ending| ending.reason);
    of_edge(edge)
        .and("dst_identity", identity)
        .and("dst_workload", workload(identity))
        .and("dst_namespace", namespace(identity))
        .and("dst_subset", name(&edge.subsets, subset))
        .and("method", method.copied().unwrap_or("_OTHER"))
        .and("protocol", protocol.copied().unwrap_or_default())
        .and(
            "code",
            code.map(|code| code.to_string()).unwrap_or_default(),
        )
        .and("grpc_status", status.unwrap_or_default())
        .and("tls", tls.as_str())
        .and("reason", reason.map_or("", |reason| reason.name()))
}

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        let edges: Vec<(&EdgeLabels, &Measured)> = all
            .iter()
            .filter_map(|(_, edge)| Some((edge.labels(), edge.measured()?)))
            .collect();
        let encoder = &mut encoder;
        let endings = edges.iter().flat_map(|(edge, measured)| {
            let endings = measured.endings();
            let counted = endings.map(|(ending, count)| (of_ending(edge, Some(ending)), count));
            let others = measured.others.load(Ordering::Relaxed);
            let others = (others > 0).then(|| (of_ending(edge, None), others));
            counted.chain(others)
        });
        counters(
            encoder,
            ("mesh_requests", "requests that have ended"),
            endings,
        )?;
        for (described, of) in BY_CLASS {
            let counted = edges.iter().flat_map(|(edge, measured)| {
                let classes = CLASSES.iter().zip(of(measured));
                classes.filter_map(|(class, histogram)| {
                    Some((of_edge(edge).and("code_class", *class), histogram.get()?))
                })
            });
            histograms(encoder, described, 1.0, counted)?;
        }
        for (described, of) in OF_ALL {
            let counted = edges
                .iter()
                .map(|(edge, measured)| (of_edge(edge), of(measured)));
            histograms(encoder, described, 1.0, counted)?;
        }
        let messages = edges.iter().flat_map(|(edge, measured)| {
            let kinds = ["request", "response"].into_iter().zip(&measured.messages);
            kinds.filter_map(|(kind, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then(|| (of_edge(edge).and("kind", kind), count))
            })
        });
        counters(encoder, MESSAGES, messages)
    }
}

/// Name and meaning.
type Described = (&'static str, &'static str);

const MESSAGES: Described = (
    "mesh_grpc_messages",
    "messages of gRPC, those of answers as they pass and those of requests when the answer goes on or ends",
);

type ByClass = fn(&Measured) -> &[OnceLock<Histogram>];

const BY_CLASS: [(Described, ByClass); 2] = [
    (
        ("mesh_request_duration_seconds", "whole exchanges"),
        |measured| &measured.duration,
    ),
    (
        (
            "mesh_response_first_byte_seconds",
            "from the request to the head of its answer",
        ),
        |measured| &measured.first_byte,
    ),
];

type OfAll = fn(&Measured) -> &Histogram;

const OF_ALL: [(Described, OfAll); 3] = [
    (
        (
            "mesh_proxy_overhead_seconds",
            "what the proxy took for itself between a request and the head of its answer: neither waiting for an endpoint nor pausing as policy says",
        ),
        |measured| &measured.overhead,
    ),
    (
        ("mesh_request_body_bytes", "sizes of request bodies"),
        |measured| &measured.request_bytes,
    ),
    (
        ("mesh_response_body_bytes", "sizes of answers' bodies"),
        |measured| &measured.response_bytes,
    ),
];
