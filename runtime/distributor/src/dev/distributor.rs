//! The distributor of `meshd dev`: a `meshd serve` of its own, asked over its socket like any other.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mesh_daemon::admin::client;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::policy::Policy;
use super::ports::DistributorPorts;
use super::process::{Children, Process, Program, sibling};
use super::{DevError, NotReady, make_folder};
use crate::api::TokenRequest;
use crate::endpoints::EndpointFeed;
use crate::finding::Finding;
use crate::status::{RefState, StatusReport};

/// The clone's hook triggers at once; this finds commits made elsewhere.
const POLL: &str = "500ms";
/// Keys, a first compilation and a start take far less.
const READY_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// A running distributor.
#[derive(Debug)]
pub(super) struct Distributor {
    process: Process,
    socket: PathBuf,
    bound: Bound,
}

/// What `meshd serve --ports` writes.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Bound {
    listen: SocketAddr,
    hook: SocketAddr,
}

/// Where to listen: where an earlier run did, for there its proxies look for it again; otherwise anywhere.
fn addresses(ports: &Path) -> Result<Bound, DevError> {
    let any = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let is_free = |address: SocketAddr| std::net::TcpListener::bind(address).is_ok();
    let told = std::fs::read(ports).ok();
    let Some(earlier) = told.and_then(|told| serde_json::from_slice::<Bound>(&told).ok()) else {
        return Ok(Bound {
            listen: any(),
            hook: any(),
        });
    };
    if !is_free(earlier.listen) {
        return Err(DevError::Arguments(format!(
            "{} is in use, and the proxies of this --state look for their distributor there; end what listens there, or \
             give another --state",
            earlier.listen
        )));
    }
    let hook = Some(earlier.hook).filter(|hook| is_free(*hook));
    Ok(Bound {
        hook: hook.unwrap_or_else(any),
        ..earlier
    })
}

impl Distributor {
    /// Makes keys, starts it and waits until it names a generation.
    pub(super) async fn start(
        repository: &Path,
        reference: &str,
        policy: &Policy,
        state: &Path,
        children: &Children,
    ) -> Result<Self, DevError> {
        let trust = state.join("trust");
        if !trust.exists() {
            keygen(&trust, reference, policy).await?;
        }
        make_folder(&state.join("logs"))?;
        let socket = state.join("meshd.sock");
        let ports = state.join("meshd.ports.json");
        let log = state.join("logs/meshd.log");
        let earlier = addresses(&ports)?;
        let words = |listen: &str, hook: &str| -> Vec<OsString> {
            let mut words: Vec<OsString> = [
                "serve",
                "--started-by-dev",
                "--end-with-stdin",
                "--poll",
                POLL,
                "--listen",
                listen,
                "--hook",
                hook,
            ]
            .map(OsString::from)
            .into();
            for (flag, path) in [
                ("--repository", repository),
                ("--trust", &trust),
                ("--state", &state.join("distributor")),
                ("--socket", &socket),
                ("--ports", &ports),
            ] {
                words.push(flag.into());
                words.push(path.into());
            }
            words
        };
        let program = Program {
            path: sibling("meshd").map_err(|error| DevError::Io("cannot find meshd", error))?,
            arguments: words(&earlier.listen.to_string(), &earlier.hook.to_string()),
            log: log.clone(),
        };
        // A file of an earlier run tells addresses that nobody listens on yet.
        drop(std::fs::remove_file(&ports));
        let process = Process::start(children, "meshd", program)
            .map_err(|error| DevError::Io("cannot start the distributor", error))?;
        let bound: Bound = tokio::select! {
            bound = wait_json(&ports, READY_LIMIT) => bound,
            () = process.crashed() => None,
        }
        .ok_or_else(|| NotReady::new("the distributor did not start", log.clone()))?;
        // A restart must be found where the proxies look.
        process.replace_arguments(words(&bound.listen.to_string(), &bound.hook.to_string()));
        let distributor = Self {
            process,
            socket,
            bound,
        };
        distributor.wait_ready(log).await?;
        Ok(distributor)
    }

    async fn wait_ready(&self, log: PathBuf) -> Result<(), DevError> {
        let ready = async {
            while self.ask(Method::GET, "/ready", &()).await.is_err() {
                if self.refusal().await.is_some() {
                    return false;
                }
                tokio::time::sleep(PAUSE).await;
            }
            true
        };
        let is_ready = tokio::select! {
            waited = tokio::time::timeout(READY_LIMIT, ready) => waited == Ok(true),
            () = self.process.crashed() => false,
        };
        if is_ready {
            return Ok(());
        }
        Err(match self.refusal().await {
            Some(why) => DevError::Refused("the distributor names no generation", why),
            None => NotReady::new("the distributor names no generation", log).into(),
        })
    }

