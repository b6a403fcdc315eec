//! A mesh over the hosts of a network: a distributor at the switch, and on each host a proxy that takes what
//! the kernel redirects to it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{
    Failure, PolicyRepository, Running, program, run, until_ready, until_serving, wait_until,
};

use super::network::{Host, LIMIT, Network, PROXY_UID, SWITCH};
use super::tools::tool;

/// Host 1 calls, hosts 2 and 3 answer. `legacy` at the switch has no proxy.
const POLICIES: &str = r#"
mesh netns {
    trust-domain "netns.example"
    defaults { timeout "10s" }
}

service web {
    port 8080
    endpoints { static "10.7.0.1:8080" }
    calls api
    calls greeter
    calls legacy
    calls vault
}

service api {
    port 8080
    address "10.96.0.10" "fd00:96::10"
    endpoints {
        static "10.7.0.2:8080" "10.7.0.3:8080" "[fd00:7::2]:8080" "[fd00:7::3]:8080"
    }
    allow web api { path "/**" }
    probe "/healthz" { peer-ip "10.7.0.254" }
    calls api
}

service vault {
    port 7000 protocol=tcp
    address "10.96.0.30" "fd00:96::30"
    endpoints { static "10.7.0.2:7000" }
    allow web
}

service greeter {
    port 9090 protocol=grpc
    address "10.96.0.20"
    endpoints { static "10.7.0.3:9090" }
    allow web
}

service legacy {
    port 8000
    unmeshed
    endpoints { static "10.7.0.254:8000" }
}
"#;

/// A running mesh. Dropped, what runs in it ends before its network does.
#[derive(Debug)]
pub struct Mesh {
    proxies: Vec<Running>,
    applications: Vec<Running>,
    distributor: Running,
    pub network: Network,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Host 1 is `web`, 2 is `api`, 3 is `api` too, behind a proxy of the identity of `api`. On 2 and 3 nginx
    /// says who it is and what it got. Everything is redirected.
    pub fn start() -> Result<Self, Failure> {
        let mut mesh = Self::distribute(POLICIES)?;
        for (at, service) in [(0, "web"), (1, "api"), (2, "api")] {
            mesh.proxy(at, service, &[])?;
            if service != "web" {
                mesh.nginx(at)?;
            }
        }
        for at in 0..3 {
            mesh.redirect(at, &["--direction", "both"])?;
        }
        Ok(mesh)
    }

