//! D8: memory runs out. Clients that ask for much and read nothing fill whatever is buffered for them; the proxy sheds
//! what it must, stays within its bound, and serves as before once they are gone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_tests::{Failure, http_get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::mesh::{LIMIT, Mesh, With};
use crate::slow_clients::{connections, served};
use crate::{is_long, say, sized};

const ANSWER_BYTES: usize = 4 << 20;

/// An application whose `/big` is large, and which answers anything else with a word.
fn application() -> Result<SocketAddr, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        let big = buffer
                            .get(..read)
                            .unwrap_or_default()
                            .starts_with(b"GET /big");
                        let length = if big { ANSWER_BYTES } else { 3 };
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                        let answer = [head.into_bytes(), vec![b'x'; length]].concat();
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        })
    });
    Ok(address)
}

#[test]
fn readers_that_do_not_read_cost_no_more_than_there_is() -> Result<(), Failure> {
    const ASK: &[u8] = b"GET /big HTTP/1.1\r\nHost: api\r\n\r\n";
    let count = sized(4_000);
    // All of them would need three times as much and more.
    let memory = if is_long() { 48 << 20 } else { 32 << 20 };
    let bounded = With {
        arguments: vec!["--limit".to_owned(), format!("memory_bytes={memory}")],
        ..With::default()
    };
    let mesh = Mesh::start_with(application()?, "", &bounded, &With::default())?;
    served(&mesh.web, 20)?;
    let before = mesh.web.memory()?;
    let started = Instant::now();
    let mut readers = Vec::new();
    let mut most = before;
    for _ in 0..count / 20 {
        // One that is refused has been shed.
        readers.extend(connections(mesh.web.outbound, 20, ASK).unwrap_or_default());
        most = most.max(mesh.web.memory()?);
    }
    while started.elapsed() < Duration::from_secs(6) {
        most = most.max(mesh.web.memory()?);
        assert_eq!(mesh.web.admin("/config")?.status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    let shed = mesh
        .web
        .metric("mesh_limits_reached_total", &["limit=\"memory_bytes\""])?;
    drop(readers);
    let (word, after) = mesh_tests::within("it serves again", LIMIT, || {
        let answer = http_get(mesh.web.outbound, "api", "/", &[])?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(Failure::new(format!("{answer:?}"))),
        }
    })?;
    assert_eq!(word, "xxx");
    served(&mesh.web, 20)?;
    say(&format!(
        "D8: {count} readers of {ANSWER_BYTES} bytes that read nothing: from {before} to at most {most} bytes of {memory}, short of memory {shed} times; it served again {after:?} after they left, with {} bytes",
        mesh.web.memory()?
    ));
    assert!(shed > 0.0, "it was never short");
    // What is told is where it begins to shed; a cgroup of 64 MiB would kill it beyond.
    assert!(most < 64 << 20, "{most}");
    Ok(())
}
