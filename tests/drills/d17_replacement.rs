//! D17: the program is replaced while connections come, again and again, and none is refused. Where a successor cannot
//! serve, the one before it goes on.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, Running, http_get, run, unix_request, wait_until};

use crate::mesh::{LIMIT, Mesh, Proxy};
use crate::slow_clients::application;
use crate::{say, sized};

const REPLACEMENTS: usize = 50;
const CONNECTIONS_PER_SECOND: u32 = 2_000;
const CLIENTS: u32 = 32;

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    served: AtomicUsize,
    refused: AtomicUsize,
    broken: AtomicUsize,
    /// One of them.
    failure: std::sync::Mutex<Option<String>>,
}

impl Seen {
    fn failed(&self, counted: &AtomicUsize, what: String) {
        counted.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(what);
        }
    }

    /// One connection with one request.
    fn connect(&self, to: SocketAddr, host: &str, code: u16) {
        let stream = match TcpStream::connect(to) {
            Ok(stream) => stream,
            // The client's own want of ports says nothing of the proxy.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => return,
            Err(error) => return self.failed(&self.refused, error.to_string()),
        };
        match ask(stream, host) {
            Ok(answer) if answer.starts_with(&format!("HTTP/1.1 {code} ")) => {
                self.served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => self.failed(&self.broken, answer),
            Err(error) => self.failed(&self.broken, error.to_string()),
        }
    }
}

fn ask(mut stream: TcpStream, host: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(LIMIT))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Clients that connect as often as wanted until they are told to stop.
struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr) -> Self {
        let (seen, stop) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let each = Duration::from_secs(1) * CLIENTS / CONNECTIONS_PER_SECOND;
        let client = |at: u32| {
            // Most ask for what their proxy answers itself: it is connections that are many here.
            let (host, code) = if at.is_multiple_of(4) {
                ("api", 200)
            } else {
                ("nobody", 403)
            };
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut next = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    seen.connect(to, host, code);
                    // Who is late is late, and makes up for none of it.
                    next = (next + each).max(Instant::now());
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            seen,
            stop,
            clients,
        }
    }

    fn end(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            drop(client.join());
        }
        self.seen
    }
}

/// Replaces a proxy by another process of itself, and waits until it ends.
fn replace(proxy: &mut Proxy) -> Result<(), Failure> {
    let successor = proxy.successor(&[])?;
    let mut before = std::mem::replace(&mut proxy.process, successor);
    wait_until("the proxy that was replaced has ended", LIMIT, || {
        if let Some(status) = proxy.process.ended()? {
            return Ok(Err(Failure::new(format!("the successor ended: {status}"))));
        }
        match before.ended()? {
            Some(status) if status.success() => Ok(Ok(())),
            Some(status) => Ok(Err(Failure::new(format!("it ended with {status}")))),
            None => Err(Failure::new("it still runs")),
        }
    })
    .and_then(|ended| ended)
    .map_err(|failure| failure.while_doing(proxy.log().unwrap_or_default()))
}

#[test]
fn no_connection_is_refused_while_programs_are_replaced() -> Result<(), Failure> {
    let mut mesh = Mesh::start(application()?)?;
    let load = Load::start(mesh.web.outbound);
    let started = Instant::now();
    let times = sized(REPLACEMENTS).max(4);
    for time in 0..times {
        let proxy = if time % 2 == 0 {
            &mut mesh.web
        } else {
            &mut mesh.api
        };
        replace(proxy)?;
    }
    let took = started.elapsed();
    let seen = load.end();
    let (served, refused, broken) = (
        seen.served.load(Ordering::Relaxed),
        seen.refused.load(Ordering::Relaxed),
        seen.broken.load(Ordering::Relaxed),
    );
    let rate = served as u128 * 1_000 / took.as_millis().max(1);
    say(&format!(
        "D17: {times} replacements in {took:.1?} under {rate} connections/s: {served} served, {refused} refused, {broken} broken"
    ));
    assert_eq!((refused, broken), (0, 0), "{seen:?}");
    assert!(served > 0);
    // What the last one has, it serves: readiness, metrics and the admin socket too.
    for proxy in [&mesh.web, &mesh.api] {
        assert!(proxy.metric("mesh_config_generation", &[])? >= 1.0);
        let config = proxy.admin("/config")?.json()?;
        assert_eq!(config["draining"], false, "{config}");
    }
    Ok(())
}

/// What the proxy serves, as its admin socket tells.
fn served(proxy: &Proxy) -> Result<serde_json::Value, Failure> {
    let config = proxy.admin("/config")?.json()?;
    Ok(config["generation"].clone())
}

fn ended(successor: &mut Running) -> Result<Option<i32>, Failure> {
    wait_until("the successor ends", LIMIT, || {
        let ended = successor.ended()?;
        ended.map_or_else(|| Err(Failure::new("it runs")), |status| Ok(status.code()))
    })
}

