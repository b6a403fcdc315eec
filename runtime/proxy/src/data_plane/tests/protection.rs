//! What keeps a destination from being overrun, and callers from endpoints that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Collected, StreamBody};
use hyper::body::Incoming;
use mesh_bundle::slice::{Limits, Outlier, Pool, RetryCause, Slice};
use tokio::sync::Semaphore;

use super::harness::*;

/// Answers as soon as it is let.
async fn gated() -> (Application, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let application = Application::http1(move |_request| {
        let gate = Arc::clone(&inner);
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(full("done"))
        }
    })
    .await;
    (application, gate)
}

/// The slice of a caller under these limits.
fn limited(mesh: &Mesh, limits: Limits) -> Slice {
    with_pool(
        mesh,
        Pool {
            limits,
            ..Pool::default()
        },
    )
}

fn with_pool(mesh: &Mesh, pool: Pool) -> Slice {
    let mut slice = mesh.calling(vec![route()]);
    slice.callees[0].pool = pool;
    slice
}

#[tokio::test]
async fn so_many_requests_at_once() {
    let mesh = Mesh::new();
    let (application, gate) = gated().await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let limits = Limits {
        requests: Some(1),
        ..Limits::default()
    };
    productpage.apply(&limited(&mesh, limits));
    let outbound = productpage.outbound();
    let first = tokio::spawn(async move { send(outbound, get("/")).await });
    eventually(|| (application.requests() == 1).then_some(())).await;
    let second = send(outbound, get("/")).await;
    assert_eq!(
        (second.status, second.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "circuit_open")
    );
    let metrics = productpage.metrics.encode();
    let open = "mesh_circuit_open{dst_service=\"reviews\",subset=\"\",kind=\"requests\"} 1";
    assert!(metrics.contains(open), "{metrics}");
    let refused =
        "mesh_circuit_refused_total{dst_service=\"reviews\",subset=\"\",kind=\"requests\"} 1";
    assert!(metrics.contains(refused), "{metrics}");
    // What is counted survives a swap that changes nothing of it.
    let mut slice = limited(&mesh, limits);
    slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
    productpage.apply(&slice);
    assert_eq!(send(outbound, get("/")).await.reason(), "circuit_open");
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().status, 200);
    eventually(|| {
        productpage
            .metrics
            .encode()
            .contains("kind=\"requests\"} 0")
            .then_some(())
    })
    .await;
    assert_eq!(send(outbound, get("/")).await.status, 200);
}

#[tokio::test]
async fn so_many_wait_for_a_connection() {
    let mesh = Mesh::new();
    let (application, gate) = gated().await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    productpage.apply(&limited(
        &mesh,
        Limits {
            connections: Some(1),
            pending: Some(1),
            ..Limits::default()
        },
    ));
    let outbound = productpage.outbound();
    let running: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { send(outbound, get("/")).await }))
        .collect();
    let waits = "mesh_circuit_open{dst_service=\"reviews\",subset=\"\",kind=\"pending\"} 1";
    let asked = || application.requests() == 1;
    eventually(|| (asked() && productpage.metrics.encode().contains(waits)).then_some(())).await;
    let third = send(outbound, get("/")).await;
    assert_eq!(
        (third.status, third.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "overflow")
    );
    assert_eq!(application.requests(), 1, "the second still waits");
    gate.add_permits(2);
    for request in running {
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert_eq!(application.requests(), 2);
}

#[tokio::test]
async fn an_idle_connection_gives_way() {
    let mesh = Mesh::new();
    let (one, two) = (
        Application::named("one").await,
        Application::named("two").await,
    );
    let (one, two) = (mesh.reviews(one.address), mesh.reviews(two.address));
    let endpoints = [("v1", one.inbound()), ("v2", two.inbound())];
    let productpage = mesh.productpage(vec![route()], &endpoints);
    productpage.apply(&limited(
        &mesh,
        Limits {
            connections: Some(1),
            pending: Some(1),
            requests_per_connection: Some(2),
            ..Limits::default()
        },
    ));
    let mut names = Vec::new();
    for _ in 0..6 {
        let got = send(productpage.outbound(), get("/")).await;
        assert_eq!(got.status, 200);
        names.push(got.headers["x-name"].to_str().unwrap().to_owned());
    }
    assert_eq!(names, ["one", "two", "one", "two", "one", "two"]);
}

