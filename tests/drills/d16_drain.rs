//! D16: one of two gateways is asked to end while requests of every kind come. Whoever balances load over them looks at
//! readiness, and nothing that begins fails; what never ends is cut at the deadline, and counted.

pub(crate) mod application;
pub(crate) mod clients;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mesh_tests::{Failure, Response, Running, http_get, run, unix_request, wait_until};

use crate::mesh::{LIMIT, Proxy, With, distribute_with, free};
use crate::say;

/// Notice and deadline of a drain in which whoever is late is still served, on a machine that is busy.
const LONG: [&str; 2] = ["8s", "14s"];
/// And of one in which nobody has to notice anything.
const SHORT: [&str; 2] = ["1s", "12s"];

/// What one gateway offers, and whether it says that it wants more.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) http: SocketAddr,
    pub(crate) bytes: SocketAddr,
    health: SocketAddr,
    ready: AtomicBool,
}

/// Both of them. Dropped, its clients end.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) targets: Vec<Target>,
    next: AtomicUsize,
}

impl World {
    /// The trust folder of its distributor, with all keys.
    pub(crate) fn trust(&self) -> std::path::PathBuf {
        self.folder.path().join("trust")
    }

    /// Every proxy.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.gateways.iter().chain(&self.services)
    }

    /// Asks the distributor.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Result<Response, Failure> {
        let socket = self.folder.path().join("meshd.sock");
        unix_request(&socket, method, path, body)
    }

    /// TLS handshakes between its proxies that failed.
    pub(crate) fn failed_handshakes(&self) -> Result<f64, Failure> {
        let mut failed = 0.0;
        for proxy in self.proxies() {
            for side in ["side=\"server\"", "side=\"client\""] {
                failed += proxy.metric("mesh_tls_handshakes_failed_total", &[side])?;
            }
        }
        Ok(failed)
    }
}

impl Balancer {
    /// One that is ready, in turn.
    fn pick(&self) -> &Target {
        for _ in 0..self.targets.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.targets.len();
            if let Some(target) = self.targets.get(at)
                && target.ready.load(Ordering::Acquire)
            {
                return target;
            }
        }
        self.targets.last().expect("there are two")
    }

    #[expect(clippy::infinite_loop, reason = "it ends with its runtime")]
    /// Looks at readiness, as often as that is looked at elsewhere in a hurry.
    async fn watch(&self) {
        loop {
            for target in &self.targets {
                let ready = clients::is_ready(target.health).await;
                target.ready.store(ready, Ordering::Release);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What became of the requests of one kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    good: AtomicUsize,
    failed: AtomicUsize,
    first: std::sync::Mutex<Option<String>>,
}

impl Tally {
    fn count(&self, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.good.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut first) = self.first.lock() {
                    first.get_or_insert(failure.to_string());
                }
            }
        }
    }
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) gateways: Vec<Proxy>,
    pub(crate) balancer: Arc<Balancer>,
    /// Of `api` and `db`.
    pub(crate) services: Vec<Proxy>,
    pub(crate) distributor: Running,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    // Last: the processes end before their folder goes.
    pub(crate) folder: tempfile::TempDir,
}

