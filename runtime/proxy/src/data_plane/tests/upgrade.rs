//! Connections that become something else, over HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_bundle::slice::{Condition, PathPattern, PathPatternKind, Route, Upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::*;
use super::tcp::Server;

const ASKING: &[u8] = b"GET /chat HTTP/1.1\r\nHost: reviews\r\nConnection: keep-alive, Upgrade\r\n\
Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const AGREEING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The head of a message, as far as it has lines.
pub(super) async fn head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        std::io::Result::Ok(())
    };
    let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
    read.expect("no head came").expect("a whole head");
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

pub(super) async fn read_exactly(io: &mut (impl AsyncReadExt + Unpin), bytes: usize) -> Vec<u8> {
    let mut got = vec![0; bytes];
    let read = tokio::time::timeout(Duration::from_secs(10), io.read_exact(&mut got));
    read.await.expect("too little came").unwrap();
    got
}

/// Two proxies before a server that the test plays.
pub(super) fn pair(server: &Server, route: Route) -> (Mesh, Proxy, Proxy) {
    let mesh = Mesh::new();
    let reviews = mesh.reviews(server.address);
    let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
    (mesh, reviews, productpage)
}

pub(super) async fn ask(proxy: &Proxy, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(proxy.outbound()).await.unwrap();
    client.write_all(bytes).await.unwrap();
    client
}

#[tokio::test]
async fn both_sides_have_each_others_bytes() {
    let mut server = Server::start().await;
    let (_mesh, reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    let asked = head(&mut upstream).await;
    assert!(asked.starts_with("get /chat http/1.1\r\n"), "{asked}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n",
        "x-mesh-peer: spiffe://shop.example/service/productpage\r\n",
    ] {
        assert!(asked.contains(line), "{line} is missing in {asked}");
    }
    // The first bytes come with the answer.
    upstream.write_all(AGREEING).await.unwrap();
    upstream.write_all(b"hello").await.unwrap();
    let agreed = head(&mut client).await;
    assert!(agreed.starts_with("http/1.1 101 "), "{agreed}");
    assert!(agreed.contains("upgrade: websocket\r\n"), "{agreed}");
    assert!(
        agreed.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{agreed}"
    );
    assert_eq!(read_exactly(&mut client, 5).await, b"hello");
    // What no HTTP parser would let through, and what each would.
    let frames = b"\x81\x85\0\0\0\0hello\r\n\r\n#\0GET / HTTP/1.1\r\n\r\n";
    client.write_all(frames).await.unwrap();
    assert_eq!(read_exactly(&mut upstream, frames.len()).await, frames);
    client.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0);
    upstream.write_all(b"bye").await.unwrap();
    drop(upstream);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye");
    for proxy in [&productpage, &reviews] {
        let record = proxy.record(|record| record["code"] == 101).await;
        assert_eq!(record["bytes_in"], frames.len());
        assert_eq!(record["bytes_out"], 8);
        assert!(record["reason"].is_null(), "{record}");
    }
}

/// bad-inputs.md row 19: what follows is a request of its own, and the connection that saw the question is
/// never used again.
#[tokio::test]
async fn a_server_that_does_not_agree_is_asked_anew() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let plain = b"GET /next HTTP/1.1\r\nHost: reviews\r\n\r\n";
    let mut client = ask(&productpage, &[ASKING, plain].concat()).await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
    let mut first = server.accept().await;
    assert!(head(&mut first).await.contains("upgrade: websocket\r\n"));
    first.write_all(answer).await.unwrap();
    assert!(head(&mut client).await.starts_with("http/1.1 200 "));
    assert_eq!(read_exactly(&mut client, 2).await, b"no");
    let mut second = server.accept().await;
    let next = head(&mut second).await;
    assert!(next.starts_with("get /next "), "{next}");
    assert!(!next.contains("upgrade"), "{next}");
    second.write_all(answer).await.unwrap();
    assert!(head(&mut client).await.starts_with("http/1.1 200 "));
    // Nothing more ever came to the first.
    assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.count(), 2);
}

/// A server that becomes what it was not asked to, or without being asked at all.
#[tokio::test]
async fn nobody_becomes_what_was_not_agreed() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let other = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    let plain = b"GET /chat HTTP/1.1\r\nHost: reviews\r\n\r\n";
    for (asking, answer) in [(ASKING, &other[..]), (plain, AGREEING)] {
        let mut client = ask(&productpage, asking).await;
        let mut upstream = server.accept().await;
        head(&mut upstream).await;
        upstream.write_all(answer).await.unwrap();
        let refused = head(&mut client).await;
        assert!(refused.starts_with("http/1.1 502 "), "{refused}");
        assert!(refused.contains("upstream_protocol_error"), "{refused}");
    }
}

