//! What people and CI wait for besides `meshc check`: `diff`, `test` and `fmt` in a repository in which one file has
//! changed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use mesh_tests::{Failure, PolicyRepository, program};
use serde::Serialize;

use super::median;

/// Tests that are generated for the repository.
const TESTS: &str = "generated.test.kdl";

/// A command, from its start to its end.
#[derive(Debug, Serialize)]
pub(super) struct Timed {
    command: String,
    services: usize,
    runs: usize,
    median_ms: f64,
    max_ms: f64,
    target_ms: f64,
}

impl Timed {
    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        format!(
            "meshc {}, {} services, {} runs: {:.0} ms, at most {:.0} (to be at most {:.0})",
            self.command, self.services, self.runs, self.median_ms, self.max_ms, self.target_ms
        )
    }
}

/// Makes a repository of a mesh, with a test for each route and rule, changes one file, and runs the commands in it.
pub(super) fn measure(
    scratch: &Path,
    policies: &Path,
    path: &str,
    services: usize,
    runs: usize,
) -> Result<Vec<Timed>, Failure> {
    let clone = scratch.join("clone");
    let repository = PolicyRepository::create(scratch, policies)?;
    repository.clone_to(&clone)?;
    let file = clone.join(path);
    let text = std::fs::read_to_string(&file)?;
    let changed = text.replacen("backoff \"25ms", "backoff \"20ms", 1);
    if changed == text {
        return Err(Failure::new(format!("{path} has no backoff to change")));
    }
    run(&clone, &["test", "--generate", "--out", TESTS], &[0, 1])?;
    std::fs::write(&file, changed)?;
    let commands: [(&[&str], &[i32]); 3] = [
        (&["diff", "HEAD"], &[0]),
        (&["test"], &[0]),
        (&["fmt", "--check"], &[0, 1]),
    ];
    commands
        .into_iter()
        .map(|(words, codes)| {
            // The first run finds the files on the disk.
            run(&clone, words, codes)?;
            let times = (0..runs).map(|_| run(&clone, words, codes));
            let times = times.collect::<Result<Vec<f64>, _>>()?;
            Ok(Timed {
                command: words.join(" "),
                services,
                runs,
                max_ms: times.iter().copied().fold(0.0, f64::max),
                median_ms: median(times),
                target_ms: 1000.0,
            })
        })
        .collect()
}

fn run(folder: &Path, words: &[&str], codes: &[i32]) -> Result<f64, Failure> {
    let start = Instant::now();
    let output = Command::new(program("meshc")?)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()?;
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    if output
        .status
        .code()
        .is_none_or(|code| !codes.contains(&code))
    {
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!(
            "`meshc {}` ended with {}: {shown}",
            words.join(" "),
            output.status
        )));
    }
    Ok(ms)
}
