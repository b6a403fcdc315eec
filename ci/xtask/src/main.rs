//! The tasks of this workspace: `cargo xtask <task>`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod generate;

#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the files that are derived from declarations and committed.
    Generate {
        /// Only tell whether they are up to date.
        #[arg(long)]
        check: bool,
    },
}

/// Why a task failed, in words for its reader.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a task's failure is told")]
fn main() -> ExitCode {
    let args = Args::parse();
    let root = workspace_root();
    let done = match args.task {
        Task::Generate { check } => generate::run(&root, check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .expect("ci/xtask lies two folders below the workspace root")
        .to_path_buf()
}
