//! A running `meshd dev`: the whole mesh on this machine, driven as its user drives it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::repository::{git, identify, replace};
use crate::serving::log_tail;
use crate::{Failure, Running, program, unix_request, wait_until};

const START_LIMIT: Duration = Duration::from_mins(1);

/// What a test asks of `meshd dev` beyond its defaults.
#[derive(Clone, Debug, Default)]
pub struct DevOptions {
    /// Arguments added at the end.
    pub arguments: Vec<String>,
}

/// The ports file of `meshd dev`.
#[derive(Clone, Debug, Deserialize)]
struct Ports {
    web: String,
    services: BTreeMap<String, Service>,
    gateways: BTreeMap<String, Gateway>,
    repository: PathBuf,
    distributor: Distributor,
    control: PathBuf,
}

/// The distributor of a running `meshd dev`.
#[derive(Clone, Debug, Deserialize)]
struct Distributor {
    pid: u32,
    socket: PathBuf,
    address: SocketAddr,
}

/// One service in the ports file.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Every instance.
    pub instances: Vec<Instance>,
}

/// One instance of a service: an application and its proxy.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// Its subset, if the service has any.
    pub subset: Option<String>,
    /// Unique in the mesh.
    pub instance: String,
    /// Where its application sends requests.
    pub outbound: SocketAddr,
    /// Where its peers send requests.
    pub inbound: SocketAddr,
    /// Its application.
    pub application: SocketAddr,
    /// Prometheus metrics.
    pub metrics: SocketAddr,
    /// Admin socket of its proxy.
    pub admin: PathBuf,
    /// Process id of its proxy at start.
    pub pid: u32,
}

/// One gateway in the ports file.
#[derive(Clone, Debug, Deserialize)]
pub struct Gateway {
    /// Where clients come in, by declared port.
    pub listeners: BTreeMap<u16, SocketAddr>,
    /// Prometheus metrics.
    pub metrics: SocketAddr,
    /// Admin socket of its proxy.
    pub admin: PathBuf,
    /// Process id of its proxy at start.
    pub pid: u32,
}

/// What one proxy says it serves.
#[derive(Clone, Debug, Deserialize)]
pub struct ProxyConfig {
    /// Service of the proxy.
    pub service: String,
    /// Its instance id.
    pub instance: String,
    /// Process id.
    pub pid: u32,
    /// Sequence of the generation that it serves.
    pub sequence: Option<u64>,
    /// Commit of that generation.
    pub commit: Option<String>,
    /// Digest of the slice that it serves.
    pub slice: Option<String>,
    /// How long the last pointer swap took.
    pub swap_ns: Option<u64>,
}

/// Demo traffic on one edge since the start.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct EdgeTraffic {
    /// Calling service.
    pub from: String,
    /// Called service.
    pub to: String,
    /// Requests answered.
    pub requests: u64,
    /// Requests without a success.
    pub failed: u64,
    /// Successes per subset of the callee that answered.
    pub versions: BTreeMap<String, u64>,
    /// Successes per instance of the callee that answered.
    pub instances: BTreeMap<String, u64>,
    /// The newest failure.
    pub last_failure: Option<String>,
}

/// A running `meshd dev`; dropped, everything it started ends.
#[derive(Debug)]
pub struct Dev {
    process: Running,
    ports: Ports,
    state: PathBuf,
}

impl Dev {
    /// Starts `meshd dev` on a repository and waits until every proxy serves.
    pub fn start(repository: &Path, folder: &Path, options: &DevOptions) -> Result<Self, Failure> {
        let state = folder.join("dev");
        let ports_file = folder.join("ports.json");
        let log = std::fs::File::create(folder.join("dev.log"))?;
        let mut command = Command::new(program("meshd")?);
        command
            .arg("dev")
            .arg(repository)
            .arg("--quiet")
            .arg("--ports")
            .arg(&ports_file)
            .arg("--state")
            .arg(&state)
            .args(&options.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = Running::start(&mut command)?;
        let ports = wait_until("meshd dev was not ready", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                // Waiting longer cannot help, so the reason is the answer.
                return Ok(Err(Failure::new(format!("meshd dev ended with {status}"))));
            }
            let text = std::fs::read_to_string(&ports_file)?;
            Ok(Ok(serde_json::from_str::<Ports>(&text)?))
        })
        .and_then(|ports| ports)
        .map_err(|failure| failure.while_doing(log_tail(&folder.join("dev.log"))))?;
        identify(&ports.repository)?;
        Ok(Self {
            process,
            ports,
            state,
        })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// A service of the ports file.
    pub fn service(&self, name: &str) -> Result<&Service, Failure> {
        self.ports
            .services
            .get(name)
            .ok_or_else(|| Failure::new(format!("no service {name} in the ports file")))
    }

