//! `meshp`, the proxy. Two halves that meet in `data_plane.rs`: traffic runs on threads of its own;
//! the control side, which is slow and may wait, has the main thread to itself.

mod access_log;
mod admin;
mod args;
mod bootstrap;
mod data_plane;
mod exit_code;
mod gateway;
mod histogram;
mod http;
mod limits;
mod listener;
mod redirect;
mod secrets;
mod series;
mod subscribe;
mod tables;
mod tcp;
mod upstream;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mesh_daemon::clock::Clock;
use mesh_daemon::drain;
use mesh_daemon::identity::Credentials;
use mesh_daemon::signal::Shutdown;
use mesh_daemon::telemetry::{self, LogFormat, Metrics};
use nix::sys::resource::{Resource, setrlimit};
use tokio::sync::Notify;

use crate::admin::{Listeners, Served};
use crate::args::{Arguments, Command, RunArguments};
use crate::data_plane::{DataPlane, DataPlaneSettings, DrainPlan, DrainReport, Intercept};
use crate::exit_code::Exit;
use crate::redirect::args::RedirectCommand;
use crate::secrets::Secrets;
use crate::subscribe::view::View;
use crate::subscribe::{Context, chain};

fn main() -> ExitCode {
    let arguments = match Arguments::parse().command {
        Command::Run(arguments) => arguments,
        Command::Redirect(command) => return redirected(&command),
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
        Ok(runtime) => runtime.block_on(run(&arguments)),
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

/// A command of an operator, who reads the terminal.
#[expect(clippy::print_stderr, reason = "there is no log without a proxy")]
fn redirected(command: &RedirectCommand) -> ExitCode {
    match redirect::run(command) {
        Ok(()) => Exit::Ended.into(),
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            Exit::CouldNotStart.into()
        }
    }
}

async fn run(arguments: &RunArguments) -> Result<Exit, Box<dyn Error>> {
    let mut shutdown = Shutdown::listen()?.ignoring_hangup(
        "all configuration comes with generations, and key material is followed",
    )?;
    if arguments.end_with_stdin {
        shutdown = shutdown.or_end_of_stdin();
    }
    let clock = Clock::system();
    let metrics = Metrics::new("meshp", env!("CARGO_PKG_VERSION"));
    let booted = bootstrap::boot(arguments, &clock)?;
    let credentials = Credentials::new(clock.clone());
    let secrets = Secrets::read(&arguments.secrets)?;
    let settings = settings(arguments, secrets.clone());
    settings.check()?;
    let data_plane = DataPlane::start(settings, credentials.clone(), &metrics)?;
    let listeners = Listeners::bind(arguments).await?;
    let opened = listeners.opened(data_plane.bound())?;
    if let Some(path) = &arguments.ports_file {
        admin::write_ports(path, &opened)?;
    }
    let view = View::new(arguments.instance.clone(), clock.clone(), &metrics);
    let (trigger, watcher) = drain::channel();
    let asked = Arc::new(Notify::new());
    let served = Served {
        view: view.clone(),
        metrics,
        data_plane: Arc::clone(&data_plane),
    };
    let mut servers = listeners.serve(served, opened, Arc::clone(&asked), &watcher);
    drop(watcher);
    let control = subscribe::run(
        booted.start,
        Context {
            traffic: Arc::clone(&data_plane),
            credentials,
            clock,
            view: view.clone(),
            workload: booted.workload,
            labels: arguments.labels.clone(),
            join_path: arguments.join.clone(),
        },
    );
    let why = tokio::select! {
        () = control => "the control side ended",
        () = follow_secrets(secrets) => "key material is no longer followed",
        signal = shutdown.requested() => signal,
        () = asked.notified() => "POST /drain",
    };
    let plan = DrainPlan {
        notice: arguments.drain_notice,
        limit: arguments.drain_timeout,
        handed_over: false,
    };
    tracing::info!(why, notice = ?plan.notice, limit = ?plan.limit, "draining");
    view.update(|state| state.draining = true);
    let report = tokio::select! {
        report = data_plane.drain(plan) => report,
        again = shutdown.requested() => {
            tracing::warn!(why = again, "asked again, ending at once");
            return Ok(Exit::Cut);
        }
    };
    trigger.start();
    while servers.join_next().await.is_some() {}
    if report.cut() == 0 {
        tracing::info!("ended, and nothing was cut");
        return Ok(Exit::Ended);
    }
    let DrainReport {
        requests,
        upgrades,
        connections,
    } = report;
    tracing::warn!(
        requests,
        upgrades,
        connections,
        "ended, and cut what still ran"
    );
    Ok(Exit::Cut)
}

/// Keeps key material as its files are.
#[expect(
    clippy::infinite_loop,
    reason = "it ends with what it is selected with"
)]
async fn follow_secrets(secrets: Secrets) {
    if secrets.is_empty() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(limits::SECRET_REFRESH).await;
        secrets.refresh();
    }
}

fn settings(arguments: &RunArguments, secrets: Secrets) -> DataPlaneSettings {
    DataPlaneSettings {
        outbound: arguments.outbound,
        intercept: arguments.intercept.then(|| Intercept {
            inbound_port: arguments.inbound_port,
            other_ports: vec![arguments.metrics.port(), arguments.health.port()],
        }),
        ports: arguments.ports.clone(),
        listen: arguments.listen.clone(),
        trusted_proxies: arguments.trusted_proxies.clone(),
        secrets,
        stand_in: arguments.stand_in,
        access_log: arguments.access_log.clone(),
        workers: arguments.workers,
    }
}
