//! Tries after the first, and times that run out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mesh_bundle::slice::{RetryCause, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;
use crate::limits;

fn retrying(attempts: u32, causes: &[RetryCause]) -> Vec<Route> {
    let mut route = route();
    route.exchange.retry = retry(attempts, causes);
    vec![route]
}

/// Answers 503 a number of times, then echoes.
async fn failing(times: usize) -> Application {
    let left = Arc::new(AtomicUsize::new(times));
    Application::http1(move |request: Request<Incoming>| {
        let left = Arc::clone(&left);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let fail = left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
            let mut response = Response::new(full(body));
            if fail {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    })
    .await
}

/// Never answers.
async fn silent() -> Application {
    Application::http1(|_request| std::future::pending()).await
}

/// Like Envoy, which counts from the end of the request; but an endpoint that takes no more of one is late, too.
#[tokio::test]
async fn what_a_client_takes_to_send_is_no_endpoints_fault() {
    let mesh = Mesh::new();
    let application = failing(0).await;
    let reviews = mesh.reviews(application.address);
    let mut routes = retrying(2, &[RetryCause::PerTryTimeout]);
    routes[0].exchange.retry.per_try = Some(Duration::from_secs(1));
    let productpage = mesh.productpage(routes, &[("v1", reviews.inbound())]);
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    let head =
        "PUT /slow HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\ncontent-length: 9\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(b"first").await.unwrap();
    // A client that takes more than twice as long as its callee may.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.write_all(b"last").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("firstlast"), "{answer}");
    let record = productpage.record(|record| record["path"] == "/slow").await;
    assert_eq!(record["attempts"], 1, "{record}");
}

#[tokio::test]
async fn a_dead_endpoint_is_avoided() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let endpoints = [("v1", nobody().await), ("v1", reviews.inbound())];
    let once = mesh.productpage(vec![route()], &endpoints);
    let mut reasons = Vec::new();
    for _ in 0..4 {
        reasons.push(send(once.outbound(), get("/")).await.reason().to_owned());
    }
    reasons.sort();
    assert_eq!(reasons, ["", "", "connect_failure", "connect_failure"]);

    let twice = mesh.productpage(retrying(2, &[RetryCause::ConnectFailure]), &endpoints);
    for _ in 0..4 {
        let got = send(twice.outbound(), get("/")).await;
        assert_eq!(got.status, 200, "{got:?}");
    }
    let record = twice.record(|record| record["attempts"] == 2).await;
    assert_eq!(record["upstream"], reviews.inbound().to_string());
    assert!(
        twice
            .metrics
            .encode()
            .contains("mesh_retries_total{outcome=\"success\"}")
    );
}

#[tokio::test]
async fn a_status_is_retried_with_the_body_sent_again() {
    let mesh = Mesh::new();
    let application = failing(1).await;
    let reviews = mesh.reviews(application.address);
    let routes = || retrying(2, &[RetryCause::Status(503)]);
    let productpage = mesh.productpage(routes(), &[("v1", reviews.inbound())]);
    let put = |size: usize| {
        let body = Bytes::from(vec![b'x'; size]);
        Request::put("/")
            .header("host", "reviews")
            .body(full(body))
            .unwrap()
    };
    let got = send(productpage.outbound(), put(10_000)).await;
    assert_eq!((got.status, got.body.len()), (StatusCode::OK, 10_000));
    assert_eq!(application.requests(), 2);

    // More than is kept: the first answer stands.
    let application = failing(1).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(routes(), &[("v1", reviews.inbound())]);
    let got = send(productpage.outbound(), put(limits::REPLAY_BYTES_MAX + 1)).await;
    assert_eq!(
        (got.status, application.requests()),
        (StatusCode::SERVICE_UNAVAILABLE, 1)
    );

    // Little text in many chunks costs as much to keep.
    let application = failing(1).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(routes(), &[("v1", reviews.inbound())]);
    let mut client = TcpStream::connect(productpage.outbound()).await.unwrap();
    let head = "PUT / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "1\r\nx\r\n".repeat(2_000);
    let bytes = format!("{head}{chunks}0\r\n\r\n");
    client.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(application.requests(), 1);

    // Not idempotent.
    let post = Request::post("/")
        .header("host", "reviews")
        .body(full("x"))
        .unwrap();
    let application = failing(1).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(routes(), &[("v1", reviews.inbound())]);
    let got = send(productpage.outbound(), post).await;
    assert_eq!(
        (got.status, application.requests()),
        (StatusCode::SERVICE_UNAVAILABLE, 1)
    );
}