#[test]
fn who_cannot_serve_does_not_take_over() -> Result<(), Failure> {
    let mut mesh = Mesh::start(application()?)?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = format!("9999={},127.0.0.1:1", taken.local_addr()?);
    let before = served(&mesh.web)?;
    // It has the sockets of the one before it, and cannot have another one that it wants.
    let mut successor = mesh.web.successor(&["--port", &taken])?;
    assert_eq!(ended(&mut successor)?, Some(2), "{}", mesh.web.log()?);
    wait_until("the one before it has its store again", LIMIT, || {
        let log = mesh.web.log()?;
        if !log.contains("not replaced, and goes on") {
            return Err(Failure::new(log));
        }
        let config = mesh.web.admin("/config")?.json()?;
        if config["distributor"].is_string() {
            return Ok(());
        }
        Err(Failure::new(config.to_string()))
    })?;
    assert_eq!(served(&mesh.web)?, before);
    let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    // One that goes without a word, after it was given everything.
    let mut silent = UnixStream::connect(mesh.web.home.join("admin.sock.handover"))?;
    let ask = br#"{"version":1,"release":"0.0.0","pid":1}"#;
    silent.write_all(&u32::try_from(ask.len())?.to_be_bytes())?;
    silent.write_all(ask)?;
    let mut length = [0; 4];
    silent.read_exact(&mut length)?;
    drop(silent);
    wait_until("the one before it goes on again", LIMIT, || {
        let log = mesh.web.log()?;
        match log.matches("not replaced, and goes on").count() {
            2 => Ok(()),
            _ => Err(Failure::new(log)),
        }
    })?;
    replace(&mut mesh.web)?;
    let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

/// A message of another version, or none at all, changes nothing.
#[test]
fn what_is_not_understood_is_refused() -> Result<(), Failure> {
    let mesh = Mesh::start(application()?)?;
    let door = mesh.web.home.join("admin.sock.handover");
    let mode = std::fs::metadata(&door)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for said in [
        br#"{"version":2,"release":"9.0.0","pid":1}"#.as_slice(),
        br#"{"version":1}"#,
        b"GET / HTTP/1.1",
    ] {
        let mut stranger = UnixStream::connect(&door)?;
        stranger.write_all(&u32::try_from(said.len())?.to_be_bytes())?;
        stranger.write_all(said)?;
        stranger.set_read_timeout(Some(LIMIT))?;
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer)?;
        let is_other_version = said.starts_with(br#"{"version":2"#);
        let refused = String::from_utf8_lossy(&answer).contains("refused");
        assert_eq!(refused, is_other_version, "{answer:?}");
    }
    let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

/// Whenever the one before dies, the successor serves: with its sockets, or as one that is started.
#[test]
fn a_proxy_may_die_while_it_is_replaced() -> Result<(), Failure> {
    let mut mesh = Mesh::start(application()?)?;
    for time in 0..sized(100) {
        let successor = mesh.web.successor(&[])?;
        let mut before = std::mem::replace(&mut mesh.web.process, successor);
        // Somewhere between its start and its first answer.
        std::thread::sleep(Duration::from_millis(5 * (time as u64 % 20)));
        run(Command::new("kill").args(["-s", "KILL", &before.id().to_string()]))?;
        let pid = mesh.web.process.id();
        wait_until("the successor serves", LIMIT, || {
            before.ended()?;
            if let Some(status) = mesh.web.process.ended()? {
                return Ok(Err(Failure::new(format!("it ended with {status}"))));
            }
            let config = mesh.web.admin("/config")?.json()?;
            if config["pid"] == pid && config["sequence"].is_u64() {
                return Ok(Ok(()));
            }
            Err(Failure::new(config.to_string()))
        })
        .and_then(|served| served)
        .map_err(|failure| failure.while_doing(mesh.web.log().unwrap_or_default()))?;
        let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_proxy_that_was_killed_is_started_anew_with_the_same_words() -> Result<(), Failure> {
    let mut mesh = Mesh::start(application()?)?;
    let pid = mesh.web.process.id().to_string();
    run(Command::new("kill").args(["-s", "KILL", &pid]))?;
    wait_until("it is gone", LIMIT, || match mesh.web.process.ended()? {
        Some(_) => Ok(()),
        None => Err(Failure::new("it runs")),
    })?;
    mesh.web.process = mesh.web.successor(&[])?;
    wait_until("it serves", LIMIT, || {
        let socket = mesh.web.home.join("admin.sock");
        let config = unix_request(&socket, "GET", "/config", "")?.json()?;
        if config["sequence"].is_u64() {
            return Ok(());
        }
        Err(Failure::new(config.to_string()))
    })
}
