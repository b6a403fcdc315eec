//! TLS that the application ends itself: passed on as it is, by the name that the client asks for.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::{AccessRule, Condition, Port, Principal, Protocol, Route, RouteMatch};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::harness::*;
use super::tcp::{Server, admitting, caller, calling, connect};
use crate::secrets::provider;
use crate::secrets::tests::certificate;

/// A server that says its own name.
struct TlsServer {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl TlsServer {
    async fn start(name: &'static str) -> Self {
        let (text, certificate) = certificate("shop.example");
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(tcp).await?;
                    stream.write_all(name.as_bytes()).await?;
                    stream.shutdown().await
                });
            }
        });
        Self {
            address,
            certificate,
        }
    }

    /// What a client gets who trusts this server alone.
    async fn greeting(&self, tcp: TcpStream, name: &'static str) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, tcp).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    }
}

fn sized(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&length, content].concat()
}

/// A `ClientHello` that asks for this name; empty: for none.
fn hello(name: &[u8], filler: usize) -> Vec<u8> {
    let mut extensions = [&[0, 21], &*sized(&vec![0; filler])].concat();
    if !name.is_empty() {
        let entry = [&[0], &*sized(name)].concat();
        extensions.extend_from_slice(&[0, 0]);
        extensions.extend_from_slice(&sized(&sized(&entry)));
    }
    let extensions = sized(&extensions);
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &extensions,
    ]
    .concat();
    let [_, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[..], &body].concat();
    let records = message.chunks(16_384);
    records
        .flat_map(|chunk| [&[22, 3, 1], &*sized(chunk)].concat())
        .collect()
}

fn to_host(host: &str, name: &str, subset: &str) -> Route {
    Route {
        name: name.to_owned(),
        matches: vec![RouteMatch {
            conditions: vec![Condition::Host(vec![host.to_owned()])],
        }],
        destinations: vec![destination(Some(subset), 1)],
        ..route()
    }
}

async fn ends_in_a_reset(mut tcp: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut rest));
    let ended = read.await.expect("nothing ended it");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// One callee that admits `productpage`, and the proxy of `productpage`.
fn pair(server: SocketAddr) -> (Mesh, Proxy, Proxy) {
    let mesh = Mesh::new();
    let callee = mesh.proxy("reviews", Some(server));
    callee.apply(&admitting(&mesh, Protocol::Tls, &["productpage"]));
    let slice = calling(&mesh, Protocol::Tls, vec![route()]);
    let caller = caller(&mesh, &slice, &[("v1", callee.inbound())]);
    (mesh, callee, caller)
}

#[tokio::test]
async fn the_name_chooses_the_route_and_nobody_in_between_ends_tls() {
    let mesh = Mesh::new();
    let (first, second) = (TlsServer::start("v1").await, TlsServer::start("v2").await);
    let proxy = |server: &TlsServer| {
        let proxy = mesh.proxy("reviews", Some(server.address));
        proxy.apply(&admitting(&mesh, Protocol::Tls, &["productpage"]));
        proxy
    };
    let (v1, v2) = (proxy(&first), proxy(&second));
    let mut rest = route();
    rest.destinations = vec![destination(Some("v2"), 1)];
    let routes = vec![to_host("shop.example", "shop", "v1"), rest];
    let slice = calling(&mesh, Protocol::Tls, routes);
    let at = [("v1", v1.inbound()), ("v2", v2.inbound())];
    let caller = caller(&mesh, &slice, &at);
    let said = first.greeting(connect(&caller).await, "shop.example").await;
    assert_eq!(said.unwrap(), "v1");
    // The other's certificate is none for this name, but it is that one's server that showed it.
    let other = second.greeting(connect(&caller).await, "other.example");
    assert_eq!(other.await.unwrap_err().kind(), ErrorKind::InvalidData);
    let record = caller.record(|record| record["route"] == "shop").await;
    assert_eq!(record["authority"], "shop.example");
    assert_eq!(record["protocol"], "tls");
    assert_eq!(record["subset"], "v1");
    let record = caller.record(|record| record["route"] == "everyone").await;
    assert_eq!(record["authority"], "other.example");
    assert_eq!(record["subset"], "v2");
    let record = v1.record(|_| true).await;
    assert_eq!(record["authority"], "shop.example");
}

/// bad-inputs.md row 69: in segments of one byte, and nearly 64 KiB long.
#[tokio::test]
async fn what_was_looked_at_is_passed_on() {
    let mut server = Server::start().await;
    let (_mesh, _callee, caller) = pair(server.address);
    for (hello, piece) in [
        (hello(b"shop.example", 20), 1),
        (hello(b"shop.example", 60_000), 50_000),
        (hello(b"", 0), 100),
    ] {
        let mut client = connect(&caller).await;
        client.set_nodelay(true).unwrap();
        for piece in hello.chunks(piece) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(b"and more").await.unwrap();
        let mut upstream = server.accept().await;
        let mut got = vec![0; hello.len() + 8];
        upstream.read_exact(&mut got).await.unwrap();
        assert!(got.strip_prefix(&*hello) == Some(b"and more"));
    }
}