fn policies(api: SocketAddr, db: SocketAddr) -> String {
    format!(
        "mesh drills {{
    trust-domain \"drills.example\"
    defaults {{ timeout \"20s\" }}
}}
service api {{
    port 8080
    endpoints {{ static \"{api}\" }}
    allow public {{ path \"/**\" }}
}}
service db {{
    port 7000 protocol=tcp
    endpoints {{ static \"{db}\" }}
    allow public
}}
gateway public {{
    listen 8080 {{ host \"shop.example\" }}
    listen 7000 protocol=tcp
    allow unauthenticated
    route requests {{ match {{ port 8080 }}; to api }}
    route bytes {{ match {{ port 7000 }}; to db }}
}}
"
    )
}

impl World {
    pub(crate) fn start(
        requests: SocketAddr,
        bytes: SocketAddr,
        drain: [&str; 2],
    ) -> Result<Self, Failure> {
        let plain = With::default();
        Self::start_with(requests, bytes, drain, (&plain, &plain))
    }

    /// The same, with what the drill takes from the distributor, and from each proxy.
    pub(crate) fn start_with(
        requests: SocketAddr,
        bytes: SocketAddr,
        [notice, deadline]: [&str; 2],
        (distributor, with): (&With, &With),
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mesh-drill-").tempdir()?;
        let (api, db) = (free()?, free()?);
        let written = folder.path().join("policies");
        fs::create_dir(&written)?;
        fs::write(written.join("mesh.kdl"), policies(api, db))?;
        let listen = free()?;
        let distributor = distribute_with(folder.path(), &written, listen, distributor)?;
        let service = |name: &str, port: u16, inbound: SocketAddr, application: SocketAddr| {
            let port = format!("{port}={inbound},{application}");
            let words = ["--port", &port, "--drain-notice", "0s"];
            Proxy::launch(
                folder.path(),
                name,
                &format!("service/{name}"),
                &words,
                with,
            )
        };
        let services = vec![
            service("api", 8080, api, requests)?,
            service("db", 7000, db, bytes)?,
        ];
        let mut gateways = Vec::new();
        let mut targets = Vec::new();
        for name in ["first", "second"] {
            let words = ["--drain-notice", notice, "--drain-timeout", deadline];
            let words = [&words[..], &["--listen", "*=127.0.0.1:0"]].concat();
            let gateway = Proxy::launch(folder.path(), name, "gateway/public", &words, with)?;
            let config = gateway.admin("/config")?.json()?;
            let address = |value: &serde_json::Value| -> Result<SocketAddr, Failure> {
                Ok(value.as_str().unwrap_or_default().parse()?)
            };
            targets.push(Target {
                http: address(&config["listeners"]["8080"])?,
                bytes: address(&config["listeners"]["7000"])?,
                health: address(&config["ports"]["health"])?,
                ready: AtomicBool::new(true),
            });
            gateways.push(gateway);
        }
        let next = AtomicUsize::new(0);
        Ok(Self {
            gateways,
            balancer: Arc::new(Balancer { targets, next }),
            services,
            distributor,
            listen,
            folder,
        })
    }
}

/// How many clients of each kind there are.
const CLIENTS: usize = 4;
/// What stays open at the one that ends.
const STAYING: usize = 3;

/// Good and failed of each kind, and what was wrong.
pub(crate) fn judged(tallies: &[(&str, Arc<Tally>)]) -> (String, Vec<String>) {
    let (mut line, mut failures) = (Vec::new(), Vec::new());
    for (kind, tally) in tallies {
        let (good, failed) = (
            tally.good.load(Ordering::Relaxed),
            tally.failed.load(Ordering::Relaxed),
        );
        line.push(format!("{kind} {good}/{failed}"));
        if failed > 0 || good == 0 {
            failures.push(format!("{kind}: {tally:?}"));
        }
    }
    (line.join(", "), failures)
}

/// For applications and clients.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

fn none() -> Failure {
    Failure::new("there are two")
}

#[test]
fn nothing_new_fails_while_one_of_two_ends() -> Result<(), Failure> {
    let runtime = runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let mut world = World::start(requests, bytes, LONG)?;
    let balancer = Arc::clone(&world.balancer);
    let watching = Arc::clone(&balancer);
    runtime.spawn(async move { watching.watch().await });
    let load = clients::Load::start(&runtime, &balancer, CLIENTS);
    let ending = balancer.targets.first().ok_or_else(none)?;
    let mut staying = runtime.block_on(clients::Staying::open(ending, STAYING))?;
    wait_until("requests of every kind have been answered", LIMIT, || {
        load.is_under_way()
    })?;

    let first = world.gateways.first_mut().ok_or_else(none)?;
    run(Command::new("kill").args(["-s", "TERM", &first.process.id().to_string()]))?;
    wait_until("readiness is withdrawn", LIMIT, || {
        let answer = http_get(ending.health, "localhost", "/ready", &[])?;
        match answer.status {
            503 => Ok(()),
            _ => Err(Failure::new(answer.body)),
        }
    })?;
    // Whoever has not noticed yet is served all the same.
    runtime.block_on(clients::late(ending))?;
    runtime.block_on(staying.still_pass())?;
    let status = wait_until("the gateway has ended", LIMIT, || {
        let ended = first.process.ended()?;
        ended.ok_or_else(|| Failure::new("it runs"))
    })?;
    let cut = runtime.block_on(staying.ended())?;
    let (line, failures) = judged(&load.end());
    say(&format!(
        "D16: good/failed while one of two gateways ended: {line}; {cut} cut at the deadline"
    ));
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(cut, 2 * STAYING);
    let log = first.log()?;
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap_or_default();
    let last: serde_json::Value = serde_json::from_str(last)?;
    assert_eq!(
        (&last["requests"], &last["upgrades"], &last["connections"]),
        (&0.into(), &STAYING.into(), &STAYING.into()),
        "{log}"
    );
    Ok(())
}

/// D17, by every kind of request: there is one gateway alone, and another process of it each time.
#[test]
fn nothing_fails_while_the_only_one_is_replaced() -> Result<(), Failure> {
    let runtime = runtime()?;
    let (requests, bytes) = runtime.block_on(application::start())?;
    let mut world = World::start(requests, bytes, SHORT)?;
    let target = world.balancer.targets.first().ok_or_else(none)?;
    let alone = Arc::new(Balancer {
        targets: vec![Target {
            ready: AtomicBool::new(true),
            ..*target
        }],
        next: AtomicUsize::new(0),
    });
    let load = clients::Load::start(&runtime, &alone, CLIENTS);
    let mut staying = runtime.block_on(clients::Staying::open(target, STAYING))?;
    wait_until("requests of every kind have been answered", LIMIT, || {
        load.is_under_way()
    })?;
    let gateway = world.gateways.first_mut().ok_or_else(none)?;
    let mut ends = Vec::new();
    for time in 1..=REPLACEMENTS {
        let successor = gateway.successor(&[])?;
        let mut before = std::mem::replace(&mut gateway.process, successor);
        wait_until("the successor serves", LIMIT, || {
            if let Some(status) = gateway.process.ended()? {
                return Ok(Err(Failure::new(format!("it ended with {status}"))));
            }
            match gateway.log()?.matches("took over").count() {
                count if count == time => Ok(Ok(())),
                _ => Err(Failure::new(gateway.log()?)),
            }
        })??;
        if time == 1 {
            // What was open goes on in the process that had it.
            runtime.block_on(staying.still_pass())?;
        }
        let status = wait_until("the one before it has ended", LIMIT, || {
            before.ended()?.ok_or_else(|| Failure::new("it runs"))
        })?;
        ends.push(status.code());
    }
    let cut = runtime.block_on(staying.ended())?;
    let (line, failures) = judged(&load.end());
    say(&format!(
        "D17: good/failed while the only gateway was replaced {REPLACEMENTS} times: {line}; {cut} that never end were cut"
    ));
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(cut, 2 * STAYING);
    // The first had what stays, until its deadline; the others could end by themselves.
    assert_eq!(ends, [Some(1), Some(0), Some(0)], "{}", gateway.log()?);
    Ok(())
}

const REPLACEMENTS: usize = 3;
