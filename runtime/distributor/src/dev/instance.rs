//! One running instance: a stand-in application, unless the user has one, and its proxy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use mesh_daemon::admin::client;
use serde::{Deserialize, Serialize};

use super::distributor::{Distributor, wait_json};
use super::fleet::Programs;
use super::plan::{PlannedInstance, PlannedService};
use super::ports::InstancePorts;
use super::process::{Process, Program};
use super::{DevError, make_folder};

/// A process that has not bound its sockets by then never will.
const BOUND_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// One instance and its processes.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) service: String,
    pub(super) planned: PlannedInstance,
    application: SocketAddr,
    echo: Option<Process>,
    proxy: Process,
    bound: Bound,
    admin: PathBuf,
    log: PathBuf,
}

/// What `meshp run --ports` writes.
#[derive(Clone, Debug, Deserialize)]
struct Bound {
    outbound: SocketAddr,
    inbound: BTreeMap<u16, SocketAddr>,
    metrics: SocketAddr,
    health: SocketAddr,
}

/// What a proxy says that it serves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Served {
    pub(super) sequence: Option<u64>,
    pub(super) commit: Option<String>,
    pub(super) slice: Option<String>,
    pub(super) swap_ns: Option<u64>,
}

impl Instance {
    /// Starts application and proxy and waits until both have bound their sockets.
    pub(super) async fn start(
        service: String,
        planned_service: &PlannedService,
        planned: PlannedInstance,
        app: Option<SocketAddr>,
        folder: PathBuf,
        programs: &Programs,
        distributor: &Distributor,
    ) -> Result<Self, DevError> {
        let folder = folder.as_path();
        make_folder(folder)?;
        let (echo, application) = match app {
            Some(address) => (None, address),
            None => {
                let (echo, address) = start_echo(&service, &planned, folder, programs).await?;
                (Some(echo), address)
            }
        };
        let join = folder.join("join.json");
        let store = folder.join("store");
        if !store.exists() {
            let bytes = distributor.join_file(&planned_service.identity).await?;
            write_private(&join, &bytes)
                .map_err(|error| DevError::Io("cannot write a join file", error))?;
        }
        let launch = Launch {
            ports: folder.join("ports.json"),
            admin: folder.join("admin.sock"),
            store,
            join,
            access_log: folder.join("access.log"),
            instance: planned.id.clone(),
            labels: planned
                .labels
                .iter()
                .map(|label| format!("{}={}", label.key, label.value))
                .collect(),
        };
        let unbound = Bound {
            outbound: ANY,
            inbound: planned_service
                .ports
                .iter()
                .map(|port| (*port, ANY))
                .collect(),
            metrics: ANY,
            health: ANY,
        };
        let log = folder.join("meshp.log");
        // A file of an earlier run would tell addresses that nobody listens on.
        drop(std::fs::remove_file(&launch.ports));
        let program = Program {
            path: programs.meshp.clone(),
            arguments: launch.arguments(&unbound, application),
            log: log.clone(),
        };
        let proxy = Process::start(planned.id.clone(), program)
            .map_err(|error| DevError::Io("cannot start a proxy", error))?;
        let bound: Bound = wait_json(&launch.ports, BOUND_LIMIT).await.ok_or_else(|| {
            DevError::NotReady(
                format!("the proxy {} did not start", planned.id),
                log.clone(),
            )
        })?;
        // A restart must be found where its peers and its application look.
        proxy.replace_arguments(launch.arguments(&bound, application));
        Ok(Self {
            service,
            planned,
            application,
            echo,
            proxy,
            bound,
            admin: launch.admin,
            log,
        })
    }

    /// Where its application sends requests.
    pub(super) fn outbound(&self) -> SocketAddr {
        self.bound.outbound
    }

    /// Where peers reach each port of the service.
    pub(super) fn inbound(&self) -> &BTreeMap<u16, SocketAddr> {
        &self.bound.inbound
    }

    pub(super) fn pid(&self) -> u32 {
        self.proxy.pid()
    }

