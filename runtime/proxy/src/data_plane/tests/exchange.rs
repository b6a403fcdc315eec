//! Requests that go well, and the ways they are routed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use mesh_bundle::slice::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::*;
use super::tcp::Server;

#[tokio::test]
async fn a_request_reaches_the_application_and_comes_back() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let request = Request::post("/a/../reviews//7?q=1")
        .header("host", "Reviews:9080")
        .header("x-mesh-peer", "spiffe://shop.example/service/admin")
        .header("connection", "x-drop")
        .header("x-drop", "1")
        .header("upgrade", "h2c")
        .body(full("hello"))
        .unwrap();
    let got = send(productpage.outbound(), request).await;
    assert_eq!(
        (got.status, &*got.body),
        (StatusCode::OK, b"hello".as_slice()),
        "{got:?}"
    );
    assert_eq!(got.header("x-path"), "/reviews/7?q=1");
    assert_eq!(got.header("got-host"), "reviews:9080");
    assert_eq!(
        got.header("got-x-mesh-peer"),
        "spiffe://shop.example/service/productpage"
    );
    assert!(!got.header("got-x-mesh-timeout-ms").is_empty());
    for gone in ["got-x-drop", "got-upgrade", "got-connection"] {
        assert_eq!(got.header(gone), "", "{gone}");
    }

    let record = productpage
        .record(|record| record["path"] == "/reviews/7")
        .await;
    assert_eq!(record["route"], "everyone");
    assert_eq!(
        record["dst_identity"],
        "spiffe://shop.example/service/reviews"
    );
    assert_eq!(record["bytes_in"], 5);
    assert_eq!(record["bytes_out"], 5);
    assert_eq!(record["attempts"], 1);
    assert!(record["reason"].is_null());
    let record = reviews.record(|record| record["code"] == 200).await;
    assert_eq!(record["reporter"], "destination");
    assert_eq!(
        record["src_identity"],
        "spiffe://shop.example/service/productpage"
    );
    let text = productpage.metrics.encode();
    assert!(text.contains("dst_service=\"reviews\",route=\"everyone\",dst_identity=\"spiffe://shop.example/service/reviews\",dst_workload=\"reviews\",dst_namespace=\"\",dst_subset=\"\",method=\"POST\",protocol=\"http/1.1\",code=\"200\",grpc_status=\"\",tls=\"mutual\",reason=\"\"} 1"), "{text}");
    assert!(
        text.contains("mesh_requests_in_flight{reporter=\"source\"} 0"),
        "{text}"
    );
}

/// RFC 9112 6.1: a body is there where the framing says so, whatever the method.
#[tokio::test]
async fn a_chunked_body_of_a_get_reaches_the_application() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let frames = [Ok(Frame::data(Bytes::from("hello")))];
    let request = Request::get("/")
        .header("host", "reviews")
        .header("transfer-encoding", "chunked")
        .body(StreamBody::new(futures_util::stream::iter(frames)).boxed())
        .unwrap();
    let got = send(productpage.outbound(), request).await;
    assert_eq!(
        (got.status, &*got.body),
        (StatusCode::OK, b"hello".as_slice()),
        "{got:?}"
    );
}

#[tokio::test]
async fn the_proxy_answers_what_it_cannot_pass_on() {
    let mesh = Mesh::new();
    let proxy = mesh.proxy("productpage", None);
    let answer = |got: Got| (got.status.as_u16(), got.reason().to_owned());
    let got = send(proxy.outbound(), get("/")).await;
    assert_eq!(answer(got), (503, "no_config".to_owned()));

    let mut only_testers = route();
    only_testers.matches = vec![mesh_bundle::slice::RouteMatch {
        conditions: vec![header("tester")],
    }];
    proxy.apply(&mesh.calling(vec![only_testers]));
    let got = send(proxy.outbound(), get("/")).await;
    assert_eq!(answer(got), (404, "no_route".to_owned()));
    let mut tester = get("/");
    tester.headers_mut().insert("tester", "1".parse().unwrap());
    assert_eq!(
        answer(send(proxy.outbound(), tester).await),
        (503, "no_healthy_upstream".to_owned())
    );
    let mut unknown = get("/");
    unknown
        .headers_mut()
        .insert("host", "ratings".parse().unwrap());
    assert_eq!(
        answer(send(proxy.outbound(), unknown).await),
        (403, "authz_denied".to_owned())
    );

    proxy.plane.deny_all();
    let got = send(proxy.outbound(), get("/")).await;
    assert_eq!(answer(got), (403, "authz_denied".to_owned()));
}

