//! `cargo xtask demo --check`: the story of the demo, unattended and measured.
//!
//! A step that does not come true or a single failed request fails it. Times are printed, never
//! judged: they depend on the machine.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mesh_tests::{
    Dev, DevOptions, EdgeTraffic, Failure, PolicyRepository, ProxyConfig, program, run, wait_until,
};
use serde::Serialize;

/// How long a step may take before the story is called broken.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Requests in a window from which a split is read. At 10 % its standard deviation is 1.5 points.
const WINDOW: u64 = 400;
/// How far a window's share may lie from the split, in points of a percent: four deviations at 50 %.
const TOLERANCE: f64 = 10.0;
/// Requests that must succeed after each thing that is broken.
const UNDISTURBED: u64 = 300;

const GATEWAY: &str = "public";
const CALLER: &str = "productpage";
const SPLIT: &str = "reviews";
const KILLED: &str = "details";
const SPLIT_FILE: &str = "teams/reviews/reviews.kdl";

/// What `demo --check` prints.
#[derive(Debug, Default, Serialize)]
struct Measurements {
    passed: bool,
    failure: Option<String>,
    steps: Vec<Step>,
    proxies: usize,
    requests: u64,
    failed_requests: u64,
    start_to_serving_ms: Option<f64>,
    commit_to_serving_ms: Option<f64>,
    revert_to_serving_ms: Option<f64>,
    swap_ms_max: Option<f64>,
    proxy_restart_to_serving_ms: Option<f64>,
    distributor_restart_to_new_commit_serving_ms: Option<f64>,
    idle_memory_mib_max: Option<f64>,
    check_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    ms: f64,
}

/// Plays the story; prints the measurements also when it fails.
#[expect(
    clippy::print_stdout,
    reason = "the measurements are this command's data"
)]
pub(crate) fn play(
    repository: &PolicyRepository,
    folder: &Path,
    policies: &Path,
) -> Result<(), Failure> {
    let mut measured = Measurements::default();
    let played = tell(repository, folder, policies, &mut measured);
    measured.passed = played.is_ok();
    measured.failure = played.as_ref().err().map(ToString::to_string);
    println!("{}", serde_json::to_string_pretty(&measured)?);
    played
}

fn tell(
    repository: &PolicyRepository,
    folder: &Path,
    policies: &Path,
    measured: &mut Measurements,
) -> Result<(), Failure> {
    measured.check_ms = Some(check_time(policies)?);

    let start = Instant::now();
    let options = DevOptions {
        arguments: vec!["--rate".to_owned(), "100".to_owned()],
    };
    let dev = Dev::start(repository.path(), folder, &options)?;
    measured.start_to_serving_ms = Some(ms(start));
    let outcome = scenes(&dev, measured);
    // The sums are wanted also of a story that broke off.
    if let Ok(traffic) = dev.traffic() {
        measured.requests = traffic.iter().map(|edge| edge.requests).sum();
        measured.failed_requests = traffic.iter().map(|edge| edge.failed).sum();
    }
    outcome?;
    no_failures(&dev.traffic()?)
}

fn scenes(dev: &Dev, measured: &mut Measurements) -> Result<(), Failure> {
    let first = dev.git(&["rev-parse", "HEAD"])?;
    let original = dev.wait_serving(&first, STEP_LIMIT)?;
    measured.proxies = original.len();
    measured.note_swaps(&original);
    measured.scene("people come in by the gateway", || wait_entered(dev))?;
    measured.scene("90/10 split seen in traffic", || wait_split(dev, 10.0))?;

    let start = Instant::now();
    let even = dev.commit_edit(
        SPLIT_FILE,
        &[("weight=90", "weight=50"), ("weight=10", "weight=50")],
    )?;
    measured.note_swaps(&dev.wait_serving(&even, STEP_LIMIT)?);
    measured.commit_to_serving_ms = Some(ms(start));
    measured.scene("50/50 split seen in traffic", || wait_split(dev, 50.0))?;

    let start = Instant::now();
    let reverted = dev.revert()?;
    let back = dev.wait_serving(&reverted, STEP_LIMIT)?;
    measured.revert_to_serving_ms = Some(ms(start));
    measured.note_swaps(&back);
    measured.scene(
        "a revert serves the same bytes under a higher number",
        || same_slices_higher_order(&original, &back),
    )?;
    measured.scene("90/10 split seen again", || wait_split(dev, 10.0))?;

    dev.kill_distributor()?;
    measured.scene("distributor killed, traffic goes on", || wait_more(dev))?;

    let victim = find(&dev.proxies()?, KILLED)?;
    let start = Instant::now();
    kill(victim.pid)?;
    let restarted = wait_until("the killed proxy serving again", STEP_LIMIT, || {
        let proxies = dev.proxies()?;
        let now = proxies
            .into_iter()
            .find(|proxy| proxy.instance == victim.instance);
        now.filter(|now| now.pid != victim.pid && now.commit == victim.commit)
            .ok_or_else(|| Failure::new("not back"))
    })?;
    measured.proxy_restart_to_serving_ms = Some(ms(start));
    measured.scene(
        "proxy killed, restarted from disk, in traffic again",
        || wait_instance(dev, &restarted.instance),
    )?;

    let start = Instant::now();
    dev.release_distributor()?;
    let uneven = dev.commit_edit(
        SPLIT_FILE,
        &[("weight=90", "weight=70"), ("weight=10", "weight=30")],
    )?;
    measured.note_swaps(&dev.wait_serving(&uneven, STEP_LIMIT)?);
    measured.distributor_restart_to_new_commit_serving_ms = Some(ms(start));
    measured.scene("distributor back, a new commit seen in traffic", || {
        wait_split(dev, 30.0)
    })?;

    dev.pause_traffic()?;
    measured.idle_memory_mib_max = Some(memory_mib_max(&dev.proxies()?)?);
    Ok(())
}

