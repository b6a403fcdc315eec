//! One file per command. Each returns how it ended; an error is why it could not run.

use std::path::{Path, PathBuf};

use crate::args::{Command, Place};
use crate::exit_code::Exit;

pub(crate) mod audit;
pub(crate) mod build;
mod check;
mod completions;
mod diff;
mod explain;
pub(crate) mod fmt;
mod graph;
mod init;
mod keygen;
mod lsp;
mod man;
pub(crate) mod test;
mod trust;

/// Why a command could not run. Only ever shown, so its type is of no use to anyone.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Runs a command.
pub(crate) fn run((command, place): (Command, Place)) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check::run(&args, &place),
        Command::Build(args) => build::run(&args, &place),
        Command::Test(args) => test::run(&args, &place),
        Command::Explain(args) => explain::run(&args, &place),
        Command::Diff(args) => diff::run(&args, &place),
        Command::Graph(args) => graph::run(&args, &place),
        Command::Audit(args) => audit::run(&args, &place),
        Command::Fmt(args) => fmt::run(&args, &place),
        Command::Keygen(args) => keygen::run(&args, &place),
        Command::Trust(args) => trust::run(&args, &place),
        Command::Init(args) => init::run(&args, &place),
        Command::Lsp(_) => lsp::run(&place),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The folder that a command is about: the positional one below that of `-C`.
fn folder(place: &Place, positional: Option<&Path>) -> PathBuf {
    let base = place.folder.clone().unwrap_or_else(|| PathBuf::from("."));
    positional.map_or(base.clone(), |folder| base.join(folder))
}
