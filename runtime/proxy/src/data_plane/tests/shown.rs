//! What the admin socket tells of destinations and of who enters.

use std::time::Duration;

use mesh_bundle::slice::{
    Limits, Outlier, RateLimit, RetryBudget, RetryBudgetKind, RetryCause, Slice,
};
use serde_json::{Value, json};

use super::harness::*;
use crate::admin::pools::pools;

fn shown(proxy: &Proxy, query: &str) -> Value {
    serde_json::from_slice(&pools(&proxy.plane, query).body).unwrap()
}

fn calling(mesh: &Mesh) -> Slice {
    let mut retrying = route();
    retrying.exchange.retry = retry(2, &[RetryCause::ConnectFailure]);
    let mut slice = mesh.calling(vec![retrying]);
    let callee = &mut slice.callees[0];
    callee.retry_budget = Some(RetryBudget {
        share: 2_000,
        kind: RetryBudgetKind::Requests {
            min_count: 10,
            min_per: Duration::from_mins(10),
            window: Duration::from_mins(10),
        },
    });
    callee.pool.limits = Limits {
        requests: Some(7),
        ..Limits::default()
    };
    callee.pool.outlier = Some(Outlier {
        consecutive_5xx: None,
        consecutive_gateway: None,
        consecutive_local: Some(1),
        rates: None,
        every: Duration::from_mins(1),
        eject: Duration::from_mins(2),
        max_ejected: 5_000,
    });
    slice
}

/// Everything that was learned is told, and outlives a swap that changes nothing of what it is about.
#[tokio::test]
async fn what_is_known_of_destinations_is_told_and_survives_a_swap() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let dead = nobody().await;
    let at = [("v1", reviews.inbound()), ("v1", dead)];
    let productpage = mesh.productpage(vec![route()], &at);
    let mut slice = calling(&mesh);
    productpage.apply(&slice);
    for _ in 0..4 {
        assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
    }
    let check = |pool: &Value| {
        assert_eq!(
            (&pool["service"], &pool["subset"]),
            (&json!("reviews"), &Value::Null)
        );
        assert_eq!(pool["balance"], "round-robin");
        let limits = json!([{ "kind": "requests", "used": 0, "most": 7, "adaptive": false }]);
        assert_eq!(pool["limits"], limits);
        let budget = json!({ "of": "requests", "share": 2000, "tries": 4, "retries": 1 });
        assert_eq!(pool["retry_budget"], budget);
        assert_eq!(pool["ejected"], 1);
        let ends = pool["endpoints"].as_array().unwrap();
        let of = |address: String| ends.iter().find(|end| end["address"] == address).unwrap();
        let (well, out) = (of(reviews.inbound().to_string()), of(dead.to_string()));
        assert_eq!(
            (&well["state"], &well["cause"]),
            (&json!("available"), &Value::Null)
        );
        assert_eq!(
            (&out["state"], &out["cause"]),
            (&json!("ejected"), &json!("consecutive_local"))
        );
        assert_eq!(out["ejections"], 1);
        assert!(
            (1..=120_000).contains(&out["ejected_for_ms"].as_u64().unwrap()),
            "{out}"
        );
    };
    // What the last request took is given back once its answer was read.
    let rested = || {
        let pool = shown(&productpage, "")["pools"][0].clone();
        (pool["limits"][0]["used"] == 0).then_some(pool)
    };
    check(&eventually(rested).await);
    slice.callees[0].routes[0].exchange.timeout = Some(Duration::from_secs(9));
    productpage.apply(&slice);
    check(&shown(&productpage, "service=reviews")["pools"][0]);
    assert_eq!(shown(&productpage, "service=other")["pools"], json!([]));
    assert_eq!(pools(&productpage.plane, "sevrice=x").status, 400);
    // Another policy begins anew, and only what it is about.
    slice.callees[0].pool.outlier.as_mut().unwrap().eject = Duration::from_mins(3);
    productpage.apply(&slice);
    let pool = &shown(&productpage, "")["pools"][0];
    assert_eq!(pool["ejected"], 0);
    assert_eq!(pool["retry_budget"]["tries"], 4);
    slice.callees[0].retry_budget.as_mut().unwrap().share = 3_000;
    productpage.apply(&slice);
    assert_eq!(
        shown(&productpage, "")["pools"][0]["retry_budget"]["tries"],
        0
    );
}

#[tokio::test]
async fn rates_are_told() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut slice = mesh.admitting("reviews", &["productpage"]);
    slice.access.services[0].rate_limits = vec![RateLimit {
        count: 3,
        per: Duration::from_hours(1),
        burst: 3,
        keys: Vec::new(),
        via: None,
        route: None,
        conditions: Vec::new(),
        respond: None,
    }];
    reviews.apply(&slice);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
    let expected = json!([{
        "service": "reviews", "route": null, "count": 3, "per_ms": 3_600_000, "burst": 3,
        "keyed": false, "room": 2, "keys": null,
    }]);
    assert_eq!(shown(&reviews, "")["rate_limits"], expected);
    reviews.apply(&slice);
    assert_eq!(
        shown(&reviews, "")["rate_limits"],
        expected,
        "it survives a swap"
    );
}