    /// The first instance of a service.
    pub fn instance(&self, service: &str) -> Result<&Instance, Failure> {
        self.service(service)?
            .instances
            .first()
            .ok_or_else(|| Failure::new(format!("service {service} has no instance")))
    }

    /// A gateway of the ports file.
    pub fn gateway(&self, name: &str) -> Result<&Gateway, Failure> {
        self.ports
            .gateways
            .get(name)
            .ok_or_else(|| Failure::new(format!("no gateway {name} in the ports file")))
    }

    /// Where clients reach a listener of a gateway.
    pub fn listener(&self, gateway: &str, port: u16) -> Result<SocketAddr, Failure> {
        let gateway = self.gateway(gateway)?;
        let found = gateway.listeners.get(&port).copied();
        found.ok_or_else(|| Failure::new(format!("port {port} is not among {gateway:?}")))
    }

    /// The certificate that was made for a gateway, which nothing but a test trusts.
    pub fn made_certificate(&self, name: &str) -> PathBuf {
        self.state.join("secrets").join(format!("{name}.pem"))
    }

    /// The web page.
    pub fn web(&self) -> &str {
        &self.ports.web
    }

    /// The working clone whose commits reach the followed ref.
    pub fn clone_path(&self) -> &Path {
        &self.ports.repository
    }

    /// The folder that holds everything of this run.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The distributor's Unix socket.
    pub fn socket(&self) -> &Path {
        &self.ports.distributor.socket
    }

    /// Process id of the distributor at start.
    pub fn distributor_pid(&self) -> u32 {
        self.ports.distributor.pid
    }

    /// Where proxies reach the distributor.
    pub fn distributor_address(&self) -> SocketAddr {
        self.ports.distributor.address
    }

    /// Replaces texts in a file of the working clone and commits; fails if one is not there.
    pub fn commit_edit(&self, file: &str, edits: &[(&str, &str)]) -> Result<String, Failure> {
        replace(&self.clone_path().join(file), edits)?;
        self.git(&["commit", "--quiet", "--all", "--message", "Edit policy"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// `git revert HEAD` in the working clone.
    pub fn revert(&self) -> Result<String, Failure> {
        self.git(&["revert", "--no-edit", "HEAD"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Any git command in the working clone.
    pub fn git(&self, words: &[&str]) -> Result<String, Failure> {
        git::<&Path>(self.clone_path(), words, [])
    }

    /// What every proxy says it serves, asked of the proxies themselves.
    pub fn proxies(&self) -> Result<Vec<ProxyConfig>, Failure> {
        let response = unix_request(&self.ports.control, "GET", "/proxies", "")?;
        Ok(serde_json::from_str(&response.body)?)
    }

    /// Waits until every proxy serves this commit.
    pub fn wait_serving(&self, commit: &str, limit: Duration) -> Result<Vec<ProxyConfig>, Failure> {
        wait_until("every proxy serving the commit", limit, || {
            let proxies = self.proxies()?;
            match proxies
                .iter()
                .find(|proxy| proxy.commit.as_deref() != Some(commit))
            {
                None => Ok(proxies),
                Some(other) => Err(Failure::new(format!(
                    "{} serves {:?}, not {commit}",
                    other.instance, other.commit
                ))),
            }
        })
    }

    /// Demo traffic since the start.
    pub fn traffic(&self) -> Result<Vec<EdgeTraffic>, Failure> {
        let response = unix_request(&self.ports.control, "GET", "/traffic", "")?;
        Ok(serde_json::from_str(&response.body)?)
    }

    /// Demo traffic of one edge since the start; zeros before its first answer.
    pub fn edge(&self, from: &str, to: &str) -> Result<EdgeTraffic, Failure> {
        let mut edges = self.traffic()?.into_iter();
        let found = edges.find(|edge| edge.from == from && edge.to == to);
        Ok(found.unwrap_or_default())
    }

    /// What the distributor says.
    pub fn status(&self) -> Result<serde_json::Value, Failure> {
        unix_request(self.socket(), "GET", "/status", "")?.json()
    }

    /// Kills the distributor with SIGKILL and keeps it down until [`Dev::release_distributor`].
    pub fn kill_distributor(&self) -> Result<(), Failure> {
        self.control("/distributor/kill")
    }

    /// Lets the distributor start again.
    pub fn release_distributor(&self) -> Result<(), Failure> {
        self.control("/distributor/start")
    }

    /// Stops the demo traffic, so that a proxy is idle.
    pub fn pause_traffic(&self) -> Result<(), Failure> {
        self.control("/traffic/pause")
    }

    /// Lets the demo traffic go on.
    pub fn resume_traffic(&self) -> Result<(), Failure> {
        self.control("/traffic/resume")
    }

    fn control(&self, path: &str) -> Result<(), Failure> {
        let response = unix_request(&self.ports.control, "POST", path, "{}")?;
        if response.status == 200 {
            return Ok(());
        }
        Err(Failure::new(format!("{path}: {}", response.body)))
    }
}
