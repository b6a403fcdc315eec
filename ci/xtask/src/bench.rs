//! `cargo xtask bench`: measures, prints, and judges nothing: machines differ, and tests must not depend on them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mesh_tests::{Failure, program};
use serde::{Deserialize, Serialize};

use crate::mesh::{self, Shape};
use crate::test::cargo;

mod commands;
mod editor;
pub(crate) mod proxy;

const ROUTES: usize = 10;
const SEED: u64 = 1;
/// Services of the two meshes whose times are compared.
const SMALL: usize = 1_000;
const LARGE: usize = 10_000;
/// Longest that a change in a watched folder is waited for.
const WATCH_MAX: Duration = Duration::from_mins(1);

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    processors: usize,
    cold: Vec<Cold>,
    /// Wall-clock time of the large mesh by that of the small one, and the same for processor time.
    growth: Growth,
    watch: Watch,
    editor: editor::Editor,
    /// Commands in a repository in which one file has changed.
    commands: Vec<commands::Timed>,
}

/// `meshc check` of one mesh from nothing: medians of several runs.
#[derive(Debug, Serialize)]
struct Cold {
    services: usize,
    routes: usize,
    bytes: u64,
    runs: usize,
    wall_ms: f64,
    cpu_ms: f64,
    peak_rss_bytes: u64,
    /// What it is to be at most on two processors.
    target_wall_ms: f64,
    target_rss_bytes: Option<u64>,
    findings: u64,
    /// Parts of the work, rules by family.
    stages: Vec<Stage>,
}

#[derive(Clone, Debug, Serialize)]
struct Stage {
    name: String,
    wall_ms: f64,
    cpu_ms: f64,
}

#[derive(Debug, Serialize)]
struct Growth {
    wall: f64,
    cpu: f64,
    /// What n·log n would be.
    n_log_n: f64,
}

/// From a change of one file to its findings, with `meshc check --watch` running.
#[derive(Debug, Serialize)]
struct Watch {
    services: usize,
    changes: usize,
    median_ms: f64,
    max_ms: f64,
    target_ms: f64,
}

/// What `meshc check --timings` writes.
#[derive(Debug, Deserialize)]
struct Timings {
    cpu_ms: f64,
    peak_rss_bytes: Option<u64>,
    stages: Vec<TimedStage>,
}

#[derive(Debug, Deserialize)]
struct TimedStage {
    name: String,
    wall_ms: f64,
    cpu_ms: f64,
}

/// One run.
struct Run {
    wall: Duration,
    timings: Timings,
    findings: u64,
}

/// Measures the compiler in the release profile.
#[expect(clippy::print_stdout, reason = "the measurements are what it is for")]
pub(crate) fn compiler(root: &Path, long: bool, json: bool) -> Result<(), Failure> {
    cargo(root, &["build", "--release", "--package", "meshc"])?;
    let scratch = tempfile::tempdir()?;
    let (small_runs, large_runs) = if long { (15, 5) } else { (5, 1) };
    let small = cold(scratch.path(), SMALL, small_runs)?;
    let large = cold(scratch.path(), LARGE, large_runs)?;
    let n = |services: usize| f64::from(u32::try_from(services).unwrap_or(u32::MAX));
    let growth = Growth {
        wall: large.wall_ms / small.wall_ms,
        cpu: large.cpu_ms / small.cpu_ms,
        n_log_n: n(LARGE) * n(LARGE).log2() / (n(SMALL) * n(SMALL).log2()),
    };
    let report = Report {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        cold: vec![small, large],
        growth,
        watch: watch(scratch.path(), if long { 20 } else { 7 })?,
        editor: in_editor(scratch.path(), if long { 20 } else { 7 })?,
        commands: in_repository(scratch.path(), if long { 15 } else { 5 })?,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&report));
    }
    Ok(())
}

