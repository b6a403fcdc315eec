//! One running instance: a stand-in application, unless the user has one, and its proxy. A gateway has a
//! proxy alone.

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
use super::ports::{GatewayPorts, InstancePorts};
use super::process::{Process, Program};
use super::{DevError, NotReady, make_folder};

/// A process that has not bound its sockets by then never will.
const BOUND_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// One instance and its processes.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) service: String,
    pub(super) planned: PlannedInstance,
    /// None: a gateway.
    application: Option<SocketAddr>,
    echo: Option<Process>,
    proxy: Process,
    launch: Launch,
    bound: Bound,
    /// Of a gateway, by declared port.
    listeners: BTreeMap<u16, SocketAddr>,
    log: PathBuf,
}

/// What an instance is started with beside its plan.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Programs of ours.
    pub(super) programs: Programs,
    /// An application of the user's.
    pub(super) app: Option<SocketAddr>,
    /// What answers in place of services outside the mesh.
    pub(super) stand_in: Option<SocketAddr>,
    /// Key material by name.
    pub(super) secrets: BTreeMap<String, PathBuf>,
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
    /// Of a gateway, by declared port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) listeners: BTreeMap<u16, SocketAddr>,
    pub(super) sequence: Option<u64>,
    pub(super) commit: Option<String>,
    pub(super) slice: Option<String>,
    pub(super) swap_ns: Option<u64>,
    #[serde(skip_serializing)]
    last_rejection: Option<Rejected>,
}

/// What a proxy has refused.
#[derive(Clone, Debug, Deserialize)]
struct Rejected {
    detail: String,
}

