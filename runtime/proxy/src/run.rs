//! The life of `meshp run`: it starts, or takes over from a proxy that runs; it serves; it ends, or hands over.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::acceptance::Workload;
use mesh_daemon::clock::Clock;
use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::handover::Predecessor;
use mesh_daemon::identity::Credentials;
use mesh_daemon::signal::Shutdown;
use mesh_daemon::store::StoreError;
use mesh_daemon::telemetry::Metrics;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::access_log::LogDefaults;
use crate::admin::{self, Listeners, ListenersHandle, Served};
use crate::args::RunArguments;
use crate::bootstrap::{self, Boot, StartError};
use crate::data_plane::{DataPlane, DataPlaneSettings, DrainPlan, DrainReport, Intercept};
use crate::exit_code::Exit;
use crate::limits::{self, Limits};
use crate::listener::Inherited;
use crate::replace::{self, Door, Takeover};
use crate::secrets::Secrets;
use crate::subscribe::view::View;
use crate::subscribe::{self, Context, Start, chain};

/// Runs until it is asked to end, or replaced.
pub(crate) async fn run(arguments: &RunArguments) -> Result<Exit, Box<dyn Error>> {
    let mut shutdown = Shutdown::listen()?.ignoring_hangup(
        "all configuration comes with generations, and key material is followed",
    )?;
    if arguments.end_with_stdin {
        shutdown = shutdown.or_end_of_stdin();
    }
    let limits = Limits::with(&arguments.limits)?;
    let secrets = Secrets::read(&arguments.secrets)?;
    let settings = settings(arguments, limits, secrets.clone());
    settings.check()?;
    let notice = arguments.notice()?;
    let running = async {
        if arguments.replace {
            replace::take_over(&arguments.admin).await
        } else {
            Ok(None)
        }
    };
    let (takeover, inherited) = tokio::select! {
        running = running => match running? {
            Some((takeover, inherited)) => (Some(takeover), inherited),
            None => (None, Inherited::default()),
        },
        why = shutdown.requested() => {
            tracing::info!(why, "ended before anything began");
            return Ok(Exit::Ended);
        }
    };
    let inherited = Arc::new(inherited);
    let limit = Instant::now() + ENDING_WAIT;
    let (proxy, start) = loop {
        match Proxy::open(arguments, notice, settings.clone(), &inherited).await {
            // One that died without handing over may not have closed everything.
            Err(error)
                if arguments.replace
                    && takeover.is_none()
                    && is_in_use(&*error)
                    && Instant::now() < limit =>
            {
                tokio::time::sleep(STORE_TRY_EVERY).await;
            }
            opened => break opened?,
        }
    };
    proxy.live(start, takeover, secrets, shutdown).await
}

/// All of a proxy but what it believes.
struct Proxy<'a> {
    arguments: &'a RunArguments,
    /// How long new connections are still taken when it is asked to end.
    notice: Duration,
    clock: Clock,
    credentials: Credentials,
    data_plane: Arc<DataPlane>,
    inherited: Arc<Inherited>,
    view: View,
    workload: Workload,
    metrics: Metrics,
    listeners: Option<Listeners>,
    handle: ListenersHandle,
    door: Option<Door>,
}

/// Why a proxy stops to serve.
enum End {
    /// It was asked to.
    Asked(&'static str),
    /// Another one serves.
    Replaced,
}

impl<'a> Proxy<'a> {
    /// Opens the store and all sockets; nothing is accepted yet.
    async fn open(
        arguments: &'a RunArguments,
        notice: Duration,
        settings: DataPlaneSettings,
        inherited: &Arc<Inherited>,
    ) -> Result<(Self, Start), Box<dyn Error>> {
        let clock = Clock::system();
        let metrics = Metrics::new("meshp", env!("CARGO_PKG_VERSION"));
        let Boot { start, workload } = boot(arguments, &clock).await?;
        let credentials = Credentials::new(clock.clone());
        let data_plane = DataPlane::open(settings, credentials.clone(), &metrics, inherited)?;
        let listeners = Listeners::bind(arguments, inherited).await?;
        let handle = listeners.handle()?;
        let door = Door::open(&arguments.admin, inherited);
        if let Err(error) = &door {
            tracing::warn!(%error, "this proxy cannot be replaced while it runs");
        }
        let view = View::new(arguments.instance.clone(), clock.clone(), &metrics);
        let proxy = Self {
            arguments,
            notice,
            clock,
            credentials,
            data_plane,
            inherited: Arc::clone(inherited),
            view,
            workload,
            metrics,
            listeners: Some(listeners),
            handle,
            door: door.ok(),
        };
        Ok((proxy, start))
    }

    async fn live(
        mut self,
        mut start: Start,
        mut takeover: Option<Takeover>,
        secrets: Secrets,
        mut shutdown: Shutdown,
    ) -> Result<Exit, Box<dyn Error>> {
        let (trigger, watcher) = drain::channel();
        let asked = Arc::new(Notify::new());
        let mut servers = JoinSet::new();
        let end = loop {
            // Dropped, it has closed the store.
            let mut control = Box::pin(subscribe::run(start, self.context()));
            if let Some(listeners) = self.listeners.take() {
                let begun = self.begin(listeners, takeover.take(), &asked, &watcher);
                servers = tokio::select! {
                    begun = begun => begun?,
                    () = &mut control => break End::Asked("the control side ended"),
                    why = shutdown.requested() => break End::Asked(why),
                };
            }
            let predecessor = tokio::select! {
                () = control => break End::Asked("the control side ended"),
                () = follow_secrets(secrets.clone()) => break End::Asked("key material is no longer followed"),
                why = shutdown.requested() => break End::Asked(why),
                () = asked.notified() => break End::Asked("POST /drain"),
                predecessor = self.asked() => predecessor,
            };
            // The store is closed: it is the successor's until that serves or is gone.
            self.view.update(|state| state.distributor = None);
            tokio::select! {
                handed_over = self.hand_over(predecessor) => match handed_over {
                    Ok(()) => break End::Replaced,
                    Err(error) => tracing::warn!(error = chain(&*error), "not replaced, and goes on"),
                },
                why = shutdown.requested() => break End::Asked(why),
            }
            start = tokio::select! {
                start = self.store_again() => start,
                why = shutdown.requested() => break End::Asked(why),
            };
        };
        drop(watcher);
        self.end(end, shutdown, trigger, servers).await
    }

