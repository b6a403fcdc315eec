//! How many requests may enter.

use std::time::Duration;

use http::StatusCode;
use mesh_bundle::slice::{RateLimit, RequestKey, Respond, Slice};

use super::harness::*;

fn limit(count: u64, keys: Vec<RequestKey>) -> RateLimit {
    RateLimit {
        count,
        // Long enough that nothing fills up while the test runs.
        per: Duration::from_hours(1),
        burst: count,
        keys,
        via: None,
        route: None,
        conditions: Vec::new(),
        respond: None,
    }
}

fn admitting(mesh: &Mesh, limits: Vec<RateLimit>) -> Slice {
    let mut slice = mesh.admitting("reviews", &["productpage"]);
    slice.access.services[0].rate_limits = limits;
    slice
}

#[tokio::test]
async fn so_many_requests_and_no_more() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    reviews.apply(&admitting(&mesh, vec![limit(2, Vec::new())]));
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let outbound = productpage.outbound();
    for _ in 0..2 {
        assert_eq!(send(outbound, get("/")).await.status, StatusCode::OK);
    }
    let third = send(outbound, get("/")).await;
    assert_eq!(
        (third.status, third.reason()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
    );
    let after: u64 = third.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    // 2 an hour: one every 1,800 s.
    assert!((1_790..=1_800).contains(&after), "{after}");
    let metrics = reviews.metrics.encode();
    let counted = "mesh_rate_limited_total{dst_service=\"reviews\",route=\"\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let record = reviews.record(|record| record["code"] == 429).await;
    assert_eq!(record["reason"], "rate_limited");
    // A swap that leaves the limit as it is gives nobody more.
    let same = vec![limit(2, Vec::new()), limit(100, Vec::new())];
    reviews.apply(&admitting(&mesh, same));
    assert_eq!(send(outbound, get("/")).await.status, 429);
    reviews.apply(&admitting(&mesh, vec![limit(3, Vec::new())]));
    assert_eq!(send(outbound, get("/")).await.status, 200);
    assert_eq!(application.requests(), 3);
}

#[tokio::test]
async fn each_key_for_itself_and_in_the_words_of_policy() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut by_user = limit(1, vec![RequestKey::Header("user".to_owned())]);
    by_user.respond = Some(Respond {
        status: 503,
        body: "later".to_owned(),
        headers: Vec::new(),
    });
    reviews.apply(&admitting(&mesh, vec![by_user]));
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let ask = async |user: &'static str| {
        let mut request = get("/");
        let user = http::HeaderValue::from_static(user);
        request.headers_mut().insert("user", user);
        send(productpage.outbound(), request).await
    };
    assert_eq!(ask("ann").await.status, 200);
    assert_eq!(ask("bob").await.status, 200);
    let again = ask("ann").await;
    assert_eq!(
        (again.status, &*again.body),
        (StatusCode::SERVICE_UNAVAILABLE, &b"later"[..])
    );
    assert!(again.headers.contains_key("retry-after"));
}
