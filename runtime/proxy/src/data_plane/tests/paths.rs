//! Paths that hold what only some routes accept.

use http::StatusCode;
use mesh_bundle::slice::{
    Condition, InboundService, PathAccepts, PathPattern, PathPatternKind, Port, Protocol, Route,
    RouteFilters, RouteMatch, Slice,
};

use super::harness::*;

/// A route that takes what is below `/files`, and accepts this.
fn files(accepts: &[PathAccepts]) -> Route {
    Route {
        name: "files".to_owned(),
        matches: vec![RouteMatch {
            conditions: vec![Condition::Path(vec![PathPattern {
                kind: PathPatternKind::Template("/files/**".to_owned()),
                ignore_case: false,
            }])],
        }],
        filters: RouteFilters {
            path_accepts: accepts.to_vec(),
            ..RouteFilters::default()
        },
        ..route()
    }
}

fn accepting(mesh: &Mesh, accepts: &[PathAccepts]) -> Slice {
    let mut slice = mesh.admitting("reviews", &["productpage"]);
    slice.access.services[0].path_accepts = accepts.to_vec();
    slice
}

#[tokio::test]
async fn a_route_lets_through_what_it_accepts_and_no_other_does() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    reviews.apply(&accepting(&mesh, &[PathAccepts::EncodedSlash]));
    let routes = vec![files(&[PathAccepts::EncodedSlash]), route()];
    let productpage = mesh.productpage(routes, &[("v1", reviews.inbound())]);
    let ask = async |path: &str| send(productpage.outbound(), get(path)).await;
    let got = ask("/files/a%2fb?c=%2f").await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(
        got.header("x-path"),
        "/files/a%2Fb?c=%2f",
        "one form, as it came"
    );
    for (path, reason) in [
        ("/other/a%2fb", "bad_request:path_encoded_slash"),
        ("/files/a;b", "bad_request:path_semicolon"),
        ("/files/a%5cb", "bad_request:path_encoded_backslash"),
        ("/files/..%2fadmin", "bad_request:path_encoded_slash"),
        ("/files/a%2fb/..", "bad_request:path_encoded_slash"),
    ] {
        let got = ask(path).await;
        assert_eq!(
            (got.status, got.reason()),
            (StatusCode::BAD_REQUEST, reason),
            "{path}"
        );
    }
    assert_eq!(application.requests(), 1);
    // The callee's own proxy stands on what its own routes accept, whatever a caller's says.
    reviews.apply(&accepting(&mesh, &[]));
    let got = ask("/files/a%2fb").await;
    assert_eq!(got.reason(), "bad_request:path_encoded_slash");
    let record = reviews.record(|record| record["code"] == 400).await;
    assert_eq!(record["reason"], "bad_request:path_encoded_slash");
    assert_eq!(application.requests(), 1);
}

/// What one callee accepts is no reason to let it pass to another.
#[tokio::test]
async fn callees_are_apart() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    reviews.apply(&accepting(&mesh, &[PathAccepts::Semicolon]));
    let productpage = mesh.productpage(Vec::new(), &[("v1", reviews.inbound())]);
    let mut slice = mesh.calling(vec![files(&[PathAccepts::Semicolon]), route()]);
    let mut other = slice.callees[0].clone();
    other.service = "ratings".to_owned();
    other.hosts = vec!["ratings".to_owned()];
    other.routes = vec![route()];
    slice.callees.push(other);
    slice.callees.sort_by(|a, b| a.service.cmp(&b.service));
    productpage.apply(&slice);
    let mut request = get("/files/a;b");
    request
        .headers_mut()
        .insert("host", "ratings".parse().unwrap());
    let got = send(productpage.outbound(), request).await;
    assert_eq!(got.reason(), "bad_request:path_semicolon");
    let got = send(productpage.outbound(), get("/files/a;b")).await;
    assert_eq!(
        (got.status, got.header("x-path")),
        (StatusCode::OK, "/files/a;b")
    );
}

#[tokio::test]
async fn a_gateway_and_the_route_behind_it_both_accept() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut slice = mesh.admitting("reviews", &[]);
    let public = mesh.authority.id("/gateway/public");
    slice.access.services[0] = InboundService {
        rules: vec![allow(mesh_bundle::slice::Principal::SpiffeId(public))],
        path_accepts: vec![PathAccepts::EncodedSlash],
        ..slice.access.services[0].clone()
    };
    reviews.apply(&slice);
    let port = Port {
        number: 8080,
        protocol: Protocol::Http,
    };
    let gateway = mesh.gateway(&reviews);
    let rules = || vec![allow(mesh_bundle::slice::Principal::Unauthenticated)];
    let entered = |of_gateway: &[PathAccepts], behind: &[PathAccepts]| {
        let mut everyone = route();
        everyone.filters.path_accepts = behind.to_vec();
        let mut slice = mesh.entered_by(mesh.calling(vec![everyone]), port, "reviews", rules());
        slice.gateways[0].routes[0].filters.path_accepts = of_gateway.to_vec();
        slice
    };
    let slash = [PathAccepts::EncodedSlash];
    for (of_gateway, behind, expected) in [
        (&slash[..], &slash[..], StatusCode::OK),
        (&slash[..], &[], StatusCode::BAD_REQUEST),
        (&[], &slash[..], StatusCode::BAD_REQUEST),
    ] {
        gateway.apply(&entered(of_gateway, behind));
        let got = send(gateway.listener(8080), get("/a%2fb")).await;
        assert_eq!(got.status, expected, "{of_gateway:?} {behind:?}");
    }
    assert_eq!(application.requests(), 1);
}