#[tokio::test]
async fn weights_split_the_requests() {
    let mesh = Mesh::new();
    let (one, two) = (
        Application::named("v1").await,
        Application::named("v2").await,
    );
    let (first, second) = (mesh.reviews(one.address), mesh.reviews(two.address));
    let mut split = route();
    split.destinations = vec![destination(Some("v1"), 90), destination(Some("v2"), 10)];
    let endpoints = [("v1", first.inbound()), ("v2", second.inbound())];
    let productpage = mesh.productpage(vec![split], &endpoints);
    let mut client = http2_client(productpage.outbound()).await;
    drop(client.ready().await);
    let tcp = tokio::net::TcpStream::connect(productpage.outbound())
        .await
        .unwrap();
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tcp))
            .await
            .unwrap();
    tokio::spawn(connection);
    let total: u32 = 500;
    for _ in 0..total {
        client.ready().await.unwrap();
        let got = read(client.send_request(get("/")).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.status, 200);
    }
    // Over 500 requests the standard deviation is 1.3 %: six of them either side.
    let share = f64::from(u32::try_from(two.requests()).unwrap()) / f64::from(total);
    assert!((0.02..0.18).contains(&share), "{share}");
    assert_eq!(
        one.requests() + two.requests(),
        usize::try_from(total).unwrap()
    );
    let text = productpage.metrics.encode();
    assert!(text.contains(&format!("dst_subset=\"v2\",method=\"GET\",protocol=\"http/1.1\",code=\"200\",grpc_status=\"\",tls=\"mutual\",reason=\"\"}} {}", two.requests())), "{text}");
}

/// Echoes the body, then says in trailers how it went.
async fn grpc_application() -> Application {
    Application::http2(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let timeout = request.headers().get("grpc-timeout").cloned();
        let collected = request.into_body().collect().await.unwrap();
        let mut trailers = collected.trailers().cloned().unwrap_or_default();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let frames = vec![
            Ok(Frame::data(collected.to_bytes())),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        if let Some(timeout) = timeout {
            response.headers_mut().insert("got-timeout", timeout);
        }
        response
    })
    .await
}

