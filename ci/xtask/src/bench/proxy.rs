//! `cargo xtask bench proxy`: the same work through meshp, Envoy, HAProxy and nginx, one worker each on one
//! processor, in turn, so that a machine that slows down slows all of them.

use std::path::Path;
use std::process::Command;

use mesh_tests::{Failure, run};
use serde::Serialize;

use super::median;
use crate::test::{build_programs, cargo};

mod contender;
mod envoy;
mod haproxy;
mod hop;
mod load;
mod machine;
mod memory;
mod mesh;
mod nginx;
mod storm;
mod table;

use contender::{Contender, Ground, Way};
use load::{Application, drive};
use mesh::Mesh;

/// Prefix routes of every proxy where their number is not what is measured.
const ROUTES: usize = 10;
/// One of them.
const PATH: &str = "/r7/item";
/// Requests per second at which times are compared: far below what any of them can do.
const STEADY_RATE: &str = "1000";
const STEADY_CONNECTIONS: &str = "8";

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    processors: usize,
    kernel: String,
    runs: usize,
    run_ms: u64,
    scenarios: Vec<Scenario>,
    memory: Vec<memory::Memory>,
    storm: Option<storm::Storm>,
}

/// All who went one way.
#[derive(Debug, Serialize)]
struct Scenario {
    name: String,
    /// What processor time is divided by, and what came through in a second.
    unit: &'static str,
    contenders: Vec<Measured>,
    /// Not there, or not able to do this.
    missing: Vec<&'static str>,
}

/// Medians of one contender.
#[derive(Debug, Serialize)]
struct Measured {
    name: &'static str,
    /// Processor time of the proxy, or of both, per request, user and system.
    cpu_us: f64,
    /// As fast as answers come, and how much of its processor the proxy had then. What is below 0.95 was limited by
    /// what stands around the proxy.
    per_second: f64,
    busy: f64,
    /// At a fixed rate, beyond what the same requests take without a proxy.
    added_p50_us: Option<f64>,
    added_p99_us: Option<f64>,
    /// At the end.
    resident_mib: f64,
    failed: u64,
}

/// What is sent which way.
struct Plan {
    name: String,
    way: Way,
    /// Of `mesh-load drive`.
    words: Vec<String>,
    counts: Counts,
    /// Whether times are compared, too.
    steady: bool,
    routes: usize,
}

/// What processor time is divided by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Requests, or connections.
    Done,
    /// MiB that came through.
    Bytes,
}

impl Plan {
    fn new(name: &str, way: Way, words: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            way,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            counts: Counts::Done,
            steady: false,
            routes: ROUTES,
        }
    }

    fn and_steady(self) -> Self {
        Self {
            steady: true,
            ..self
        }
    }

    fn of_bytes(self) -> Self {
        Self {
            counts: Counts::Bytes,
            ..self
        }
    }

    /// A request for one of the last of many routes.
    fn of_routes(routes: usize) -> Self {
        let path = format!("{}/item", hop::prefix(routes - 3));
        let name = format!("one hop, {routes} prefix routes");
        Self {
            routes,
            ..Self::new(&name, Way::Http1, &["--kind", "http1", "--path", &path])
        }
    }
}

fn plans() -> Vec<Plan> {
    let http1 = ["--kind", "http1", "--path", PATH];
    let grpc = ["--kind", "grpc", "--connections", "4", "--streams", "16"];
    // Between proxies of a mesh the host says which service is called.
    let greeting = [&grpc[..], &["--host", "greeter"]].concat();
    let large = ["--kind", "http1", "--connections", "8"];
    let answers = [&large[..], &["--path", "/bytes/1048576"]].concat();
    let requests = [&large[..], &["--path", PATH, "--body", "1048576"]].concat();
    let handshakes = ["--kind", "handshakes", "--connections", "8", "--path", PATH];
    let one = ["--kind", "bytes", "--connections", "1"];
    let some = ["--kind", "bytes", "--connections", "16"];
    vec![
        Plan::new("one hop, HTTP/1.1", Way::Http1, &http1).and_steady(),
        Plan::new("two hops, mTLS, HTTP/1.1", Way::Http1Twice, &http1).and_steady(),
        Plan::new("one hop, gRPC", Way::Grpc, &grpc),
        Plan::new("two hops, mTLS, gRPC", Way::GrpcTwice, &greeting),
        Plan::new("one hop, answers of 1 MiB", Way::Http1, &answers),
        Plan::new("one hop, requests of 1 MiB", Way::Http1, &requests),
        Plan::of_routes(10),
        Plan::of_routes(1000),
        Plan::of_routes(10_000),
        Plan::new("one hop, TLS handshakes", Way::Https, &handshakes),
        Plan::new("one hop, bytes, 1 connection", Way::Bytes, &one).of_bytes(),
        Plan::new("two hops, mTLS, bytes, 1 connection", Way::BytesTwice, &one).of_bytes(),
        Plan::new(
            "two hops, mTLS, bytes, 16 connections",
            Way::BytesTwice,
            &some,
        )
        .of_bytes(),
    ]
}

