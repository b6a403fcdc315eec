//! How long each part of a run took, and the memory it needed: for `--timings`.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use mesh_compiler::progress::Stage;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::Serialize;

/// Notes when each part of the work begins.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    begun: Instant,
    stages: Vec<(String, Instant, Duration)>,
}

impl Stopwatch {
    /// Begins with a part of this name.
    pub(crate) fn begin(name: &str) -> Self {
        let mut watch = Self {
            begun: Instant::now(),
            stages: Vec::new(),
        };
        watch.next(name);
        watch
    }

    /// The next part of the work begins.
    pub(crate) fn next(&mut self, name: &str) {
        self.stages
            .push((name.to_owned(), Instant::now(), cpu_time()));
    }

    /// Ends the last part, and writes what was measured.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let (end, cpu_end) = (Instant::now(), cpu_time());
        let ends = self.stages.iter().skip(1).map(|(_, at, cpu)| (*at, *cpu));
        let stages = self.stages.iter().zip(ends.chain([(end, cpu_end)])).map(
            |((name, at, cpu), (until, cpu_until))| Part {
                name,
                wall_ms: milliseconds(until - *at),
                cpu_ms: milliseconds(cpu_until.saturating_sub(*cpu)),
            },
        );
        let timings = Timings {
            wall_ms: milliseconds(end - self.begun),
            cpu_ms: milliseconds(cpu_end),
            peak_rss_bytes: peak_memory(),
            stages: stages.collect(),
        };
        let mut text = serde_json::to_string(&timings)?;
        text.push('\n');
        fs::write(file, text)
    }
}

/// What a part of the work is called.
pub(crate) fn name(stage: Stage) -> String {
    match stage {
        Stage::Parse => "parse".to_owned(),
        Stage::Decode => "decode".to_owned(),
        Stage::Link => "link".to_owned(),
        Stage::Facts(what) => format!("facts: {what}"),
        Stage::Lint(code) => format!("lint: {code}"),
        Stage::Emit => "emit".to_owned(),
        Stage::Verify => "verify".to_owned(),
    }
}

#[derive(Serialize)]
struct Timings<'a> {
    wall_ms: f64,
    /// Of all threads, from the start of the program.
    cpu_ms: f64,
    peak_rss_bytes: Option<u64>,
    stages: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    wall_ms: f64,
    cpu_ms: f64,
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Time that the processors spent on this program.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    duration(usage.user_time()) + duration(usage.system_time())
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// The most memory that the program had at once. Not from `getrusage`, which counts what was there before the
/// program began.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
