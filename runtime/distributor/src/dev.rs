//! `meshd dev`: a whole mesh on one machine, without root, on real parts.
//!
//! It starts the distributor, one proxy per service instance and a stand-in for each application it
//! was not given, as processes of their own, and sends a trickle of demo traffic. It has no way in
//! that an operator would not have: keys from `meshc keygen`, join files from the distributor's
//! socket, configuration from the stream.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon::signal::Shutdown;
use tokio::sync::Mutex;

mod check;
mod client;
mod control;
mod distributor;
mod fleet;
mod git;
mod instance;
mod introduction;
mod plan;
mod policy;
mod ports;
mod process;
mod secrets;
mod state;
mod table;
mod traffic;

use distributor::Distributor;
use fleet::Fleet;
use ports::Ports;
use process::Children;
use secrets::Secrets;
use state::{StateFolder, make_folder};
use table::{Look, Screen};
use traffic::Traffic;

/// How often the table is drawn.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the followed commit is asked for, to start what a commit adds.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `meshd dev`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevArguments {
    /// Policy repository; of a bare one, a working clone is made.
    repository: PathBuf,
    /// Environment of the mesh to run.
    #[arg(long, value_name = "NAME", default_value = mesh_compiler::DEFAULT_ENVIRONMENT)]
    env: String,
    /// An application that already listens; repeatable.
    #[arg(long, value_name = "SERVICE[/SUBSET]=ADDRESS", value_parser = parse_app)]
    app: Vec<App>,
    /// Key material for a name that policy uses; repeatable.
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_secret)]
    secret: Vec<(String, PathBuf)>,
    /// What answers calls that leave the mesh: something local in place of all services outside, or they themselves.
    #[arg(long, value_enum, value_name = "WHICH", default_value = "stand-in")]
    externals: Externals,
    /// Write what was opened to this file, as JSON, once everything serves.
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
    /// Show nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// Folder for keys, stores and logs [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Demo requests per second on each call; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rate: u32,
    /// Remove this folder at the end.
    #[arg(long, value_name = "DIR", hide = true)]
    remove_at_end: Option<PathBuf>,
}

/// What answers calls that leave the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Externals {
    /// Something local.
    StandIn,
    /// The services outside.
    Real,
}

/// An application of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct App {
    service: String,
    subset: Option<String>,
    address: SocketAddr,
}

fn parse_app(text: &str) -> Result<App, String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("expected SERVICE=ADDRESS or SERVICE/SUBSET=ADDRESS")?;
    let (service, subset) = match name.split_once('/') {
        Some((service, subset)) => (service, Some(subset.to_owned())),
        None => (name, None),
    };
    let address = address
        .parse()
        .map_err(|_invalid| format!("{address} is not an address such as 127.0.0.1:8080"))?;
    Ok(App {
        service: service.to_owned(),
        subset,
        address,
    })
}

fn parse_secret(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), PathBuf::from(file)))
}

/// Why `meshd dev` could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// A file, folder or program could not be used.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    /// The policies do not compile.
    #[error("the policies of the tip have errors, and `meshc check` shows them whole:\n{0}")]
    Policy(String),
    /// A part did not come up.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// A part answered with an error.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
    /// The arguments do not fit the mesh.
    #[error("{0}")]
    Arguments(String),
}

/// A part that did not come up, and the last that it said: its log may go with the folder.
#[derive(Debug, thiserror::Error)]
#[error("{what}{said}")]
pub(crate) struct NotReady {
    what: String,
    said: String,
    log: PathBuf,
}

impl NotReady {
    fn new(what: impl Into<String>, log: PathBuf) -> Self {
        const LINES: usize = 5;
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..);
        let said = last
            .unwrap_or_default()
            .iter()
            .flat_map(|line| ["\n  ", line])
            .collect();
        Self {
            what: what.into(),
            said,
            log,
        }
    }

    /// Says where the whole log is, too, for it stays.
    fn with_log(mut self) -> Self {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _infallible = write!(self.said, "\nthe whole log is {}", self.log.display());
        self
    }
}