    /// Only the distributor.
    pub fn distribute(policies: &str) -> Result<Self, Failure> {
        let network = Network::new()?;
        let folder = tempfile::Builder::new().prefix("mesh-netns-").tempdir()?;
        // Proxies are other users.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let written = folder.path().join("policies");
        fs::create_dir(&written)?;
        fs::write(written.join("mesh.kdl"), policies)?;
        let repository = PolicyRepository::create(folder.path(), &written)?;
        let trust = folder.path().join("trust");
        let mut keygen = std::process::Command::new(program("meshc")?);
        keygen.args([
            "keygen",
            "--mesh",
            "netns",
            "--trust-domain",
            "netns.example",
            "--out",
        ]);
        run(keygen.arg(&trust))?;
        let listen = format!("{SWITCH}:7443");
        let log = fs::File::create(folder.path().join("meshd.log"))?;
        let mut serve = network.switch.command(program("meshd")?)?;
        serve
            .args([
                "serve",
                "--poll",
                "200ms",
                "--listen",
                &listen,
                "--repository",
            ])
            .arg(repository.path())
            .arg("--trust")
            .arg(&trust)
            .arg("--state")
            .arg(folder.path().join("distributor"))
            .arg("--socket")
            .arg(folder.path().join("meshd.sock"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut distributor = Running::start(&mut serve)?;
        let socket = folder.path().join("meshd.sock");
        let log = folder.path().join("meshd.log");
        until_ready(&mut distributor, &socket, &log, LIMIT)?;
        Ok(Self {
            proxies: Vec::new(),
            applications: Vec::new(),
            distributor,
            network,
            folder,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn host(&self, at: usize) -> Result<&Host, Failure> {
        let hosts = self.network.hosts.iter();
        let mut hosts = hosts.chain([&self.network.switch]);
        hosts
            .nth(at)
            .ok_or_else(|| Failure::new(format!("there is no host {at}")))
    }

    /// Starts a proxy and waits until it serves.
    pub fn proxy(&mut self, at: usize, service: &str, more: &[&str]) -> Result<(), Failure> {
        let name = format!("{service}-{at}");
        let (kind, how) = match service {
            "public" => ("gateway", None),
            _ => ("service", Some("--intercept")),
        };
        let home = self.path(&name);
        fs::create_dir(&home)?;
        let join = home.join("join.json");
        let mut token = std::process::Command::new(program("meshd")?);
        token
            .arg("token")
            .arg(format!("spiffe://netns.example/{kind}/{service}"))
            .arg("--out")
            .arg(&join)
            .arg("--socket")
            .arg(self.path("meshd.sock"));
        run(&mut token)?;
        for owned in [&home, &join] {
            chown(owned, Some(PROXY_UID), Some(PROXY_UID))?;
        }
        let log = fs::File::create(self.path(&format!("{name}.log")))?;
        let program = self.copied("meshp")?;
        let mut command = self.host(at)?.command_as_proxy(&program)?;
        command
            .args(["run", "--instance", &name, "--workers", "2"])
            // Nobody looks at readiness here.
            .args(["--drain-notice", "0s"])
            .args(how)
            .arg("--store")
            .arg(home.join("store"))
            .arg("--join")
            .arg(&join)
            .arg("--admin")
            .arg(home.join("admin.sock"))
            .arg("--access-log")
            .arg(home.join("access.log"))
            .args(more)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut proxy = Running::start(&mut command)?;
        let admin = home.join("admin.sock");
        let log = self.path(&format!("{name}.log"));
        until_serving(&mut proxy, &admin, &log, LIMIT)?;
        self.proxies.push(proxy);
        Ok(())
    }

    /// The process of the proxy that was started so many before it.
    pub fn process(&self, at: usize) -> Result<u32, Failure> {
        let proxy = self.proxies.get(at);
        let proxy = proxy.ok_or_else(|| Failure::new(format!("there is no proxy {at}")))?;
        Ok(proxy.id())
    }

    /// A program where other users may run it; the build may lie where they may not look.
    fn copied(&self, name: &str) -> Result<PathBuf, Failure> {
        let copy = self.path(name);
        if !copy.exists() {
            fs::copy(program(name)?, &copy)?;
        }
        Ok(copy)
    }

    /// `meshp redirect apply` on a host.
    pub fn redirect(&self, at: usize, more: &[&str]) -> Result<(), Failure> {
        let mut command = self.host(at)?.command(program("meshp")?)?;
        let uid = PROXY_UID.to_string();
        command.args(["redirect", "apply", "--proxy-uid", &uid]);
        run(command.args(more)).map(drop)
    }

    /// A second proxy on a host, which takes what comes in for this port alone.
    pub fn second_proxy(&mut self, at: usize, service: &str, port: u16) -> Result<(), Failure> {
        let more = [
            ("--outbound", "127.0.0.1:25001"),
            ("--inbound-port", "25006"),
            ("--metrics", "127.0.0.1:25090"),
            ("--health", "127.0.0.1:25021"),
        ];
        let more: Vec<_> = more
            .into_iter()
            .flat_map(|(name, value)| [name, value])
            .collect();
        self.proxy(at, service, &more)?;
        let port = port.to_string();
        self.redirect(at, &["--inbound-port", "25006", "--inbound", &port])
    }

    /// nginx on a host, which answers with its number and what it was told of its caller.
    pub fn nginx(&mut self, at: usize) -> Result<(), Failure> {
        let number = self.host(at)?.number;
        let name = format!("nginx-{number}");
        let answer = format!("{number} $http_x_mesh_peer $http_host $server_protocol\\n");
        let process = nginx(
            self.host(at)?,
            self.folder.path(),
            &name,
            (8080, None, ""),
            &answer,
        )?;
        self.applications.push(process);
        Ok(())
    }

    /// nginx on a port of a host; `more` is said of how it listens, such as ` http2`.
    pub fn nginx_on(&mut self, at: usize, port: u16, more: &str) -> Result<(), Failure> {
        let host = self.host(at)?;
        let name = format!("nginx-{}-{port}", host.number);
        let process = nginx(host, self.folder.path(), &name, (port, None, more), "ok\\n")?;
        self.applications.push(process);
        Ok(())
    }

    /// nginx at the switch, without a proxy; with TLS, if there is a certificate.
    pub fn nginx_at_the_switch(
        &mut self,
        port: u16,
        certificate: Option<&Path>,
    ) -> Result<(), Failure> {
        let name = format!("nginx-switch-{port}");
        let answer = format!("switch {port}\\n");
        let listen = (port, certificate, "");
        let process = nginx(
            &self.network.switch,
            self.folder.path(),
            &name,
            listen,
            &answer,
        )?;
        self.applications.push(process);
        Ok(())
    }

    /// A Python program on a host, with `programs` in its path.
    pub fn python(&self, at: usize, file: &str) -> Result<std::process::Command, Failure> {
        let programs = crate::workspace_root().join("tests/programs");
        let mut command = self.host(at)?.command(tool("ci-python")?)?;
        command.arg(programs.join(file)).env_remove("http_proxy");
        Ok(command)
    }

    /// Starts a Python program on a host that listens on a port, and says so by making a file.
    pub fn python_server(&mut self, at: usize, file: &str, port: u16) -> Result<(), Failure> {
        let listening = self.path(&format!("{file}-{port}"));
        let mut server = self.python(at, file)?;
        server.arg(port.to_string()).arg(&listening);
        let mut server = Running::start(server.stdin(Stdio::null()))?;
        wait_until("a server listens", LIMIT, || match server.ended()? {
            Some(status) => Ok(Err(Failure::new(format!("it ended with {status}")))),
            None if listening.exists() => Ok(Ok(())),
            None => Err(Failure::new("it does not say so")),
        })??;
        self.applications.push(server);
        Ok(())
    }

    /// What a proxy has written of its requests.
    pub fn records(&self, name: &str) -> Result<Vec<serde_json::Value>, Failure> {
        let text = fs::read_to_string(self.path(name).join("access.log"))?;
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        Ok(whole.map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Waits for a record of a proxy.
    pub fn record(
        &self,
        name: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value, Failure> {
        wait_until("a record", LIMIT, || {
            let records = self.records(name)?;
            let found = records.iter().find(|record| wanted(record));
            found
                .cloned()
                .ok_or_else(|| Failure::new(format!("{records:?}")))
        })
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.applications.clear();
        self.proxies.clear();
        if self.distributor.stop().is_err() {
            // It is made to end with its owner.
        }
    }
}

fn nginx(
    host: &Host,
    folder: &Path,
    name: &str,
    (port, certificate, more): (u16, Option<&Path>, &str),
    answer: &str,
) -> Result<Running, Failure> {
    let home = folder.join(name);
    fs::create_dir(&home)?;
    let config = home.join("nginx.conf");
    let at = home.display();
    let (scheme, tls) = match certificate.map(Path::display) {
        None => ("http", String::new()),
        Some(file) => (
            "https",
            format!("ssl_certificate {file}; ssl_certificate_key {file};"),
        ),
    };
    let ssl = if certificate.is_some() { " ssl" } else { "" };
    fs::write(
        &config,
        format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    server {{
        listen {port}{ssl}{more}; listen [::]:{port}{ssl}{more}; {tls}
        location /for {{ default_type text/plain; return 200 \"$http_x_forwarded_for\\n\"; }}
        location / {{ default_type text/plain; return 200 \"{answer}\"; }}
    }}
}}
"
        ),
    )?;
    let mut command = host.command(tool("nginx")?)?;
    command.arg("-p").arg(&home).arg("-c").arg(&config);
    let mut running = Running::start(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    wait_until("nginx answers", LIMIT, || {
        if let Some(status) = running.ended()? {
            let why = fs::read_to_string(home.join("error.log")).unwrap_or_default();
            return Ok(Err(Failure::new(format!(
                "nginx ended with {status}: {why}"
            ))));
        }
        let version = if more.contains("http2") {
            "--http2-prior-knowledge"
        } else {
            "--http1.1"
        };
        let url = format!("{scheme}://127.0.0.1:{port}/");
        let got = host.curl(&["--insecure", version, &url])?;
        match got.status {
            200 => Ok(Ok(())),
            _ => Err(Failure::new(got.said)),
        }
    })??;
    Ok(running)
}
