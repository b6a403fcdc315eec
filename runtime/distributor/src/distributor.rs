//! Puts the parts of a distributor together, and takes them down in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::{IdentitySource, TrustRoot};
use mesh_daemon::admin::{self, AdminSocket, Routes};
use mesh_daemon::clock::Clock;
use mesh_daemon::drain::{self, DrainTrigger};
use mesh_daemon::identity::Credentials;
use mesh_daemon::rpc::RpcListener;
use mesh_daemon::telemetry::Metrics;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::args::ServeArguments;
use crate::build::Builder;
use crate::events::Events;
use crate::follow::{self, Watched};
use crate::git::{Accepted, Followed, Follower};
use crate::issue::certificate::Authority;
use crate::issue::{Active, Issuer, unix};
use crate::keys::{self, Keys};
use crate::mesh::{Mesh, Pinned};
use crate::publish::Publisher;
use crate::serve::Service;
use crate::store::{Store, StoreLock};
use crate::trust::{Trust, TrustError};
use crate::{api, archive, folder, hook, limits, output, page, rotation, trust};

/// What a start fails with: the parts have their own errors, and all are only printed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why it does not start, beyond what the parts say themselves.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the trust root was made by `meshd dev` for development; only `meshd dev` serves it")]
    Development,
    #[error("the trust root pins {what} {pinned:?}, not {asked:?}")]
    Pinned {
        what: &'static str,
        pinned: String,
        asked: String,
    },
    #[error("the trust root wants signed commits, which this release cannot verify")]
    CommitSigners,
    #[error(
        "the trust root says that identities come from SPIRE, which this release cannot serve beside"
    )]
    IdentitySource,
    #[error("the trust root lists no distributor {0}")]
    Distributor(SpiffeId),
    #[error("the intermediate is below no authority of the trust bundle; do they belong together?")]
    Authority,
    #[error(
        "no proxy can connect to {0}; say with --advertise HOST:PORT what join files should tell them"
    )]
    Advertise(SocketAddr),
    #[error("could not listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: Failure,
    },
    #[error("could not write {path}")]
    Ports {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// What it bound, for whoever started it with port 0.
#[derive(Clone, Debug, Serialize)]
struct Ports {
    listen: SocketAddr,
    hook: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    socket: String,
}

/// A running distributor.
#[derive(Debug)]
pub(crate) struct Distributor {
    mesh: Arc<Mesh>,
    draining: DrainTrigger,
    servers: JoinSet<()>,
    follower: std::thread::JoinHandle<()>,
    notice: String,
    /// Two distributors on one state directory would sign the same counters twice.
    _lock: StoreLock,
}

impl Distributor {
    /// Starts everything, or nothing.
    pub(crate) async fn start(arguments: &ServeArguments, clock: Clock) -> Result<Self, Failure> {
        let parts = Parts::new(arguments, clock)?;
        let mesh = Arc::clone(&parts.mesh);
        let notice = parts.notice.clone();
        let (draining, _watcher) = drain::channel();
        let mut servers = JoinSet::new();
        let ports = parts.bind(arguments, &draining, &mut servers).await?;
        if let Some(path) = &arguments.ports {
            write_ports(path, &ports)?;
        }
        let (follower, lock) = parts.follow(arguments.poll)?;
        tracing::info!(listen = %ports.listen, socket = ports.socket, "meshd serves");
        Ok(Self {
            mesh,
            draining,
            servers,
            follower,
            notice,
            _lock: lock,
        })
    }

    /// Which keys it holds, and what that means.
    pub(crate) fn notice(&self) -> &str {
        &self.notice
    }

    /// Ends streams and servers, then the follower.
    pub(crate) async fn stop(mut self) {
        self.mesh.trigger.stop();
        let left = self.draining.finish(limits::DRAIN_TIMEOUT).await;
        if left > 0 {
            tracing::warn!(left, "streams did not end in time");
        }
        let follower = self.follower;
        let followed = tokio::task::spawn_blocking(move || follower.join());
        match tokio::time::timeout(limits::DRAIN_TIMEOUT, followed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_panicked) => tracing::error!("the follower failed"),
            Err(_elapsed) => tracing::warn!("a commit is still being compiled; leaving it"),
        }
        self.servers.shutdown().await;
    }
}

