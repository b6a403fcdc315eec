//! `meshd dev`: a whole mesh on this machine.

use mesh_daemon::telemetry::{LogFormat, init_logging};

use crate::commands::ask::fail;
use crate::dev::{self, DevArguments};
use crate::exit_code::ExitCode;

/// Runs until it is told to end.
pub(crate) fn run(arguments: DevArguments) -> ExitCode {
    let filter = std::env::var("MESHD_LOG").unwrap_or_else(|_unset| "warn".to_owned());
    init_logging(LogFormat::Text, &filter);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dev::run(arguments)),
        Err(error) => return fail(&error, ExitCode::CouldNotRun),
    };
    match outcome {
        Ok(()) => ExitCode::Success,
        Err(error) => fail(&error, ExitCode::CouldNotRun),
    }
}