/// Fails while it is told to.
async fn failing() -> (Application, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let application = Application::http1(move |_request: Request<Incoming>| {
        let told = Arc::clone(&told);
        async move {
            let mut response = Response::new(full(""));
            if told.load(Ordering::SeqCst) {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
    })
    .await;
    (application, fails)
}

/// Drill D13 in small.
#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_for_a_while() {
    let mesh = Mesh::new();
    let good = Application::named("good").await;
    let (bad, fails) = failing().await;
    let (good, bad_proxy) = (mesh.reviews(good.address), mesh.reviews(bad.address));
    let endpoints = [("v1", good.inbound()), ("v1", bad_proxy.inbound())];
    let productpage = mesh.productpage(vec![route()], &endpoints);
    let mut slice = with_pool(
        &mesh,
        Pool {
            outlier: Some(Outlier {
                consecutive_5xx: Some(3),
                consecutive_gateway: None,
                consecutive_local: None,
                rates: None,
                every: Duration::from_millis(20),
                // Long enough that it does not end while the next requests are sent.
                eject: Duration::from_secs(2),
                max_ejected: 5_000,
            }),
            ..Pool::default()
        },
    );
    productpage.apply(&slice);
    let outbound = productpage.outbound();
    let mut failures = 0;
    for _ in 0..20 {
        failures += usize::from(send(outbound, get("/")).await.status == 500);
    }
    assert_eq!(failures, 3);
    let metrics = productpage.metrics.encode();
    let ejections =
        "mesh_ejections_total{dst_service=\"reviews\",subset=\"\",cause=\"consecutive_5xx\"} 1";
    assert!(metrics.contains(ejections), "{metrics}");
    let out = "mesh_endpoints{dst_service=\"reviews\",state=\"ejected\"} 1";
    assert!(metrics.contains(out), "{metrics}");
    // Policy changes, but not this one.
    slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
    slice.callees[0].pool.limits.requests = Some(100);
    productpage.apply(&slice);
    assert_eq!(send(outbound, get("/")).await.status, 200);
    assert_eq!(send(outbound, get("/")).await.status, 200);
    fails.store(false, Ordering::SeqCst);
    eventually(|| {
        let metrics = productpage.metrics.encode();
        metrics.contains("state=\"ejected\"} 0").then_some(())
    })
    .await;
    let before = bad.requests();
    for _ in 0..4 {
        assert_eq!(send(outbound, get("/")).await.status, 200);
    }
    assert_eq!(bad.requests(), before + 2);
}

/// Answers 503 with this header a number of times, then 200.
async fn busy(name: &'static str, value: &'static str, times: usize) -> Application {
    let left = Arc::new(AtomicUsize::new(times));
    Application::http1(move |_request: Request<Incoming>| {
        let left = Arc::clone(&left);
        async move {
            let take = |left: usize| left.checked_sub(1);
            let fail = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
            let mut response = Response::new(full(""));
            if fail.is_ok() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
    })
    .await
}

#[tokio::test]
async fn a_server_says_when_to_come_again() {
    let mesh = Mesh::new();
    let mut retrying = route();
    retrying.exchange.retry = retry(2, &[RetryCause::ServerError]);
    let ask = async |value| {
        let application = busy("retry-after", value, 1).await;
        let reviews = mesh.reviews(application.address);
        let routes = vec![retrying.clone()];
        let productpage = mesh.productpage(routes, &[("v1", reviews.inbound())]);
        let started = tokio::time::Instant::now();
        let got = send(productpage.outbound(), get("/")).await;
        (got.status, application.requests(), started.elapsed())
    };
    let (status, requests, took) = ask("1").await;
    assert_eq!((status, requests), (StatusCode::OK, 2));
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // Later than the exchange lasts: nobody waits for that.
    let (status, requests, _) = ask("60").await;
    assert_eq!((status, requests), (StatusCode::SERVICE_UNAVAILABLE, 1));
}

#[tokio::test]
async fn so_many_retries_at_once() {
    let mesh = Mesh::new();
    let application = busy("x-never-mind", "1", 1_000).await;
    let reviews = mesh.reviews(application.address);
    let mut retrying = route();
    retrying.exchange.retry = retry(3, &[RetryCause::ServerError]);
    // Long waits between tries keep what a retry takes.
    retrying.exchange.retry.backoff_base = Duration::from_secs(5);
    retrying.exchange.retry.backoff_max = Duration::from_secs(5);
    let productpage = mesh.productpage(vec![retrying.clone()], &[("v1", reviews.inbound())]);
    let mut slice = mesh.calling(vec![retrying]);
    slice.callees[0].pool.limits.retries = Some(1);
    productpage.apply(&slice);
    let outbound = productpage.outbound();
    let first = tokio::spawn(async move { try_send(outbound, get("/")).await });
    let taken = "mesh_circuit_open{dst_service=\"reviews\",subset=\"\",kind=\"retries\"} 1";
    eventually(|| productpage.metrics.encode().contains(taken).then_some(())).await;
    assert_eq!(send(outbound, get("/")).await.status, 503);
    let record = productpage
        .record(|record| record["reason"] == "circuit_open")
        .await;
    assert_eq!(
        (&record["code"], &record["attempts"]),
        (&503.into(), &1.into())
    );
    first.abort();
}

/// A body of so many bytes, in chunks and of a length that nobody says.
fn chunked(bytes: usize) -> TestBody {
    let chunks: Vec<_> = (0..bytes.div_ceil(1_000))
        .map(|at| vec![b'x'; (bytes - at * 1_000).min(1_000)])
        .map(|chunk| Ok(Frame::data(Bytes::from(chunk))))
        .collect();
    StreamBody::new(futures_util::stream::iter(chunks)).boxed()
}

#[tokio::test]
async fn bodies_over_the_limit_go_no_further() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let limits = Limits {
        body_bytes: Some(10_000),
        ..Limits::default()
    };
    productpage.apply(&limited(&mesh, limits));
    let post = |body: TestBody| {
        let mut request = get("/");
        *request.method_mut() = http::Method::POST;
        *request.body_mut() = body;
        request
    };
    for body in [full(vec![b'x'; 10_000]), chunked(10_000)] {
        let got = send(productpage.outbound(), post(body)).await;
        assert_eq!((got.status, got.body.len()), (StatusCode::OK, 10_000));
    }
    let asked = application.requests();
    let got = send(productpage.outbound(), post(full(vec![b'x'; 10_001]))).await;
    let refused = (StatusCode::PAYLOAD_TOO_LARGE, "bad_request:body_too_large");
    assert_eq!((got.status, got.reason()), refused);
    assert_eq!(application.requests(), asked, "its length says so");
    let got = send(productpage.outbound(), post(chunked(5_000))).await;
    assert_eq!(got.status, StatusCode::OK);

    // What comes in over HTTP/2 goes on so, and its answer is read whatever has become of the body.
    let application = Application::http2(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await;
        Response::new(full(body.map(Collected::to_bytes).unwrap_or_default()))
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    productpage.apply(&limited(&mesh, limits));
    let mut client = http2_client(productpage.outbound()).await;
    let mut ask = async |bytes| {
        let mut request = post(chunked(bytes));
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = "http://reviews/".parse().unwrap();
        request.headers_mut().remove("host");
        read(client.send_request(request).await.unwrap()).await
    };
    let got = ask(30_000).await.unwrap();
    assert_eq!((got.status, got.reason()), refused, "no length says so");
    let record = productpage.record(|record| record["code"] == 413).await;
    assert_eq!(record["reason"], "bad_request:body_too_large");
    let metrics = productpage.metrics.encode();
    let counted = "mesh_rejected_requests_total{rule=\"body_too_large\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let got = ask(5_000).await.unwrap();
    assert_eq!(
        got.status,
        StatusCode::OK,
        "it says nothing of the endpoint"
    );
}
