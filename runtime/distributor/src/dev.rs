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

mod client;
mod control;
mod distributor;
mod fleet;
mod git;
mod instance;
mod plan;
mod policy;
mod ports;
mod process;
mod secrets;
mod table;
mod traffic;

use distributor::Distributor;
use fleet::Fleet;
use ports::Ports;
use secrets::Secrets;
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
    #[error("the policies have errors; `meshc check` shows them\n{0}")]
    Policy(String),
    /// A part did not come up.
    #[error("{0}; its log is {1}")]
    NotReady(String, PathBuf),
    /// A part answered with an error.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
    /// The arguments do not fit the mesh.
    #[error("{0}")]
    Arguments(String),
}

/// Runs until a signal; removes what it made.
pub(crate) async fn run(arguments: DevArguments) -> Result<(), DevError> {
    let mut shutdown =
        Shutdown::listen().map_err(|error| DevError::Io("cannot listen for signals", error))?;
    let (state, scratch) = match &arguments.state {
        Some(state) => (state.clone(), None),
        None => {
            let folder = tempfile::Builder::new()
                .prefix("meshd-dev-")
                .tempdir()
                .map_err(|error| DevError::Io("cannot make a temporary folder", error))?
                .keep();
            (folder.clone(), Some(folder))
        }
    };
    let outcome = tokio::select! {
        outcome = live(&arguments, &state) => outcome,
        signal = shutdown.requested() => {
            tracing::info!(signal, "ending");
            Ok(())
        }
    };
    // Dropping `live` has let go of every child's standard input; the store folders go last.
    for folder in scratch.iter().chain(&arguments.remove_at_end) {
        remove(folder).await;
    }
    outcome
}

/// Children that still end may write a last time into the folder.
async fn remove(folder: &Path) {
    for _ in 0..50 {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::warn!(folder = %folder.display(), "could not remove the folder");
}

async fn live(arguments: &DevArguments, state: &Path) -> Result<(), DevError> {
    let say = |text: &str| {
        if !arguments.quiet {
            crate::output::message(text);
        }
    };
    make_folder(state)?;
    let repository = std::fs::canonicalize(&arguments.repository)
        .map_err(|error| DevError::Io("cannot open the repository", error))?;
    let clone = git::working_clone(&repository, &state.join("policies"))
        .await
        .map_err(|error| DevError::Io("cannot make a working clone", error))?;

    say("compiling the policies");
    let policy = policy::at_tip(&repository, &clone.reference, &arguments.env).await?;
    check_secrets(&arguments.secret, &policy.plan)?;
    let apps = apps(&arguments.app, &policy.plan)?;

    say("making keys and starting the distributor");
    let distributor = Distributor::start(&repository, &clone.reference, &policy, state).await?;
    if clone.path != repository {
        let meshd =
            process::sibling("meshd").map_err(|error| DevError::Io("cannot find meshd", error))?;
        clone
            .install_hook(&meshd, distributor.socket())
            .map_err(|error| DevError::Io("cannot install the clone's hook", error))?;
    }

    say("starting applications and proxies");
    let secrets = Secrets::new(&arguments.secret, state.join("secrets"), arguments.quiet);
    let mut fleet = Fleet::new(state.join("proxies"), apps, process_paths()?, secrets).await?;
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
    say(&introduction(
        &clone.path,
        &policy,
        &shared.distributor.web(),
    ));

    tokio::select! {
        ended = follow(&shared, &repository, &clone.reference, arguments) => ended,
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
async fn follow(
    shared: &Shared,
    repository: &Path,
    reference: &str,
    arguments: &DevArguments,
) -> ! {
    let mut known = shared.distributor.commit().await;
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let now = shared.distributor.commit().await;
        if now.is_none() || now == known {
            continue;
        }
        known = now;
        let followed = async {
            let policy = policy::at_tip(repository, reference, &arguments.env).await?;
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
        let (to, tls) = match &call.entry {
            None => (fleet.outbound(&name.0)?, None),
            Some(entry) => fleet.entrance(&name.0, entry)?,
        };
        let request = call.request.clone();
        Some((name.clone(), traffic::Edge { to, tls, request }))
    };
    plan.edges.iter().filter_map(edge).collect()
}

fn apps(apps: &[App], plan: &plan::Plan) -> Result<Vec<App>, DevError> {
    for app in apps {
        let services = || plan.services.iter().filter(|(_, it)| !it.is_gateway);
        let Some((_, service)) = services().find(|(name, _)| **name == app.service) else {
            let names: Vec<&str> = services().map(|(name, _)| name.as_str()).collect();
            return Err(DevError::Arguments(format!(
                "--app names {}, which is no service of this mesh; it has {}",
                app.service,
                names.join(", ")
            )));
        };
        let has_subset = |subset: &String| {
            service
                .instances
                .iter()
                .any(|instance| instance.subset.as_ref() == Some(subset))
        };
        if app
            .subset
            .as_ref()
            .is_some_and(|subset| !has_subset(subset))
        {
            return Err(DevError::Arguments(format!(
                "--app names {}/{}, which is no subset of that service",
                app.service,
                app.subset.as_deref().unwrap_or_default()
            )));
        }
    }
    Ok(apps.to_vec())
}

/// A file that is not there is a slip, and a name that no policy uses may be one.
fn check_secrets(secrets: &[(String, PathBuf)], plan: &plan::Plan) -> Result<(), DevError> {
    for (name, file) in secrets {
        std::fs::metadata(file).map_err(|error| {
            DevError::Arguments(format!("--secret {name}: {}: {error}", file.display()))
        })?;
        let used = plan.services.values().any(|service| {
            service.certificates.contains_key(name) || service.other_secrets.contains(name)
        });
        if !used {
            crate::output::message(&format!(
                "warning: no gateway refers to the secret {name}; it is not used"
            ));
        }
    }
    Ok(())
}

fn process_paths() -> Result<fleet::Programs, DevError> {
    let find = |name| {
        process::sibling(name).map_err(|error| DevError::Io("cannot find a program of ours", error))
    };
    Ok(fleet::Programs {
        meshd: find("meshd")?,
        meshp: find("meshp")?,
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

fn introduction(clone: &Path, policy: &policy::Policy, web: &str) -> String {
    let gateways = policy
        .plan
        .services
        .values()
        .filter(|it| it.is_gateway)
        .count();
    let services = policy.plan.services.len() - gateways;
    let instances: usize = policy
        .plan
        .services
        .values()
        .map(|service| service.instances.len())
        .sum();
    let (clone, edit) = (clone.display(), &policy.edit);
    let entries = match gateways {
        0 => String::new(),
        1 => ", 1 gateway".to_owned(),
        many => format!(", {many} gateways"),
    };
    format!(
        "\n{services} services{entries}, {instances} proxies, mutual TLS between all of them; {web} shows their status.\n\
         In another terminal:\n\n  \
         cd {clone}\n  \
         $EDITOR {edit}   # change a weight\n  \
         git commit -am 'shift traffic'   # every proxy serves it within a second\n  \
         git revert --no-edit HEAD        # and back\n\n\
         Ctrl-C ends it and removes what it made.\n"
    )
}

fn make_folder(folder: &Path) -> Result<(), DevError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| DevError::Io("cannot make the state folder", error))
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