    /// Asks the proxy what it serves; nothing while it does not answer.
    pub(super) async fn served(&self) -> Served {
        let answer =
            client::request(&self.admin, Method::GET, "/config", bytes::Bytes::new()).await;
        answer
            .ok()
            .and_then(|(_, body)| serde_json::from_slice(&body).ok())
            .unwrap_or_default()
    }

    /// Waits until the proxy serves a generation.
    pub(super) async fn wait_serving(&self, limit: Duration) -> Result<(), DevError> {
        let serving = async {
            while self.served().await.sequence.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(limit, serving)
            .await
            .map_err(|_elapsed| {
                DevError::NotReady(
                    format!("the proxy {} serves nothing", self.planned.id),
                    self.log.clone(),
                )
            })
    }

    pub(super) fn ports(&self) -> Option<InstancePorts> {
        Some(InstancePorts {
            subset: self.planned.subset.clone(),
            instance: self.planned.id.clone(),
            outbound: self.bound.outbound,
            inbound: self.bound.inbound.values().next().copied()?,
            inbound_ports: self.bound.inbound.clone(),
            application: self.application,
            metrics: self.bound.metrics,
            admin: self.admin.clone(),
            pid: self.pid(),
        })
    }

    pub(super) async fn end(self) {
        self.proxy.end().await;
        if let Some(echo) = self.echo {
            echo.end().await;
        }
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The files of one proxy.
struct Launch {
    ports: PathBuf,
    admin: PathBuf,
    store: PathBuf,
    join: PathBuf,
    access_log: PathBuf,
    instance: String,
    labels: Vec<String>,
}

impl Launch {
    fn arguments(&self, bound: &Bound, application: SocketAddr) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["run".into(), "--end-with-stdin".into()];
        let mut flag = |name: &str, value: OsString| {
            words.push(name.into());
            words.push(value);
        };
        flag("--store", self.store.clone().into());
        flag("--join", self.join.clone().into());
        flag("--ports", self.ports.clone().into());
        flag("--admin", self.admin.clone().into());
        flag("--access-log", self.access_log.clone().into());
        flag("--instance", self.instance.clone().into());
        flag("--outbound", bound.outbound.to_string().into());
        flag("--metrics", bound.metrics.to_string().into());
        flag("--health", bound.health.to_string().into());
        for (port, inbound) in &bound.inbound {
            flag("--port", format!("{port}={inbound},{application}").into());
        }
        for label in &self.labels {
            flag("--label", label.clone().into());
        }
        words
    }
}

async fn start_echo(
    service: &str,
    planned: &PlannedInstance,
    folder: &Path,
    programs: &Programs,
) -> Result<(Process, SocketAddr), DevError> {
    let address_file = folder.join("application");
    let log = folder.join("application.log");
    drop(std::fs::remove_file(&address_file));
    let arguments = |listen: &str| {
        let mut words: Vec<OsString> = [
            "echo",
            "--end-with-stdin",
            "--listen",
            listen,
            "--service",
            service,
        ]
        .map(OsString::from)
        .into();
        words.extend(["--instance".into(), planned.id.clone().into()]);
        words.extend(["--address-file".into(), address_file.clone().into()]);
        if let Some(subset) = &planned.subset {
            words.extend(["--subset".into(), subset.clone().into()]);
        }
        words
    };
    let program = Program {
        path: programs.meshd.clone(),
        arguments: arguments("127.0.0.1:0"),
        log: log.clone(),
    };
    let echo = Process::start(format!("application of {}", planned.id), program)
        .map_err(|error| DevError::Io("cannot start an application", error))?;
    let address: SocketAddr = wait_json(&address_file, BOUND_LIMIT).await.ok_or_else(|| {
        DevError::NotReady(
            format!("the application of {} did not start", planned.id),
            log,
        )
    })?;
    echo.replace_arguments(arguments(&address.to_string()));
    Ok((echo, address))
}

/// A join file is as good as the identity it grants.
fn write_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    drop(std::fs::remove_file(file));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(bytes)
}