fn cold(scratch: &Path, services: usize, runs: usize) -> Result<Cold, Failure> {
    let folder = folder(scratch, services)?;
    let timings = scratch.join("timings.json");
    // The first run finds the files on the disk; the others, as in an editor or a CI job that just cloned, in memory.
    run_once(&folder, &timings)?;
    let measured = (0..runs)
        .map(|_| run_once(&folder, &timings))
        .collect::<Result<Vec<Run>, Failure>>()?;
    let bytes = bytes_below(&folder)?;
    let median_of = |value: &dyn Fn(&Run) -> f64| median(measured.iter().map(value).collect());
    let first = measured.first().map_or(&[][..], |run| &run.timings.stages);
    let mut stages: Vec<Stage> = Vec::new();
    for (index, stage) in first.iter().enumerate() {
        let at = |run: &Run, value: fn(&TimedStage) -> f64| {
            run.timings.stages.get(index).map_or(f64::NAN, value)
        };
        let wall_ms = median_of(&|run| at(run, |stage| stage.wall_ms));
        let cpu_ms = median_of(&|run| at(run, |stage| stage.cpu_ms));
        let name = family(&stage.name);
        match stages.last_mut() {
            Some(last) if last.name == name => {
                last.wall_ms += wall_ms;
                last.cpu_ms += cpu_ms;
            }
            _ => stages.push(Stage {
                name,
                wall_ms,
                cpu_ms,
            }),
        }
    }
    let peak = measured
        .iter()
        .filter_map(|run| run.timings.peak_rss_bytes)
        .max();
    Ok(Cold {
        services,
        routes: services * ROUTES,
        bytes,
        runs,
        wall_ms: median_of(&|run| run.wall.as_secs_f64() * 1000.0),
        cpu_ms: median_of(&|run| run.timings.cpu_ms),
        peak_rss_bytes: peak.unwrap_or_default(),
        target_wall_ms: if services > SMALL { 8000.0 } else { 1000.0 },
        target_rss_bytes: (services > SMALL).then_some(2 << 30),
        findings: measured.first().map_or(0, |run| run.findings),
        stages,
    })
}

/// Rules are told apart by family only: `lint: MSH0201` is one of `lint: MSH02`.
fn family(stage: &str) -> String {
    match stage.strip_prefix("lint: ") {
        Some(code) => format!("lint: {}xx", code.get(..5).unwrap_or(code)),
        None => stage.to_owned(),
    }
}

fn folder(scratch: &Path, services: usize) -> Result<std::path::PathBuf, Failure> {
    let folder = scratch.join(format!("mesh-{services}"));
    if !folder.exists() {
        let shape = Shape {
            services,
            routes: ROUTES,
            seed: SEED,
        };
        mesh::run(shape, &folder)?;
    }
    Ok(folder)
}

fn run_once(folder: &Path, timings: &Path) -> Result<Run, Failure> {
    let start = Instant::now();
    let output = Command::new(program("meshc")?)
        .args(["check", "--format", "json", "--timings"])
        .args([timings, folder])
        .stdin(Stdio::null())
        .output()?;
    let wall = start.elapsed();
    if output.status.code() != Some(0) {
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!(
            "`meshc check` ended with {}: {shown}",
            output.status
        )));
    }
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(Run {
        wall,
        timings: serde_json::from_slice(&fs::read(timings)?)?,
        findings: found["findings"]
            .as_array()
            .map_or(0, |findings| findings.len() as u64),
    })
}

