//! What the access log holds, by policy and as the proxy was told at start.

use http::Request;
use mesh_bundle::slice::{
    AccessLog, AccessLogFilter, AccessLogFormat, Condition, StatusRange, Telemetry,
};

use super::harness::*;
use crate::access_log::{LogDefaults, only};

fn telling(service: &str, format: AccessLogFormat, only: Vec<AccessLogFilter>) -> Vec<Telemetry> {
    vec![Telemetry {
        service: service.to_owned(),
        access_log: Some(AccessLog { format, only }),
        traces: None,
    }]
}

fn asked(method: &str, path: &str, agent: &str) -> Request<TestBody> {
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header("host", "reviews")
        .header("user-agent", agent);
    request.body(empty()).unwrap()
}

#[tokio::test]
async fn policy_says_what_is_logged_and_how() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.proxy("reviews", Some(application.address));
    let mut admitting = mesh.admitting("reviews", &["productpage"]);
    let denied = AccessLogFilter {
        statuses: vec![StatusRange { from: 400, to: 499 }],
        ..AccessLogFilter::default()
    };
    let posts = AccessLogFilter {
        conditions: vec![Condition::Method(vec!["POST".to_owned()])],
        ..AccessLogFilter::default()
    };
    admitting.telemetry = telling("reviews", AccessLogFormat::Json, vec![denied, posts]);
    reviews.apply(&admitting);
    let productpage = mesh.proxy("productpage", None);
    let at = endpoints("reviews", &[("v1", reviews.inbound())]);
    productpage.plane.set_endpoints(at);
    let mut calling = mesh.calling(vec![route()]);
    calling.telemetry = telling("productpage", AccessLogFormat::Text, Vec::new());
    productpage.apply(&calling);
    for request in [
        asked("GET", "/quiet", "curl \"x\" \\"),
        asked("POST", "/loud", "b"),
    ] {
        assert_eq!(send(productpage.outbound(), request).await.status, 200);
    }
    let record = reviews.record(|_| true).await;
    assert_eq!(record["path"], "/loud");
    assert_eq!(reviews.records().len(), 1);
    let lines = eventually(|| {
        let text = productpage.log_text();
        (text.lines().count() == 2).then_some(text)
    })
    .await;
    let line = lines.lines().find(|line| line.contains("/quiet")).unwrap();
    let (time, rest) = line.split_once("] ").unwrap();
    assert!(time.starts_with("[20") && time.ends_with('Z'), "{line}");
    let upstream = reviews.inbound();
    assert!(
        rest.starts_with("\"GET /quiet HTTP/1.1\" 200 - 0 0 "),
        "{line}"
    );
    let end = format!(" \"-\" \"curl \\\"x\\\" \\\\\" \"-\" \"reviews\" \"{upstream}\"");
    assert!(rest.ends_with(&end), "{line} {end}");
}

#[tokio::test]
async fn a_proxy_is_told_at_start_what_holds_where_policy_is_silent() {
    let mesh = Mesh::new();
    let credentials = mesh.authority.credentials("/service/productpage");
    let productpage = Proxy::start_as(credentials, None, |settings| {
        settings.log = LogDefaults {
            only: vec![only("errors").unwrap()],
            ..LogDefaults::default()
        };
    });
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let at = endpoints("reviews", &[("v1", reviews.inbound())]);
    productpage.plane.set_endpoints(at);
    productpage.apply(&mesh.calling(vec![route()]));
    assert_eq!(send(productpage.outbound(), get("/well")).await.status, 200);
    let unknown = Request::builder().uri("/bad").header("host", "nobody");
    let unknown = unknown.body(empty()).unwrap();
    assert_eq!(send(productpage.outbound(), unknown).await.status, 403);
    let record = productpage.record(|_| true).await;
    assert_eq!(record["reason"], "authz_denied");
    assert_eq!(productpage.records().len(), 1);
    // `none` of policy is none, whatever the proxy was told.
    let mut silent = mesh.calling(vec![route()]);
    silent.telemetry = telling("productpage", AccessLogFormat::None, Vec::new());
    productpage.apply(&silent);
    let unknown = Request::builder().uri("/bad").header("host", "nobody");
    let unknown = unknown.body(empty()).unwrap();
    assert_eq!(send(productpage.outbound(), unknown).await.status, 403);
    productpage.apply(&mesh.calling(vec![route()]));
    let last = Request::builder().uri("/last").header("host", "nobody");
    send(productpage.outbound(), last.body(empty()).unwrap()).await;
    productpage.record(|record| record["path"] == "/last").await;
    assert_eq!(productpage.records().len(), 2);
}
