//! The tasks of this workspace: `cargo xtask <task>`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_tests::workspace_root;

mod demo;
mod generate;
mod mesh;
mod story;
mod test;
mod tidy;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The tasks of this workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run the bookshop mesh on this machine.
    Demo {
        /// Play the story unattended and print its measurements as JSON.
        #[arg(long)]
        check: bool,
    },
    /// Run formatting, lints and every test.
    Test,
    /// Write the files that are derived from declarations and committed.
    Generate {
        /// Only tell whether they are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Write a mesh of any size, for benchmarks and for trying things out.
    GenerateMesh {
        #[command(flatten)]
        shape: mesh::Shape,
        /// The folder to write to.
        out: PathBuf,
    },
    /// Check the shape of the workspace: crate arrows, file headers.
    Tidy,
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where a task's failure is told"
)]
fn main() -> ExitCode {
    let args = Args::parse();
    let root = workspace_root();
    let done = match args.task {
        Task::Demo { check } => demo::run(&root, check),
        Task::Test => test::run(&root),
        Task::Generate { check } => generate::run(&root, check),
        Task::GenerateMesh { shape, out } => mesh::run(shape, &out),
        Task::Tidy => tidy::run(&root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
