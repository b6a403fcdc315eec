//! A small mesh on loopback, of programs that are started as a user would, with what a test takes from them.
//!
//! `web` calls `api`; in front of each stands a proxy in explicit mode. The application of `api` is the test's own.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::{
    Failure, PolicyRepository, Response, Running, http_get, program, run, unix_request,
    until_ready, until_serving, wait_until,
};

/// How long a condition may take to come true before the drill has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The port of `api`, as policy has it.
const PORT: u16 = 8080;

/// What the drill takes from a proxy, and what it tells it.
#[derive(Clone, Debug, Default)]
pub struct With {
    /// Commands of a shell that come before the program, such as `ulimit -n 256`.
    pub before: String,
    /// Further arguments of `meshp run`.
    pub arguments: Vec<String>,
}

/// A running mesh. Dropped, its proxies end before their distributor does.
#[derive(Debug)]
pub struct Mesh {
    /// The proxy of the caller.
    pub web: Proxy,
    /// The proxy of the callee.
    pub api: Proxy,
    _distributor: Running,
    _folder: tempfile::TempDir,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Its process.
    pub process: Running,
    /// Where the application sends its calls.
    pub outbound: SocketAddr,
    metrics: SocketAddr,
    /// The folder that is its own.
    pub home: PathBuf,
    words: Vec<OsString>,
}

impl Mesh {
    /// With defaults.
    pub fn start(application: SocketAddr) -> Result<Self, Failure> {
        Self::start_with(application, "", &With::default(), &With::default())
    }

    /// `more` is what the policy of `api` says beyond who may call it.
    pub fn start_with(
        application: SocketAddr,
        more: &str,
        web: &With,
        api: &With,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mesh-drill-").tempdir()?;
        let inbound = free()?;
        let policies = folder.path().join("policies");
        fs::create_dir(&policies)?;
        fs::write(
            policies.join("mesh.kdl"),
            format!(
                "mesh drills {{
    trust-domain \"drills.example\"
    defaults {{ timeout \"30s\" }}
}}

service web {{
    port {PORT}
    calls api
    endpoints {{ static \"127.0.0.1:1\" }}
}}

service api {{
    port {PORT}
    endpoints {{ static \"{inbound}\" }}
    allow web {{ path \"/**\" }}
{more}
}}
"
            ),
        )?;
        let distributor = distribute(folder.path(), &policies)?;
        let web = Proxy::start(folder.path(), "web", free()?, free()?, web)?;
        let api = Proxy::start(folder.path(), "api", inbound, application, api)?;
        Ok(Self {
            web,
            api,
            _distributor: distributor,
            _folder: folder,
        })
    }
}

/// A mesh whose policy the drill writes, and whose proxies it starts one by one. To be dropped after these.
#[derive(Debug)]
pub struct Wide {
    repository: PolicyRepository,
    folder: tempfile::TempDir,
    _distributor: Running,
}

impl Wide {
    /// With this policy, of a mesh `drills` of the domain `drills.example`.
    pub fn start(policy: &str) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mesh-drill-").tempdir()?;
        let policies = folder.path().join("policies");
        fs::create_dir(&policies)?;
        fs::write(policies.join("mesh.kdl"), policy)?;
        let repository = PolicyRepository::create(folder.path(), &policies)?;
        let distributor = distribute_from(folder.path())?;
        Ok(Self {
            repository,
            folder,
            _distributor: distributor,
        })
    }

    /// Where its policy is.
    pub fn policies(&self) -> PathBuf {
        self.folder.path().join("policies")
    }

    /// Replaces a text of its policy, and waits until this proxy serves that.
    pub fn rewrite(&self, old: &str, new: &str, proxy: &Proxy) -> Result<(), Failure> {
        let before = proxy.sequence()?;
        let clone = tempfile::tempdir_in(self.folder.path())?;
        let edits = [(old, new)];
        self.repository
            .edit(&clone.path().join("clone"), "mesh.kdl", &edits)?;
        wait_until("the proxy serves the new policy", LIMIT, || {
            match proxy.sequence()? {
                now if now > before => Ok(()),
                now => Err(Failure::new(format!("it serves {now}"))),
            }
        })
    }

    /// Starts the proxy of a service.
    pub fn proxy(
        &self,
        service: &str,
        inbound: SocketAddr,
        application: SocketAddr,
    ) -> Result<Proxy, Failure> {
        let with = With::default();
        Proxy::start(self.folder.path(), service, inbound, application, &with)
    }

    /// Starts the proxy of a gateway, whose port 8080 is here.
    pub fn gateway(&self, name: &str, listen: SocketAddr) -> Result<Proxy, Failure> {
        let listen = format!("{PORT}={listen}");
        let words = ["--listen", &listen, "--drain-notice", "0s"];
        let (folder, with) = (self.folder.path(), With::default());
        Proxy::launch(folder, name, &format!("gateway/{name}"), &words, &with)
    }
}

/// A port that nobody has at this moment, from below those that systems give to whoever connects: one of them would
/// soon be somebody's.
pub fn free() -> Result<SocketAddr, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Suites that run at once begin at different places.
    let own = u16::try_from(std::process::id() % 64)? * 150;
    for _ in 0..PORTS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + (own + next) % PORTS));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::new("no port is free"))
}

const PORTS: u16 = 10_000;

/// A distributor of these policies.
pub fn distribute(folder: &Path, policies: &Path) -> Result<Running, Failure> {
    distribute_with(folder, policies, free()?, &With::default())
}

/// The same, at an address, with what the drill takes from it.
pub fn distribute_with(
    folder: &Path,
    policies: &Path,
    listen: SocketAddr,
    with: &With,
) -> Result<Running, Failure> {
    PolicyRepository::create(folder, policies)?;
    keygen(folder)?;
    serve(folder, listen, with)
}

fn keygen(folder: &Path) -> Result<(), Failure> {
    let mut keygen = Command::new(program("meshc")?);
    keygen.args(["keygen", "--mesh", "drills"]);
    keygen.args(["--trust-domain", "drills.example", "--out"]);
    run(keygen.arg(folder.join("trust"))).map(drop)
}

fn distribute_from(folder: &Path) -> Result<Running, Failure> {
    keygen(folder)?;
    serve(folder, free()?, &With::default())
}

/// Starts the distributor of a folder, at first or again, and waits until it serves.
pub fn serve(folder: &Path, listen: SocketAddr, with: &With) -> Result<Running, Failure> {
    let socket = folder.join("meshd.sock");
    let path = folder.join("meshd.log");
    let log = fs::File::options().create(true).append(true).open(&path)?;
    let mut serve = Command::new("sh");
    serve
        .arg("-c")
        .arg(format!("{}\nexec \"$@\"", with.before))
        .arg("sh")
        .arg(program("meshd")?)
        .args(["serve", "--poll", "200ms", "--listen"])
        .arg(listen.to_string())
        .arg("--repository")
        .arg(folder.join("mesh.git"))
        .arg("--trust")
        .arg(folder.join("trust"))
        .arg("--state")
        .arg(folder.join("distributor"))
        .arg("--socket")
        .arg(&socket)
        .args(&with.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut distributor = Running::start(&mut serve)?;
    until_ready(&mut distributor, &socket, &path, LIMIT)?;
    Ok(distributor)
}

/// Runs a shell that logs to the folder's file, after what is there.
fn shell(words: &[OsString], home: &Path) -> Result<Running, Failure> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(home.join("log"))?;
    let mut command = Command::new("sh");
    command
        .args(words)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Running::start(&mut command)
}

impl Proxy {
    fn start(
        folder: &Path,
        service: &str,
        inbound: SocketAddr,
        application: SocketAddr,
        with: &With,
    ) -> Result<Self, Failure> {
        let port = format!("{PORT}={inbound},{application}");
        // Nobody looks at readiness here.
        let words = ["--port", &port, "--drain-notice", "0s"];
        Self::launch(folder, service, &format!("service/{service}"), &words, with)
    }