/// Runs until a signal; removes what it made.
pub(crate) async fn run(arguments: DevArguments) -> Result<(), DevError> {
    let mut shutdown = Shutdown::listen()
        .and_then(Shutdown::or_hangup)
        .map_err(|error| DevError::Io("cannot listen for signals", error))?;
    let state = StateFolder::open(&arguments).await?;
    // Whoever waits for this file must not read what an earlier run opened.
    remove_ports(&arguments);
    let (children, ended) = Children::new();
    let outcome = tokio::select! {
        outcome = live(&arguments, &state, &children) => outcome,
        signal = shutdown.requested() => {
            tracing::info!(signal, "ending");
            Ok(())
        }
    };
    remove_ports(&arguments);
    // Dropping `live` has let go of all children, which end by themselves; the store folders go last.
    drop(children);
    tokio::select! {
        () = ended.wait() => {}
        signal = shutdown.requested() => tracing::info!(signal, "asked again, ending at once"),
    }
    let kept = state.is_kept();
    state.close().await;
    match outcome {
        Err(DevError::NotReady(part)) if kept => Err(DevError::NotReady(part.with_log())),
        outcome => outcome,
    }
}

fn remove_ports(arguments: &DevArguments) {
    let Some(file) = &arguments.ports else {
        return;
    };
    match std::fs::remove_file(file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(file = %file.display(), %error, "the ports file stays"),
    }
}

async fn live(
    arguments: &DevArguments,
    state: &StateFolder,
    children: &Children,
) -> Result<(), DevError> {
    let kept = state.is_kept();
    let state = state.path();
    let say = |text: &str| {
        if !arguments.quiet {
            crate::output::message(text);
        }
    };
    let repository = std::fs::canonicalize(&arguments.repository)
        .map_err(|error| DevError::Io("cannot open the repository", error))?;
    let clone = git::working_clone(&repository, &state.join("policies")).await?;
    let repository = clone.repository.clone();

    say("compiling the policies");
    let policy = policy::at_tip(
        &repository,
        &clone.reference,
        clone.root.as_deref(),
        &arguments.env,
    )
    .await?;
    check::secrets(&arguments.secret, &policy.plan)?;
    let apps = check::apps(&arguments.app, &policy.plan)?;

    say("making keys and starting the distributor");
    let distributor =
        Distributor::start(&repository, &clone.reference, &policy, state, children).await?;
    if clone.path != repository {
        let meshd =
            process::sibling("meshd").map_err(|error| DevError::Io("cannot find meshd", error))?;
        clone
            .install_hook(&meshd, distributor.socket())
            .map_err(|error| DevError::Io("cannot install the clone's hook", error))?;
    }

    say("starting applications and proxies");
    let secrets = Secrets::new(&arguments.secret, state.join("secrets"), arguments.quiet);
    let mut fleet = Fleet::new(
        state.join("proxies"),
        apps,
        process_paths(children)?,
        secrets,
        arguments.externals,
    )
    .await?;
    let mut traffic = Traffic::new(arguments.rate);
    fleet.follow(&policy.plan, &distributor).await?;
    fleet.wait_serving(&say).await?;
    traffic.set_edges(edges(&policy.plan, &fleet, arguments.rate));

    let shared = Arc::new(Shared {
        fleet: Mutex::new(fleet),
        traffic: Mutex::new(traffic),
        distributor,
    });
    let control = state.join("dev.sock");
    control::serve(&control, &shared)
        .map_err(|error| DevError::Io("cannot open the control socket", error))?;
    write_ports(arguments, &shared, &clone, &control).await?;
    let doors = introduction::doors(&policy.plan, &*shared.fleet.lock().await);
    let web = shared.distributor.web();
    say(&introduction::text(
        &clone.path,
        &policy,
        &web,
        &doors,
        kept.then_some(state),
    ));

    tokio::select! {
        ended = follow(&shared, &clone, arguments) => ended,
        ended = show(&shared, arguments.quiet) => ended,
    }
}

/// What the control socket, the table and the follower look at.
struct Shared {
    fleet: Mutex<Fleet>,
    traffic: Mutex<Traffic>,
    distributor: Distributor,
}

