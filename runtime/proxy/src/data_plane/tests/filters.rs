//! What routes do to requests and answers on their way, over real sockets.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use mesh_bundle::slice::{
    Answer, Condition, Cors, Fault, FaultAbort, FaultDelay, HeaderEdits, HeaderLine, PathPattern,
    PathPatternKind, Redirect, Respond, Rewrite, Route, RouteMatch,
};

use super::harness::*;

/// Through a route that was changed.
async fn through(change: impl FnOnce(&mut Route), request: Request<TestBody>) -> (Proxy, Got) {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut route = route();
    change(&mut route);
    let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
    let got = send(productpage.outbound(), request).await;
    (productpage, got)
}

fn line(name: &str, value: &str) -> HeaderLine {
    HeaderLine {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn template(text: &str) -> Condition {
    Condition::Path(vec![PathPattern {
        kind: PathPatternKind::Template(text.to_owned()),
        ignore_case: false,
    }])
}

#[tokio::test]
async fn headers_are_edited_by_the_route_and_then_by_the_destination() {
    let edit = |route: &mut Route| {
        let edits = |who: &str| HeaderEdits {
            set: vec![line("x-set", who)],
            add: vec![line("x-added", who)],
            remove: vec!["x-gone".to_owned()],
        };
        route.filters.request_headers = edits("route");
        route.filters.response_headers = edits("route");
        route.destinations[0].request_headers.set = vec![line("x-set", "destination")];
        route.destinations[0].response_headers.set = vec![line("x-set", "destination")];
        route.filters.response_headers.remove = vec!["x-name".to_owned()];
    };
    let request = Request::get("/")
        .header("host", "reviews")
        .header("x-gone", "1")
        .body(empty())
        .unwrap();
    let (_proxy, got) = through(edit, request).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("got-x-set"), "destination");
    assert_eq!(got.header("got-x-added"), "route");
    assert_eq!(got.header("got-x-gone"), "");
    assert_eq!(got.header("x-set"), "destination");
    assert_eq!(got.header("x-added"), "route");
    assert_eq!(got.header("x-name"), "");
}

#[tokio::test]
async fn a_request_is_matched_as_received_and_then_rewritten() {
    let rewrite = |route: &mut Route| {
        route.matches = vec![RouteMatch {
            conditions: vec![template("/old/{id}/**")],
        }];
        route.filters.rewrite = Some(Rewrite {
            path: Some("/new/**".to_owned()),
            host: Some("reviews.internal".to_owned()),
        });
    };
    let (proxy, got) = through(rewrite, get("/old/7/a/b?q=1")).await;
    assert_eq!(got.header("x-path"), "/new/a/b?q=1");
    assert_eq!(got.header("got-host"), "reviews.internal");
    // The log says what was asked for.
    proxy.record(|record| record["path"] == "/old/7/a/b").await;
}

/// A destination may be another port of the service, which has endpoints of its own.
#[tokio::test]
async fn a_destination_may_name_the_port() {
    const ADMIN: u16 = 9081;
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let mut route = route();
    route.destinations[0].target.port = Some(ADMIN);
    let mut slice = mesh.calling(vec![route]);
    let mut admin = slice.callees[0].ports[0];
    admin.number = ADMIN;
    slice.callees[0].ports.push(admin);
    let productpage = mesh.proxy("productpage", None);
    productpage.apply(&slice);
    let mut at = endpoints("reviews", &[("v1", reviews.inbound())]);
    productpage.plane.set_endpoints(at.clone());
    let ask = || {
        let mut request = get("/");
        let named = format!("reviews:{PORT}").parse().unwrap();
        request.headers_mut().insert("host", named);
        request
    };
    let got = send(productpage.outbound(), ask()).await;
    assert_eq!(got.reason(), "no_healthy_upstream");
    at[0].addresses[0].0 = ADMIN;
    productpage.plane.set_endpoints(at);
    let got = send(productpage.outbound(), ask()).await;
    assert_eq!(got.header("x-name"), "v1", "{got:?}");
}

#[tokio::test]
async fn policy_answers_itself() {
    let respond = |route: &mut Route| {
        route.destinations.clear();
        route.answer = Some(Answer::Respond(Respond {
            status: 410,
            body: "gone\n".to_owned(),
            headers: vec![line("content-type", "text/plain")],
        }));
    };
    let (proxy, got) = through(respond, get("/")).await;
    assert_eq!(got.status, StatusCode::GONE);
    assert_eq!(&*got.body, b"gone\n");
    assert_eq!(got.header("content-type"), "text/plain");
    // That is no failure.
    let record = proxy.record(|record| record["code"] == 410).await;
    assert!(record["reason"].is_null(), "{record}");

    let redirect = |route: &mut Route| {
        route.destinations.clear();
        route.matches = vec![RouteMatch {
            conditions: vec![template("/old/**")],
        }];
        route.answer = Some(Answer::Redirect(Redirect {
            scheme: Some("https".to_owned()),
            host: None,
            port: None,
            path: Some("/new/**".to_owned()),
            status: 308,
        }));
    };
    let (_proxy, got) = through(redirect, get("/old/x?q=1")).await;
    assert_eq!(got.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(got.header("location"), "https://reviews/new/x?q=1");
}

#[tokio::test]
async fn faults_are_injected_and_say_so() {
    let fault = |until| {
        move |route: &mut Route| {
            route.filters.fault = Some(Fault {
                delay: Some(FaultDelay {
                    by: Duration::from_millis(1),
                    share: 10_000,
                }),
                abort: Some(FaultAbort {
                    status: 503,
                    share: 10_000,
                }),
                until,
            });
        }
    };
    let (proxy, got) = through(fault(None), get("/")).await;
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(got.reason(), "fault_injected");
    assert!(
        proxy
            .metrics
            .encode()
            .contains("mesh_faults_injected_total 1")
    );
    let (_proxy, got) = through(fault(Some(1)), get("/")).await;
    assert_eq!(got.status, StatusCode::OK, "it ended in 1970");
}

#[tokio::test]
async fn browsers_are_told_who_may_ask() {
    let cors = |route: &mut Route| {
        route.filters.cors = Some(Cors {
            origins: vec!["https://shop.example".to_owned()],
            methods: vec!["PUT".to_owned()],
            ..Cors::default()
        });
    };
    let ask = |method: Method, headers: &[(&str, &str)]| {
        let mut request = get("/");
        *request.method_mut() = method;
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::try_from(*name).unwrap();
                (name, value.parse().unwrap())
            })
            .collect();
        request.headers_mut().extend(headers);
        request
    };
    let origin = ("origin", "https://shop.example");
    let preflight = ask(
        Method::OPTIONS,
        &[origin, ("access-control-request-method", "PUT")],
    );
    let (_proxy, got) = through(cors, preflight).await;
    assert_eq!(got.status, StatusCode::NO_CONTENT);
    assert_eq!(got.header("access-control-allow-methods"), "PUT");
    let (_proxy, got) = through(cors, ask(Method::GET, &[origin])).await;
    assert_eq!(got.header("access-control-allow-origin"), origin.1);
    assert_eq!(got.header("x-name"), "v1", "it reached the application");
    let other = ask(Method::GET, &[("origin", "https://other.example")]);
    let (_proxy, got) = through(cors, other).await;
    assert_eq!(got.header("access-control-allow-origin"), "");
}

