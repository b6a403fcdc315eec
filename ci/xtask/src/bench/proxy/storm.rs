//! A storm of generations: the same load with and without them, and what each swap costs those who pass.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, run, unix_request};
use serde::Serialize;

use super::contender::{Ground, Way};
use super::load::{Driven, drive};
use crate::bench::median;

pub(super) const NAME: &str = "reload storm under load, two hops, mTLS";
const RATE: &str = "1000";
/// Longest that a generation is waited for.
const SERVED_LIMIT: Duration = Duration::from_secs(20);

/// What the storm did.
#[derive(Debug, Serialize)]
pub(super) struct Storm {
    pub(super) swaps: u64,
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Medians over seconds.
    pub(super) quiet_p99_us: f64,
    pub(super) p99_us: f64,
}

/// Has two proxies of ours follow one generation after the other.
pub(super) fn measure(ground: &Ground<'_>, path: &str, swaps: u64) -> Result<Storm, Failure> {
    let contender = ground.ours_alone(Way::Http1Twice)?;
    let words = [
        "--kind",
        "http1",
        "--path",
        path,
        "--connections",
        "8",
        "--rate",
        RATE,
        "--millis",
        "1000",
    ]
    .map(str::to_owned);
    let second = || drive(contender.entry, &words);
    second()?;
    let quiet = (0..5)
        .map(|_| second())
        .collect::<Result<Vec<Driven>, _>>()?;

    let repository = ground.mesh.repository();
    let commits = commits(repository, &ground.mesh.policies()?, swaps)?;
    let over = AtomicBool::new(false);
    let start = Instant::now();
    let (stormed, seconds) = thread::scope(|scope| -> Result<_, Failure> {
        let driving = scope.spawn(|| -> Result<Vec<Driven>, String> {
            let mut all = Vec::new();
            while !over.load(Ordering::Relaxed) {
                all.push(second().map_err(|failure| failure.to_string())?);
            }
            Ok(all)
        });
        let swapped = swap_all(ground, &contender.proxies, &commits);
        let seconds = start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let driven = driving
            .join()
            .map_err(|_panic| Failure::new("the load panicked"))?;
        swapped?;
        Ok((driven.map_err(Failure::new)?, seconds))
    })?;
    let p99 = |all: &[Driven]| median(all.iter().map(|second| second.p99_us).collect());
    Ok(Storm {
        swaps,
        seconds,
        requests: stormed.iter().map(|second| second.done).sum(),
        failed: stormed.iter().map(|second| second.failed).sum(),
        quiet_p99_us: p99(&quiet),
        p99_us: p99(&stormed),
    })
}

fn swap_all(
    ground: &Ground<'_>,
    proxies: &[super::mesh::Proxy],
    commits: &[String],
) -> Result<(), Failure> {
    for commit in commits {
        let mut update = Command::new("git");
        update.args(["update-ref", "refs/heads/main", commit]);
        run(update.current_dir(ground.mesh.repository()))?;
        unix_request(&ground.mesh.socket(), "POST", "/trigger", "{}")?;
        let asked = Instant::now();
        for proxy in proxies {
            while proxy.commit()?.as_deref() != Some(commit) {
                if asked.elapsed() > SERVED_LIMIT {
                    return Err(Failure::new(format!("{commit} is not served")));
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    Ok(())
}

/// Makes commits that change the timeout of every call to and fro, all at once.
fn commits(repository: &Path, policies: &str, count: u64) -> Result<Vec<String>, Failure> {
    let head = run(Command::new("git")
        .args(["rev-parse", "refs/heads/main"])
        .current_dir(repository))?;
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    let mut stream = Vec::new();
    for number in 0..count {
        let timeout = if number % 2 == 0 { "14s" } else { "15s" };
        let text = policies.replace("timeout \"15s\"", &format!("timeout \"{timeout}\""));
        let seconds = 1_700_000_000 + number;
        writeln!(stream, "commit refs/heads/storm")?;
        writeln!(
            stream,
            "committer Bench <bench@bench.example> {seconds} +0000"
        )?;
        writeln!(stream, "data 5\nstorm")?;
        if number == 0 {
            writeln!(stream, "from {head}")?;
        }
        writeln!(
            stream,
            "M 100644 inline mesh.kdl\ndata {}\n{text}",
            text.len()
        )?;
    }
    let file = repository.join("storm");
    fs::write(&file, stream)?;
    let mut import = Command::new("git");
    import
        .args(["fast-import", "--quiet"])
        .current_dir(repository)
        .stdin(Stdio::from(fs::File::open(&file)?));
    run(&mut import)?;
    let listed = run(Command::new("git")
        .args([
            "rev-list",
            "--reverse",
            &format!("{head}..refs/heads/storm"),
        ])
        .current_dir(repository))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    Ok(listed.lines().map(str::to_owned).collect())
}
