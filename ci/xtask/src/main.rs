//! The tasks of this workspace: `cargo xtask <task>`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use mesh_tests::workspace_root;

mod bench;
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
    /// Feed mutations of a corpus to whatever reads the input of strangers.
    Fuzz {
        /// Fifty times as many mutations.
        #[arg(long)]
        long: bool,
        /// Another seed gives other mutations.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What to feed; all if none is named.
        targets: Vec<String>,
    },
    /// Make faults on purpose and print what was measured.
    Drills {
        /// The sizes that the drills are named for, which take minutes.
        #[arg(long)]
        long: bool,
        /// Only those whose names contain this.
        filter: Option<String>,
    },
    /// Send much through two proxies and print what was measured. Needs root, for its network.
    Load {
        /// Minutes of requests, gibibytes, ten thousand connections.
        #[arg(long)]
        long: bool,
        /// Only those whose names contain this.
        filter: Option<String>,
    },
    /// Measure a part of the product and print what was measured.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: Benchmark,
    },
    /// Check the shape of the workspace: crate arrows, file headers.
    Tidy,
}

#[derive(Subcommand)]
enum Benchmark {
    /// `meshc check` of generated meshes with 1,000 and 10,000 services, cold and watching.
    Compiler {
        /// How to print it.
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
        /// More runs of each.
        #[arg(long)]
        long: bool,
    },
    /// The same work through meshp, Envoy, HAProxy and nginx, as far as they are there.
    Proxy {
        /// How to print it.
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
        /// Fewer and shorter runs: under ten minutes.
        #[arg(long)]
        quick: bool,
        /// Measure the programs as they were built last.
        #[arg(long)]
        as_built: bool,
        /// Only scenarios with this in their names.
        only: Vec<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
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
        Task::Bench {
            what: Benchmark::Compiler { format, long },
        } => bench::compiler(&root, long, format == Format::Json),
        Task::Bench {
            what:
                Benchmark::Proxy {
                    format,
                    quick,
                    as_built,
                    only,
                },
        } => {
            let build = (!as_built).then_some(&*root);
            bench::proxy::run_all(build, quick, &only, format == Format::Json)
        }
        Task::Fuzz {
            long,
            seed,
            targets,
        } => test::fuzz(&root, long, seed, &targets),
        Task::Drills { long, filter } => test::drills(&root, long, filter.as_deref()),
        Task::Load { long, filter } => test::load(&root, long, filter.as_deref()),
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