/// bad-inputs.md row 45.
#[tokio::test]
async fn another_http_is_never_asked_for() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    for upgrade in [
        "h2c",
        "H2C, websocket",
        "HTTP/2.0",
        "TLS/1.0",
        "websocket, h2c",
    ] {
        let asking = format!(
            "GET / HTTP/1.1\r\nHost: reviews\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let mut client = ask(&productpage, asking.as_bytes()).await;
        let mut upstream = server.accept().await;
        let asked = head(&mut upstream).await;
        assert!(!asked.contains("upgrade"), "{asked}");
        assert!(!asked.contains("http2-settings"), "{asked}");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        upstream.write_all(answer).await.unwrap();
        assert!(head(&mut client).await.starts_with("http/1.1 200 "));
    }
}

#[tokio::test]
async fn a_route_says_what_may_become_of_a_connection() {
    let mut server = Server::start().await;
    let mut forbidding = route();
    forbidding.filters.upgrade = Some(Upgrade::None);
    let (mesh, _reviews, productpage) = pair(&server, forbidding);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    assert!(!head(&mut upstream).await.contains("\r\nupgrade:"));
    upstream.write_all(answer).await.unwrap();
    assert!(head(&mut client).await.starts_with("http/1.1 200 "));

    let mut websockets = route();
    websockets.filters.upgrade = Some(Upgrade::Websocket);
    productpage.apply(&mesh.calling(vec![websockets]));
    let other = b"GET / HTTP/1.1\r\nHost: reviews\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n";
    for (asking, expected) in [(ASKING, true), (&other[..], false)] {
        let mut client = ask(&productpage, asking).await;
        let mut upstream = server.accept().await;
        let asked = head(&mut upstream).await;
        assert_eq!(asked.contains("\r\nupgrade:"), expected, "{asked}");
        upstream.write_all(answer).await.unwrap();
        assert!(head(&mut client).await.starts_with("http/1.1 200 "));
    }
}

/// Whoever may not enter does not enter by asking for something else either.
#[tokio::test]
async fn rules_hold_before_anything_becomes_of_it() {
    let server = Server::start().await;
    let (mesh, reviews, productpage) = pair(&server, route());
    reviews.apply(&mesh.admitting("reviews", &["details"]));
    let mut client = ask(&productpage, ASKING).await;
    assert!(head(&mut client).await.starts_with("http/1.1 403 "));
    assert_eq!(server.count(), 0);
}

/// A tunnel has no next request at which one could ask again.
#[tokio::test]
async fn who_may_no_longer_enter_is_cut() {
    let mut server = Server::start().await;
    let (mesh, reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    upstream.write_all(AGREEING).await.unwrap();
    head(&mut client).await;
    let mut slice = mesh.admitting("reviews", &["productpage"]);
    let on = |path: &str| {
        let kind = PathPatternKind::Template(path.to_owned());
        let ignore_case = false;
        Condition::Path(vec![PathPattern { kind, ignore_case }])
    };
    slice.access.services[0].rules[0].conditions = vec![on("/chat")];
    reviews.apply(&slice);
    client.write_all(b"still").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 5).await, b"still");
    slice.access.services[0].rules[0].conditions = vec![on("/news")];
    reviews.apply(&slice);
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest));
    assert!(read.await.expect("it goes on").is_err());
    let record = reviews.record(|record| record["code"] == 101).await;
    assert_eq!(record["reason"], "authz_denied");
}

#[tokio::test]
async fn a_drain_cuts_tunnels_at_its_deadline() {
    let mut server = Server::start().await;
    let (_mesh, reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    upstream.write_all(AGREEING).await.unwrap();
    head(&mut client).await;
    let limit = at_once(Duration::from_millis(100));
    let report = reviews.plane.drain(limit).await;
    assert_eq!((report.upgrades, report.cut()), (1, 1));
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), upstream.read_to_end(&mut rest));
    drop(read.await.expect("it goes on"));
    let record = reviews.record(|record| record["code"] == 101).await;
    assert_eq!(record["reason"], "draining");
    let metrics = reviews.metrics.encode();
    let counted = "mesh_drain_cut_total{kind=\"upgrade\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_drain_waits_for_tunnels() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    upstream.write_all(AGREEING).await.unwrap();
    head(&mut client).await;
    let plane = Arc::clone(&productpage.plane);
    let draining = tokio::spawn(async move { plane.drain(at_once(Duration::from_secs(20))).await });
    let plane = &productpage.plane.plane;
    eventually(|| plane.is_draining().then_some(())).await;
    client.write_all(b"still").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 5).await, b"still");
    assert!(!draining.is_finished());
    drop((client, upstream));
    assert_eq!(draining.await.unwrap().cut(), 0);
}

