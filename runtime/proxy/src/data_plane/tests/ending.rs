//! The ends of connections: drains, disappearances, broken bodies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::harness::*;

/// Answers when it is told to.
async fn waiting(go: &Arc<Notify>) -> Application {
    let go = Arc::clone(go);
    Application::http1(move |_request: Request<Incoming>| {
        let go = Arc::clone(&go);
        async move {
            go.notified().await;
            Response::new(full("late"))
        }
    })
    .await
}

#[tokio::test]
async fn a_drain_waits_for_what_runs_and_takes_nothing_new() {
    let mesh = Mesh::new();
    let go = Arc::new(Notify::new());
    let application = waiting(&go).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let (outbound, inbound) = (productpage.outbound(), reviews.inbound());
    let running = tokio::spawn(async move { send(outbound, get("/")).await });
    eventually(|| (application.requests() == 1).then_some(())).await;

    let plane = Arc::clone(&reviews.plane);
    let callee = tokio::spawn(async move { plane.drain(at_once(Duration::from_secs(20))).await });
    let plane = Arc::clone(&productpage.plane);
    let caller = tokio::spawn(async move { plane.drain(at_once(Duration::from_secs(20))).await });
    while TcpStream::connect(inbound).await.is_ok() || TcpStream::connect(outbound).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!running.is_finished());
    go.notify_one();
    let got = running.await.unwrap();
    assert_eq!(
        (&*got.body, got.header("connection")),
        (b"late".as_slice(), "close")
    );
    assert_eq!(caller.await.unwrap().cut(), 0);
    assert_eq!(callee.await.unwrap().cut(), 0);
}

/// A request that crosses the drain on a connection that was idle.
#[tokio::test]
async fn a_drain_answers_what_is_on_its_way() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let tcp = TcpStream::connect(outbound).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tcp))
            .await
            .unwrap();
    tokio::spawn(connection);
    let got = read(sender.send_request(get("/one")).await.unwrap()).await;
    assert_eq!(got.unwrap().status, 200);

    let plane = Arc::clone(&productpage.plane);
    let draining = tokio::spawn(async move { plane.drain(at_once(Duration::from_secs(20))).await });
    while TcpStream::connect(outbound).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let got = read(sender.send_request(get("/two")).await.unwrap()).await;
    let got = got.unwrap();
    assert_eq!(
        (got.status.as_u16(), got.header("connection")),
        (200, "close")
    );
    assert_eq!(draining.await.unwrap().cut(), 0);
}