/// Changes a fact in one file again and again, and waits for the findings each time.
fn watch(scratch: &Path, changes: usize) -> Result<Watch, Failure> {
    let folder = folder(scratch, SMALL)?;
    let shape = Shape {
        services: SMALL,
        routes: ROUTES,
        seed: SEED,
    };
    let files = mesh::files(shape);
    let Some((path, text)) = files.get(files.len() / 2) else {
        return Err(Failure::new("the mesh has no files"));
    };
    let mut child = Command::new(program("meshc")?)
        .args(["check", "--watch", "--format", "json"])
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Failure::new("`meshc check --watch` has no output"));
    };
    // Lines come from a thread, so that a program that says nothing ends the measurement and not the patience.
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if sender.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    let mut times = Vec::new();
    let mut measured = || -> Result<(), Failure> {
        lines.recv_timeout(WATCH_MAX)?.1?;
        for change in 0..changes {
            // Past the moment in which the program looks again, and not always by the same distance.
            std::thread::sleep(Duration::from_millis(300 + 37 * change as u64));
            let edited =
                text.replacen("handling=\"5ms", &format!("handling=\"{}ms", change + 6), 1);
            let start = Instant::now();
            fs::File::create(folder.join(path))?.write_all(edited.as_bytes())?;
            let (at, line) = lines.recv_timeout(WATCH_MAX)?;
            line?;
            times.push((at - start).as_secs_f64() * 1000.0);
        }
        Ok(())
    };
    let done = measured();
    child.kill()?;
    child.wait()?;
    drop(lines);
    drop(reader.join());
    done?;
    Ok(Watch {
        services: SMALL,
        changes,
        max_ms: times.iter().copied().fold(0.0, f64::max),
        median_ms: median(times),
        target_ms: 300.0,
    })
}

/// The same in an editor, without touching the disk.
fn in_editor(scratch: &Path, changes: usize) -> Result<editor::Editor, Failure> {
    let folder = folder(scratch, SMALL)?;
    let shape = Shape {
        services: SMALL,
        routes: ROUTES,
        seed: SEED,
    };
    let files = mesh::files(shape);
    let Some((path, text)) = files.get(files.len() / 2) else {
        return Err(Failure::new("the mesh has no files"));
    };
    editor::measure(&folder, path, text, SMALL, changes)
}

/// In a repository of its own: the others change the folder.
fn in_repository(scratch: &Path, runs: usize) -> Result<Vec<commands::Timed>, Failure> {
    let shape = Shape {
        services: SMALL,
        routes: ROUTES,
        seed: SEED,
    };
    let files = mesh::files(shape);
    let Some((path, _)) = files.get(files.len() / 2) else {
        return Err(Failure::new("the mesh has no files"));
    };
    let folder = scratch.join("mesh-committed");
    mesh::run(shape, &folder)?;
    commands::measure(scratch, &folder, path, SMALL, runs)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn bytes_below(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

fn table(report: &Report) -> String {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let mut lines = vec![format!("{} processors", report.processors)];
    for cold in &report.cold {
        let most = cold
            .target_rss_bytes
            .map_or_else(String::new, |most| format!(" (at most {})", mib(most)));
        lines.push(String::new());
        lines.push(format!(
            "{} services, {} routes, {} in {} runs: {:.0} ms (to be at most {:.0} on 2 processors), \
             {:.0} ms of processor time, {}{most}, {} findings",
            cold.services,
            cold.routes,
            mib(cold.bytes),
            cold.runs,
            cold.wall_ms,
            cold.target_wall_ms,
            cold.cpu_ms,
            mib(cold.peak_rss_bytes),
            cold.findings,
        ));
        lines.extend(cold.stages.iter().map(|stage| {
            let Stage {
                name,
                wall_ms,
                cpu_ms,
            } = stage;
            format!("    {name:<24}{wall_ms:>10.1} ms {cpu_ms:>10.1} ms processor")
        }));
    }
    let Growth { wall, cpu, n_log_n } = report.growth;
    lines.push(String::new());
    lines.push(format!(
        "10 times the services: {wall:.1} times the time, {cpu:.1} times the processor time (n log n: {n_log_n:.1})"
    ));
    let watch = &report.watch;
    lines.push(format!(
        "one file changed under --watch, {} services, {} changes: {:.0} ms, at most {:.0} (to be at most {:.0})",
        watch.services, watch.changes, watch.median_ms, watch.max_ms, watch.target_ms
    ));
    lines.push(report.editor.line());
    lines.extend(report.commands.iter().map(commands::Timed::line));
    lines.push(String::new());
    lines.join("\n")
}
