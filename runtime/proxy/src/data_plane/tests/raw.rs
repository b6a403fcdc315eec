//! Bytes that other proxies were fooled by (bad-inputs.md), sent raw, with an application that
//! records what reaches it. Safe is: refused with nothing forwarded, or one canonical request.

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

    /// Expects an answer of that status, a closed connection, and nothing forwarded.
    async fn check_refused(&self, bytes: &[u8], status: u16) {
        let shown = bytes.get(..200).unwrap_or(bytes).escape_ascii().to_string();
        let answer = self.exchange(bytes).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{shown}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{shown}: {answer}");
        assert_eq!(self.recorder.text(), "", "{shown}: something was forwarded");
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
async fn ambiguous_framing_is_refused() {
    let rig = Rig::start().await;
    let post = |fields: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: reviews\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n"
        )
    };
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1_0",
        "Content-Length:",
        "Content-Length: 18446744073709551617",
        "Content-Length : 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "X: a\r\n Transfer-Encoding: chunked",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rb",
        "X: a\0b",
        ": empty",
        "no colon",
        "a b: c",
    ] {
        rig.check_refused(post(fields).as_bytes(), 400).await;
    }
    rig.check_refused(
        b"POST / HTTP/1.0\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    )
    .await;
    rig.check_refused(b"GET / HTTP/1.1\nHost: reviews\n\n", 400)
        .await;
    rig.check_refused(b"GET / HTTP/1.1\r\nHost: reviews\n\r\n", 400)
        .await;
    rig.check_refused(b"GET  / HTTP/1.1\r\nHost: reviews\r\n\r\n", 400)
        .await;
    rig.check_refused(b"GET / HTTP/1.2\r\nHost: reviews\r\n\r\n", 505)
        .await;
    rig.check_refused(b"G{T / HTTP/1.1\r\nHost: reviews\r\n\r\n", 400)
        .await;
    let text = rig.productpage.metrics.encode();
    for rule in [
        "length_and_encoding",
        "transfer_encoding",
        "content_length",
        "bare_line_feed",
        "folded_field",
        "field_name",
        "field_value",
        "method",
        "version",
    ] {
        assert!(
            text.contains(&format!("mesh_rejected_requests_total{{rule=\"{rule}\"}}")),
            "{rule} in {text}"
        );
    }
    rig.productpage
        .record(|record| record["reason"] == "bad_request:length_and_encoding")
        .await;
}

#[tokio::test]
async fn targets_and_hosts_have_one_reading() {
    let rig = Rig::start().await;
    let with = |target: &str, hosts: &str| format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
    for (target, hosts) in [
        ("/", ""),
        ("/", "Host: reviews\r\nHost: reviews\r\n"),
        ("/", "Host: reviews, a\r\n"),
        ("/", "Host: a@reviews\r\n"),
        ("/", "Host: reviews/x\r\n"),
        ("/", "Host: reviews:99999\r\n"),
        ("admin", "Host: reviews\r\n"),
        ("ftp://reviews/", "Host: reviews\r\n"),
        ("https://reviews/", "Host: reviews\r\n"),
        ("/admin#x", "Host: reviews\r\n"),
        ("/a%2fb", "Host: reviews\r\n"),
        ("/a%5cb", "Host: reviews\r\n"),
        ("/a\\b", "Host: reviews\r\n"),
        ("/a;x=y/b", "Host: reviews\r\n"),
        ("/..;/admin", "Host: reviews\r\n"),
        ("/%00", "Host: reviews\r\n"),
        ("/%zz", "Host: reviews\r\n"),
        ("/%", "Host: reviews\r\n"),
        ("/\u{e9}", "Host: reviews\r\n"),
        ("/", "Host: reviews\r\nConnection: x-mesh-peer\r\n"),
    ] {
        rig.check_refused(with(target, hosts).as_bytes(), 400).await;
    }
    rig.check_refused(
        with(&format!("/{}", "a".repeat(9_000)), "Host: reviews\r\n").as_bytes(),
        414,
    )
    .await;
    let many = "X: y\r\n".repeat(200);
    rig.check_refused(
        with("/", &format!("Host: reviews\r\n{many}")).as_bytes(),
        431,
    )
    .await;
    let long = format!("Host: reviews\r\nX: {}\r\n", "y".repeat(70_000));
    rig.check_refused(with("/", &long).as_bytes(), 431).await;
    rig.check_refused(
        b"TRACE / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n",
        405,
    )
    .await;
    rig.check_refused(b"CONNECT reviews:80 HTTP/1.1\r\nHost: reviews\r\n\r\n", 405)
        .await;
    rig.check_refused(
        b"GET / HTTP/1.1\r\nHost: reviews\r\nExpect: foo\r\n\r\n",
        417,
    )
    .await;
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

#[tokio::test]
async fn a_malformed_chunk_breaks_the_request_off() {
    for body in [
        "0x1\r\na\r\n0\r\n\r\n",
        "1zz\r\n",
        "\r\n",
        "-1\r\n",
        " 1\r\na\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "11111111111111111\r\n",
    ] {
        let rig = Rig::start().await;
        let bytes = format!(
            "POST /first HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n"
        );
        let answer = rig.exchange(bytes.as_bytes()).await;
        // The recorder answers as soon as it has a head, so its answer may win.
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 400")
            || answer.starts_with("HTTP/1.1 200");
        assert!(refused, "{body:?}: {answer}");
        assert!(
            answer.matches("HTTP/1.1").count() <= 1,
            "{body:?}: {answer}"
        );
        let text = rig.recorder.text();
        assert!(!text.contains("smuggled"), "{body:?}: {text}");
        assert!(
            !text.ends_with("\r\n0\r\n\r\n"),
            "{body:?} was ended as if it were whole: {text}"
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

#[tokio::test]
async fn http2_hosts_must_agree() {
    let rig = Rig::start().await;
    let mut client = http2_client(rig.productpage.outbound()).await;
    let mut request = |uri: &str, host: Option<&str>| {
        let mut request = http::Request::get(uri).version(http::Version::HTTP_2);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        client.send_request(request.body(empty()).unwrap())
    };
    let got = read(request("http://reviews/", Some("ratings")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (got.status.as_u16(), got.reason()),
        (400, "bad_request:hosts_differ")
    );
    let got = read(request("http://u@reviews/", None).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (got.status.as_u16(), got.reason()),
        (400, "bad_request:host_bad_byte")
    );
    assert_eq!(rig.recorder.text(), "");
}

#[tokio::test]
async fn a_flood_of_pings_ends_its_connection() {
    let rig = Rig::start().await;
    let mut tcp = TcpStream::connect(rig.productpage.outbound())
        .await
        .unwrap();
    let mut bytes = crate::http::wire::frames::PREFACE.to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for _ in 0..10_000 {
        bytes.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    drop(tcp.write_all(&bytes).await);
    let mut answer = Vec::new();
    drop(tcp.read_to_end(&mut answer).await);
    rig.productpage
        .record(|record| record["reason"] == "bad_request:control_flood")
        .await;
}