/// Everything that is needed before anything is bound.
struct Parts {
    mesh: Arc<Mesh>,
    follower: Follower,
    builder: Builder,
    triggers: std::sync::mpsc::Receiver<()>,
    metrics: Metrics,
    /// Two distributors on one state directory would sign the same counters twice.
    lock: StoreLock,
    notice: String,
}

impl Parts {
    fn new(arguments: &ServeArguments, clock: Clock) -> Result<Self, Failure> {
        let mut trust = Trust::read(&arguments.trust.join("trust"))?;
        let root = trust.root.clone();
        check_arguments(arguments, &root)?;
        let identity = root
            .scope
            .trust_domain
            .identity(&format!("/mesh/distributor/{}", arguments.name))?;
        if !root.distributors.contains(&identity) {
            return Err(StartError::Distributor(identity).into());
        }
        let key_folder = arguments.trust.join("keys");
        let keys = Arc::new(Keys::read(&key_folder, &root)?);
        let notice = keys::notice(&key_folder, &root.scope, root.development);

        let metrics = Metrics::new("meshd", env!("CARGO_PKG_VERSION"));
        let events = Events::new(&metrics);
        let store = Store::open(&arguments.state)?;
        let lock = store.lock()?;
        let credentials = Credentials::new(clock.clone());
        hold_back(&mut trust, &store, &clock)?;
        let active = active(arguments, &keys, &trust, &store, &identity, &clock)?;
        let issuer = Issuer::new(
            active,
            root.scope.trust_domain.clone(),
            store.clone(),
            clock.clone(),
        )?;
        let publisher = Arc::new(Publisher::start(
            trust,
            Arc::clone(&keys),
            store,
            credentials.clone(),
            clock.clone(),
            events.clone(),
        )?);
        let accepted = accepted(&publisher);
        let followed = Followed {
            repository: arguments.repository.clone(),
            reference: root.reference.clone(),
            epoch: root.epoch,
            emit: mesh_compiler::EMIT,
        };
        let (trigger, triggers) = follow::trigger();
        let pinned = Pinned {
            scope: root.scope.clone(),
            reference: root.reference.clone(),
            development: root.development,
        };
        let builder = Builder::new(root, keys, Arc::clone(&publisher), events.clone());
        let mesh = Arc::new(Mesh {
            pinned,
            publisher,
            issuer,
            credentials,
            watched: Watched::new(&clock),
            trigger,
            events,
            clock,
            fleet: Mutex::default(),
            identity,
            held: Mutex::default(),
            addresses: OnceLock::new(),
        });
        mesh.show_own()?;
        Ok(Self {
            mesh,
            follower: Follower::new(followed, accepted),
            builder,
            triggers,
            metrics,
            lock,
            notice,
        })
    }