#[tokio::test]
async fn the_last_answer_is_passed_on() {
    let mesh = Mesh::new();
    let application = failing(9).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(
        retrying(3, &[RetryCause::ServerError]),
        &[("v1", reviews.inbound())],
    );
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::SERVICE_UNAVAILABLE, "")
    );
    assert_eq!(application.requests(), 3);
    let record = productpage.record(|record| record["code"] == 503).await;
    assert_eq!(
        (&record["reason"], &record["attempts"]),
        (&"retry_limit".into(), &3.into())
    );
}

#[tokio::test]
async fn a_budget_bounds_what_retries_add() {
    use mesh_bundle::slice::{RetryBudget, RetryBudgetKind};
    let mesh = Mesh::new();
    let application = failing(1000).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(Vec::from([route()]), &[("v1", reviews.inbound())]);
    let mut slice = mesh.calling(retrying(2, &[RetryCause::ServerError]));
    slice.callees[0].retry_budget = Some(RetryBudget {
        share: 2_000,
        kind: RetryBudgetKind::Requests {
            min_count: 0,
            min_per: Duration::from_secs(1),
            window: Duration::from_secs(10),
        },
    });
    productpage.apply(&slice);
    for _ in 0..50 {
        assert_eq!(send(productpage.outbound(), get("/")).await.status, 503);
    }
    let retries = application.requests() - 50;
    assert!((1..=10).contains(&retries), "{retries}");
    let record = productpage
        .record(|record| record["reason"] == "budget_exhausted")
        .await;
    assert_eq!(record["code"], 503);
}

/// The share is of tries in flight, and a first try that has failed is none: with nothing else in flight, half of the
/// tries being retries is less than one.
#[tokio::test]
async fn a_try_that_failed_is_no_longer_active() {
    use mesh_bundle::slice::{RetryBudget, RetryBudgetKind};
    let mesh = Mesh::new();
    let application = failing(1000).await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(Vec::from([route()]), &[("v1", reviews.inbound())]);
    for (min_count, asked) in [(0, 1), (1, 2)] {
        let before = application.requests();
        let mut slice = mesh.calling(retrying(3, &[RetryCause::ServerError]));
        slice.callees[0].retry_budget = Some(RetryBudget {
            share: 5_000,
            kind: RetryBudgetKind::Active { min_count },
        });
        if min_count > 0 {
            slice.callees[0].routes[0].exchange.retry.attempts = 2;
        }
        productpage.apply(&slice);
        assert_eq!(send(productpage.outbound(), get("/")).await.status, 503);
        assert_eq!(application.requests() - before, asked);
    }
}

/// A call of gRPC is tried again for the statuses that policy lists, whatever its method: they are said in the head of
/// an answer that has no body (Trailers-Only).
#[tokio::test]
async fn a_status_of_grpc_is_retried_where_policy_lists_it() {
    let mesh = Mesh::new();
    for (status, tries) in [("14", 3), ("5", 1)] {
        let application = Application::http2(move |_request| async move {
            let answer = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", status);
            answer.body(empty()).unwrap()
        })
        .await;
        let reviews = mesh.reviews(application.address);
        let routes = retrying(3, &[RetryCause::GrpcStatus(14)]);
        let productpage = mesh.productpage(routes, &[("v1", reviews.inbound())]);
        let call = Request::post("http://reviews/shop.Reviews/Get")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(empty())
            .unwrap();
        let mut client = http2_client(productpage.outbound()).await;
        let got = read(client.send_request(call).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.header("grpc-status"), status, "{got:?}");
        assert_eq!(application.requests(), tries);
    }
}