    /// Begins to accept, once it is as ready as the proxy that it replaces.
    async fn begin(
        &self,
        listeners: Listeners,
        takeover: Option<Takeover>,
        asked: &Arc<Notify>,
        watcher: &drain::DrainWatcher,
    ) -> Result<JoinSet<()>, Box<dyn Error>> {
        if let Some(takeover) = &takeover {
            takeover.ready(&self.view).await?;
        }
        let opened = listeners.opened(self.data_plane.bound())?;
        self.data_plane.accept()?;
        if let Some(path) = &self.arguments.ports_file {
            admin::write_ports(path, &opened)?;
        }
        let served = Served {
            view: self.view.clone(),
            metrics: self.metrics.clone(),
            data_plane: Arc::clone(&self.data_plane),
            store: self.arguments.store.clone(),
        };
        let servers = listeners.serve(served, opened, Arc::clone(asked), watcher);
        if let Some(takeover) = takeover {
            takeover.serving().await?;
            self.handle.keep();
            if let Some(door) = &self.door {
                door.keep();
            }
            self.inherited.close();
        }
        Ok(servers)
    }

    fn context(&self) -> Context<DataPlane> {
        Context {
            traffic: Arc::clone(&self.data_plane),
            credentials: self.credentials.clone(),
            clock: self.clock.clone(),
            view: self.view.clone(),
            workload: self.workload.clone(),
            labels: self.arguments.labels.clone(),
            join_path: self.arguments.join.clone(),
        }
    }

    async fn asked(&self) -> Predecessor {
        match &self.door {
            Some(door) => door.asked().await,
            None => std::future::pending().await,
        }
    }

    async fn hand_over(&self, predecessor: Predecessor) -> Result<(), Box<dyn Error>> {
        let mut sockets = self.data_plane.copies()?;
        sockets.extend(self.handle.copies()?);
        if let Some(door) = &self.door {
            sockets.push(door.copy()?);
        }
        let ready = self.view.ready().is_ok();
        replace::hand_over(predecessor, ready, sockets).await?;
        // The files are the successor's now.
        self.handle.leave();
        if let Some(door) = &self.door {
            door.leave();
        }
        Ok(())
    }

    /// Opens the store again after a successor has failed; it may take its time to be gone.
    async fn store_again(&self) -> Start {
        let mut told = String::new();
        loop {
            let error = match bootstrap::boot(self.arguments, &self.clock) {
                Ok(boot) => return boot.start,
                Err(error) => error,
            };
            let text = chain(&error);
            if text != told && !matches!(error, StartError::Store(StoreError::InUse)) {
                tracing::error!(error = text, "serves on, and cannot open its store again");
                told = text;
            }
            tokio::time::sleep(STORE_TRY_EVERY).await;
        }
    }

    async fn end(
        self,
        end: End,
        mut shutdown: Shutdown,
        trigger: DrainTrigger,
        mut servers: JoinSet<()>,
    ) -> Result<Exit, Box<dyn Error>> {
        let (why, handed_over) = match end {
            End::Asked(why) => (why, false),
            End::Replaced => ("replaced by another process", true),
        };
        let plan = DrainPlan {
            notice: self.notice,
            limit: self.arguments.drain_timeout,
            handed_over,
        };
        tracing::info!(why, notice = ?plan.notice, limit = ?plan.limit, "draining");
        self.view.update(|state| state.draining = true);
        if handed_over {
            // Whoever asks is answered by the process that serves.
            trigger.start();
        }
        let report = tokio::select! {
            report = self.data_plane.drain(plan) => report,
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
}

/// Opens the store. Whoever replaces another may find that it is only just ending.
async fn boot(arguments: &RunArguments, clock: &Clock) -> Result<Boot, StartError> {
    let limit = Instant::now() + ENDING_WAIT;
    loop {
        match bootstrap::boot(arguments, clock) {
            Err(StartError::Store(StoreError::InUse))
                if arguments.replace && Instant::now() < limit =>
            {
                tokio::time::sleep(STORE_TRY_EVERY).await;
            }
            booted => return booted,
        }
    }
}

fn is_in_use(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// How long it may take until another process has let go of everything.
const ENDING_WAIT: Duration = Duration::from_secs(5);

/// How often a store is tried that another process may still have.
const STORE_TRY_EVERY: Duration = Duration::from_millis(20);

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

fn settings(arguments: &RunArguments, limits: Limits, secrets: Secrets) -> DataPlaneSettings {
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
        labels: arguments.labels.clone(),
        access_log: arguments.access_log.clone(),
        limits: Arc::new(limits),
        log: LogDefaults {
            format: arguments.access_log_format.into(),
            only: arguments.access_log_only.clone(),
        },
        instance: arguments.instance.clone(),
        istio_metrics: arguments.istio_metrics,
        workers: arguments.workers,
    }
}
