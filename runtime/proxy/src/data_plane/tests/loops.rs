//! Requests that come back to where they were: drill D21.

use super::harness::*;
use crate::data_plane::{DataPlane, PortBinding};
use crate::limits::Limits;
use std::sync::Arc;

use mesh_daemon::telemetry::Metrics;

/// The application behind `reviews` is the outbound listener of its caller, which sends it there again.
#[tokio::test]
async fn a_request_that_goes_round_ends() {
    let mesh = Mesh::new();
    let caller = mesh.proxy("productpage", None);
    let reviews = mesh.reviews(caller.outbound());
    caller
        .plane
        .set_endpoints(endpoints("reviews", &[("v1", reviews.inbound())]));
    caller.apply(&mesh.calling(vec![route()]));
    let got = send(caller.outbound(), get("/")).await;
    assert_eq!(got.status, 508);
    let record = reviews.record(|record| record["reason"] == "loop").await;
    assert_eq!(record["code"], 508);
    let rounds = Limits::default().hops;
    eventually(|| (caller.records().len() >= rounds).then_some(())).await;
    assert_eq!(caller.records().len(), rounds);
    // What is no number is no way out either.
    let mut request = get("/");
    request
        .headers_mut()
        .insert("x-mesh-hops", "none".parse().unwrap());
    assert_eq!(send(caller.outbound(), request).await.reason(), "loop");
}

#[tokio::test]
async fn a_proxy_is_not_its_own_application() {
    let mesh = Mesh::new();
    let credentials = mesh.authority.credentials("/service/reviews");
    let free = nobody().await;
    let settings = settings(|settings| {
        settings.outbound = free;
        settings.ports = vec![PortBinding {
            service_port: PORT,
            inbound: Some(loopback()),
            application: free,
        }];
    });
    let started = DataPlane::open(
        settings,
        credentials,
        &Metrics::new("meshp", "0"),
        &Arc::default(),
    );
    let refused = started.unwrap_err().to_string();
    assert!(refused.contains("is this proxy itself"), "{refused}");
}
