//! Services that are asked about a request before it enters: authorizers over HTTP and gRPC, and those that count.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use mesh_bundle::slice::{
    Authorizer, AuthorizerProtocol, Balance, Callee, CalleeKind, Condition, DeclaredEndpoint,
    EndpointAddress, EndpointSource, OnFailure, PathPattern, PathPatternKind, Port, Protocol,
    RateLimit, RequestKey, Requirement, RequirementKind, Slice, Target,
};
use prost::Message;

use super::harness::*;
use crate::access::messages::{
    Admitted, CheckRequest, CheckResponse, Denied, DescriptorStatus, Header, HeaderOption,
    HttpStatus, RateLimitRequest, RateLimitResponse, Status, Timestamp, Unit,
};

/// A service without a sidecar that is asked.
fn asked(name: &str, at: SocketAddr, protocol: Protocol) -> Callee {
    Callee {
        service: name.to_owned(),
        hosts: vec![name.to_owned()],
        ports: vec![Port {
            number: 9000,
            protocol,
        }],
        kind: CalleeKind::Unmeshed,
        endpoints: EndpointSource::Declared(vec![DeclaredEndpoint {
            address: EndpointAddress::Static(at),
            port: 9000,
            labels: Vec::new(),
        }]),
        routes: vec![route()],
        balance: Balance::RoundRobin,
        ..Callee::default()
    }
}

fn target(name: &str) -> Target {
    Target {
        service: name.to_owned(),
        ..Target::default()
    }
}

fn authorizer(protocol: AuthorizerProtocol, on_failure: OnFailure) -> Authorizer {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Authorizer {
        name: "opa".to_owned(),
        to: target("opa"),
        protocol,
        timeout: Duration::from_secs(5),
        on_failure,
        send_headers: names(&["authorization", "x-tenant"]),
        keep_headers: names(&["x-user", "x-mesh-peer"]),
        return_headers: names(&["location", "www-authenticate"]),
        body_bytes: 0,
    }
}

/// A service that an authorizer guards, but for `/open`.
struct Shop {
    mesh: Mesh,
    application: Application,
    reviews: Proxy,
    productpage: Proxy,
}

impl Shop {
    async fn open() -> Self {
        let mesh = Mesh::new();
        let application = Application::named("v1").await;
        let reviews = mesh.proxy("reviews", Some(application.address));
        let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
        Self {
            mesh,
            application,
            reviews,
            productpage,
        }
    }

    fn guard(&self, authorizer: Authorizer, callee: Callee) {
        self.reviews.apply(&self.guarded(authorizer, callee));
    }

    fn guarded(&self, authorizer: Authorizer, callee: Callee) -> Slice {
        let mut slice = self.mesh.admitting("reviews", &["productpage"]);
        let open = Condition::Path(vec![PathPattern {
            kind: PathPatternKind::Template("/open".to_owned()),
            ignore_case: false,
        }]);
        slice.access.services[0].requirements = vec![Requirement {
            kind: RequirementKind::RequireAuthorizer(authorizer.name.clone()),
            route: None,
            conditions: vec![Condition::Not(Box::new(open))],
        }];
        slice.access.authorizers = vec![authorizer];
        slice.callees = vec![callee];
        slice
    }