    /// Why it does not follow the tip, if it says so.
    async fn refusal(&self) -> Option<String> {
        let status = self.status().await?;
        if matches!(
            status.reference.state,
            RefState::Starting | RefState::Following
        ) {
            return None;
        }
        let found = status.findings.first().map(Finding::line);
        found.or(status.reference.detail)
    }

    /// Its Unix socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where people look at it.
    pub(super) fn web(&self) -> String {
        format!("http://{}/", self.bound.hook)
    }

    pub(super) fn ports(&self) -> DistributorPorts {
        DistributorPorts {
            pid: self.process.pid(),
            socket: self.socket.clone(),
            address: self.bound.listen,
        }
    }

    pub(super) fn kill(&self) {
        self.process.kill();
    }

    pub(super) fn resume(&self) {
        self.process.resume();
    }

    /// A join file for one proxy of this identity.
    pub(super) async fn join_file(&self, identity: &str) -> Result<Bytes, DevError> {
        let request = TokenRequest {
            identity: identity.to_owned(),
            ttl_s: None,
            known_only: false,
        };
        self.ask(Method::POST, "/join-tokens", &request)
            .await
            .map_err(|why| DevError::Refused("no join token", why))
    }

    /// Replaces all discovered endpoints.
    pub(super) async fn put_endpoints(&self, feed: &EndpointFeed) -> Result<(), DevError> {
        self.ask(Method::PUT, "/endpoints", feed)
            .await
            .map(drop)
            .map_err(|why| DevError::Refused("endpoints not taken", why))
    }

    async fn status(&self) -> Option<StatusReport> {
        let answer = self.ask(Method::GET, "/status", &()).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }

    /// The commit of its head.
    pub(super) async fn commit(&self) -> Option<String> {
        Some(self.status().await?.head?.commit)
    }

    /// A line about its head, and one about a commit that it refused.
    pub(super) async fn summary(&self) -> (String, Option<String>) {
        let Some(status) = self.status().await else {
            let silent = "the distributor does not answer; the proxies go on";
            return (silent.to_owned(), None);
        };
        let head = match &status.head {
            Some(head) => format!(
                "head: generation {}, commit {}",
                head.sequence,
                short(&head.commit)
            ),
            None => "head: none yet".to_owned(),
        };
        let refused = match status.reference.state {
            RefState::Starting | RefState::Following => None,
            state => Some(format!(
                "commit {} changes nothing ({}): {}",
                short(status.reference.tip.as_deref().unwrap_or_default()),
                state.as_str(),
                match status.findings.first() {
                    Some(finding) => finding.message.as_str(),
                    None => status.reference.detail.as_deref().unwrap_or_default(),
                }
            )),
        };
        (head, refused)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Bytes, String> {
        let body = if method == Method::GET {
            Bytes::new()
        } else {
            Bytes::from(serde_json::to_vec(body).map_err(|error| error.to_string())?)
        };
        let (status, answer) = client::request(&self.socket, method, path, body)
            .await
            .map_err(|error| crate::output::chain(&error))?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(String::from_utf8_lossy(&answer).trim().to_owned())
    }
}

/// As people read commits.
fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// The ceremony of a real mesh, by the program that a real mesh uses.
async fn keygen(trust: &Path, reference: &str, policy: &Policy) -> Result<(), DevError> {
    let meshc = sibling("meshc").map_err(|error| DevError::Io("cannot find meshc", error))?;
    let output = Command::new(meshc)
        .args(["keygen", "--development", "--mesh", &policy.mesh])
        .args(["--environment", &policy.environment])
        .args(["--trust-domain", &policy.trust_domain, "--ref", reference])
        .args(["--root-path", &policy.root_path])
        .arg("--out")
        .arg(trust)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| DevError::Io("cannot run meshc keygen", error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(DevError::Refused(
        "meshc keygen",
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

/// Reads a JSON file that another process writes whole, as soon as it is there.
pub(super) async fn wait_json<T: serde::de::DeserializeOwned>(
    file: &Path,
    limit: Duration,
) -> Option<T> {
    let read = async {
        loop {
            let text = std::fs::read(file).ok();
            if let Some(value) = text.and_then(|text| serde_json::from_slice(&text).ok()) {
                return value;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(limit, read).await.ok()
}