    /// Binds everything before anything is served, so that a port in use ends the start.
    async fn bind(
        &self,
        arguments: &ServeArguments,
        draining: &DrainTrigger,
        servers: &mut JoinSet<()>,
    ) -> Result<Ports, Failure> {
        let mesh = &self.mesh;
        let rpc = RpcListener::bind(arguments.listen, &mesh.credentials)
            .await
            .map_err(|error| listen(arguments.listen, error))?;
        let hook = match arguments.hook {
            Some(address) => Some(hook::bind(address).await?),
            None => None,
        };
        let metrics = match arguments.metrics {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| listen(address, error))?,
            ),
            None => None,
        };
        let socket = AdminSocket::bind(&arguments.socket)
            .map_err(|error| listen(arguments.socket.display(), error))?;
        let local = match &arguments.attest_socket {
            Some(path) => Some(unix::bind(path).map_err(|error| listen(path.display(), error))?),
            None => None,
        };
        let ports = Ports {
            listen: rpc.local_addr()?,
            hook: hook.as_ref().map(TcpListener::local_addr).transpose()?,
            metrics: metrics.as_ref().map(TcpListener::local_addr).transpose()?,
            socket: arguments.socket.display().to_string(),
        };
        let addresses = match arguments.advertise.as_slice() {
            [] => vec![ports.listen.to_string()],
            given => given.to_vec(),
        };
        if mesh.addresses.set(addresses).is_err() {
            tracing::debug!("the addresses were set before");
        }

        let service = Service::new(Arc::clone(mesh), draining.watcher());
        servers.spawn(rpc.serve(service, draining.watcher()));
        servers.spawn(admin::serve_unix(
            socket,
            api::routes(mesh),
            draining.watcher(),
        ));
        if let Some(socket) = local {
            let users = arguments.attest_user.iter().cloned().collect();
            servers.spawn(unix::serve(
                socket,
                users,
                Arc::clone(mesh),
                draining.watcher(),
            ));
        }
        if let Some(listener) = hook {
            let shown = Arc::clone(mesh);
            let answers = hook::Answers {
                trigger: mesh.trigger.clone(),
                page: Arc::new(move || page::render(&shown.status())),
            };
            servers.spawn(hook::serve(listener, answers, draining.watcher()));
        }
        if let Some(listener) = metrics {
            let ready = Arc::clone(mesh);
            let routes = Routes::new()
                .metrics(self.metrics.clone())
                .ready(move || ready.ready());
            servers.spawn(admin::serve_tcp(listener, routes, draining.watcher()));
        }
        servers.spawn(renew(Arc::clone(mesh)));
        servers.spawn(trust::follow::run(
            Arc::clone(mesh),
            arguments.trust.clone(),
        ));
        if archive::is_wanted(&mesh.pinned) {
            let repository = arguments.repository.clone();
            servers.spawn(archive::run(Arc::clone(mesh), repository));
        }
        Ok(ports)
    }

    fn follow(self, poll: Duration) -> std::io::Result<(std::thread::JoinHandle<()>, StoreLock)> {
        let Self {
            mesh,
            follower,
            builder,
            triggers,
            lock,
            ..
        } = self;
        let judge =
            move |repository: &mesh_repo::Repository, commit| builder.judge(repository, commit);
        let triggers = (mesh.trigger.clone(), triggers);
        let clock = mesh.clock.clone();
        let thread = follow::start(follower, judge, mesh.watched.clone(), poll, triggers, clock)?;
        Ok((thread, lock))
    }
}

/// What was accepted last outlives a restart: the ref may only lead on from there.
fn accepted(publisher: &Publisher) -> Option<Accepted> {
    let published = publisher.published();
    let statement = published.current()?.statement().clone();
    let commit = mesh_repo::CommitId::from_hex(&statement.commit.to_string())?;
    Some(Accepted {
        commit,
        order: statement.order,
    })
}

fn check_arguments(arguments: &ServeArguments, root: &TrustRoot) -> Result<(), StartError> {
    if arguments.listen.ip().is_unspecified() && arguments.advertise.is_empty() {
        return Err(StartError::Advertise(arguments.listen));
    }
    if root.development && !arguments.started_by_dev {
        return Err(StartError::Development);
    }
    // What the root asks for and this release lacks must not be passed over.
    if !root.commit_signers.is_empty() {
        return Err(StartError::CommitSigners);
    }
    if root.identity_source != IdentitySource::Issuer {
        return Err(StartError::IdentitySource);
    }
    let pinned = [
        ("the ref", &arguments.reference, &root.reference),
        ("the root path", &arguments.root_path, &root.root_path),
        (
            "the environment",
            &arguments.environment,
            &root.scope.environment,
        ),
    ];
    for (what, asked, pinned) in pinned {
        if let Some(asked) = asked
            && asked != pinned
        {
            return Err(StartError::Pinned {
                what,
                pinned: pinned.clone(),
                asked: asked.clone(),
            });
        }
    }
    Ok(())
}

