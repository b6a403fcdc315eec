//! The reference page of metrics and reasons, written from what a proxy tells that has met everything.
//!
//! `MESH_GENERATE=1 cargo test -p meshp reference` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use mesh_bundle::reject::{RejectReason, Rejection};
use mesh_daemon::clock::Clock;
use mesh_daemon::telemetry::{Reason, TlsReason};
use mesh_engine::breaker::Counted;
use mesh_engine::jwt::Invalid;
use mesh_engine::outlier::Cause;

use super::harness::*;
use crate::http::local_reply;
use crate::http::metrics::{EdgeLabels, Ending, Measures, Messages, Reporter, Tls};
use crate::http::sanitise::Rule;
use crate::secrets::Secrets;
use crate::subscribe::endpoints::Refusal;
use crate::subscribe::view::View;
use crate::tcp::metrics::TcpLabels;

const INTRODUCTION: &str = "# Metrics

What a proxy tells at `/metrics`, in OpenMetrics' text format. Labels hold names from policy, identities that the mesh has
issued, and words of closed lists, never a path, a host or a header. `reporter` is `source` where the caller's proxy counted
and `destination` where the callee's did; `reason` is empty for a success and otherwise one of those below. A workload is
the last part of an identity, and a namespace what follows `/ns/` in it, if anything does. What is counted of somebody who is
gone, or by a rule or a route that policy has no more, is told for ten more minutes. Those that begin with `istio_` are there
with `--istio-metrics`.

| Metric | Type | Labels | Meaning |
|---|---|---|---|
";

const REASONS: &str = "
## Reasons

Why a request, or a connection of bytes, did not end well: one list for metrics, access log, spans and the header
`x-mesh-reason` of what a proxy answers itself. Envoy's response flags are for people who know those; the text form of the
access log has them.

| Reason | Meaning | Envoy | HTTP | gRPC |
|---|---|---|---|---|
";

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// What a text of metrics has, in its order.
fn families(text: &str) -> Vec<(String, Family)> {
    let mut found: Vec<(String, Family)> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let help = help.strip_suffix('.').unwrap_or(help).to_owned();
            let family = Family {
                help,
                ..Family::default()
            };
            found.push((name.to_owned(), family));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            found.last_mut().unwrap().1.kind = kind.split_once(' ').unwrap().1.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let family = &mut found.last_mut().unwrap().1;
            // No value here holds a comma.
            let labels = labels.rsplit_once('}').unwrap().0;
            for label in labels.split(',') {
                let name = label.split_once('=').unwrap().0.to_owned();
                if name != "le" && !family.labels.contains(&name) {
                    family.labels.push(name);
                }
            }
        }
    }
    found
}

fn page(text: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    let sorted: BTreeMap<_, _> = families(text).into_iter().collect();
    for (name, family) in sorted {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = labels.join(" ");
        let Family { kind, help, .. } = family;
        writeln!(page, "| `{name}{suffix}` | {kind} | {labels} | {help} |").unwrap();
    }
    page.push_str(REASONS);
    for reason in Reason::ALL {
        let status = local_reply::status(reason).as_u16();
        let (name, meaning, flag) = (reason.name(), reason.meaning(), reason.envoy_flag());
        let grpc = local_reply::grpc_status(reason);
        writeln!(
            page,
            "| `{name}` | {meaning} | {flag} | {status} | {grpc} |"
        )
        .unwrap();
    }
    page
}

/// A proxy that has met everything.
fn experienced(mesh: &Mesh) -> Proxy {
    let credentials = mesh.authority.credentials("/service/productpage");
    let proxy = Proxy::start_as(credentials, None, |settings| settings.istio_metrics = true);
    let mut slice = mesh.calling(vec![route()]);
    slice.access = mesh.admitting("productpage", &["details"]).access;
    slice.callees[0].pool.limits.requests = Some(1);
    slice.callees[0].pool.limits.adaptive = Some(2_500);
    proxy.apply(&slice);
    let plane = &proxy.plane.plane;
    let edge = plane.metrics.edge(EdgeLabels {
        reporter: Reporter::Source,
        src_identity: "spiffe://shop.example/service/productpage".to_owned(),
        dst_service: "reviews".to_owned(),
        route: "everyone".to_owned(),
        subsets: Vec::new(),
        dst_identities: Vec::new(),
    });
    let ending = Ending {
        method: 0,
        protocol: 2,
        code: 200,
        grpc_status: Some(0),
        reason: None,
        subset: None,
        dst_identity: None,
        tls: Tls::Mutual,
    };
    let measures = Measures {
        duration: Duration::from_millis(1),
        first_byte: Some(Duration::from_millis(1)),
        overhead: Some(Duration::from_micros(1)),
        bytes_in: 1,
        bytes_out: 1,
    };
    edge.count(ending, &measures);
    edge.count_messages(Messages::Request, 1);
    edge.count_messages(Messages::Response, 1);
    for pool in plane.directory.pools().all() {
        pool.refused(Counted::Requests);
        pool.metrics().ejected(pool.name(), Cause::Consecutive5xx);
    }
    plane.rate_limits.refused("productpage", None);
    plane
        .access
        .tokens
        .refused("productpage", "shop", Invalid::Missing);
    plane.access.keys.count("shop", "ok");
    plane
        .access
        .authorizers
        .count("productpage", "opa", "allowed");
    plane
        .access
        .counted
        .count("productpage", "limits", "allowed");
    plane.mirrors.count("sent");
    let metrics = &plane.metrics;
    metrics.rejected(Rule::HostMissing);
    metrics.limit_reached("connections");
    metrics.refused(Reporter::Source, Reason::Loop);
    metrics.retried(true);
    metrics.timed_out("request");
    metrics.handshake_failed("server", TlsReason::Expired);
    drop(metrics.connections(Reporter::Source));
    let exporter = plane
        .exporters
        .get("http://127.0.0.1:1", &Secrets::default());
    assert!(exporter.is_ok());
    let (series, ..) = plane.tcp.open(TcpLabels {
        reporter: Reporter::Source,
        src_identity: String::new(),
        dst_service: "db".to_owned(),
        dst_identity: String::new(),
        protocol: "tcp",
        tls: Tls::Mutual,
    });
    series.close(None, Duration::from_secs(1));
    let view = View::new("1".to_owned(), Clock::manual(1_000_000), &proxy.metrics);
    view.update(|state| {
        state.sequence = Some(1);
        state.certificate_expires = Some(1);
        state.head_issued = Some(Duration::ZERO);
    });
    view.rejected(&Rejection::new(RejectReason::BadProof, "x"), 7);
    view.refused_endpoints(Refusal::Malformed, 1);
    proxy
}

#[tokio::test]
async fn the_reference_of_metrics_is_up_to_date() {
    let mesh = Mesh::new();
    let proxy = experienced(&mesh);
    let page = page(&proxy.metrics.encode());
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../schemas/reference/metrics.md"
    );
    if std::env::var_os("MESH_GENERATE").is_some() {
        std::fs::write(file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap();
    assert!(
        committed == page,
        "metrics.md is out of date: run `MESH_GENERATE=1 cargo test -p meshp reference`\n{page}"
    );
}