/// Copies go elsewhere whole, marked, and nobody waits for their answers.
#[tokio::test]
async fn copies_are_sent_elsewhere() {
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt as _;
    let mesh = Mesh::new();
    let own = Application::named("own").await;
    let copies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&copies);
    let other = Application::http1(move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let mark = request.headers().get("x-mesh-mirrored").cloned();
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            seen.lock().unwrap().push((mark, path, body));
            let mut answer = http::Response::new(full("nobody sees this"));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    })
    .await;
    let (one, two) = (mesh.reviews(own.address), mesh.reviews(other.address));
    let at = [("v1", one.inbound()), ("v2", two.inbound())];
    let mut mirrored = route();
    mirrored.destinations = vec![destination(Some("v1"), 1)];
    let mirror = |subset: &str, share| mesh_bundle::slice::Mirror {
        target: destination(Some(subset), 1).target,
        share,
    };
    mirrored.filters.mirrors = vec![mirror("v2", 10_000), mirror("v1", 0)];
    let productpage = mesh.productpage(vec![mirrored], &at);
    let whole = "x".repeat(100_000);
    for (count, body) in ["", "a body", &whole].into_iter().enumerate() {
        let request = Request::post("/copied").header("host", "reviews");
        let request = request.body(full(body.to_owned())).unwrap();
        let got = send(productpage.outbound(), request).await;
        assert_eq!((got.status, &*got.body), (StatusCode::OK, body.as_bytes()));
        assert!(!got.headers.contains_key("got-x-mesh-mirrored"));
        let came = || copies.lock().unwrap().get(count).cloned();
        let (mark, path, copy) = eventually(came).await;
        assert_eq!(mark.unwrap(), "1");
        assert_eq!((path.as_str(), &*copy), ("/copied", body.as_bytes()));
    }
    assert_eq!(own.requests(), 3);
    let sent = "mesh_mirrored_requests_total{outcome=\"sent\"} 3";
    let metrics = productpage.metrics.encode();
    assert!(metrics.contains(sent), "{metrics}");
}
