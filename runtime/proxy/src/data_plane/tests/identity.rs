//! Who is let in and who is spoken to.

use mesh_bundle::revocations::{Revocation, Revocations, RevokedSubject};
use mesh_bundle::slice::Condition;
use mesh_daemon::test_util::TestAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::*;

#[tokio::test]
async fn the_callee_decides_who_enters() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
    reviews.apply(&mesh.admitting("reviews", &["details"]));
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!((got.status.as_u16(), got.reason()), (403, "authz_denied"));
    assert_eq!(application.requests(), 1);
    let record = reviews
        .record(|record| record["reason"] == "authz_denied")
        .await;
    assert_eq!(
        record["src_identity"],
        "spiffe://shop.example/service/productpage"
    );

    let mut slice = mesh.admitting("reviews", &["productpage"]);
    slice.access.services[0].rules[0].conditions = vec![Condition::Method(vec!["POST".to_owned()])];
    reviews.apply(&slice);
    assert_eq!(send(productpage.outbound(), get("/")).await.status, 403);
}

#[tokio::test]
async fn plaintext_is_not_let_in() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut tcp = TcpStream::connect(reviews.inbound()).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    drop(tcp.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(application.requests(), 0);
    let record = reviews
        .record(|record| record["reason"] == "tls_failure")
        .await;
    assert_eq!(record["peer"], "127.0.0.1");
    assert!(
        reviews
            .metrics
            .encode()
            .contains("mesh_tls_handshakes_failed_total{side=\"server\"")
    );
}

#[tokio::test]
async fn nobody_is_spoken_to_who_is_not_the_callee() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let impostor = mesh.proxy("details", Some(application.address));
    impostor.apply(&mesh.admitting("details", &["productpage"]));
    let productpage = mesh.productpage(vec![route()], &[("v1", impostor.inbound())]);
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!((got.status.as_u16(), got.reason()), (503, "tls_failure"));

    // In plaintext neither.
    let productpage = mesh.productpage(vec![route()], &[("v1", application.address)]);
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(got.status.as_u16(), 503, "{got:?}");
    assert_eq!(application.requests(), 0);
}

#[tokio::test]
async fn strangers_are_refused_with_a_reason() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let stranger = TestAuthority::new("evil.example");
    let credentials = stranger.credentials("/service/productpage");
    credentials.set_trust(mesh.authority.trust());
    let caller = Proxy::start(credentials, None);
    caller
        .plane
        .set_endpoints(endpoints("reviews", &[("v1", reviews.inbound())]));
    caller.apply(&mesh.calling(vec![route()]));
    let got = send(caller.outbound(), get("/")).await;
    assert_eq!((got.status.as_u16(), got.reason()), (503, "tls_failure"));
    let record = reviews
        .record(|record| record["reason"] == "tls_failure")
        .await;
    assert_eq!(record["tls_reason"], "wrong_trust_domain");
    assert_eq!(application.requests(), 0);
}

#[tokio::test]
async fn a_revoked_peer_is_cut_off_at_once() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
    let subject = RevokedSubject::SpiffeId(mesh.id("productpage"));
    let entries = vec![Revocation {
        subject,
        issued_before: None,
    }];
    let revocations = Revocations {
        version: 1,
        issued_ms: 1,
        entries,
    };
    reviews
        .credentials
        .set_trust(mesh.authority.trust().with_revocations(revocations));
    reviews.plane.recheck_peers();
    // The pooled connection is gone, and a new one is not to be had.
    eventually(|| {
        let text = reviews.metrics.encode();
        text.contains("mesh_connections_open{reporter=\"destination\"} 0")
            .then_some(())
    })
    .await;
    loop {
        let got = send(productpage.outbound(), get("/")).await;
        assert_eq!(got.status.as_u16(), 503);
        // The caller's proxy may not have noticed yet that the old connection is gone.
        if got.reason() != "upstream_reset" {
            assert_eq!(got.reason(), "tls_failure");
            break;
        }
    }
    assert_eq!(application.requests(), 1);
}

#[tokio::test]
async fn a_new_certificate_costs_no_connection() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    for _ in 0..5 {
        assert_eq!(send(productpage.outbound(), get("/")).await.status, 200);
        productpage
            .credentials
            .set_svid(mesh.authority.svid("/service/productpage"));
        reviews
            .credentials
            .set_svid(mesh.authority.svid("/service/reviews"));
        reviews.plane.recheck_peers();
        productpage.plane.recheck_peers();
    }
    let connected = productpage
        .records()
        .iter()
        .filter(|record| !record["connect_ms"].is_null())
        .count();
    assert!(connected <= 1, "{connected} connections");
}
