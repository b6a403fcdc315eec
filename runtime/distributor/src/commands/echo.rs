//! `meshd echo`: the stand-in application of `meshd dev`.

use crate::commands::ask::fail;
use crate::echo::{self, EchoArguments};
use crate::exit_code::ExitCode;

/// Runs until it is told to end.
pub(crate) fn run(arguments: EchoArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(echo::run(arguments))) {
        Ok(()) => ExitCode::Success,
        Err(error) => fail(&error, ExitCode::Failure),
    }
}
