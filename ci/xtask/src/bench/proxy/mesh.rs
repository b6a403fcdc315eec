//! A real mesh around the measured proxies: a signed generation that a distributor serves, enrolled proxies, mutual
//! TLS, authorization, routes, retries with a budget, and metrics.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_tests::{
    Failure, PolicyRepository, Running, program, run, unix_request, until_ready, until_serving,
};

use super::hop::prefix;
use super::load::Application;
use super::machine::{MEASURED, OTHERS, free_port, on};

const START_LIMIT: Duration = Duration::from_mins(2);
/// Ports of the gateway in policy; where they are opened is said at start.
pub(super) const HTTP: u16 = 8080;
pub(super) const GRPC: u16 = 8081;
pub(super) const HTTPS: u16 = 8443;

/// A running distributor, and where its mesh's places are.
pub(super) struct Mesh {
    distributor: Running,
    repository: PolicyRepository,
    folder: PathBuf,
    pub(super) places: Places,
}

/// Addresses that policy names.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Where peers reach the server's proxy: HTTP/1.1, gRPC and bytes.
    pub(super) inbound: [SocketAddr; 3],
    /// Where the caller of bytes connects: to the server's proxy, and to the application.
    pub(super) bytes: [SocketAddr; 2],
}

/// A running proxy.
pub(super) struct Proxy {
    pub(super) process: Running,
    admin: PathBuf,
}

impl Mesh {
    /// Starts a distributor for a mesh whose services have this many prefix routes beside the one that takes all.
    pub(super) fn start(
        folder: PathBuf,
        application: &Application,
        routes: usize,
    ) -> Result<Self, Failure> {
        let places = Places {
            inbound: [free_port()?, free_port()?, free_port()?],
            bytes: [free_port()?, free_port()?],
        };
        let written = folder.join("policies");
        fs::create_dir_all(&written)?;
        fs::write(
            written.join("mesh.kdl"),
            policies(application, places, routes)?,
        )?;
        let repository = PolicyRepository::create(&folder, &written)?;
        let trust = folder.join("trust");
        let mut keygen = Command::new(program("meshc")?);
        keygen.args([
            "keygen",
            "--mesh",
            "bench",
            "--trust-domain",
            "bench.example",
            "--out",
        ]);
        run(keygen.arg(&trust))?;
        let log = fs::File::create(folder.join("meshd.log"))?;
        let mut serve = on(OTHERS, program("meshd")?);
        serve
            .args([
                "serve",
                "--poll",
                "30s",
                "--listen",
                &free_port()?.to_string(),
            ])
            .arg("--repository")
            .arg(repository.path())
            .arg("--trust")
            .arg(&trust)
            .arg("--state")
            .arg(folder.join("distributor"))
            .arg("--socket")
            .arg(folder.join("meshd.sock"))
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut distributor = Running::start(&mut serve)?;
        let socket = folder.join("meshd.sock");
        let log = folder.join("meshd.log");
        until_ready(&mut distributor, &socket, &log, START_LIMIT)?;
        Ok(Self {
            distributor,
            repository,
            folder,
            places,
        })
    }

    /// Its repository.
    pub(super) fn repository(&self) -> &Path {
        self.repository.path()
    }

    /// Where its distributor takes commands.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("meshd.sock")
    }

    /// Its policies, one file.
    pub(super) fn policies(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.folder.join("policies/mesh.kdl"))?)
    }

    /// Starts the proxy of an identity, `service/NAME` or `gateway/NAME`, and waits until it serves.
    pub(super) fn proxy(&self, identity: &str, words: &[String]) -> Result<Proxy, Failure> {
        let home = tempfile::Builder::new()
            .prefix("meshp-")
            .tempdir_in(&self.folder)?;
        let home = home.keep();
        let join = home.join("join.json");
        let mut token = Command::new(program("meshd")?);
        token
            .args(["token", &format!("spiffe://bench.example/{identity}")])
            .arg("--out")
            .arg(&join)
            .arg("--socket")
            .arg(self.folder.join("meshd.sock"));
        run(&mut token)?;
        let log = fs::File::create(home.join("log"))?;
        let admin = home.join("admin.sock");
        let mut command = on(MEASURED, program("meshp")?);
        command
            .args(["run", "--workers", "1"])
            .args(["--metrics", "127.0.0.1:0", "--health", "127.0.0.1:0"])
            .arg("--instance")
            .arg(home.file_name().unwrap_or_default())
            .arg("--store")
            .arg(home.join("store"))
            .arg("--join")
            .arg(&join)
            .arg("--admin")
            .arg(&admin)
            .args(words)
            .current_dir(&home)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = Running::start(&mut command)?;
        until_serving(&mut process, &admin, &home.join("log"), START_LIMIT)?;
        Ok(Proxy { process, admin })
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // It is made to end with its owner in any case.
        drop(self.distributor.stop());
    }
}

impl Proxy {
    /// The commit that it serves.
    pub(super) fn commit(&self) -> Result<Option<String>, Failure> {
        let config = unix_request(&self.admin, "GET", "/config", "")?.json()?;
        Ok(config["commit"].as_str().map(str::to_owned))
    }
}

fn policies(application: &Application, places: Places, routes: usize) -> Result<String, Failure> {
    let [http, grpc, bytes] = places.inbound;
    let [far, near] = places.bytes;
    let mut many = String::new();
    for route in 0..routes {
        let prefix = prefix(route);
        writeln!(
            many,
            "    route r{route} {{ match {{ path \"{prefix}/**\" }} }}"
        )?;
    }
    if routes > 0 {
        many.push_str("    route others\n");
    }
    Ok(format!(
        r#"mesh bench {{
    trust-domain "bench.example"
    defaults {{
        timeout "15s" connect="1s"
        retry connect-failure refused reset 503 attempts=2 per-try="5s"
        retry-budget "20%" of=requests min="5/s"
    }}
}}

service client {{
    port 8080
    endpoints {{ static "127.0.0.1:1" }}
    calls server
    calls greeter
    calls vault {{ listen "{far}" }}
    calls plain-vault {{ listen "{near}" }}
}}

service server {{
    port 9080
    endpoints {{ static "{http}" }}
    allow client {{ path "/**" }}
{many}}}

service greeter {{
    port 9081 protocol=grpc
    endpoints {{ static "{grpc}" }}
    allow client {{ path "/**" }}
}}

service vault {{
    port 9082 protocol=tcp
    endpoints {{ static "{bytes}" }}
    allow client
}}

service plain {{
    port 9083
    unmeshed
    endpoints {{ static "{http1}" }}
{many}}}

service plain-greeter {{
    port 9084 protocol=grpc
    unmeshed
    endpoints {{ static "{plain_grpc}" }}
}}

service plain-vault {{
    port 9085 protocol=tcp
    unmeshed
    endpoints {{ static "{plain_bytes}" }}
}}

gateway public {{
    listen {HTTP} {{ host "server" }}
    listen {GRPC} protocol=grpc {{ host "server" }}
    listen {HTTPS} {{ host "server"; tls certificate=server }}
    allow unauthenticated {{ path "/**" }}
    route calls {{ match {{ port {GRPC} }}; to plain-greeter }}
    route pages {{ match {{ port {HTTP} {HTTPS} }}; to plain }}
}}
"#,
        plain_bytes = application.bytes,
        http1 = application.http1,
        plain_grpc = application.grpc,
    ))
}