#[tokio::test]
async fn what_is_no_tls_goes_nowhere() {
    let server = Server::start().await;
    let (_mesh, _callee, caller) = pair(server.address);
    for (bytes, rule) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
        (hello(&[b'a'; 256], 0), "server_name"),
        (hello(b"shop example", 0), "server_name"),
        (hello(b"shop.example", 65_500), "client_hello_too_large"),
        (vec![22, 3, 1, 0, 0], "client_hello"),
    ] {
        let mut client = connect(&caller).await;
        // It may be refused before all of it is sent.
        drop(client.write_all(&bytes).await);
        ends_in_a_reset(client).await;
        let reason = format!("bad_request:{rule}");
        caller
            .record(|record| record["reason"] == reason.as_str())
            .await;
    }
    assert_eq!(server.count(), 0);
}

/// The callee looks for itself: what the caller's proxy says of the name is not asked.
#[tokio::test]
async fn the_callee_may_ask_for_the_name() {
    let mut server = Server::start().await;
    let (mesh, callee, caller) = pair(server.address);
    let mut slice = admitting(&mesh, Protocol::Tls, &["productpage"]);
    slice.access.services[0].rules[0].conditions =
        vec![Condition::Host(vec!["shop.example".to_owned()])];
    callee.apply(&slice);
    for name in [&b""[..], b"other.example"] {
        let mut client = connect(&caller).await;
        client.write_all(&hello(name, 0)).await.unwrap();
        ends_in_a_reset(client).await;
    }
    assert_eq!(server.count(), 0);
    let record = callee
        .record(|record| record["authority"] == "other.example")
        .await;
    assert_eq!(record["reason"], "authz_denied");
    let mut client = connect(&caller).await;
    client.write_all(&hello(b"Shop.Example", 0)).await.unwrap();
    drop(server.accept().await);
}

/// Explicit mode: as `Host` names the callee of a request, so does the name that TLS asks for.
#[tokio::test]
async fn the_outbound_port_takes_tls_by_its_name() {
    let mut server = Server::start().await;
    let (_mesh, _callee, caller) = pair(server.address);
    let mut client = TcpStream::connect(caller.outbound()).await.unwrap();
    let hello_for = |name: &[u8]| hello(name, 0);
    client.write_all(&hello_for(b"reviews")).await.unwrap();
    let mut got = vec![0; hello_for(b"reviews").len()];
    server.accept().await.read_exact(&mut got).await.unwrap();
    assert!(got == hello_for(b"reviews"));
    for unknown in [&b"ratings"[..], b""] {
        let mut client = TcpStream::connect(caller.outbound()).await.unwrap();
        client.write_all(&hello_for(unknown)).await.unwrap();
        ends_in_a_reset(client).await;
    }
    let denied = || {
        let all = caller.records().into_iter();
        all.filter(|record| record["reason"] == "authz_denied")
            .count()
    };
    eventually(|| (denied() == 2).then_some(())).await;
}

/// A gateway that passes TLS on: by the name from the listener to a route, and to the service.
#[tokio::test]
async fn a_gateway_passes_tls_on() {
    const HTTPS: u16 = 8443;
    let mesh = Mesh::new();
    let server = TlsServer::start("v1").await;
    let callee = mesh.proxy("reviews", Some(server.address));
    let mut slice = admitting(&mesh, Protocol::Tls, &[]);
    let identity = mesh.authority.id("/gateway/public");
    slice.access.services[0].rules = vec![allow(Principal::SpiffeId(identity))];
    callee.apply(&slice);
    let gateway = mesh.gateway(&callee);
    let slice = |rules: Vec<AccessRule>| {
        let mut slice = calling(&mesh, Protocol::Tls, vec![route()]);
        slice.callees[0].listeners.clear();
        let port = Port {
            number: HTTPS,
            protocol: Protocol::Tls,
        };
        let mut slice = mesh.entered_by(slice, port, "*.example", rules);
        slice.gateways[0].routes[0].matches = vec![RouteMatch {
            conditions: vec![Condition::Host(vec!["shop.example".to_owned()])],
        }];
        slice
    };
    gateway.apply(&slice(vec![allow(Principal::Unauthenticated)]));
    let at = gateway.listener(HTTPS);
    let connect = || async move { TcpStream::connect(at).await.unwrap() };
    let said = server.greeting(connect().await, "shop.example").await;
    assert_eq!(said.unwrap(), "v1");
    let record = gateway
        .record(|record| record["gateway_route"] == "shop")
        .await;
    assert_eq!(record["route"], "everyone");
    assert_eq!(record["authority"], "shop.example");
    for (bytes, reason) in [
        (hello(b"other.example", 0), "no_route"),
        (hello(b"shop.elsewhere", 0), "no_route"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "bad_request:not_tls"),
    ] {
        let mut client = connect().await;
        client.write_all(&bytes).await.unwrap();
        ends_in_a_reset(client).await;
        gateway.record(|record| record["reason"] == reason).await;
    }
    gateway.apply(&slice(Vec::new()));
    let mut client = connect().await;
    client.write_all(&hello(b"shop.example", 0)).await.unwrap();
    ends_in_a_reset(client).await;
    gateway
        .record(|record| record["reason"] == "authz_denied")
        .await;
}
