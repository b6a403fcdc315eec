//! `meshc`: checks, builds, tests and explains mesh policies, on laptops and in CI.
//!
//! Files, git, the terminal and exit codes are here; what policies mean is in the crates below.

use std::process::ExitCode;

mod args;
mod atomic;
mod base;
mod baseline;
mod commands;
mod compile;
mod difference;
mod exit_code;
mod limits;
mod load;
mod lsp;
mod output;
mod progress;
mod render;
mod terminal;
mod timing;

use crate::exit_code::Exit;

/// A third of the compiler's time went to the system's allocator: trees, meshes and slices are many small values, made on
/// all processors. The programs that stand beside workloads keep the system's, see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(exit) => return exit.into(),
    };
    terminal::choose(command.1.color);
    let exit = commands::run(command).unwrap_or_else(|error| {
        output::error(error.as_ref());
        Exit::CouldNotRun
    });
    exit.into()
}