#[tokio::test]
async fn times_run_out() {
    let mesh = Mesh::new();
    let application = silent().await;
    let reviews = mesh.reviews(application.address);
    let mut whole = route();
    whole.exchange.timeout = Some(Duration::from_millis(100));
    let productpage = mesh.productpage(vec![whole], &[("v1", reviews.inbound())]);
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "request_timeout")
    );

    let mut tried = retrying(2, &[RetryCause::PerTryTimeout]);
    tried[0].exchange.retry.per_try = Some(Duration::from_millis(50));
    let productpage = mesh.productpage(tried, &[("v1", reviews.inbound())]);
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::GATEWAY_TIMEOUT, "per_try_timeout")
    );
    let record = productpage
        .record(|record| record["reason"] == "per_try_timeout")
        .await;
    assert_eq!(record["attempts"], 2);
}

#[tokio::test]
async fn a_body_that_takes_too_long_is_broken_off() {
    let mesh = Mesh::new();
    let application = Application::http1(|_request| async {
        let first = futures_util::stream::iter([Ok(hyper::body::Frame::data(Bytes::from("x")))]);
        let stalled = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Response::new(BodyExt::boxed(http_body_util::StreamBody::new(stalled)))
    })
    .await;
    let reviews = mesh.reviews(application.address);
    let mut short = route();
    short.exchange.timeout = Some(Duration::from_millis(100));
    let productpage = mesh.productpage(vec![short], &[("v1", reviews.inbound())]);
    let got = try_send(productpage.outbound(), get("/")).await;
    assert!(got.is_err(), "a clean end would be a lie: {got:?}");
    let record = productpage
        .record(|record| record["reason"] == "request_timeout")
        .await;
    assert_eq!(record["code"], 200);
}

/// Never answers, and says when it is no longer asked.
async fn hanging() -> (Application, Arc<AtomicUsize>) {
    struct Leaves(Arc<AtomicUsize>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let left = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&left);
    let application = Application::http1(move |request: Request<Incoming>| {
        let leaves = Leaves(Arc::clone(&counted));
        async move {
            drop(request.into_body().collect().await);
            let () = std::future::pending().await;
            drop(leaves);
            Response::new(full(""))
        }
    })
    .await;
    (application, left)
}

/// The one that is answered counts, and the other one is taken back.
#[tokio::test]
async fn another_try_joins_one_that_takes_long() {
    let mesh = Mesh::new();
    let (slow, left) = hanging().await;
    let fast = Application::http1(|request: Request<Incoming>| async {
        Response::new(full(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    })
    .await;
    let (slow_proxy, fast_proxy) = (mesh.reviews(slow.address), mesh.reviews(fast.address));
    let at = [("v1", slow_proxy.inbound()), ("v1", fast_proxy.inbound())];
    let mut hedged = route();
    hedged.exchange.hedge = Some(mesh_bundle::slice::Hedge {
        delay: Duration::from_millis(20),
        attempts: 2,
    });
    let productpage = mesh.productpage(vec![hedged], &at);
    let outbound = productpage.outbound();
    for body in ["", "a body"] {
        let before = slow.requests();
        // At least one of two begins at the slow one.
        for _ in 0..2 {
            let request = Request::put("/").header("host", "reviews");
            let got = send(outbound, request.body(full(body)).unwrap()).await;
            assert_eq!((got.status, &*got.body), (StatusCode::OK, body.as_bytes()));
        }
        assert!(slow.requests() > before);
        let all_left = || left.load(Ordering::SeqCst) == slow.requests();
        eventually(|| all_left().then_some(())).await;
    }
    let record = productpage.record(|record| record["attempts"] == 2).await;
    assert_eq!(record["code"], 200);
}