#[tokio::test]
async fn a_drain_ends_at_its_limit() {
    let mesh = Mesh::new();
    let go = Arc::new(Notify::new());
    let application = waiting(&go).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let running = tokio::spawn(async move { try_send(outbound, get("/")).await });
    eventually(|| (application.requests() == 1).then_some(())).await;
    let report = productpage
        .plane
        .drain(at_once(Duration::from_millis(50)))
        .await;
    assert_eq!(report.cut(), 1);
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let mesh = Mesh::new();
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let application = Application::http1(move |_request: Request<Incoming>| {
        struct Tell(Arc<Notify>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let tell = Tell(Arc::clone(&told));
        async move {
            std::future::pending::<()>().await;
            drop(tell);
            Response::new(empty())
        }
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        .await
        .unwrap();
    eventually(|| (application.requests() == 1).then_some(())).await;
    // At once it would be no more than the end of what it says.
    tokio::time::sleep(2 * crate::limits::HALF_CLOSE_WITHIN).await;
    drop(client);
    gone.notified().await;
    for proxy in [&productpage, &reviews] {
        let record = proxy.record(|_| true).await;
        assert_eq!(record["reason"], "client_disconnect");
    }
}

/// An application of a fixed answer, which then closes.
async fn answering(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = [0; 1024];
            if tcp.read(&mut head).await.is_ok_and(|read| read > 0) {
                drop(tcp.write_all(answer).await);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_ended_cleanly() {
    let mesh = Mesh::new();
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let reviews = mesh.reviews(answering(answer).await);
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        let got = try_send(productpage.outbound(), get("/")).await;
        assert!(got.is_err(), "{got:?}");
        let record = reviews.record(|_| true).await;
        assert_eq!(record["reason"], "upstream_reset");
    }
}

/// To a client of HTTP/1.0 the end of the connection is the end of the body: it must not look like one.
#[tokio::test]
async fn a_body_that_breaks_off_resets_an_http10_client() {
    let mesh = Mesh::new();
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let reviews = mesh.reviews(answering(answer).await);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.0\r\nHost: reviews\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    let error = client.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A client that stops reading holds nothing for longer than the timeout.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mesh = Mesh::new();
    let application = Application::http1(|_request: Request<Incoming>| async {
        Response::new(full(vec![0; 64 * 1024 * 1024]))
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let mut route = route();
    route.exchange.timeout = Some(Duration::from_millis(500));
    let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        .await
        .unwrap();
    let record = productpage.record(|_| true).await;
    assert_eq!(record["reason"], "request_timeout");
    drop(client);
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_cut_off() {
    let mesh = Mesh::new();
    let application = Application::http2(|request: Request<Incoming>| async move {
        let bytes = if request.uri().path() == "/large" {
            64 * 1024 * 1024
        } else {
            1
        };
        Response::new(full(vec![0; bytes]))
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let mut route = route();
    route.exchange.timeout = Some(Duration::from_millis(500));
    let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
    let mut client = http2_client(productpage.outbound()).await;
    let ask = |path: &str| {
        let uri = format!("http://reviews{path}");
        Request::get(uri)
            .version(http::Version::HTTP_2)
            .body(empty())
            .unwrap()
    };
    let unread = client.send_request(ask("/large")).await.unwrap();
    let record = productpage
        .record(|record| record["path"] == "/large")
        .await;
    assert_eq!(record["reason"], "request_timeout");
    // The connection lives on.
    let got = read(client.send_request(ask("/small")).await.unwrap()).await;
    assert_eq!(got.unwrap().status, 200);
    assert!(read(unread).await.is_err());
}

/// Peers that say nothing do not keep others from shaking hands.
#[tokio::test]
async fn silent_peers_keep_nobody_out() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut silent = Vec::new();
    for _ in 0..2 * crate::limits::Limits::default().handshakes {
        silent.push(TcpStream::connect(reviews.inbound()).await.unwrap());
    }
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(got.status, 200, "{got:?}");
    drop(silent);
}

#[tokio::test]
async fn answers_that_are_no_http_become_502_or_503() {
    let mesh = Mesh::new();
    let cases = [
        (b"SSH-2.0-nothing\r\n".as_slice(), 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 502),
        (b"", 503),
    ];
    for (answer, status) in cases {
        let reviews = mesh.reviews(answering(answer).await);
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        let got = send(productpage.outbound(), get("/")).await;
        assert_eq!(
            got.status.as_u16(),
            status,
            "{}: {got:?}",
            answer.escape_ascii()
        );
    }
}

#[tokio::test]
async fn an_idle_connection_that_died_is_not_held_against_a_request() {
    let mesh = Mesh::new();
    // Closes after each answer without saying so.
    let application = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let reviews = mesh.reviews(application);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    for _ in 0..20 {
        let got = send(productpage.outbound(), get("/")).await;
        assert_eq!(
            (got.status.as_u16(), &*got.body),
            (200, b"ok".as_slice()),
            "{got:?}"
        );
    }
}

#[tokio::test]
async fn refused_uploads_do_not_poison_the_pool() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.proxy("reviews", Some(application.address));
    reviews.apply(&mesh.admitting("reviews", &["details"]));
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    for _ in 0..20 {
        let body = full(Bytes::from(vec![0; 512 * 1024]));
        let post = Request::post("/")
            .header("host", "reviews")
            .body(body)
            .unwrap();
        // A broken upload may hide the answer; another request must not pay for it.
        if let Ok(got) = try_send(productpage.outbound(), post).await {
            assert!([403, 503].contains(&got.status.as_u16()), "{got:?}");
        }
        let post = Request::post("/")
            .header("host", "reviews")
            .body(empty())
            .unwrap();
        let got = send(productpage.outbound(), post).await;
        assert_eq!(got.status, 403, "{got:?}");
    }
}

#[tokio::test]
async fn a_large_upload_that_is_answered_early_does_not_poison_the_pool() {
    let mesh = Mesh::new();
    let application = Application::http1(|request: Request<Incoming>| async move {
        if request.method() == http::Method::PUT {
            let mut refused = Response::new(full("no"));
            *refused.status_mut() = http::StatusCode::FORBIDDEN;
            return refused;
        }
        Response::new(full(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let upload = || {
        let body = full(Bytes::from(vec![0; 4 * 1024 * 1024]));
        Request::put("/")
            .header("host", "reviews")
            .body(body)
            .unwrap()
    };
    for _ in 0..5 {
        // The client may or may not get to see the early answer before its upload breaks.
        if let Ok(got) = try_send(productpage.outbound(), upload()).await {
            assert!([403, 503].contains(&got.status.as_u16()), "{got:?}");
        }
        let got = send(productpage.outbound(), get("/after")).await;
        assert_eq!(got.status, 200, "{got:?}");
    }
}
