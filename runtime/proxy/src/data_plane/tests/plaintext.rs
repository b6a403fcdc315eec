//! Peers without a certificate: what a mode of mTLS or a probe lets in, and nothing else.

use http::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{
    AccessRule, CalleeKind, DeclaredEndpoint, Effect, EndpointAddress, EndpointSource, Enforcement,
    MtlsMode, PathPattern, PathPatternKind, PortMtls, Principal, Probe, Slice,
};
use tokio::net::TcpStream;

use super::harness::*;

/// A proxy of `reviews` whose mode is this, for `productpage` and for everybody in plaintext.
async fn reviews(mesh: &Mesh, mode: Option<MtlsMode>, change: impl FnOnce(&mut Slice)) -> Proxy {
    let application = Application::named("reviews").await;
    let proxy = mesh.proxy("reviews", Some(application.address));
    let mut slice = mesh.admitting("reviews", &["productpage"]);
    let service = &mut slice.access.services[0];
    service.mtls = mode
        .map(|mode| PortMtls { port: PORT, mode })
        .into_iter()
        .collect();
    service.rules.push(AccessRule {
        name: "allow unauthenticated".to_owned(),
        effect: Effect::Allow,
        enforcement: Enforcement::Enforce,
        who: vec![Principal::Unauthenticated],
        conditions: Vec::new(),
    });
    change(&mut slice);
    proxy.apply(&slice);
    proxy
}

async fn through_the_mesh(mesh: &Mesh, reviews: &Proxy) -> Got {
    let caller = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    send(caller.outbound(), get("/")).await
}

#[tokio::test]
async fn strict_is_the_default() {
    let mesh = Mesh::new();
    let reviews = reviews(&mesh, None, |_| ()).await;
    assert!(try_send(reviews.inbound(), get("/")).await.is_err());
    assert_eq!(through_the_mesh(&mesh, &reviews).await.status, 200);
    let record = reviews
        .record(|record| record["reason"] == "tls_failure")
        .await;
    assert_eq!(record["reporter"], "destination");
}

#[tokio::test]
async fn permissive_takes_both() {
    let mesh = Mesh::new();
    let reviews = reviews(&mesh, Some(MtlsMode::Permissive), |_| ()).await;
    let mut request = get("/");
    for (name, value) in [("x-mesh-peer", "spiffe://lie"), ("x-mesh-timeout-ms", "1")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let got = send(reviews.inbound(), request).await;
    assert_eq!(got.status, 200, "{}", got.reason());
    // Nobody says who it is in the mesh's words.
    assert_eq!(got.header("got-x-mesh-peer"), "");
    let record = reviews.record(|record| record["code"] == 200).await;
    assert_eq!(record["src_identity"], serde_json::Value::Null, "{record}");
    let got = through_the_mesh(&mesh, &reviews).await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.header("got-x-mesh-peer"),
        mesh.id("productpage").as_str()
    );
}

/// HTTP/2 with prior knowledge, as gRPC without TLS has it.
#[tokio::test]
async fn permissive_takes_both_versions() {
    let mesh = Mesh::new();
    let reviews = reviews(&mesh, Some(MtlsMode::Permissive), |slice| {
        slice.access.services[0].rules.pop();
    })
    .await;
    let mut client = http2_client(reviews.inbound()).await;
    let request = Request::builder().uri("http://reviews/").body(empty());
    let answer = client.send_request(request.unwrap()).await.unwrap();
    assert_eq!(read(answer).await.unwrap().reason(), "authz_denied");
}

#[tokio::test]
async fn off_knows_no_identity() {
    let mesh = Mesh::new();
    let reviews = reviews(&mesh, Some(MtlsMode::Off), |_| ()).await;
    assert_eq!(send(reviews.inbound(), get("/")).await.status, 200);
    let got = through_the_mesh(&mesh, &reviews).await;
    assert_eq!(got.reason(), "authz_denied");
}

#[tokio::test]
async fn a_probe_comes_in_and_nothing_with_it() {
    let mesh = Mesh::new();
    let reviews = reviews(&mesh, None, |slice| {
        slice.access.services[0].probes = vec![Probe {
            paths: vec![PathPattern {
                kind: PathPatternKind::Template("/healthz".into()),
                ignore_case: false,
            }],
            peer_ip: vec!["127.0.0.0/8".parse().unwrap()],
        }];
    })
    .await;
    assert_eq!(send(reviews.inbound(), get("/healthz")).await.status, 200);
    for path in ["/", "/healthz/", "/healthz/../admin", "/HEALTHZ"] {
        let got = send(reviews.inbound(), get(path)).await;
        assert_eq!(got.reason(), "authz_denied", "{path}");
    }
    let got = through_the_mesh(&mesh, &reviews).await;
    assert_eq!((got.status.as_u16(), got.reason()), (200, ""));
    // A mode that turned strict holds for connections that are open.
    let tcp = TcpStream::connect(reviews.inbound()).await.unwrap();
    let (mut client, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |path| {
        read(client.send_request(get(path)).await.unwrap())
            .await
            .unwrap()
    };
    assert_eq!(ask("/healthz").await.status, 200);
    reviews.apply(&mesh.admitting("reviews", &["productpage"]));
    assert_eq!(ask("/healthz").await.reason(), "authz_denied");
}

/// A service without a sidecar is called in plaintext, at what its policy says alone.
#[tokio::test]
async fn an_unmeshed_service_is_called_as_it_is() {
    let mesh = Mesh::new();
    let application = Application::named("legacy").await;
    let proxy = mesh.proxy("productpage", None);
    let mut slice = mesh.calling(vec![route()]);
    let callee = &mut slice.callees[0];
    callee.kind = CalleeKind::Unmeshed;
    callee.identities.clear();
    callee.subsets.clear();
    callee.endpoints = EndpointSource::Declared(vec![DeclaredEndpoint {
        address: EndpointAddress::Static(application.address),
        port: PORT,
        labels: Vec::new(),
    }]);
    proxy.apply(&slice);
    let got = send(proxy.outbound(), get("/a")).await;
    assert_eq!((got.status.as_u16(), got.header("x-name")), (200, "legacy"));
    assert_eq!(got.header("got-x-mesh-timeout-ms"), "");
    // A feed leads nowhere else.
    let elsewhere = nobody().await;
    proxy
        .plane
        .set_endpoints(endpoints("reviews", &[("v1", elsewhere)]));
    assert_eq!(send(proxy.outbound(), get("/a")).await.status, 200);
}
