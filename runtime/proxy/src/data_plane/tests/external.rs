//! Services outside the mesh: who may call them, and how they are dialled.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{
    AccessRule, CalleeKind, ClientTls, DeclaredEndpoint, Effect, EndpointAddress, EndpointSource,
    Enforcement, OutboundService, PortDial, Principal, Slice, Target,
};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::*;
use crate::secrets::tests::certificate;
use crate::secrets::{SecretPath, Secrets, provider};

fn acceptor(secrets: &Secrets) -> TlsAcceptor {
    let key = secrets.get("stripe").unwrap().key.clone().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    TlsAcceptor::from(Arc::new(config))
}

/// A server whose answers end with their connection, and whether TLS ends first.
async fn cutting(secrets: &Secrets, is_whole: bool) -> SocketAddr {
    let acceptor = acceptor(secrets);
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\n\r\nwho knows whether this is all";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                if is_whole {
                    stream.shutdown().await.unwrap();
                }
            }
        }
    });
    address
}

/// A server that is no mesh peer and tells what it got.
async fn server(secrets: &Secrets) -> SocketAddr {
    let acceptor = acceptor(secrets);
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(tcp).await else {
                    return;
                };
                let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let mut response = http::Response::new(empty());
                    for (name, value) in request.headers() {
                        let name = format!("got-{name}");
                        let name = http::HeaderName::try_from(name).unwrap();
                        response.headers_mut().insert(name, value.clone());
                    }
                    response
                        .headers_mut()
                        .insert("x-mesh-reason", "lie".parse().unwrap());
                    Ok::<_, Infallible>(response)
                });
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    address
}

struct Outside {
    mesh: Mesh,
    secrets: Secrets,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Outside {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["stripe", "others"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, certificate("api.stripe.example").0).unwrap();
            let name = name.to_owned();
            SecretPath { name, path }
        });
        let secrets = Secrets::read(&paths).unwrap();
        Self {
            mesh: Mesh::new(),
            address: server(&secrets).await,
            secrets,
            _folder: folder,
        }
    }

    /// The slice of `productpage`, which may call this server.
    fn slice(&self) -> Slice {
        let mut route = route();
        route.destinations[0].target = Target {
            service: "stripe".to_owned(),
            subset: None,
            port: None,
        };
        let mut slice = self.mesh.calling(vec![route]);
        let callee = &mut slice.callees[0];
        callee.service = "stripe".to_owned();
        callee.hosts = vec!["api.stripe.example".to_owned()];
        callee.kind = CalleeKind::External { via: None };
        callee.identities.clear();
        callee.subsets.clear();
        callee.endpoints = EndpointSource::Declared(vec![DeclaredEndpoint {
            address: EndpointAddress::Static(self.address),
            port: PORT,
            labels: Vec::new(),
        }]);
        callee.dials = vec![PortDial {
            port: PORT,
            dial: Some(443),
            tls: Some(ClientTls {
                trust: Some("stripe".to_owned()),
                ..ClientTls::default()
            }),
        }];
        slice.access.externals = vec![OutboundService {
            service: "stripe".to_owned(),
            rules: vec![AccessRule {
                name: "allow productpage".to_owned(),
                effect: Effect::Allow,
                enforcement: Enforcement::Enforce,
                who: vec![Principal::SpiffeId(self.mesh.id("productpage"))],
                conditions: Vec::new(),
            }],
        }];
        slice
    }

    async fn ask(&self, change: impl FnOnce(&mut Slice)) -> Got {
        self.try_ask(change).await.unwrap()
    }

    async fn try_ask(&self, change: impl FnOnce(&mut Slice)) -> Result<Got, hyper::Error> {
        let credentials = self.mesh.authority.credentials("/service/productpage");
        let proxy = Proxy::start_with(credentials, None, self.secrets.clone());
        let mut slice = self.slice();
        change(&mut slice);
        proxy.apply(&slice);
        let request = Request::get("/v1/charges")
            .header("host", format!("api.stripe.example:{PORT}"))
            .body(empty())
            .unwrap();
        try_send(proxy.outbound(), request).await
    }
}

#[tokio::test]
async fn tls_begins_at_the_proxy_and_the_mesh_is_not_told_of() {
    let outside = Outside::new().await;
    let got = outside.ask(|_| {}).await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    assert_eq!(got.header("got-host"), "api.stripe.example");
    assert_eq!(got.header("got-x-mesh-timeout-ms"), "");
    assert_eq!(got.reason(), "", "nobody outside speaks for the mesh");
}

#[tokio::test]
async fn a_certificate_is_always_verified() {
    let outside = Outside::new().await;
    let with_tls = |change: fn(&mut ClientTls)| {
        move |slice: &mut Slice| change(slice.callees[0].dials[0].tls.as_mut().unwrap())
    };
    let refused = [
        outside
            .ask(with_tls(|tls| tls.trust = Some("others".to_owned())))
            .await,
        outside
            .ask(with_tls(|tls| tls.sans = vec!["other.example".to_owned()]))
            .await,
        outside
            .ask(with_tls(|tls| tls.sni = Some("other.example".to_owned())))
            .await,
    ];
    for got in refused {
        assert_eq!(got.reason(), "tls_failure");
    }
    let sans = with_tls(|tls| {
        tls.sans = vec!["other.example".to_owned(), "api.stripe.example".to_owned()];
    });
    assert_eq!(outside.ask(sans).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_may_leave_is_decided_here() {
    let outside = Outside::new().await;
    let got = outside.ask(|slice| slice.access.externals.clear()).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::FORBIDDEN, "authz_denied")
    );
    let other = Principal::SpiffeId(outside.mesh.id("details"));
    let got = outside
        .ask(|slice| slice.access.externals[0].rules[0].who = vec![other])
        .await;
    assert_eq!(got.reason(), "authz_denied");
}

/// Whoever holds a name cannot point the proxy at its own machine.
#[tokio::test]
async fn a_name_that_leads_to_the_machine_itself_leads_nowhere() {
    let outside = Outside::new().await;
    let port = outside.address.port();
    let got = outside
        .ask(|slice| {
            let EndpointSource::Declared(declared) = &mut slice.callees[0].endpoints else {
                return;
            };
            declared[0].address = EndpointAddress::Dns {
                name: "localhost".to_owned(),
                port,
            };
        })
        .await;
    assert_eq!(got.reason(), "no_healthy_upstream");
}

/// RFC 9112 section 9.8: an answer that ends with its connection is only whole if TLS says that it has ended.
#[tokio::test]
async fn tls_that_is_cut_off_is_the_end_of_nothing() {
    let mut outside = Outside::new().await;
    outside.address = cutting(&outside.secrets, true).await;
    let got = outside.ask(|_| {}).await;
    assert_eq!(*got.body, *b"who knows whether this is all");
    outside.address = cutting(&outside.secrets, false).await;
    let got = outside.try_ask(|_| {}).await;
    assert!(got.is_err(), "{got:?}");
}