fn grpc_request(host: &str) -> Request<TestBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("from-client", "1".parse().unwrap());
    trailers.insert("authorization", "forbidden here".parse().unwrap());
    let frames = vec![
        Ok(Frame::data(Bytes::from("ping"))),
        Ok(Frame::trailers(trailers)),
    ];
    Request::post(format!("http://{host}/shop.Reviews/Get"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .body(StreamBody::new(futures_util::stream::iter(frames)).boxed())
        .unwrap()
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_both_ways() {
    let mesh = Mesh::new();
    let application = grpc_application().await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let mut client = http2_client(productpage.outbound()).await;
    let got = read(client.send_request(grpc_request("reviews")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (got.status, &*got.body),
        (StatusCode::OK, b"ping".as_slice()),
        "{got:?}"
    );
    let trailers = got.trailers.as_ref().unwrap();
    assert_eq!(trailers["grpc-status"], "5");
    assert_eq!(trailers["from-client"], "1");
    assert!(!trailers.contains_key("authorization"));
    let left: u32 = got
        .header("got-timeout")
        .strip_suffix('m')
        .unwrap()
        .parse()
        .unwrap();
    assert!((4000..=5000).contains(&left), "{left}");
    let record = productpage
        .record(|record| record["protocol"] == "grpc")
        .await;
    assert_eq!(record["grpc_status"], 5);

    let got = read(client.send_request(grpc_request("ratings")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (got.status, got.header("grpc-status")),
        (StatusCode::OK, "7")
    );
    assert_eq!(got.header("grpc-message"), "authz_denied");
}

#[tokio::test]
async fn many_streams_share_few_connections() {
    let mesh = Mesh::new();
    let application = grpc_application().await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let client = http2_client(productpage.outbound()).await;
    let calls = (0..150).map(|_| {
        let mut client = client.clone();
        async move {
            read(client.send_request(grpc_request("reviews")).await.unwrap())
                .await
                .unwrap()
        }
    });
    for got in futures_util::future::join_all(calls).await {
        assert_eq!(got.trailers.unwrap()["grpc-status"], "5");
    }
    let text = reviews.metrics.encode();
    let open = text
        .lines()
        .find_map(|line| line.strip_prefix("mesh_connections_open{reporter=\"destination\"} "))
        .unwrap();
    assert!(open.parse::<usize>().unwrap() <= crate::limits::Limits::default().pool_connections);
}

#[tokio::test]
async fn bodies_stream_both_ways_while_both_are_open() {
    let mesh = Mesh::new();
    let application = Application::http1(|request: Request<Incoming>| async move {
        let body = request.into_body().map_err(std::io::Error::other);
        Response::new(body.boxed())
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let (chunks, received) = tokio::sync::mpsc::unbounded_channel();
    let stream = futures_util::stream::unfold(
        received,
        |mut received: tokio::sync::mpsc::UnboundedReceiver<Bytes>| async move {
            Some((
                std::io::Result::Ok(Frame::data(received.recv().await?)),
                received,
            ))
        },
    );
    let body: TestBody = BodyExt::boxed(StreamBody::new(stream));
    let request = Request::post("/").header("host", "reviews").body(body);
    let tcp = tokio::net::TcpStream::connect(productpage.outbound())
        .await
        .unwrap();
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tcp))
            .await
            .unwrap();
    tokio::spawn(connection);
    chunks.send(Bytes::from("first")).unwrap();
    let mut answer = client
        .send_request(request.unwrap())
        .await
        .unwrap()
        .into_body();
    let frame = answer.frame().await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap(), "first");
    // The answer has begun while the request still goes on.
    chunks.send(Bytes::from("second")).unwrap();
    let frame = answer.frame().await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap(), "second");
    drop(chunks);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn swaps_under_load_lose_nothing() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let load = (0..8).map(|_| async move {
        let tcp = tokio::net::TcpStream::connect(outbound).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tcp))
                .await
                .unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            client.ready().await.unwrap();
            let got = read(client.send_request(get("/")).await.unwrap())
                .await
                .unwrap();
            assert_eq!(got.status, 200, "{got:?}");
        }
    });
    let swaps = async {
        for number in 0..200 {
            let name = format!("0.{number}.1");
            let routes = vec![route()];
            let prepared = productpage
                .plane
                .prepare(&mesh.calling(routes), &name)
                .unwrap();
            productpage.plane.swap(prepared, None);
            reviews.apply(&mesh.admitting("reviews", &["productpage"]));
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(futures_util::future::join_all(load), swaps);
    assert_eq!(application.requests(), 800);
}

/// design.md, Time: on `text/event-stream`, and on routes marked `streaming`, the timeout ends with the beginning of
/// the answer, at each of the proxies.
#[tokio::test]
async fn streams_outlive_the_timeout_and_downloads_do_not() {
    let mut quick = route();
    quick.exchange.timeout = Some(STREAMED);
    let mut streaming = quick.clone();
    streaming.filters.streaming = true;
    tokio::join!(
        stream(quick.clone(), "text/event-stream", true),
        stream(streaming, "application/zip", true),
        stream(quick, "application/zip", false),
    );
}

/// Long enough for a busy machine to begin an answer.
const STREAMED: Duration = Duration::from_secs(4);

async fn stream(route: Route, kind: &str, whole: bool) {
    let mut server = Server::start().await;
    let mesh = Mesh::new();
    let reviews = mesh.reviews(server.address);
    let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    let began = tokio::time::Instant::now();
    let asking = tokio::spawn(async move { try_send(outbound, get("/")).await });
    let mut upstream = server.accept().await;
    // An answer before the request is no answer to it.
    assert_ne!(upstream.read(&mut [0; 4096]).await.unwrap(), 0);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 9\r\n\r\n");
    upstream.write_all(head.as_bytes()).await.unwrap();
    upstream.write_all(b"first").await.unwrap();
    if whole {
        // The callee's proxy was told of the timeout after the caller's had begun to count.
        tokio::time::sleep_until(began + STREAMED + Duration::from_millis(500)).await;
        upstream.write_all(b"last").await.unwrap();
    }
    let got = asking.await.unwrap();
    assert_eq!(got.is_ok(), whole, "{kind}: {got:?}");
    if let Ok(got) = got {
        assert_eq!(got.body, "firstlast");
        assert_eq!(got.header("x-mesh-streaming"), "");
    }
}