impl Shared {
    async fn look(&self) -> Look {
        let proxies = self.fleet.lock().await.serving().await;
        let traffic = self.traffic.lock().await.counts();
        let (head, refused) = self.distributor.summary().await;
        Look {
            proxies,
            traffic,
            head,
            refused,
        }
    }
}

/// Starts what new commits add and sends the traffic that they declare.
async fn follow(shared: &Shared, clone: &git::WorkingClone, arguments: &DevArguments) -> ! {
    let mut known = shared.distributor.commit().await;
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let now = shared.distributor.commit().await;
        if now.is_none() || now == known {
            continue;
        }
        known = now;
        let followed = async {
            let policy = policy::at_tip(
                &clone.repository,
                &clone.reference,
                clone.root.as_deref(),
                &arguments.env,
            )
            .await?;
            let mut fleet = shared.fleet.lock().await;
            fleet.follow(&policy.plan, &shared.distributor).await?;
            fleet.keep_listeners().await;
            let edges = edges(&policy.plan, &fleet, arguments.rate);
            shared.traffic.lock().await.set_edges(edges);
            Ok::<(), DevError>(())
        };
        if let Err(error) = followed.await {
            tracing::warn!(
                error = crate::output::chain(&error),
                "a commit could not be followed"
            );
        }
    }
}

async fn show(shared: &Shared, quiet: bool) -> ! {
    if quiet {
        std::future::pending::<()>().await;
    }
    let mut screen = Screen::new();
    loop {
        if let Err(error) = screen.show(shared.look().await) {
            tracing::debug!(%error, "nobody reads the table");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn edges(
    plan: &plan::Plan,
    fleet: &Fleet,
    rate: u32,
) -> BTreeMap<traffic::EdgeName, traffic::Edge> {
    if rate == 0 {
        return BTreeMap::new();
    }
    let edge = |(name, call): (&traffic::EdgeName, &plan::PlannedCall)| {
        let is_proxied = call.entry.as_ref().is_some_and(|entry| entry.is_proxied);
        let (to, tls) = match &call.entry {
            None => (fleet.outbound(&name.0)?, None),
            Some(entry) => fleet.entrance(&name.0, entry)?,
        };
        let request = call.request.clone();
        let edge = traffic::Edge {
            to,
            tls,
            is_proxied,
            request,
        };
        Some((name.clone(), edge))
    };
    plan.edges.iter().filter_map(edge).collect()
}

fn process_paths(children: &Children) -> Result<fleet::Programs, DevError> {
    let find = |name| {
        process::sibling(name).map_err(|error| DevError::Io("cannot find a program of ours", error))
    };
    Ok(fleet::Programs {
        meshd: find("meshd")?,
        meshp: find("meshp")?,
        children: children.clone(),
    })
}

async fn write_ports(
    arguments: &DevArguments,
    shared: &Shared,
    clone: &git::WorkingClone,
    control: &Path,
) -> Result<(), DevError> {
    let Some(file) = &arguments.ports else {
        return Ok(());
    };
    let fleet = shared.fleet.lock().await;
    let (services, gateways) = (fleet.ports(), fleet.gateway_ports().await);
    drop(fleet);
    let ports = Ports {
        web: shared.distributor.web(),
        services,
        gateways,
        repository: clone.path.clone(),
        distributor: shared.distributor.ports(),
        control: control.to_path_buf(),
    };
    let text = serde_json::to_string_pretty(&ports)
        .map_err(|error| DevError::Io("cannot write the ports file", error.into()))?;
    write_whole(file, &text).map_err(|error| DevError::Io("cannot write the ports file", error))
}

/// Writes a file that others wait for: it is there whole or not at all.
pub(crate) fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".tmp");
    std::fs::write(&aside, text)?;
    std::fs::rename(&aside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_may_be_of_a_subset() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let app = |subset: Option<&str>| App {
            service: "reviews".to_owned(),
            subset: subset.map(str::to_owned),
            address,
        };
        assert_eq!(parse_app("reviews=127.0.0.1:8080"), Ok(app(None)));
        assert_eq!(parse_app("reviews/v2=127.0.0.1:8080"), Ok(app(Some("v2"))));
        assert!(parse_app("reviews").is_err());
        assert!(parse_app("reviews=8080").is_err());
    }
}
