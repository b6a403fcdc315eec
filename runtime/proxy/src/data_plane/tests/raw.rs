//! What reaches an application of requests that were sent raw, byte for byte; `hostile` has those that may not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::*;

/// An application that answers every head it sees and keeps all bytes.
struct Recorder {
    address: std::net::SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = tcp.read(&mut buffer).await {
                        kept.lock().unwrap().extend(&buffer[..read]);
                        let heads = buffer[..read]
                            .windows(4)
                            .filter(|at| at == b"\r\n\r\n")
                            .count();
                        for _ in 0..heads {
                            drop(
                                tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                                    .await,
                            );
                        }
                    }
                });
            }
        });
        Self { address, bytes }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

struct Rig {
    recorder: Recorder,
    productpage: Proxy,
    _reviews: Proxy,
}

impl Rig {
    async fn start() -> Self {
        let mesh = Mesh::new();
        let recorder = Recorder::start().await;
        let reviews = mesh.reviews(recorder.address);
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        Self {
            recorder,
            productpage,
            _reviews: reviews,
        }
    }

    /// Sends bytes, closes the sending side and reads to the end.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut tcp = TcpStream::connect(self.productpage.outbound())
            .await
            .unwrap();
        // The proxy may refuse and close before it has everything.
        drop(tcp.write_all(bytes).await);
        let mut answer = Vec::new();
        let reading = tcp.read_to_end(&mut answer);
        drop(
            tokio::time::timeout(Duration::from_secs(5), reading)
                .await
                .expect("the connection ends"),
        );
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Rig {
    async fn check_counted(&self, rule: &str) {
        let counted = format!("mesh_rejected_requests_total{{rule=\"{rule}\"}} 1");
        let metrics = &self.productpage.metrics;
        eventually(|| metrics.encode().contains(&counted).then_some(())).await;
    }
}

#[tokio::test]
async fn what_is_forwarded_is_canonical() {
    let rig = Rig::start().await;
    let answer = rig
        .exchange(
            b"GET http://REVIEWS.:9080/pub/../%61dmin//x?q HTTP/1.1\r\nHost: other\r\n\
              Connection: close, X-Forwarded-For\r\nX-Forwarded-For: 1\r\nKeep-Alive: 1\r\n\
              Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nTE: trailers\r\nX-Mesh-Peer: me\r\n\
              X_Mesh_Peer: me\r\nX-Forwarded_Client-Cert: me\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let text = rig.recorder.text().to_lowercase();
    assert!(text.starts_with("get /admin/x?q http/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nhost: reviews:9080\r\n"), "{text}");
    assert!(
        text.contains("\r\nx-mesh-peer: spiffe://shop.example/service/productpage\r\n"),
        "{text}"
    );
    for gone in [
        "x-forwarded-for",
        "keep-alive",
        "upgrade",
        "http2-settings",
        "te:",
        "other",
        ": me\r\n",
        "x_mesh",
        "x-forwarded_client",
    ] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
}

/// RFC 9112 section 9.6: who has nothing more to say may still listen.
#[tokio::test]
async fn whoever_half_closes_after_the_last_request_is_answered() {
    let rig = Rig::start().await;
    let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: reviews\r\nContent-Length: 0\r\n\r\n";
    for (requests, count) in [(get, 1), (post, 1), (&get.repeat(5), 5)] {
        let mut tcp = TcpStream::connect(rig.productpage.outbound())
            .await
            .unwrap();
        tcp.write_all(requests.as_bytes()).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answers = String::new();
        let reading = tcp.read_to_string(&mut answers);
        let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
        read.expect("the connection ends").unwrap();
        assert_eq!(
            answers.matches("HTTP/1.1 200 OK").count(),
            count,
            "{answers}"
        );
    }
}

/// All in one read: what came before the broken body is not lost, and its request gets an answer.
#[tokio::test]
async fn what_precedes_a_malformed_chunk_is_answered() {
    let rig = Rig::start().await;
    let post = "POST /post HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = rig
        .exchange(format!("GET /get HTTP/1.1\r\nHost: reviews\r\n\r\n{post}").as_bytes())
        .await;
    let statuses: Vec<_> = answer
        .split("HTTP/1.1 ")
        .filter_map(|rest| rest.split(' ').next())
        .skip(1)
        .collect();
    // The recorder answers as soon as it has a head, so its answer may win.
    assert!(
        matches!(statuses.as_slice(), ["200", "400" | "200"]),
        "{answer}"
    );
    rig.check_counted("chunk").await;
}

#[tokio::test]
async fn pipelined_requests_are_judged_one_by_one() {
    let rig = Rig::start().await;
    let answer = rig
        .exchange(
            b"GET /one HTTP/1.1\r\nHost: reviews\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\
              GET /two HTTP/1.1\r\nHost: ratings\r\n\r\n\
              GET /three HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n",
        )
        .await;
    let statuses: Vec<_> = answer
        .split("HTTP/1.1 ")
        .filter_map(|rest| rest.split(' ').next())
        .skip(1)
        .collect();
    assert_eq!(statuses, ["200", "403", "200"], "{answer}");
    let text = rig.recorder.text();
    assert!(
        text.contains("/one") && text.contains("/three") && !text.contains("/two"),
        "{text}"
    );
}
