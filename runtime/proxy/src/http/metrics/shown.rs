//! How the counters of edges are written when somebody asks for them.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::Edges;
use super::edge::{CLASSES, EdgeLabels, Ending, METHODS, Measured, PROTOCOLS};
use crate::histogram::Histogram;

/// The labels of an edge, and those that tell apart what is counted of it.
#[derive(Debug)]
struct Labels<'e> {
    edge: &'e EdgeLabels,
    more: More,
}

#[derive(Debug)]
enum More {
    None,
    Ending(Ending),
    /// Endings that found no room.
    Others,
    Class(&'static str),
    Kind(&'static str),
}

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

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let mut label = |name: &str, value: &str| (name, value).encode(encoder.encode_label());
        let edge = self.edge;
        label("reporter", edge.reporter.as_str())?;
        label("src_identity", &edge.src_identity)?;
        label("src_workload", workload(&edge.src_identity))?;
        label("src_namespace", namespace(&edge.src_identity))?;
        label("dst_service", &edge.dst_service)?;
        label("route", &edge.route)?;
        match &self.more {
            More::None => Ok(()),
            More::Class(class) => label("code_class", class),
            More::Kind(kind) => label("kind", kind),
            More::Others => ending(&mut label, edge, None),
            More::Ending(each) => ending(&mut label, edge, Some(*each)),
        }
    }
}

fn ending(
    label: &mut impl FnMut(&str, &str) -> fmt::Result,
    edge: &EdgeLabels,
    ending: Option<Ending>,
) -> fmt::Result {
    let of = |names: &'_ [String], at: Option<usize>| {
        at.and_then(|at| names.get(at)).cloned().unwrap_or_default()
    };
    let identity = of(
        &edge.dst_identities,
        ending.and_then(|ending| ending.dst_identity),
    );
    label("dst_identity", &identity)?;
    label("dst_workload", workload(&identity))?;
    label("dst_namespace", namespace(&identity))?;
    label(
        "dst_subset",
        &of(&edge.subsets, ending.and_then(|ending| ending.subset)),
    )?;
    let method = ending.and_then(|ending| METHODS.get(ending.method));
    label("method", method.copied().unwrap_or("_OTHER"))?;
    let protocol = ending.and_then(|ending| PROTOCOLS.get(ending.protocol));
    label("protocol", protocol.copied().unwrap_or_default())?;
    let code = ending.map(|ending| ending.code).filter(|code| *code != 0);
    label(
        "code",
        &code.map(|code| code.to_string()).unwrap_or_default(),
    )?;
    let status = ending.map(Ending::grpc_status_label);
    label("grpc_status", &status.unwrap_or_default())?;
    label(
        "tls",
        ending.map(|ending| ending.tls).unwrap_or_default().as_str(),
    )?;
    let reason = ending.and_then(|ending| ending.reason);
    label("reason", reason.map_or("", |reason| reason.name()))
}

impl Collector for Edges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let edges = self.0.all();
        let edges: Vec<(&EdgeLabels, &Measured)> = edges
            .iter()
            .filter_map(|(_, edge)| Some((edge.labels(), edge.measured()?)))
            .collect();
        if edges.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "mesh_requests",
            "requests that have ended",
            None,
            MetricType::Counter,
        )?;
        for (edge, measured) in &edges {
            for (ending, count) in measured.endings() {
                counter(&mut family, edge, More::Ending(ending), count)?;
            }
            let others = measured.others.load(Ordering::Relaxed);
            if others > 0 {
                counter(&mut family, edge, More::Others, others)?;
            }
        }
        histograms(&mut encoder, &edges, &DURATION)?;
        histograms(&mut encoder, &edges, &FIRST_BYTE)?;
        histograms(&mut encoder, &edges, &OVERHEAD)?;
        histograms(&mut encoder, &edges, &REQUEST_BYTES)?;
        histograms(&mut encoder, &edges, &RESPONSE_BYTES)?;
        let spoken = |measured: &Measured| {
            let [request, response] = &measured.messages;
            [
                ("request", request.load(Ordering::Relaxed)),
                ("response", response.load(Ordering::Relaxed)),
            ]
        };
        let of_grpc = |(_, measured): &&(&EdgeLabels, &Measured)| {
            spoken(measured).iter().any(|(_, count)| *count > 0)
        };
        if !edges.iter().any(|edge| of_grpc(&edge)) {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "mesh_grpc_messages",
            "messages of gRPC, those of answers as they pass and those of requests when the answer goes on or ends",
            None,
            MetricType::Counter,
        )?;
        for (edge, measured) in edges.iter().filter(of_grpc) {
            for (kind, count) in spoken(measured) {
                counter(&mut family, edge, More::Kind(kind), count)?;
            }
        }
        Ok(())
    }
}

fn counter(
    family: &mut MetricEncoder<'_>,
    edge: &EdgeLabels,
    more: More,
    count: u64,
) -> fmt::Result {
    let labels = Labels { edge, more };
    ConstCounter::new(count).encode(family.encode_family(&labels)?)
}

/// One kind of histograms.
struct Kind {
    name: &'static str,
    help: &'static str,
    of: Of,
}

enum Of {
    Classes(fn(&Measured) -> &[OnceLock<Histogram>]),
    All(fn(&Measured) -> &Histogram),
}

static DURATION: Kind = Kind {
    name: "mesh_request_duration_seconds",
    help: "whole exchanges",
    of: Of::Classes(|measured| &measured.duration),
};
static FIRST_BYTE: Kind = Kind {
    name: "mesh_response_first_byte_seconds",
    help: "from the request to the head of its answer",
    of: Of::Classes(|measured| &measured.first_byte),
};
static OVERHEAD: Kind = Kind {
    name: "mesh_proxy_overhead_seconds",
    help: "what the proxy took for itself between a request and the head of its answer: neither waiting for an endpoint nor pausing as policy says",
    of: Of::All(|measured| &measured.overhead),
};
static REQUEST_BYTES: Kind = Kind {
    name: "mesh_request_body_bytes",
    help: "sizes of request bodies",
    of: Of::All(|measured| &measured.request_bytes),
};
static RESPONSE_BYTES: Kind = Kind {
    name: "mesh_response_body_bytes",
    help: "sizes of answers' bodies",
    of: Of::All(|measured| &measured.response_bytes),
};

fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    edges: &[(&EdgeLabels, &Measured)],
    kind: &Kind,
) -> fmt::Result {
    let mut family =
        encoder.encode_descriptor(kind.name, kind.help, None, MetricType::Histogram)?;
    for (edge, measured) in edges {
        match kind.of {
            Of::All(of) => {
                let labels = Labels {
                    edge,
                    more: More::None,
                };
                of(measured).encode(&mut family, &labels, 1.0)?;
            }
            Of::Classes(of) => {
                for (class, histogram) in CLASSES.iter().zip(of(measured)) {
                    if let Some(histogram) = histogram.get() {
                        let labels = Labels {
                            edge,
                            more: More::Class(class),
                        };
                        histogram.encode(&mut family, &labels, 1.0)?;
                    }
                }
            }
        }
    }
    Ok(())
}
