//! D10: clients that take their time. Others are served meanwhile, the slow ones end on their clocks, and waiting
//! for them costs little.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mesh_tests::{Failure, http_get, wait_until};

use crate::mesh::{LIMIT, Mesh, Proxy, With};
use crate::{say, sized};

/// What one connection may cost that waits. Without optimisation futures take twice as much.
const BYTES_PER_CONNECTION: usize = 40 * 1024;

/// An application that answers each connection's one request.
pub(crate) fn application() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// Requests that must succeed; gives the median and the slowest of a hundred.
pub(crate) fn served(proxy: &Proxy, requests: usize) -> Result<(Duration, Duration), Failure> {
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests {
        let started = Instant::now();
        let answer = http_get(proxy.outbound, "api", "/", &[])?;
        took.push(started.elapsed());
        if answer.status != 200 {
            return Err(Failure::new(format!("{answer:?}")));
        }
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied();
    Ok((at(50).unwrap_or_default(), at(99).unwrap_or_default()))
}

/// Connections that have each sent `bytes`.
pub(crate) fn connections(
    to: SocketAddr,
    count: usize,
    bytes: &[u8],
) -> Result<Vec<TcpStream>, Failure> {
    let connect = |_| {
        let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(bytes)?;
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

/// What a connection costs that waits.
fn each(proxy: &Proxy, before: usize, count: usize) -> Result<usize, Failure> {
    Ok(proxy.memory()?.saturating_sub(before) / count)
}

#[test]
fn half_a_head_ends_in_time_and_keeps_nobody_waiting() -> Result<(), Failure> {
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: api\r\nX-Slow: ";
    let count = sized(10_000);
    let with = With {
        arguments: vec!["--limit".to_owned(), format!("connections={count}")],
        ..With::default()
    };
    // They take every place, so that others are only served if slow ones go.
    let mesh = Mesh::start_with(application()?, "", &with, &With::default())?;
    let quiet = served(&mesh.web, 200)?;
    let before = mesh.web.memory()?;
    let started = Instant::now();
    let slow = connections(mesh.web.outbound, count, HALF)?;
    let busy = served(&mesh.web, 200)?;
    let each = each(&mesh.web, before, count)?;
    let mut told = 0;
    for mut stream in slow {
        let mut answer = Vec::new();
        // A connection that is reset has ended, too.
        drop(stream.read_to_end(&mut answer));
        told += usize::from(answer.starts_with(b"HTTP/1.1 408"));
    }
    let ended = started.elapsed();
    let rule = ["rule=\"head_timeout\""];
    let rejected = mesh.web.metric("mesh_rejected_requests_total", &rule)?;
    say(&format!(
        "D10: {count} half heads: {each} bytes each; others took {quiet:?} before and {busy:?} meanwhile; all ended after {ended:?}, {told} told why"
    ));
    assert!(each <= BYTES_PER_CONNECTION, "{each}");
    #[expect(
        clippy::cast_precision_loss,
        reason = "far fewer than a float can count"
    )]
    let count = count as f64;
    let shed = ["reason=\"overload_shed\""];
    let shed = mesh.web.metric("mesh_refused_connections_total", &shed)?;
    say(&format!(
        "D10: {rejected} by their clock, {shed} for want of places"
    ));
    assert!(shed > 0.0, "nobody made room");
    assert!(rejected + shed >= count, "{rejected} and {shed} of {count}");
    served(&mesh.web, 10).map(drop)
}

#[test]
fn idle_connections_cost_little() -> Result<(), Failure> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n";
    let count = sized(9_000);
    let mesh = Mesh::start(application()?)?;
    served(&mesh.web, 200)?;
    let before = mesh.web.memory()?;
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connections(mesh.web.outbound, 1, REQUEST)?;
        let mut answer = [0; 12];
        for stream in &mut stream {
            stream.read_exact(&mut answer)?;
        }
        assert_eq!(&answer, b"HTTP/1.1 200");
        idle.append(&mut stream);
    }
    let each = each(&mesh.web, before, count)?;
    say(&format!("D10: {count} idle connections: {each} bytes each"));
    assert!(each <= BYTES_PER_CONNECTION, "{each}");
    drop(idle);
    wait_until("the proxy lets go of them", LIMIT, || {
        let open = mesh.web.descriptors()?;
        if open < count / 2 {
            return Ok(());
        }
        Err(Failure::new(format!("{open} descriptors")))
    })
}