/// Measures in the release profile, which is built first if it is said where. `only` names scenarios by a part of their names.
#[expect(clippy::print_stdout, reason = "the measurements are what it is for")]
pub(crate) fn run_all(
    build: Option<&Path>,
    quick: bool,
    only: &[String],
    json: bool,
) -> Result<(), Failure> {
    if let Some(root) = build {
        build_programs(root)?;
        cargo(root, &["build", "--release", "--package", "mesh-load"])?;
    }
    let scratch = tempfile::Builder::new().prefix("mesh-bench-").tempdir()?;
    let (runs, run_ms) = if quick { (5, 700) } else { (7, 3000) };
    let application = Application::start()?;
    let certificates = scratch.path().join("certificates");
    load::certificates(&certificates)?;
    let mesh = Mesh::start(scratch.path().join("mesh"), &application, ROUTES)?;
    let mut report = Report {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel()?,
        runs,
        run_ms,
        scenarios: Vec::new(),
        memory: Vec::new(),
        storm: None,
    };
    let mut failures = Vec::new();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part));
    for plan in plans().iter().filter(|plan| wanted(&plan.name)) {
        progress(&plan.name);
        let folder = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(scratch.path())?;
        let other = match plan.routes {
            ROUTES => None,
            routes => Some(Mesh::start(
                folder.path().join("mesh"),
                &application,
                routes,
            )?),
        };
        let ground = Ground {
            folder: folder.path(),
            certificates: certificates.clone(),
            application: &application,
            mesh: other.as_ref().unwrap_or(&mesh),
            routes: plan.routes,
        };
        // One that cannot be measured takes none of the others away.
        match scenario(plan, &ground, (runs, run_ms)) {
            Ok(scenario) => report.scenarios.push(scenario),
            Err(failure) => failures.push(failure.while_doing(&plan.name).to_string()),
        }
    }
    let folder = tempfile::Builder::new()
        .prefix("run-")
        .tempdir_in(scratch.path())?;
    let ground = Ground {
        folder: folder.path(),
        certificates,
        application: &application,
        mesh: &mesh,
        routes: ROUTES,
    };
    if wanted(memory::NAME) {
        progress(memory::NAME);
        report.memory = memory::measure(&ground, PATH)?;
    }
    if wanted(storm::NAME) {
        progress(storm::NAME);
        report.storm = Some(storm::measure(
            &ground,
            PATH,
            if quick { 100 } else { 1000 },
        )?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table::table(&report));
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failures.join("\n")))
}

#[expect(clippy::print_stderr, reason = "progress is for people")]
fn progress(step: &str) {
    eprintln!("   {step}");
}

fn kernel() -> Result<String, Failure> {
    let output = run(Command::new("uname").arg("-r"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What is read of one run.
#[derive(Default)]
struct Runs {
    cpu_us: Vec<f64>,
    per_second: Vec<f64>,
    busy: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    failed: u64,
}

fn scenario(
    plan: &Plan,
    ground: &Ground<'_>,
    (runs, run_ms): (usize, u64),
) -> Result<Scenario, Failure> {
    let (contenders, missing) = ground.contenders(plan.way)?;
    let trust = ground.certificates.join("ca.pem").display().to_string();
    let common = ["--millis", &run_ms.to_string(), "--trust", &trust].map(str::to_owned);
    let saturating = [&plan.words[..], &common].concat();
    for contender in &contenders {
        drive(contender.entry, &saturating)
            .map_err(|failure| failure.while_doing(contender.name))?;
    }
    let rate = ["--rate", STEADY_RATE, "--connections", STEADY_CONNECTIONS].map(str::to_owned);
    let steady = [&saturating[..], &rate].concat();
    let mut measured: Vec<Runs> = contenders.iter().map(|_| Runs::default()).collect();
    for _ in 0..runs {
        let direct = if plan.steady {
            Some(drive(ground.application.http1, &steady)?)
        } else {
            None
        };
        for (contender, into) in contenders.iter().zip(&mut measured) {
            once(contender, &saturating, plan.counts, into)
                .map_err(|failure| failure.while_doing(contender.name))?;
            if let Some(direct) = &direct {
                let through = drive(contender.entry, &steady)?;
                into.failed += through.failed;
                into.p50_us.push(through.p50_us - direct.p50_us);
                into.p99_us.push(through.p99_us - direct.p99_us);
            }
        }
    }
    let medians = contenders.iter().zip(measured).map(|(contender, runs)| {
        let added = |values: Vec<f64>| (!values.is_empty()).then(|| median(values));
        Ok(Measured {
            name: contender.name,
            cpu_us: median(runs.cpu_us),
            per_second: median(runs.per_second),
            busy: median(runs.busy),
            added_p50_us: added(runs.p50_us),
            added_p99_us: added(runs.p99_us),
            resident_mib: contender.resident_mib()?,
            failed: runs.failed,
        })
    });
    Ok(Scenario {
        name: plan.name.clone(),
        unit: match (plan.counts, plan.way) {
            (Counts::Bytes, _) => "MiB",
            (Counts::Done, Way::Https) => "handshake",
            (Counts::Done, _) => "request",
        },
        contenders: medians.collect::<Result<_, Failure>>()?,
        missing,
    })
}

fn once(
    contender: &Contender,
    words: &[String],
    counts: Counts,
    into: &mut Runs,
) -> Result<(), Failure> {
    let before = contender.cpu_seconds()?;
    let driven = drive(contender.entry, words)?;
    let cpu = contender.cpu_seconds()? - before;
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^53 of them")]
    let count = match counts {
        Counts::Done => driven.done as f64,
        Counts::Bytes => driven.bytes as f64 / f64::from(1 << 20),
    };
    into.cpu_us.push(cpu * 1e6 / count);
    into.per_second.push(count / driven.seconds);
    into.busy.push(cpu / driven.seconds);
    into.failed += driven.failed;
    Ok(())
}