    async fn ask(&self, path: &str, headers: &[(&'static str, &'static str)]) -> Got {
        let mut request = get(path);
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(*name, value);
        }
        send(self.productpage.outbound(), request).await
    }

    #[track_caller]
    fn counted(&self, outcome: &str, times: usize) {
        let line = format!(
            "mesh_authorizer_requests_total{{dst_service=\"reviews\",authorizer=\"opa\",outcome=\"{outcome}\"}} {times}"
        );
        let metrics = self.reviews.metrics.encode();
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

/// What an authorizer over HTTP was asked.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// One that admits whoever says `good`, sends those without a word elsewhere, and breaks on `broken`.
async fn http_authorizer() -> (Application, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let authorizer = Application::http1(move |request: Request<Incoming>| {
        let line = format!("{} {}", request.method(), request.uri());
        let headers = request.headers().clone();
        noted.lock().unwrap().push((line, headers.clone()));
        async move {
            let said = headers.get("authorization").map(HeaderValue::as_bytes);
            let (status, name, value) = match said {
                Some(b"good") => (200, "x-user", "ann"),
                Some(b"broken") => (503, "x-user", "root"),
                Some(_) => (403, "x-secret", "1"),
                None => (302, "location", "https://id.example/login"),
            };
            let mut response = Response::new(full(if status == 403 { "no" } else { "" }));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
            headers.insert("x-mesh-peer", HeaderValue::from_static("spiffe://a/root"));
            response
        }
    })
    .await;
    (authorizer, seen)
}

#[tokio::test]
async fn an_authorizer_over_http_lets_in_adds_and_refuses() {
    let shop = Shop::open().await;
    let (opa, seen) = http_authorizer().await;
    let callee = asked("opa", opa.address, Protocol::Http);
    shop.guard(
        authorizer(AuthorizerProtocol::Http, OnFailure::Deny),
        callee,
    );

    let good = [
        ("authorization", "good"),
        ("x-user", "root"),
        ("x_user", "root"),
        ("x-other", "1"),
    ];
    let got = shop.ask("/a?b=c", &good).await;
    assert_eq!(
        (got.status, got.header("got-x-user")),
        (StatusCode::OK, "ann")
    );
    assert!(!got.headers.contains_key("got-x_user"), "{:?}", got.headers);
    // The mesh's own word about who calls is nobody else's.
    assert!(
        got.header("got-x-mesh-peer")
            .ends_with("/service/productpage")
    );
    let (line, headers) = seen.lock().unwrap().pop().unwrap();
    assert_eq!(line, "GET /a?b=c");
    assert_eq!(headers["authorization"], "good");
    assert_eq!(headers["host"], "reviews");
    assert!(
        !headers.contains_key("x-other") && !headers.contains_key("x-user"),
        "{headers:?}"
    );

    let login = shop.ask("/", &[]).await;
    let told = (login.status, login.header("location"), login.reason());
    assert_eq!(
        told,
        (
            StatusCode::FOUND,
            "https://id.example/login",
            "ext_authz_denied"
        )
    );
    let no = shop.ask("/", &[("authorization", "bad")]).await;
    assert_eq!((no.status, &*no.body), (StatusCode::FORBIDDEN, &b"no"[..]));
    assert!(!no.headers.contains_key("x-secret"), "{:?}", no.headers);
    let broken = shop.ask("/", &[("authorization", "broken")]).await;
    assert_eq!(
        (broken.status, broken.reason()),
        (StatusCode::FORBIDDEN, "ext_authz_denied")
    );

    // Nobody is asked about this one, and nobody else says who the user is.
    let asked_before = opa.requests();
    let open = shop.ask("/open", &[("x-user", "root")]).await;
    assert_eq!(open.status, 200);
    assert!(!open.headers.contains_key("got-x-user"));
    assert_eq!(opa.requests(), asked_before);
    assert_eq!(shop.application.requests(), 2);
    shop.counted("allowed", 1);
    shop.counted("denied", 2);
    shop.counted("failed_closed", 1);
    let refused = |record: &serde_json::Value| record["reason"] == "ext_authz_denied";
    shop.reviews.record(refused).await;
}

#[tokio::test]
async fn no_answer_is_what_policy_says_that_it_is() {
    let shop = Shop::open().await;
    let dead = asked("opa", nobody().await, Protocol::Http);
    for protocol in [AuthorizerProtocol::Http, AuthorizerProtocol::Grpc] {
        shop.guard(authorizer(protocol, OnFailure::Deny), dead.clone());
        let got = shop.ask("/", &[]).await;
        assert_eq!(
            (got.status, got.reason()),
            (StatusCode::FORBIDDEN, "ext_authz_denied")
        );
        shop.guard(authorizer(protocol, OnFailure::Allow), dead.clone());
        let got = shop.ask("/", &[("x-user", "root")]).await;
        assert_eq!(got.status, 200);
        assert!(!got.headers.contains_key("got-x-user"));
    }
    shop.counted("failed_closed", 2);
    shop.counted("failed_open", 2);
    // One that never answers is given up.
    let silent = Application::http1(|_request| async {
        std::future::pending::<()>().await;
        Response::new(empty())
    })
    .await;
    let mut patient = authorizer(AuthorizerProtocol::Http, OnFailure::Deny);
    patient.timeout = Duration::from_millis(50);
    shop.guard(patient, asked("opa", silent.address, Protocol::Http));
    assert_eq!(shop.ask("/", &[]).await.status, StatusCode::FORBIDDEN);
    shop.counted("failed_closed", 3);
    // As is one that says too much.
    let long =
        Application::http1(|_request| async { Response::new(full(vec![b'a'; 100_000])) }).await;
    let deny = authorizer(AuthorizerProtocol::Http, OnFailure::Deny);
    shop.guard(deny, asked("opa", long.address, Protocol::Http));
    assert_eq!(shop.ask("/", &[]).await.status, StatusCode::FORBIDDEN);
    shop.counted("failed_closed", 4);
}

/// A method of gRPC that has one message each way; `None`: it fails.
async fn grpc<Asked, Told>(
    path: &'static str,
    answer: impl Fn(Asked) -> Option<Told> + Clone + Send + Sync + 'static,
) -> Application
where
    Asked: Message + Default,
    Told: Message + 'static,
{
    Application::http2(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            assert_eq!(request.uri().path(), path);
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let asked = Asked::decode(body.slice(5..)).unwrap();
            let told = answer(asked);
            let status = if told.is_some() { "0" } else { "14" };
            let mut framed = BytesMut::new();
            if let Some(told) = told {
                framed.put_u8(0);
                framed.put_u32(u32::try_from(told.encoded_len()).unwrap());
                told.encode(&mut framed).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            let frames: [Result<Frame<Bytes>, Infallible>; 2] = [
                Ok(Frame::data(framed.freeze())),
                Ok(Frame::trailers(trailers)),
            ];
            let body = StreamBody::new(stream::iter(frames));
            Response::new(body.map_err(|never| match never {}).boxed())
        }
    })
    .await
}

