//! D21: requests that come back to where they were: an application calls its own proxy, two services call each other by
//! their hosts, and a route sends a request back to who sent it. Each ends with a reason, after a bounded number of hops.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mesh_tests::{Failure, http_get, wait_until};

use crate::mesh::{LIMIT, Proxy, Wide, free};
use crate::say;

/// As `--limit hops` has it unless it is set.
const HOPS: usize = 32;

/// An application that passes on to its proxy whatever it gets, byte for byte, for another host.
struct Relay {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    proxy: Arc<OnceLock<SocketAddr>>,
}

impl Relay {
    fn to(host: &'static str) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Self {
            address: listener.local_addr()?,
            asked: Arc::default(),
            proxy: Arc::default(),
        };
        let (asked, proxy) = (Arc::clone(&relay.asked), Arc::clone(&relay.proxy));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (asked, proxy) = (Arc::clone(&asked), Arc::clone(&proxy));
                std::thread::spawn(move || {
                    // What a peer does to a connection is no failure of this one.
                    drop(pass_on(tcp, host, &asked, &proxy));
                });
            }
        });
        Ok(relay)
    }
}

/// One request each connection.
fn pass_on(
    mut tcp: TcpStream,
    host: &str,
    asked: &AtomicUsize,
    proxy: &OnceLock<SocketAddr>,
) -> Result<(), Failure> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        head.extend(byte);
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8(head)?;
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !name.eq_ignore_ascii_case("host") && !line.is_empty()
    });
    let kept: Vec<_> = kept.collect();
    let to = proxy.get().ok_or_else(|| Failure::new("no proxy yet"))?;
    let mut on = TcpStream::connect(to)?;
    let request = format!(
        "{}\r\nhost: {host}\r\nconnection: close\r\n\r\n",
        kept.join("\r\n")
    );
    on.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    on.read_to_end(&mut answer)?;
    tcp.write_all(&answer)?;
    Ok(())
}

const MESH: &str = "mesh drills {
    trust-domain \"drills.example\"
    defaults { timeout \"30s\" }
}
";

/// Asks for `host`, and waits until a proxy has recorded the circle.
fn goes_round(
    what: &str,
    from: &Proxy,
    host: &str,
    proxies: &[&Proxy],
    relays: &[&Relay],
) -> Result<(), Failure> {
    let answer = http_get(from.outbound, host, "/", &[])?;
    assert_eq!(answer.status, 508, "{what}: {answer:?}");
    let count = || {
        relays
            .iter()
            .map(|relay| relay.asked.load(Ordering::SeqCst))
            .sum::<usize>()
    };
    let rounds = count();
    say(&format!(
        "D21 {what}: 508 after {rounds} calls of applications"
    ));
    assert!((1..=HOPS).contains(&rounds), "{what}: {rounds}");
    let cut = |proxy: &&Proxy| proxy.metric("mesh_limits_reached_total", &["limit=\"hops\""]);
    wait_until("the circle is counted once", LIMIT, || {
        let counts = proxies.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
        match counts.iter().sum::<f64>() {
            1.0 => Ok(()),
            other => Err(Failure::new(format!("{other}"))),
        }
    })?;
    // Nothing goes on going round.
    assert_eq!(count(), rounds, "{what}");
    Ok(())
}

#[test]
fn an_application_that_calls_itself_ends() -> Result<(), Failure> {
    let to_a = free()?;
    let wide = Wide::start(&format!(
        "{MESH}service a {{ port 8080; endpoints {{ static \"{to_a}\" }}; allow a; calls a }}\n"
    ))?;
    let relay = Relay::to("a")?;
    let a = wide.proxy("a", to_a, relay.address)?;
    relay.proxy.get_or_init(|| a.outbound);
    goes_round("a calls a", &a, "a", &[&a], &[&relay])
}

#[test]
fn services_that_call_each_other_end() -> Result<(), Failure> {
    let (to_a, to_b) = (free()?, free()?);
    let wide = Wide::start(&format!(
        "{MESH}service a {{ port 8080; endpoints {{ static \"{to_a}\" }}; allow b; calls b }}
service b {{ port 8080; endpoints {{ static \"{to_b}\" }}; allow a; calls a }}\n"
    ))?;
    let (of_a, of_b) = (Relay::to("b")?, Relay::to("a")?);
    let a = wide.proxy("a", to_a, of_a.address)?;
    let b = wide.proxy("b", to_b, of_b.address)?;
    of_a.proxy.get_or_init(|| a.outbound);
    of_b.proxy.get_or_init(|| b.outbound);
    goes_round("by host", &a, "b", &[&a, &b], &[&of_a, &of_b])
}

#[test]
fn a_route_back_to_the_caller_ends() -> Result<(), Failure> {
    let (to_a, to_b) = (free()?, free()?);
    // Who calls `b` is sent to `a`, whose application calls `b`.
    let wide = Wide::start(&format!(
        "{MESH}service a {{ port 8080; endpoints {{ static \"{to_a}\" }}; allow a; calls b }}
service b {{
    port 8080
    endpoints {{ static \"{to_b}\" }}
    allow a
    route back {{ to service=a }}
}}\n"
    ))?;
    let relay = Relay::to("b")?;
    let a = wide.proxy("a", to_a, relay.address)?;
    relay.proxy.get_or_init(|| a.outbound);
    goes_round("by route", &a, "b", &[&a], &[&relay])
}

/// A proxy whose application would be the proxy itself is not started.
#[test]
fn a_proxy_is_not_its_own_application() -> Result<(), Failure> {
    let own = free()?;
    let wide = Wide::start(&format!(
        "{MESH}service a {{ port 8080; endpoints {{ static \"{own}\" }}; allow a; calls a }}\n"
    ))?;
    let started = wide.proxy("a", own, own);
    let said = started.err().map(|error| error.to_string());
    assert!(
        said.as_ref()
            .is_some_and(|said| said.contains("is this proxy itself")),
        "{said:?}"
    );
    Ok(())
}