/// A bundle that drops an authority which certificates still need waits, also over a restart.
fn hold_back(trust: &mut Trust, store: &Store, clock: &Clock) -> Result<(), Failure> {
    let own = trust.root.scope.trust_domain.to_string();
    let Some(envelope) = store.trust_bundle()? else {
        return Ok(());
    };
    // One that the root in force does not vouch for is not worth waiting for.
    let Ok(verified) = trust.root.verify_trust_bundle(&envelope) else {
        return Ok(());
    };
    let mut served = trust.clone();
    served.bundles.remove(&own);
    served.add_bundle(&envelope, verified);
    let (Some(served), Some(read)) = (served.bundles.remove(&own), trust.bundles.get(&own)) else {
        return Ok(());
    };
    let (ledger, now) = (store.ledger()?, clock.wall_ms() / 1000);
    let wait = rotation::must_wait(&served, read, None, |roots| ledger.below_none(roots, now));
    if wait.is_some() {
        trust.bundles.insert(own, served);
    }
    Ok(())
}

/// The intermediate authority to begin with: the next one, if it may be used already.
fn active(
    arguments: &ServeArguments,
    keys: &Keys,
    trust: &Trust,
    store: &Store,
    identity: &SpiffeId,
    clock: &Clock,
) -> Result<Active, Failure> {
    let own = trust.root.scope.trust_domain.as_str();
    let bundle = trust.bundles.get(own).map(|bundle| &bundle.value);
    let bundle = bundle.ok_or_else(|| TrustError::NoBundle(own.to_owned()))?;
    let certificate = folder::read_public(
        &arguments.trust.join("trust/intermediate.pem"),
        limits::TRUST_FILE_BYTES_MAX,
    )?;
    let authority = Authority::new(
        &keys.intermediate_pem,
        &String::from_utf8_lossy(&certificate),
        arguments.svid_life,
    )?;
    let first = rotation::active(authority, bundle, identity, clock)?;
    let next = match rotation::next_authority(&arguments.trust, arguments.svid_life) {
        Ok(Some(next)) => rotation::active(next, bundle, identity, clock)?,
        Ok(None) => None,
        Err(error) => {
            let error = output::chain(error.as_ref());
            tracing::error!(error, "trust/intermediate.next.pem is not used");
            None
        }
    };
    let now = clock.wall_ms() / 1000;
    let ledger = store.ledger()?;
    match (first, next) {
        (Some(first), Some(next))
            if first.root != next.root
                && !ledger.without_bundle(bundle.version, now).is_empty() =>
        {
            Ok(first)
        }
        (_, Some(next)) => Ok(next),
        (Some(first), None) => Ok(first),
        (None, None) => Err(StartError::Authority.into()),
    }
}

/// Signs what has to be signed now and then; ends with the process.
async fn renew(mesh: Arc<Mesh>) {
    let mut heads = tokio::time::interval(limits::HEAD_RENEWAL);
    let mut revocations = tokio::time::interval(limits::REVOCATIONS_RENEWAL);
    let mut own = tokio::time::interval(limits::OWN_SVID_RENEWAL.min(mesh.issuer.life() / 3));
    for interval in [&mut heads, &mut revocations, &mut own] {
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is at once, and all of this was just signed.
        interval.tick().await;
    }
    loop {
        let due: fn(&Mesh) -> Result<(), Failure> = tokio::select! {
            _ = heads.tick() => |mesh| Ok(mesh.publisher.renew_head()?),
            _ = revocations.tick() => |mesh| Ok(mesh.publisher.renew_revocations()?),
            _ = own.tick() => |mesh| Ok(mesh.show_own()?),
        };
        let mesh = Arc::clone(&mesh);
        let renewed = tokio::task::spawn_blocking(move || due(&mesh)).await;
        if let Ok(Err(error)) = renewed {
            tracing::error!(
                error = output::chain(error.as_ref()),
                "could not sign anew; the last one serves until it expires"
            );
        }
    }
}

fn write_ports(path: &Path, ports: &Ports) -> Result<(), Failure> {
    let json = serde_json::to_vec(ports)?;
    // Renamed into place, so that whoever waits for the file never reads half of it.
    let aside = path.with_extension("new");
    let written = std::fs::write(&aside, json).and_then(|()| std::fs::rename(&aside, path));
    Ok(written.map_err(|source| StartError::Ports {
        path: path.display().to_string(),
        source,
    })?)
}

fn listen(address: impl std::fmt::Display, error: impl Into<Failure>) -> StartError {
    StartError::Listen {
        address: address.to_string(),
        source: error.into(),
    }
}