fn option(key: &str, value: &str) -> HeaderOption {
    HeaderOption {
        header: Some(Header {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
    }
}

#[tokio::test]
async fn an_authorizer_over_grpc_is_asked_as_envoy_asks() {
    let shop = Shop::open().await;
    let opa = grpc(
        "/envoy.service.auth.v3.Authorization/Check",
        |asked: CheckRequest| {
            let attributes = asked.attributes.unwrap();
            let http = attributes.request.unwrap().http.unwrap();
            let caller = attributes.source.unwrap().principal;
            assert_eq!((&*http.method, &*http.host), ("GET", "reviews"));
            assert!(caller.ends_with("/service/productpage"), "{caller}");
            assert_eq!(attributes.destination.unwrap().service, "reviews");
            match http.headers.get("x-tenant").map(String::as_str) {
                Some("one") if http.path == "/a?b=c" => Some(CheckResponse {
                    status: Some(Status { code: 0 }),
                    denied: None,
                    ok: Some(Admitted {
                        headers: vec![
                            option("X-User", "ann"),
                            option("x-unasked", "1"),
                            option("x-mesh-peer", "spiffe://a/root"),
                        ],
                    }),
                }),
                Some("silent") => Some(CheckResponse::default()),
                Some("failing") => None,
                _ => Some(CheckResponse {
                    status: Some(Status { code: 16 }),
                    denied: Some(Denied {
                        status: Some(HttpStatus { code: 401 }),
                        headers: vec![
                            option("www-authenticate", "Tenant"),
                            option("x-unasked", "1"),
                        ],
                        body: "who are you?".to_owned(),
                    }),
                    ok: None,
                }),
            }
        },
    )
    .await;
    let callee = asked("opa", opa.address, Protocol::Grpc);
    shop.guard(
        authorizer(AuthorizerProtocol::Grpc, OnFailure::Deny),
        callee,
    );
    let got = shop
        .ask("/a?b=c", &[("x-tenant", "one"), ("x-user", "root")])
        .await;
    assert_eq!(
        (got.status, got.header("got-x-user")),
        (StatusCode::OK, "ann")
    );
    assert!(
        !got.headers.contains_key("got-x-unasked"),
        "{:?}",
        got.headers
    );
    assert!(
        got.header("got-x-mesh-peer")
            .ends_with("/service/productpage")
    );

    let no = shop.ask("/", &[("x-tenant", "two")]).await;
    let told = (no.status, no.header("www-authenticate"), &*no.body);
    assert_eq!(
        told,
        (StatusCode::UNAUTHORIZED, "Tenant", &b"who are you?"[..])
    );
    assert!(!no.headers.contains_key("x-unasked"));
    // Neither an empty message nor a status of gRPC is a yes.
    for tenant in ["silent", "failing"] {
        let got = shop.ask("/", &[("x-tenant", tenant)]).await;
        assert_eq!(
            (got.status, got.reason()),
            (StatusCode::FORBIDDEN, "ext_authz_denied")
        );
    }
    shop.counted("allowed", 1);
    shop.counted("denied", 1);
    shop.counted("failed_closed", 2);
}

/// One of the mesh is met with mTLS, as any callee, and by its own rules.
#[tokio::test]
async fn an_authorizer_of_the_mesh_is_a_callee_as_any() {
    let shop = Shop::open().await;
    let (opa, _) = http_authorizer().await;
    let guard = shop.mesh.proxy("opa", Some(opa.address));
    guard.apply(&shop.mesh.admitting("opa", &["reviews"]));
    let mut callee = asked("opa", guard.inbound(), Protocol::Http);
    callee.ports[0].number = PORT;
    callee.kind = CalleeKind::Meshed;
    callee.identities = vec![shop.mesh.id("opa")];
    callee.endpoints = EndpointSource::Discovered;
    shop.reviews
        .plane
        .set_endpoints(endpoints("opa", &[("v1", guard.inbound())]));
    let policy = authorizer(AuthorizerProtocol::Http, OnFailure::Deny);
    shop.guard(policy.clone(), callee.clone());
    let good = [("authorization", "good")];
    assert_eq!(shop.ask("/", &good).await.status, 200);
    guard.apply(&shop.mesh.admitting("opa", &["nobody"]));
    assert_eq!(shop.ask("/", &good).await.status, StatusCode::FORBIDDEN);
    // Whoever is not who policy says is not asked at all.
    guard.apply(&shop.mesh.admitting("opa", &["reviews"]));
    callee.identities = vec![shop.mesh.id("other")];
    shop.guard(policy, callee);
    assert_eq!(shop.ask("/", &good).await.status, StatusCode::FORBIDDEN);
    shop.counted("failed_closed", 1);
    assert_eq!(opa.requests(), 1);
}

#[tokio::test]
async fn a_service_counts_for_all_proxies() {
    let shop = Shop::open().await;
    let left = Arc::new(Mutex::new(2));
    let counter = Arc::clone(&left);
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let limits = grpc(path, move |asked: RateLimitRequest| {
        let [descriptor] = asked.descriptors.as_slice() else {
            panic!("{asked:?}");
        };
        let entries = descriptor.entries.iter();
        let entries: Vec<_> = entries.map(|entry| (&*entry.key, &*entry.value)).collect();
        let user = entries[1].1;
        assert_eq!(entries, [("service", "reviews"), ("header:user", user)]);
        let rate = descriptor.limit.as_ref().unwrap();
        assert_eq!((rate.requests_per_unit, rate.unit()), (2, Unit::Hour));
        let mut left = counter.lock().unwrap();
        let overall_code = match user {
            "broken" => return None,
            _ if *left == 0 => 2,
            _ => 1,
        };
        *left -= i32::from(overall_code == 1);
        Some(RateLimitResponse {
            overall_code,
            statuses: vec![DescriptorStatus {
                code: overall_code,
                duration_until_reset: Some(Timestamp {
                    seconds: 42,
                    nanos: 0,
                }),
            }],
        })
    })
    .await;
    let mut slice = shop.mesh.admitting("reviews", &["productpage"]);
    slice.callees = vec![asked("limits", limits.address, Protocol::Grpc)];
    let limit = |on_failure| RateLimit {
        count: 2,
        per: Duration::from_hours(1),
        burst: 2,
        keys: vec![RequestKey::Header("user".to_owned())],
        via: Some((target("limits"), on_failure)),
        route: None,
        conditions: Vec::new(),
        respond: None,
    };
    slice.access.services[0].rate_limits = vec![limit(OnFailure::Allow)];
    shop.reviews.apply(&slice);
    let ann = [("user", "ann")];
    for _ in 0..2 {
        assert_eq!(shop.ask("/", &ann).await.status, 200);
    }
    let third = shop.ask("/", &ann).await;
    let told = (third.status, third.reason(), third.header("retry-after"));
    assert_eq!(told, (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "42"));
    let broken = [("user", "broken")];
    assert_eq!(shop.ask("/", &broken).await.status, 200);
    slice.access.services[0].rate_limits = vec![limit(OnFailure::Deny)];
    shop.reviews.apply(&slice);
    assert_eq!(
        shop.ask("/", &broken).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    let metrics = shop.reviews.metrics.encode();
    for (outcome, times) in [
        ("allowed", 2),
        ("limited", 1),
        ("failed_open", 1),
        ("failed_closed", 1),
    ] {
        let line = format!(
            "mesh_rate_limit_requests_total{{dst_service=\"reviews\",via=\"limits\",outcome=\"{outcome}\"}} {times}"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert_eq!(shop.application.requests(), 3);
}
