//! `cargo xtask test`: everything that must hold before a change lands, cheapest first.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use mesh_tests::Failure;

use crate::{generate, tidy};

/// Runs formatting, lints and every test; stops at the first step that fails.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    step("formatting", || cargo(root, &["fmt", "--all", "--check"]))?;
    step("generated files", || generate::run(root, true))?;
    step("shape of the workspace", || tidy::run(root))?;
    step("lints", || {
        cargo(
            root,
            &[
                "clippy",
                "--release",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
        )
    })?;
    step("fuzzing", || fuzz(root, false, 1, &[]))?;
    // The tests start the programs, so these come first, in the profile that the demo uses.
    step("programs", || build_programs(root))?;
    step("tests", || {
        if has_nextest() {
            cargo(root, &["nextest", "run", "--release", "--workspace"])
        } else {
            cargo(root, &["test", "--release", "--workspace"])
        }
    })
}

/// Feeds mutations of the corpus to the targets of `tests/fuzz`. The same seed gives the same ones.
pub(crate) fn fuzz(root: &Path, long: bool, seed: u64, targets: &[String]) -> Result<(), Failure> {
    const LONG: u64 = 50;
    let times = if long { LONG } else { 1 }.to_string();
    let seed = seed.to_string();
    let mut words = vec![
        "run",
        "--release",
        "--quiet",
        "--package",
        "mesh-fuzz",
        "--",
    ];
    words.extend(["--times", &times, "--seed", &seed]);
    words.extend(targets.iter().map(String::as_str));
    // An abort leaves no message; the input is then in `target/fuzz/current` of a run with `--trace`.
    cargo(root, &words)
}

/// Runs the drills one after the other, for what they measure.
pub(crate) fn drills(root: &Path, long: bool, filter: Option<&str>) -> Result<(), Failure> {
    sized_suite(root, "drills", "MESH_DRILLS", long, filter)
}

/// Runs the suite of loads, one by one.
pub(crate) fn load(root: &Path, long: bool, filter: Option<&str>) -> Result<(), Failure> {
    sized_suite(root, "load", "MESH_LOAD", long, filter)
}

/// Runs the cases of a suite, whose size a variable says, one by one.
fn sized_suite(
    root: &Path,
    suite: &str,
    variable: &str,
    long: bool,
    filter: Option<&str>,
) -> Result<(), Failure> {
    build_programs(root)?;
    let mut words = vec![
        "test",
        "--release",
        "--package",
        "mesh-tests",
        "--test",
        suite,
    ];
    words.extend(["--", "--test-threads", "1"]);
    words.extend(filter);
    let size = if long { "long" } else { "short" };
    cargo_with(root, &words, &[(variable, size)])
}

/// Builds the three programs.
pub(crate) fn build_programs(root: &Path) -> Result<(), Failure> {
    cargo(
        root,
        &[
            "build",
            "--release",
            "--package",
            "meshc",
            "--package",
            "meshd",
            "--package",
            "meshp",
        ],
    )
}

#[expect(clippy::print_stderr, reason = "progress is for people")]
fn step(name: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    eprintln!("== {name}");
    let start = Instant::now();
    work().map_err(|failure| failure.while_doing(name))?;
    eprintln!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs cargo in the workspace.
pub(crate) fn cargo(root: &Path, words: &[&str]) -> Result<(), Failure> {
    cargo_with(root, words, &[])
}

fn cargo_with(root: &Path, words: &[&str], environment: &[(&str, &str)]) -> Result<(), Failure> {
    let status = Command::new("cargo")
        .args(words)
        .envs(environment.iter().copied())
        .current_dir(root)
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`cargo {}` ended with {status}",
        words.join(" ")
    )))
}

fn has_nextest() -> bool {
    Command::new("cargo")
        .args(["nextest", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
