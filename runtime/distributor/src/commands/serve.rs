//! `meshd serve`

use mesh_daemon::clock::Clock;
use mesh_daemon::signal::Shutdown;
use mesh_daemon::telemetry::{LogFormat, init_logging};
use nix::sys::resource::{Resource, setrlimit};

use crate::args::ServeArguments;
use crate::commands::ask::fail;
use crate::distributor::{Distributor, Failure};
use crate::exit_code::ExitCode;
use crate::output;

/// Runs a distributor until a signal.
pub(crate) fn run(arguments: &ServeArguments) -> ExitCode {
    init_logging(LogFormat::Auto, &arguments.log);
    // A core dump would write every key to the disk.
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "could not switch core dumps off");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, ExitCode::CouldNotRun),
    };
    match runtime.block_on(serve(arguments)) {
        Ok(()) => ExitCode::Success,
        Err(error) => fail(error.as_ref(), ExitCode::CouldNotRun),
    }
}

async fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let mut shutdown = Shutdown::listen()?;
    if arguments.end_with_stdin {
        shutdown = shutdown.or_end_of_stdin();
    }
    let distributor = Distributor::start(arguments, Clock::system()).await?;
    output::message(distributor.notice());
    let signal = shutdown.requested().await;
    tracing::info!(signal, "ending");
    tokio::select! {
        () = distributor.stop() => {}
        // Whoever asks twice does not want to wait.
        signal = shutdown.requested() => tracing::warn!(signal, "ending at once"),
    }
    Ok(())
}