impl Measurements {
    fn scene(
        &mut self,
        step: &'static str,
        play: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        play().map_err(|failure| failure.while_doing(step))?;
        self.steps.push(Step {
            step,
            ms: ms(start),
        });
        progress(step);
        Ok(())
    }

    fn note_swaps(&mut self, proxies: &[ProxyConfig]) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a swap of 2^53 nanoseconds would be noticed otherwise"
        )]
        let swaps = proxies
            .iter()
            .filter_map(|proxy| Some(proxy.swap_ns? as f64 / 1e6));
        self.swap_ms_max = swaps.chain(self.swap_ms_max).reduce(f64::max);
    }
}

#[expect(clippy::print_stderr, reason = "progress is for people")]
fn progress(step: &str) {
    eprintln!("   {step}");
}

/// Waits for a window of traffic whose share of `v2` is the one that policy says.
fn wait_split(dev: &Dev, percent: f64) -> Result<(), Failure> {
    let mut base = dev.edge(CALLER, SPLIT)?;
    wait_until("the split was not seen", STEP_LIMIT, || {
        let now = dev.edge(CALLER, SPLIT)?;
        if now.requests - base.requests < WINDOW {
            return Err(Failure::new("too few requests to tell"));
        }
        let share = share_between(&base, &now, "v2");
        base = now;
        if (share - percent).abs() <= TOLERANCE.min(percent / 2.0) {
            return Ok(());
        }
        Err(Failure::new(format!("v2 takes {share:.1} %")))
    })
}

fn share_between(before: &EdgeTraffic, now: &EdgeTraffic, version: &str) -> f64 {
    let taken = |edge: &EdgeTraffic| edge.versions.get(version).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "counts of a demo")]
    let share = (taken(now) - taken(before)) as f64 / (now.requests - before.requests) as f64;
    share * 100.0
}

/// Waits until the page has answered people. Without a gateway every later count would be of calls inside alone.
fn wait_entered(dev: &Dev) -> Result<(), Failure> {
    wait_until("the page answers people", STEP_LIMIT, || {
        let edge = dev.edge(GATEWAY, CALLER)?;
        if edge.requests >= UNDISTURBED {
            return Ok(());
        }
        Err(Failure::new(format!("{edge:?}")))
    })
}

/// Waits until every edge has seen enough further requests, none of which failed.
fn wait_more(dev: &Dev) -> Result<(), Failure> {
    let before = dev.traffic()?;
    wait_until("traffic did not go on", STEP_LIMIT, || {
        let now = dev.traffic()?;
        let waits = before
            .iter()
            .zip(&now)
            .find(|(before, now)| now.requests - before.requests < UNDISTURBED);
        match waits {
            None => Ok(()),
            Some((_, edge)) => Err(Failure::new(format!("{} to {}", edge.from, edge.to))),
        }
    })?;
    no_failures(&dev.traffic()?)
}

/// Waits until an instance answers further requests.
fn wait_instance(dev: &Dev, instance: &str) -> Result<(), Failure> {
    let answered = || -> Result<u64, Failure> {
        Ok(dev
            .traffic()?
            .iter()
            .filter_map(|edge| edge.instances.get(instance))
            .sum())
    };
    let before = answered()?;
    wait_until("the instance answers", STEP_LIMIT, || {
        if answered()? > before {
            return Ok(());
        }
        Err(Failure::new(format!("{instance} has answered nothing")))
    })
}

fn no_failures(traffic: &[EdgeTraffic]) -> Result<(), Failure> {
    match traffic.iter().find(|edge| edge.failed > 0) {
        None => Ok(()),
        Some(edge) => Err(Failure::new(format!(
            "{} of {} requests from {} to {} failed, last: {}",
            edge.failed,
            edge.requests,
            edge.from,
            edge.to,
            edge.last_failure.as_deref().unwrap_or("unknown"),
        ))),
    }
}

fn same_slices_higher_order(before: &[ProxyConfig], now: &[ProxyConfig]) -> Result<(), Failure> {
    for (before, now) in before.iter().zip(now) {
        if before.slice != now.slice || before.slice.is_none() {
            return Err(Failure::new(format!(
                "{}: slice {:?} became {:?}",
                now.instance, before.slice, now.slice
            )));
        }
        if now.sequence <= before.sequence {
            return Err(Failure::new(format!(
                "{}: sequence {:?} became {:?}",
                now.instance, before.sequence, now.sequence
            )));
        }
    }
    Ok(())
}

fn find(proxies: &[ProxyConfig], service: &str) -> Result<ProxyConfig, Failure> {
    proxies
        .iter()
        .find(|proxy| proxy.service == service)
        .cloned()
        .ok_or_else(|| Failure::new(format!("no proxy of {service}")))
}

fn kill(pid: u32) -> Result<(), Failure> {
    run(Command::new("kill").args(["-s", "KILL", &pid.to_string()])).map(drop)
}

/// Largest resident set of the proxies, read from the kernel.
fn memory_mib_max(proxies: &[ProxyConfig]) -> Result<f64, Failure> {
    let mut largest = 0.0_f64;
    for proxy in proxies {
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid))?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or_else(|| Failure::new("no VmRSS"))?
            .parse()?;
        largest = largest.max(kib / 1024.0);
    }
    Ok(largest)
}

/// Wall time of `meshc check`, the median of five runs.
fn check_time(policies: &Path) -> Result<f64, Failure> {
    let meshc = program("meshc")?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        run(Command::new(&meshc).arg("check").arg(policies))?;
        times.push(ms(start));
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(2).copied().unwrap_or_default())
}

fn ms(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1e5).round() / 100.0
}
