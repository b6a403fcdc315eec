//! `meshp`, the proxy. Two halves that meet in `data_plane.rs`: traffic runs on threads of its own;
//! the control side, which is slow and may wait, has the main thread to itself.

mod access;
mod access_log;
mod admin;
mod args;
mod aside;
mod ask;
mod bootstrap;
mod connections;
mod data_plane;
mod exit_code;
mod gateway;
mod histogram;
mod http;
mod limits;
mod listener;
mod pieces;
mod redirect;
mod replace;
mod run;
mod secrets;
mod series;
mod subscribe;
mod sums;
mod tables;
mod tcp;
mod traces;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use mesh_daemon::telemetry::{self, LogFormat};
use nix::sys::resource::{Resource, setrlimit};

use crate::args::{Arguments, Command};
use crate::exit_code::Exit;
use crate::subscribe::chain;

fn main() -> ExitCode {
    let arguments = match Arguments::parse().command {
        Command::Run(arguments) => arguments,
        Command::Redirect(command) => {
            return told(redirect::run(&command).map(|()| Exit::Ended));
        }
        Command::Admin(arguments) => return told(ask::run(&arguments)),
    };
    telemetry::init_logging(LogFormat::Auto, &arguments.log);
    // Keys are in memory, and a core file would outlive them.
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core dumps stay possible");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run::run(&arguments));
            // Nobody waits for a successor that only connected.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!(error = chain(&*error), "could not start");
            Exit::CouldNotStart.into()
        }
    }
}

/// Ends a command of an operator, who reads the terminal.
#[expect(clippy::print_stderr, reason = "there is no log without a proxy")]
fn told<E: Error>(result: Result<Exit, E>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            Exit::CouldNotStart.into()
        }
    }
}