#[tokio::test]
async fn a_reset_of_the_server_is_none_of_an_end() {
    let mut server = Server::start().await;
    let (_mesh, _reviews, productpage) = pair(&server, route());
    let mut client = ask(&productpage, ASKING).await;
    let mut upstream = server.accept().await;
    head(&mut upstream).await;
    upstream.write_all(AGREEING).await.unwrap();
    head(&mut client).await;
    let socket = socket2::SockRef::from(&upstream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(upstream);
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest));
    let error = read.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let record = productpage.record(|record| record["code"] == 101).await;
    assert_eq!(record["reason"], "upstream_reset");
}

/// An application that speaks HTTP/2 and sends back whatever comes over a stream that it is asked for.
async fn http2_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = service_fn(|mut request: Request<Incoming>| async move {
                let protocol = request.extensions().get::<Protocol>();
                let protocol = protocol.map_or("", Protocol::as_str).to_owned();
                let mut answer = http::Response::new(empty());
                let headers = answer.headers_mut();
                headers.insert("x-protocol", protocol.parse().unwrap());
                headers.insert("x-method", request.method().as_str().parse().unwrap());
                let path = request.uri().path().parse().unwrap();
                headers.insert("x-path", path);
                if protocol == "nothing" {
                    *answer.status_mut() = StatusCode::FORBIDDEN;
                    return Ok::<_, std::convert::Infallible>(answer);
                }
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut io = TokioIo::new(upgraded.await.unwrap());
                    let mut got = [0; 1024];
                    while let Ok(read @ 1..) = io.read(&mut got).await {
                        io.write_all(&got[..read]).await.unwrap();
                    }
                    io.shutdown().await
                });
                Ok(answer)
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.enable_connect_protocol();
            tokio::spawn(builder.serve_connection(TokioIo::new(tcp), service));
        }
    });
    address
}

fn extended_connect(protocol: Option<&'static str>) -> Request<TestBody> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("http://reviews/chat")
        .body(empty())
        .unwrap();
    if let Some(protocol) = protocol {
        request
            .extensions_mut()
            .insert(Protocol::from_static(protocol));
    }
    request
}

/// RFC 8441, from the client to the application, which sees the version that its peer spoke.
#[tokio::test]
async fn streams_become_tunnels_over_http2() {
    let mesh = Mesh::new();
    let reviews = mesh.reviews(http2_echo().await);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = http2_client(productpage.outbound()).await;
    let answer = client
        .send_request(extended_connect(Some("websocket")))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers()["x-protocol"], "websocket");
    assert_eq!(answer.headers()["x-method"], "CONNECT");
    assert_eq!(answer.headers()["x-path"], "/chat");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let large: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reading, mut writing) = tokio::io::split(&mut tunnel);
    let sending = async {
        writing.write_all(&large).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut got = Vec::new();
        reading.read_to_end(&mut got).await.unwrap();
        got
    };
    let ((), got) = tokio::join!(sending, receiving);
    assert!(got == large);
    for proxy in [&productpage, &reviews] {
        let record = proxy.record(|record| record["code"] == 200).await;
        assert_eq!(record["bytes_in"], large.len());
        assert_eq!(record["bytes_out"], large.len());
        assert!(record["reason"].is_null(), "{record}");
        // As policy sees it, by whatever version it comes.
        assert_eq!(record["method"], "GET");
    }
    // Other streams of the connection are requests as ever, and a server may say no.
    let refused = client
        .send_request(extended_connect(Some("nothing")))
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    for protocol in [None, Some("h2c"), Some("tls")] {
        let answer = client.send_request(extended_connect(protocol)).await;
        let answer = answer.unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::METHOD_NOT_ALLOWED,
            "{protocol:?}"
        );
    }
    let mut forbidding = route();
    forbidding.filters.upgrade = Some(Upgrade::None);
    productpage.apply(&mesh.calling(vec![forbidding]));
    let answer = client
        .send_request(extended_connect(Some("websocket")))
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}
