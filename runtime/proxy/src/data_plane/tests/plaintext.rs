//! Peers without a certificate: what a mode of mTLS or a probe lets in, and nothing else.

use std::net::SocketAddr;

use http::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{
    AccessRule, CalleeKind, DeclaredEndpoint, Effect, EndpointAddress, EndpointSource, Enforcement,
    MtlsMode, PathPattern, PathPatternKind, PortMtls, Principal, Probe, Protocol, Slice,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;
use super::tcp::{self, Server};

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

/// A name is followed neither to this machine nor to the metadata of a cloud, whoever holds it.
#[tokio::test]
async fn a_name_leads_an_unmeshed_call_nowhere_else() {
    let mesh = Mesh::new();
    let application = Application::named("legacy").await;
    let proxy = mesh.proxy("productpage", None);
    let mut slice = mesh.calling(vec![route()]);
    let callee = &mut slice.callees[0];
    callee.kind = CalleeKind::Unmeshed;
    callee.identities.clear();
    callee.subsets.clear();
    let port = application.address.port();
    callee.endpoints = EndpointSource::Declared(vec![DeclaredEndpoint {
        address: EndpointAddress::Dns {
            name: "legacy.invalid".to_owned(),
            port,
        },
        port: PORT,
        labels: Vec::new(),
    }]);
    proxy.apply(&slice);
    let plane = &proxy.plane.plane;
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    for address in [application.address, metadata] {
        assert!(plane.directory.resolved("legacy.invalid", port, &[address]));
        plane.refresh_endpoints();
        let got = send(proxy.outbound(), get("/a")).await;
        assert_eq!(got.reason(), "no_healthy_upstream");
    }
    assert_eq!(application.requests(), 0);
}

/// A proxy before a server of bytes, whose mode is this, for `productpage` and for everybody in plaintext.
fn of_bytes(mesh: &Mesh, server: &Server, protocol: Protocol, mode: MtlsMode) -> Proxy {
    let proxy = mesh.proxy("reviews", Some(server.address));
    let mut slice = tcp::admitting(mesh, protocol, &["productpage"]);
    let service = &mut slice.access.services[0];
    service.mtls = vec![PortMtls { port: PORT, mode }];
    service.rules.push(AccessRule {
        name: "allow unauthenticated".to_owned(),
        effect: Effect::Allow,
        enforcement: Enforcement::Enforce,
        who: vec![Principal::Unauthenticated],
        conditions: Vec::new(),
    });
    proxy.apply(&slice);
    proxy
}

/// Bytes go there and back, whoever speaks first.
async fn passes(mut client: TcpStream, server: &mut Server, server_first: bool) {
    let mut got = [0; 5];
    if server_first {
        let mut served = server.accept().await;
        served.write_all(b"ready").await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ready");
    } else {
        client.write_all(b"hello").await.unwrap();
        let mut served = server.accept().await;
        served.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[tokio::test]
async fn bytes_come_in_plaintext_where_the_mode_says_so() {
    let mesh = Mesh::new();
    let mut server = Server::start().await;
    for mode in [MtlsMode::Permissive, MtlsMode::Off] {
        let reviews = of_bytes(&mesh, &server, Protocol::Tcp, mode);
        for server_first in [false, true] {
            let client = TcpStream::connect(reviews.inbound()).await.unwrap();
            passes(client, &mut server, server_first).await;
        }
        let record = reviews
            .record(|record| record["service"] == "reviews")
            .await;
        assert_eq!(
            (&record["tls"], &record["src_identity"]),
            (&"none".into(), &().into())
        );
        if mode == MtlsMode::Permissive {
            let slice = tcp::calling(&mesh, Protocol::Tcp, vec![route()]);
            let caller = tcp::caller(&mesh, &slice, &[("v1", reviews.inbound())]);
            passes(tcp::connect(&caller).await, &mut server, true).await;
        }
        let strict = mesh.proxy("reviews", Some(server.address));
        strict.apply(&tcp::admitting(&mesh, Protocol::Tcp, &["productpage"]));
        let before = server.count();
        let mut client = TcpStream::connect(strict.inbound()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        // At most why it is refused comes back.
        drop(client.read_to_end(&mut Vec::new()).await);
        assert_eq!(server.count(), before);
    }
}

/// design.md: "a connection without one of them is the application's own bytes".
#[tokio::test]
async fn tls_of_the_application_is_not_that_of_the_mesh() {
    let mesh = Mesh::new();
    let mut server = Server::start().await;
    for protocol in [Protocol::Tcp, Protocol::Tls] {
        let reviews = of_bytes(&mesh, &server, protocol, MtlsMode::Permissive);
        // Up to its random, then two ciphers, and extensions: SNI `a`, ALPN `h2`.
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, 19]);
        body.extend([0, 0, 0, 6, 0, 4, 0, 0, 1, b'a']);
        body.extend([0, 16, 0, 5, 0, 3, 2, b'h', b'2']);
        let length = u8::try_from(body.len()).unwrap();
        let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        hello.append(&mut body);
        let mut client = TcpStream::connect(reviews.inbound()).await.unwrap();
        client.write_all(&hello).await.unwrap();
        let mut served = server.accept().await;
        let mut got = vec![0; hello.len()];
        served.read_exact(&mut got).await.unwrap();
        assert_eq!(got, hello, "{protocol:?}: not a byte is lost");
    }
}