impl Instance {
    /// Starts application and proxy and waits until both have bound their sockets.
    pub(super) async fn start(
        service: String,
        planned_service: &PlannedService,
        planned: PlannedInstance,
        folder: PathBuf,
        surroundings: Surroundings,
        distributor: &Distributor,
    ) -> Result<Self, DevError> {
        let folder = folder.as_path();
        make_folder(folder)?;
        let Surroundings {
            programs,
            app,
            stand_in,
            secrets,
        } = surroundings;
        let (echo, application) = match app {
            _ if planned_service.is_gateway => (None, None),
            Some(address) => (None, Some(address)),
            None => {
                let (echo, address) =
                    start_echo(&service, &planned, &folder.join("application"), &programs).await?;
                (Some(echo), Some(address))
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
            application,
            listen: planned.listen.clone(),
            stand_in,
            secrets,
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
            arguments: launch.arguments(&unbound, &BTreeMap::new()),
            log: log.clone(),
        };
        let proxy = Process::start(&programs.children, planned.id.clone(), program)
            .map_err(|error| DevError::Io("cannot start a proxy", error))?;
        let bound: Bound = tokio::select! {
            bound = wait_json(&launch.ports, BOUND_LIMIT) => bound,
            () = proxy.crashed() => None,
        }
        .ok_or_else(|| {
            NotReady::new(
                format!("the proxy {} did not start", planned.id),
                log.clone(),
            )
        })?;
        // A restart must be found where its peers and its application look.
        proxy.replace_arguments(launch.arguments(&bound, &BTreeMap::new()));
        Ok(Self {
            service,
            planned,
            application,
            echo,
            proxy,
            launch,
            bound,
            listeners: BTreeMap::new(),
            log,
        })
    }

    /// Gives the proxy this key material and these addresses to open; it is started again if that is news.
    pub(super) async fn set(
        &mut self,
        secrets: BTreeMap<String, PathBuf>,
        listen: Option<&Vec<SocketAddr>>,
    ) {
        let listen = listen.unwrap_or(&self.launch.listen).clone();
        if self.launch.secrets == secrets && self.launch.listen == listen {
            return;
        }
        self.launch.listen = listen;
        self.launch.secrets = secrets;
        let listeners = self.served().await.listeners;
        self.proxy
            .replace_arguments(self.launch.arguments(&self.bound, &listeners));
        self.proxy.restart();
    }

    /// Notes where a gateway's listeners were opened, so that a restart is found there.
    pub(super) async fn keep_listeners(&mut self) {
        let listeners = self.served().await.listeners;
        if !listeners.is_empty() {
            self.proxy
                .replace_arguments(self.launch.arguments(&self.bound, &listeners));
            self.listeners = listeners;
        }
    }

    /// Where a gateway's listener was opened.
    pub(super) fn listener(&self, port: u16) -> Option<SocketAddr> {
        self.listeners.get(&port).copied()
    }

    /// Where key material is that the proxy was given.
    pub(super) fn secret(&self, name: &str) -> Option<&Path> {
        self.launch.secrets.get(name).map(PathBuf::as_path)
    }

    /// Whether it is a gateway.
    pub(super) fn is_gateway(&self) -> bool {
        self.application.is_none()
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
        let answer = client::request(
            &self.launch.admin,
            Method::GET,
            "/config",
            bytes::Bytes::new(),
        )
        .await;
        answer
            .ok()
            .and_then(|(_, body)| serde_json::from_slice(&body).ok())
            .unwrap_or_default()
    }

    /// Waits until the proxy serves a generation.
    pub(super) async fn wait_serving(&self, limit: Duration) -> Result<(), DevError> {
        let serving = async {
            loop {
                let served = self.served().await;
                match served.last_rejection {
                    _ if served.sequence.is_some() => return None,
                    // What it has refused it refuses again.
                    Some(rejected) => return Some(rejected),
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let id = &self.planned.id;
        let what = match tokio::time::timeout(limit, serving).await {
            Ok(None) => return Ok(()),
            Ok(Some(Rejected { detail })) => format!("the proxy {id} refuses the policy: {detail}"),
            Err(_elapsed) => format!("the proxy {id} serves nothing"),
        };
        Err(NotReady::new(what, self.log.clone()).into())
    }

    /// For the ports file; none of a gateway.
    pub(super) fn ports(&self) -> Option<InstancePorts> {
        Some(InstancePorts {
            subset: self.planned.subset.clone(),
            instance: self.planned.id.clone(),
            outbound: self.bound.outbound,
            inbound: self.bound.inbound.values().next().copied()?,
            inbound_ports: self.bound.inbound.clone(),
            application: self.application?,
            metrics: self.bound.metrics,
            admin: self.launch.admin.clone(),
            pid: self.pid(),
        })
    }

    /// For the ports file, of a gateway.
    pub(super) async fn gateway_ports(&self) -> GatewayPorts {
        GatewayPorts {
            listeners: self.served().await.listeners,
            metrics: self.bound.metrics,
            admin: self.launch.admin.clone(),
            pid: self.pid(),
        }
    }

    pub(super) async fn end(self) {
        self.proxy.end().await;
        if let Some(echo) = self.echo {
            echo.end().await;
        }
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Whoever is on this machine stands for the proxies in front of a gateway.
pub(super) const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// The files of one proxy, and what else it is told.
#[derive(Clone, Debug)]
struct Launch {
    ports: PathBuf,
    admin: PathBuf,
    store: PathBuf,
    join: PathBuf,
    access_log: PathBuf,
    instance: String,
    labels: Vec<String>,
    application: Option<SocketAddr>,
    /// Where it opens what policy says with `calls … { listen }`.
    listen: Vec<SocketAddr>,
    stand_in: Option<SocketAddr>,
    secrets: BTreeMap<String, PathBuf>,
}

impl Launch {
    fn arguments(&self, bound: &Bound, listeners: &BTreeMap<u16, SocketAddr>) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["run".into(), "--end-with-stdin".into()];
        let mut flag = |name: &str, value: OsString| {
            words.push(name.into());
            words.push(value);
        };
        flag("--store", self.store.clone().into());
        // Nobody balances load over the proxies of one machine by their readiness.
        flag("--drain-notice", "0s".into());
        flag("--join", self.join.clone().into());
        flag("--ports", self.ports.clone().into());
        flag("--admin", self.admin.clone().into());
        flag("--access-log", self.access_log.clone().into());
        flag("--instance", self.instance.clone().into());
        flag("--outbound", bound.outbound.to_string().into());
        flag("--metrics", bound.metrics.to_string().into());
        flag("--health", bound.health.to_string().into());
        if let Some(stand_in) = self.stand_in {
            flag("--stand-in", stand_in.to_string().into());
        }
        match self.application {
            Some(application) => {
                for (port, inbound) in &bound.inbound {
                    flag("--port", format!("{port}={inbound},{application}").into());
                }
            }
            // A gateway: a later commit may have its clients told by the PROXY protocol.
            None => {
                for net in LOOPBACK {
                    flag("--trusted-proxy", net.into());
                }
            }
        }
        for address in &self.listen {
            flag("--listen", format!("{}={address}", address.port()).into());
        }
        for (port, address) in listeners {
            flag("--listen", format!("{port}={address}").into());
        }
        flag("--listen", format!("*={ANY}").into());
        for (name, file) in &self.secrets {
            let mut value = OsString::from(format!("{name}="));
            value.push(file);
            flag("--secret", value);
        }
        for label in &self.labels {
            flag("--label", label.clone().into());
        }
        words
    }
}

/// What answers in place of every service outside the mesh, so that nothing leaves the machine.
pub(super) async fn start_stand_in(
    folder: &Path,
    programs: &Programs,
) -> Result<(Process, SocketAddr), DevError> {
    make_folder(folder)?;
    let planned = PlannedInstance {
        id: "outside".to_owned(),
        subset: None,
        labels: Vec::new(),
        listen: Vec::new(),
    };
    start_echo("outside", &planned, &folder.join("outside"), programs).await
}

/// `file` is where it says its address; its log stands beside.
async fn start_echo(
    service: &str,
    planned: &PlannedInstance,
    file: &Path,
    programs: &Programs,
) -> Result<(Process, SocketAddr), DevError> {
    let log = file.with_extension("log");
    drop(std::fs::remove_file(file));
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
        words.extend(["--address-file".into(), file.into()]);
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
    let name = format!("application of {}", planned.id);
    let echo = Process::start(&programs.children, name, program)
        .map_err(|error| DevError::Io("cannot start an application", error))?;
    let address: SocketAddr = tokio::select! {
        address = wait_json(file, BOUND_LIMIT) => address,
        () = echo.crashed() => None,
    }
    .ok_or_else(|| {
        NotReady::new(
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
