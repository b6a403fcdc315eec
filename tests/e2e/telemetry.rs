//! What the proxies tell, read by programs that others wrote: Prometheus' own parser, and a collector on grpcio.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_tests::{Failure, Running, wait_until, workspace_root};
use serde::Deserialize;

use crate::support::{Bookshop, LIMIT, bookshop};

const MESH: &str = "mesh.kdl";
const PLAIN: &str = "    environment staging prod\n";

/// Where Python with the packages of CI is; none: the case is skipped, and says so.
fn python() -> Result<Option<PathBuf>, Failure> {
    let python = workspace_root().join("target/ci-tools/bin/ci-python");
    let packages = "import grpc, opentelemetry.proto.collector.trace.v1, prometheus_client";
    let is_there = python.is_file()
        && Command::new(&python)
            .args(["-c", packages])
            .stderr(Stdio::null())
            .status()?
            .success();
    if is_there {
        return Ok(Some(python));
    }
    let lacking = "Python with grpcio, opentelemetry-proto and prometheus_client is not there; `.ci/run` installs it";
    if std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required") {
        return Err(Failure::new(lacking));
    }
    let case = std::thread::current();
    let case = case.name().unwrap_or("a case");
    writeln!(std::io::stderr(), "SKIPPED {case}: {lacking}")?;
    Ok(None)
}

fn programs() -> PathBuf {
    workspace_root().join("tests/programs")
}

/// A family of metrics, as the parser read it.
#[derive(Debug, Deserialize)]
struct Family {
    r#type: String,
    labels: BTreeSet<String>,
}

fn parsed(python: &Path, metrics: &str) -> Result<BTreeMap<String, Family>, Failure> {
    let mut parser = Command::new(python)
        .arg(programs().join("metrics.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = parser.stdin.take() {
        input.write_all(metrics.as_bytes())?;
    }
    let output = parser.wait_with_output()?;
    if !output.status.success() {
        return Err(Failure::new(format!("it was refused: {metrics}")));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The rows of the reference: type and labels by name.
fn reference() -> Result<BTreeMap<String, (String, BTreeSet<String>)>, Failure> {
    let page = fs::read_to_string(workspace_root().join("schemas/reference/metrics.md"))?;
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let kind = cells.next()?.to_owned();
        let labels = cells
            .next()?
            .split(' ')
            .map(|label| label.trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned);
        Some((name, (kind, labels.collect())))
    };
    Ok(page.lines().filter_map(row).collect())
}

#[test]
fn prometheus_reads_the_metrics_and_the_reference_has_all_of_them() -> Result<(), Failure> {
    let Some(python) = python()? else {
        return Ok(());
    };
    let shop = bookshop(50)?;
    wait_until("traffic", LIMIT, || {
        let edge = shop.dev.edge("productpage", "reviews")?;
        let enough = edge.requests >= 20;
        enough
            .then_some(())
            .ok_or_else(|| Failure::new("too little"))
    })?;
    let reference = reference()?;
    for service in ["productpage", "reviews", "details"] {
        let families = parsed(&python, &shop.metrics(service)?)?;
        assert!(families.len() > 20, "{families:?}");
        for (name, family) in families {
            let suffix = match family.r#type.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let known = reference.get(&format!("{name}{suffix}"));
            let (kind, labels) =
                known.ok_or_else(|| Failure::new(format!("{name} is not in the reference")))?;
            assert_eq!(*kind, family.r#type, "{name}");
            assert!(
                family.labels.is_subset(labels),
                "{name}: {family:?} and {labels:?}"
            );
        }
    }
    Ok(())
}

/// One hop, as the collector wrote it.
#[derive(Clone, Debug, Deserialize)]
struct Hop {
    resource: BTreeMap<String, serde_json::Value>,
    trace: String,
    span: String,
    parent: String,
    name: String,
    kind: u8,
    attributes: BTreeMap<String, serde_json::Value>,
    events: Vec<serde_json::Value>,
    failed: bool,
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

fn hops(spans: &Path) -> Result<Vec<Hop>, Failure> {
    let text = fs::read_to_string(spans).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn collector(python: &Path, folder: &Path) -> Result<(Running, String), Failure> {
    let listening = folder.join("port");
    let mut command = Command::new(python);
    command
        .arg(programs().join("collector.py"))
        .arg(folder.join("spans"))
        .arg(&listening)
        .stdin(Stdio::null());
    let running = Running::start(&mut command)?;
    let port = wait_until("the collector listens", LIMIT, || {
        Ok(fs::read_to_string(&listening)?)
    })?;
    Ok((running, format!("http://127.0.0.1:{port}")))
}

fn traced(shop: &Bookshop, otlp: &str, share: &str) -> Result<(), Failure> {
    let telemetry =
        format!("{PLAIN}    telemetry {{ traces otlp=\"{otlp}\" share=\"{share}\" }}\n");
    let commit = shop.dev.commit_edit(MESH, &[(PLAIN, &telemetry)])?;
    shop.dev.wait_serving(&commit, LIMIT).map(drop)
}

#[test]
fn a_collector_on_grpcio_is_told_every_hop() -> Result<(), Failure> {
    let Some(python) = python()? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let (_collector, otlp) = collector(&python, folder.path())?;
    let shop = bookshop(0)?;
    traced(&shop, &otlp, "100%")?;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str())];
    let got = shop.get("productpage", "reviews", "/reviews/7", &headers)?;
    assert_eq!(got.status, 200, "{got:?}");
    let denied = shop.get("reviews", "ratings", "/admin", &headers)?;
    assert_eq!(denied.status, 403, "{denied:?}");
    let hops = wait_until("four hops", LIMIT, || {
        let hops = hops(&folder.path().join("spans"))?;
        let ours = hops.into_iter().filter(|hop| hop.trace == TRACE);
        let ours: Vec<_> = ours.collect();
        if ours.len() >= 4 {
            return Ok(ours);
        }
        Err(Failure::new(format!("{ours:?}")))
    })?;
    for (caller, callee, path, failed) in [
        ("productpage", "reviews", "/reviews/7", false),
        ("reviews", "ratings", "/admin", true),
    ] {
        let one = |service: &str, kind| {
            let mut found = hops.iter().filter(|hop| {
                hop.resource
                    .get("service.name")
                    .is_some_and(|name| name == service)
                    && hop.kind == kind
                    && hop.attributes.get("url.path").is_some_and(|at| at == path)
            });
            found
                .next()
                .ok_or_else(|| Failure::new(format!("{hops:?}")))
        };
        let (client, server) = (one(caller, CLIENT)?, one(callee, SERVER)?);
        assert_eq!(client.parent, "00f067aa0ba902b7");
        assert_eq!(server.parent, client.span);
        assert_eq!(client.name, format!("GET {callee}"));
        assert_eq!(client.events.len(), 1, "{client:?}");
        assert_eq!(client.failed, failed, "{client:?}");
        let reason = server.attributes.get("mesh.reason").cloned();
        assert_eq!(
            reason.is_some_and(|reason| reason == "authz_denied"),
            failed
        );
    }
    let instance = hops
        .iter()
        .find_map(|hop| hop.resource.get("service.instance.id"));
    assert!(instance.is_some());
    Ok(())
}