    /// Starts one of this identity and instance with these words, and waits until it serves.
    pub fn launch(
        folder: &Path,
        instance: &str,
        identity: &str,
        words: &[&str],
        with: &With,
    ) -> Result<Self, Failure> {
        let home = folder.join(instance);
        fs::create_dir(&home)?;
        let join = home.join("join.json");
        let mut token = Command::new(program("meshd")?);
        token
            .arg("token")
            .arg(format!("spiffe://drills.example/{identity}"))
            .arg("--out")
            .arg(&join)
            .arg("--socket")
            .arg(folder.join("meshd.sock"));
        run(&mut token)?;
        let (outbound, metrics) = (free()?, free()?);
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{}\nexec \"$@\"", with.before))
            .arg("sh")
            .arg(program("meshp")?)
            .args(["run", "--workers", "2", "--health", "127.0.0.1:0"])
            .args(["--instance", instance])
            .args(["--outbound", &outbound.to_string()])
            .args(["--metrics", &metrics.to_string()])
            .arg("--store")
            .arg(home.join("store"))
            .arg("--join")
            .arg(&join)
            .arg("--admin")
            .arg(home.join("admin.sock"))
            .arg("--access-log")
            .arg(home.join("access.log"))
            .args(words)
            .args(&with.arguments);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut process = shell(&words, &home)?;
        let admin = home.join("admin.sock");
        until_serving(&mut process, &admin, &home.join("log"), LIMIT)?;
        Ok(Self {
            process,
            outbound,
            metrics,
            home,
            words,
        })
    }

    /// Starts another process with the same arguments, and these, which takes over from the one that runs.
    pub fn successor(&self, more: &[&str]) -> Result<Running, Failure> {
        let more = ["--replace"].iter().chain(more).map(Into::into);
        let words: Vec<_> = self.words.iter().cloned().chain(more).collect();
        shell(&words, &self.home)
    }

    /// What its processes have logged.
    pub fn log(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(self.home.join("log"))?)
    }

    /// Asks its admin socket.
    pub fn admin(&self, path: &str) -> Result<Response, Failure> {
        unix_request(&self.home.join("admin.sock"), "GET", path, "")
    }

    /// The number of the generation that it serves.
    fn sequence(&self) -> Result<u64, Failure> {
        let config = self.admin("/config")?.json()?;
        let sequence = config["sequence"].as_u64();
        sequence.ok_or_else(|| Failure::new(format!("it serves nothing: {config}")))
    }

    /// The sum of a metric over the series that contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, Failure> {
        let text = http_get(self.metrics, "localhost", "/metrics", &[])?.body;
        let mut sum = 0.0;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            if rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label)) {
                sum += rest.rsplit(' ').next().unwrap_or_default().parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// Its memory in bytes that no file backs.
    pub fn memory(&self) -> Result<usize, Failure> {
        let text = fs::read_to_string(self.proc("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.unwrap_or_default().trim().trim_end_matches(" kB");
        Ok(kib.parse::<usize>()? * 1024)
    }

    /// The time that it has had of the processors, in ticks of 10 ms.
    pub fn ticks(&self) -> Result<u64, Failure> {
        let text = fs::read_to_string(self.proc("stat"))?;
        let fields = text.rsplit(')').next().unwrap_or_default();
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || fields.next().unwrap_or_default().parse::<u64>();
        Ok(next()? + next()?)
    }

    /// The files and sockets that it has open.
    pub fn descriptors(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(self.proc("fd"))?.count())
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.process.id().to_string())
            .join(name)
    }
}
