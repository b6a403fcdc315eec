//! Endpoints that give no answers, or are worse than the others; and how much is sent to those that answer late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_bundle::slice::{Limits, Outlier, OutlierRates, Pool, Slice};
use tokio::sync::Semaphore;

use super::harness::*;

fn outlier() -> Outlier {
    Outlier {
        consecutive_5xx: None,
        consecutive_gateway: None,
        consecutive_local: None,
        rates: None,
        every: Duration::from_millis(300),
        // Nobody comes back while a test runs.
        eject: Duration::from_mins(5),
        max_ejected: 5_000,
    }
}

fn with_pool(mesh: &Mesh, pool: Pool) -> Slice {
    let mut slice = mesh.calling(vec![route()]);
    slice.callees[0].pool = pool;
    slice
}

fn leaving_out(mesh: &Mesh, outlier: Outlier) -> Slice {
    let pool = Pool {
        outlier: Some(outlier),
        ..Pool::default()
    };
    with_pool(mesh, pool)
}

/// Answers each request with 500.
async fn broken() -> Application {
    Application::http1(|_request: Request<Incoming>| async {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await
}

#[tokio::test]
async fn who_gives_no_answer_is_left_out_and_who_fails_is_not() {
    let mesh = Mesh::new();
    let (good, broken) = (Application::named("good").await, broken().await);
    let (good, broken) = (mesh.reviews(good.address), mesh.reviews(broken.address));
    let at = [
        ("v1", good.inbound()),
        ("v1", broken.inbound()),
        ("v1", nobody().await),
    ];
    let productpage = mesh.productpage(vec![route()], &at);
    let slice = leaving_out(
        &mesh,
        Outlier {
            consecutive_local: Some(2),
            ..outlier()
        },
    );
    productpage.apply(&slice);
    let mut found = [0; 3];
    for _ in 0..30 {
        let got = send(productpage.outbound(), get("/")).await;
        match (got.status.as_u16(), got.reason()) {
            (200, _) => found[0] += 1,
            (500, "") => found[1] += 1,
            (503, "connect_failure") => found[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(found[2], 2, "{found:?}");
    assert!(found[1] >= 10, "an answer is an answer: {found:?}");
    let metrics = productpage.metrics.encode();
    let ejections =
        "mesh_ejections_total{dst_service=\"reviews\",subset=\"\",cause=\"consecutive_local\"} 1";
    assert!(metrics.contains(ejections), "{metrics}");
}

/// Sends requests until somebody is left out for this, and then asks the others, also after a swap.
async fn is_left_out(rates: OutlierRates, cause: &str) {
    let mesh = Mesh::new();
    let (one, two) = (
        Application::named("one").await,
        Application::named("two").await,
    );
    let bad = broken().await;
    let (one, two) = (mesh.reviews(one.address), mesh.reviews(two.address));
    let bad = mesh.reviews(bad.address);
    let at = [
        ("v1", one.inbound()),
        ("v1", two.inbound()),
        ("v1", bad.inbound()),
    ];
    let productpage = mesh.productpage(vec![route()], &at);
    let mut slice = leaving_out(
        &mesh,
        Outlier {
            rates: Some(rates),
            ..outlier()
        },
    );
    productpage.apply(&slice);
    let ejected =
        format!("mesh_ejections_total{{dst_service=\"reviews\",subset=\"\",cause=\"{cause}\"}} 1");
    let mut asked = 0;
    while !productpage.metrics.encode().contains(&ejected) {
        assert!(asked < 5_000, "{}", productpage.metrics.encode());
        asked += 1;
        drop(send(productpage.outbound(), get("/")).await);
    }
    slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
    slice.callees[0].pool.limits.requests = Some(100);
    productpage.apply(&slice);
    for _ in 0..6 {
        assert_eq!(
            send(productpage.outbound(), get("/")).await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn who_is_far_worse_than_the_others_is_left_out() {
    let rates = OutlierRates {
        success_rate_deviations: Some(1_000),
        failure_percentage: None,
        min_hosts: 3,
        min_requests: 3,
    };
    is_left_out(rates, "success_rate").await;
}

#[tokio::test]
async fn who_fails_such_a_share_is_left_out() {
    let rates = OutlierRates {
        success_rate_deviations: None,
        failure_percentage: Some(5_000),
        min_hosts: 3,
        min_requests: 3,
    };
    is_left_out(rates, "failure_percentage").await;
}

/// Works on four requests at once, each for a while; gives the highest number that it had.
async fn narrow() -> (Application, Arc<AtomicUsize>) {
    let (room, highest) = (Arc::new(Semaphore::new(4)), Arc::new(AtomicUsize::new(0)));
    let (inside, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&highest));
    let application = Application::http1(move |_request: Request<Incoming>| {
        let (room, inside, seen) = (Arc::clone(&room), Arc::clone(&inside), Arc::clone(&seen));
        async move {
            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            let permit = room.acquire_owned().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(permit);
            inside.fetch_sub(1, Ordering::SeqCst);
            Response::new(full("done"))
        }
    })
    .await;
    (application, highest)
}

/// What the gauge says.
fn concurrency(proxy: &Proxy) -> Option<u64> {
    let name = "mesh_concurrency_limit{dst_service=\"reviews\",subset=\"\"} ";
    let metrics = proxy.metrics.encode();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map(|number| number.parse().unwrap())
}

#[tokio::test]
async fn no_more_is_sent_than_is_worked_on_in_time() {
    let mesh = Mesh::new();
    let (application, highest) = narrow().await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let limits = Limits {
        requests: Some(60),
        adaptive: Some(2_500),
        ..Limits::default()
    };
    let pool = Pool {
        limits,
        ..Pool::default()
    };
    let mut slice = with_pool(&mesh, pool);
    productpage.apply(&slice);
    assert_eq!(concurrency(&productpage), Some(60));
    let outbound = productpage.outbound();
    // At first nobody waits.
    for _ in 0..30 {
        assert_eq!(send(outbound, get("/")).await.status, StatusCode::OK);
    }
    let refused = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let refused = Arc::clone(&refused);
            tokio::spawn(async move {
                loop {
                    let got = send(outbound, get("/")).await;
                    if got.status == StatusCode::SERVICE_UNAVAILABLE {
                        assert_eq!(got.reason(), "circuit_open");
                        refused.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            })
        })
        .collect();
    let is_low = || {
        concurrency(&productpage)
            .is_some_and(|limit| limit < 25)
            .then_some(())
    };
    eventually(is_low).await;
    // What was found out survives a swap that changes nothing of it.
    slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
    productpage.apply(&slice);
    assert!(concurrency(&productpage).is_some_and(|limit| limit < 60));
    eventually(|| (refused.load(Ordering::SeqCst) > 0).then_some(())).await;
    assert!(highest.load(Ordering::SeqCst) > 4);
    for each in crowd {
        each.abort();
    }
}
