//! Connections that were redirected. (That the kernel sends them here is for `tests/netns`, which needs a
//! network namespace; here is what is made of them.)

use std::net::SocketAddr;

use mesh_bundle::slice::{
    Callee, CalleeKind, DeclaredEndpoint, EndpointAddress, EndpointSource, Slice,
};
use mesh_daemon::telemetry::Reason;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::harness::*;
use crate::data_plane::Intercept;

fn at(address: &str) -> EndpointSource {
    EndpointSource::Declared(vec![DeclaredEndpoint {
        address: EndpointAddress::Static(address.parse().unwrap()),
        port: PORT,
        labels: Vec::new(),
    }])
}

fn intercepting(mesh: &Mesh, service: &str) -> Proxy {
    let credentials = mesh.authority.credentials(&format!("/service/{service}"));
    Proxy::start_as(credentials, None, |settings| {
        settings.intercept = Some(Intercept {
            inbound_port: 0,
            other_ports: Vec::new(),
        });
    })
}

fn slice(mesh: &Mesh) -> Slice {
    let mut slice = mesh.calling(vec![route()]);
    let reviews = &mut slice.callees[0];
    reviews.addresses = vec![
        "10.96.0.10/32".parse().unwrap(),
        "fd00:96::10/128".parse().unwrap(),
    ];
    reviews.endpoints = at("10.0.0.1:9080");
    let like = |service: &str, change: &dyn Fn(&mut Callee)| {
        let mut other = slice.callees[0].clone();
        service.clone_into(&mut other.service);
        other.hosts = vec![service.to_owned()];
        other.addresses.clear();
        change(&mut other);
        other
    };
    let others = [
        like("ratings", &|other| other.endpoints = at("10.0.0.2:9080")),
        like("details", &|other| other.endpoints = at("10.0.0.2:9080")),
        like("stripe", &|other| {
            other.kind = CalleeKind::External { via: None };
            other.endpoints = at("203.0.113.1:443");
        }),
    ];
    slice.callees.extend(others);
    slice
}

/// design.md, "Finding the service".
#[tokio::test]
async fn the_destination_says_what_is_called() {
    let mesh = Mesh::new();
    let proxy = intercepting(&mesh, "productpage");
    let prepared = proxy.plane.prepare(&slice(&mesh), "0.1.1").unwrap();
    let check = |address: &str, host: &str, expected: Option<(&str, Option<&str>)>| {
        let address: SocketAddr = address.parse().unwrap();
        let meant = prepared.tables.meant(address, Some(host));
        let pinned = meant
            .as_ref()
            .and_then(|meant| meant.pinned.as_ref())
            .map(|endpoint| endpoint.address().to_string());
        let found = meant.map(|meant| meant.callee.service());
        let found = found.map(|service| (service, pinned.as_deref()));
        assert_eq!(found, expected, "{address} {host}");
    };
    // A virtual address is the service, whatever the host says.
    check("10.96.0.10:9080", "reviews", Some(("reviews", None)));
    check("10.96.0.10:9080", "ratings", Some(("reviews", None)));
    check("[fd00:96::10]:9080", "x", Some(("reviews", None)));
    check("[::ffff:10.96.0.10]:9080", "x", Some(("reviews", None)));
    check("10.96.0.10:80", "reviews", None);
    // That of an endpoint is this endpoint.
    check(
        "10.0.0.1:9080",
        "ratings",
        Some(("reviews", Some("10.0.0.1:9080"))),
    );
    check("10.0.0.1:9081", "reviews", None);
    // Of two services that share one, the host decides; of strangers, nobody is meant.
    check(
        "10.0.0.2:9080",
        "details",
        Some(("details", Some("10.0.0.2:9080"))),
    );
    check("10.0.0.2:9080", "reviews", None);
    // What nobody has is outside: there the name counts, but no name leads into the mesh.
    check("198.51.100.7:9080", "stripe", Some(("stripe", None)));
    check("203.0.113.1:443", "reviews", None);
    check("198.51.100.7:9080", "reviews", None);
    check("198.51.100.7:443", "stripe", None);
}

/// bad-inputs row 73: "from another pod: connect straight to inbound".
#[tokio::test]
async fn a_connection_that_was_not_redirected_is_not_taken_in() {
    let mesh = Mesh::new();
    let proxy = intercepting(&mesh, "reviews");
    proxy.apply(&mesh.admitting("reviews", &["productpage"]));
    let port = proxy.plane.bound().intercepted[0].port();
    // It may be reset before the client has seen it begin.
    if let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", port)).await {
        let ended = tcp.read(&mut [0; 1]).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
    let record = proxy.record(|record| record["reason"] == "loop").await;
    assert_eq!(record["reporter"], "destination");
    assert_eq!(record["peer"], "127.0.0.1");
    let metrics = proxy.metrics.encode();
    let reason = format!("reason=\"{}\"", Reason::Loop.name());
    let line = metrics
        .lines()
        .find(|line| line.starts_with("mesh_refused_connections_total{") && line.contains(&reason));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
}

/// "explicit mode stays".
#[tokio::test]
async fn beside_it_the_host_still_names_the_service() {
    let mesh = Mesh::new();
    let application = Application::named("reviews").await;
    let reviews = mesh.reviews(application.address);
    let proxy = intercepting(&mesh, "productpage");
    proxy
        .plane
        .set_endpoints(endpoints("reviews", &[("v1", reviews.inbound())]));
    proxy.apply(&mesh.calling(vec![route()]));
    let got = send(proxy.outbound(), get("/")).await;
    assert_eq!(got.status, 200);
    let unknown = http::Request::builder()
        .uri("/")
        .header("host", "nobody")
        .body(empty());
    let got = send(proxy.outbound(), unknown.unwrap()).await;
    assert_eq!(got.reason(), "authz_denied");
}
