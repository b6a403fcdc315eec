//! A gateway in front of a service: clients that are no mesh peers, over TLS and in plaintext.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_bundle::slice::{
    Access, AccessRule, Answer, CalleeExchange, ClientAddress, ClientCertificate, Condition,
    Destination, Effect, Enforcement, Gateway, InboundService, Listener, Port, Principal, Protocol,
    Redirect, Route, RouteMatch, ServerTls, Slice, Target, TlsVersion,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::*;
use crate::secrets::tests::certificate;
use crate::secrets::{SecretPath, Secrets, provider};

const HTTPS: u16 = 8443;
const HTTP: u16 = 8080;

/// A gateway that admits everyone, the service behind it, and who may be believed to be it.
struct Shop {
    mesh: Mesh,
    gateway: Proxy,
    certificate: CertificateDer<'static>,
    secret: std::path::PathBuf,
    secrets: Secrets,
    reviews: Proxy,
    /// What a proxy in front says before the client does.
    said_before: &'static [u8],
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let mesh = Mesh::new();
        let application = Application::named("v1").await;
        let reviews = mesh.proxy("reviews", Some(application.address));
        let mut admitting = mesh.admitting("reviews", &[]);
        admitting.access.services[0].rules = vec![AccessRule {
            name: "allow public".to_owned(),
            effect: Effect::Allow,
            enforcement: Enforcement::Enforce,
            who: vec![Principal::SpiffeId(mesh.authority.id("/gateway/public"))],
            conditions: Vec::new(),
        }];
        reviews.apply(&admitting);

        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("shop.pem");
        let (text, certificate) = certificate("shop.example");
        std::fs::write(&secret, text).unwrap();
        let secrets = Secrets::read(&[SecretPath {
            name: "shop-cert".to_owned(),
            path: secret.clone(),
        }])
        .unwrap();
        let credentials = mesh.authority.credentials("/gateway/public");
        let gateway = Proxy::start_with(credentials, None, secrets.clone());
        let at = endpoints("reviews", &[("v1", reviews.inbound())]);
        gateway.plane.set_endpoints(at);
        Self {
            mesh,
            gateway,
            certificate,
            secret,
            secrets,
            reviews,
            said_before: b"",
            _folder: folder,
        }
    }

    fn slice(&self, listeners: Vec<Listener>) -> Slice {
        let mut slice = self.mesh.calling(vec![route()]);
        slice.identity = self.mesh.authority.id("/gateway/public");
        let port = |number| Port {
            number,
            protocol: Protocol::Http,
        };
        let ports = listeners.iter().map(|listener| port(listener.port));
        slice.access = Access {
            services: vec![InboundService {
                service: "public".to_owned(),
                ports: ports.collect(),
                rules: vec![AccessRule {
                    name: "allow unauthenticated".to_owned(),
                    effect: Effect::Allow,
                    enforcement: Enforcement::Enforce,
                    who: vec![Principal::Unauthenticated],
                    conditions: Vec::new(),
                }],
                listeners,
                ..InboundService::default()
            }],
            ..Access::default()
        };
        let on = |port| RouteMatch {
            conditions: vec![Condition::Port(vec![port])],
        };
        slice.gateways = vec![Gateway {
            name: "public".to_owned(),
            routes: vec![
                Route {
                    name: "to-https".to_owned(),
                    matches: vec![on(HTTP)],
                    answer: Some(Answer::Redirect(Redirect {
                        scheme: Some("https".to_owned()),
                        host: None,
                        port: None,
                        path: None,
                        status: 302,
                    })),
                    ..Route::default()
                },
                Route {
                    name: "shop".to_owned(),
                    matches: vec![on(HTTPS)],
                    destinations: vec![Destination::only(Target {
                        service: "reviews".to_owned(),
                        subset: None,
                        port: None,
                    })],
                    exchanges: vec![CalleeExchange {
                        service: "reviews".to_owned(),
                        route: "everyone".to_owned(),
                        exchange: route().exchange,
                    }],
                    ..Route::default()
                },
            ],
        }];
        slice
    }

    /// A handshake as a browser does it.
    async fn shake_hands(
        &self,
        name: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut tcp = TcpStream::connect(self.gateway.listener(HTTPS)).await?;
        tcp.write_all(self.said_before).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    async fn https(&self, request: Request<TestBody>) -> Got {
        let stream = self.shake_hands("shop.example", &[]).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        read(sender.send_request(request).await.unwrap())
            .await
            .unwrap()
    }
}

fn https() -> Listener {
    Listener {
        port: HTTPS,
        hosts: vec!["shop.example".to_owned()],
        tls: Some(ServerTls {
            certificate: "shop-cert".to_owned(),
            trust: None,
            client: ClientCertificate::None,
            min: TlsVersion::V1_2,
        }),
        client_address: ClientAddress::Peer,
    }
}

fn http() -> Listener {
    Listener {
        port: HTTP,
        tls: None,
        ..https()
    }
}

fn ask(host: &str) -> Request<TestBody> {
    Request::get("/reviews/7")
        .header("host", host)
        .header("x-mesh-peer", "spiffe://shop.example/service/admin")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-client-cert", "By=me")
        .body(empty())
        .unwrap()
}

#[tokio::test]
async fn a_client_enters_over_tls_and_the_gateway_is_the_caller() {
    let shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![https()]));
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    assert_eq!(got.header("got-host"), "shop.example");
    assert_eq!(
        got.header("got-x-mesh-peer"),
        "spiffe://shop.example/gateway/public"
    );
    assert_eq!(got.header("got-x-forwarded-for"), "127.0.0.1");
    assert_eq!(got.header("got-x-forwarded-proto"), "https");
    assert_eq!(got.header("got-x-forwarded-client-cert"), "");
    let record = shop.gateway.record(|record| record["code"] == 200).await;
    assert_eq!(record["gateway_route"], "shop");
    assert_eq!(record["route"], "everyone");
    assert_eq!(record["service"], "reviews");

    let stream = shop.shake_hands("shop.example", &[b"h2"]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://shop.example/x")
        .body(empty())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);

    // On this connection other hosts are not answered for.
    let request = Request::get("https://other.example/x")
        .body(empty())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn plaintext_is_sent_on_to_tls() {
    let shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![http(), https()]));
    let got = send(shop.gateway.listener(HTTP), ask("shop.example:8080")).await;
    assert_eq!(got.status, StatusCode::FOUND);
    assert_eq!(got.header("location"), "https://shop.example/reviews/7");
    let got = send(shop.gateway.listener(HTTP), ask("other.example")).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::NOT_FOUND, "no_route")
    );
}

#[tokio::test]
async fn only_what_is_allowed_enters() {
    let shop = Shop::open().await;
    let mut slice = shop.slice(vec![https()]);
    slice.access.services[0].rules.clear();
    shop.gateway.apply(&slice);
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(
        (got.status, got.reason()),
        (StatusCode::FORBIDDEN, "authz_denied")
    );
    assert!(shop.shake_hands("other.example", &[]).await.is_err());
    // What a mesh peer may be, nobody is who comes in here.
    slice.access.services[0].rules = shop.slice(vec![https()]).access.services[0].rules.clone();
    slice.access.services[0].rules[0].who = vec![Principal::Any];
    shop.gateway.apply(&slice);
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_swap_touches_no_listener_that_stays() {
    let shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![https()]));
    let before = shop.gateway.listener(HTTPS);
    let stream = shop.shake_hands("shop.example", &[]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(ask("shop.example")).await.unwrap();
    assert_eq!(read(response).await.unwrap().status, StatusCode::OK);

    shop.gateway.apply(&shop.slice(vec![http(), https()]));
    assert_eq!(shop.gateway.listener(HTTPS), before);
    sender.ready().await.unwrap();
    let response = sender.send_request(ask("shop.example")).await.unwrap();
    assert_eq!(
        read(response).await.unwrap().status,
        StatusCode::OK,
        "on the same connection"
    );

    let gone = shop.gateway.listener(HTTP);
    shop.gateway.apply(&shop.slice(vec![https()]));
    assert_eq!(shop.gateway.plane.listeners().len(), 1);
    eventually(|| std::net::TcpStream::connect(gone).err()).await;
}

#[tokio::test]
async fn a_listener_that_cannot_be_refuses_the_generation() {
    let shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![http()]));
    let mut other = https();
    other.tls.as_mut().unwrap().certificate = "other-cert".to_owned();
    let refused = shop
        .gateway
        .plane
        .prepare(&shop.slice(vec![other]), "0.2.1");
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("--secret other-cert=FILE"), "{error}");
    let got = send(shop.gateway.listener(HTTP), ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::FOUND, "the last good one serves on");
}

/// Else whoever is on its machine would call services in its name without being let in by anyone.
#[tokio::test]
async fn nobody_calls_through_a_gateway_from_behind() {
    let shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![https()]));
    let request = || {
        Request::get("/reviews/7")
            .header("host", "reviews")
            .body(empty())
            .unwrap()
    };
    let refused = try_send(shop.gateway.outbound(), request()).await;
    assert!(refused.is_err(), "{refused:?}");
    let mut slice = shop.slice(vec![https()]);
    slice.gateways.clear();
    slice.access.services.clear();
    shop.gateway.apply(&slice);
    let got = send(shop.gateway.outbound(), request()).await;
    assert_eq!(got.status, StatusCode::OK, "a client without a service may");
}

#[tokio::test]
async fn a_certificate_is_followed() {
    let mut shop = Shop::open().await;
    shop.gateway.apply(&shop.slice(vec![https()]));
    let stream = shop.shake_hands("shop.example", &[]).await.unwrap();
    let (mut kept, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (text, renewed) = certificate("shop.example");
    std::fs::write(&shop.secret, text).unwrap();
    shop.secrets.refresh();
    assert!(
        shop.shake_hands("shop.example", &[]).await.is_err(),
        "it shows another one"
    );
    shop.certificate = renewed;
    assert!(shop.shake_hands("shop.example", &[]).await.is_ok());
    // Whoever came before goes on.
    let answer = kept.send_request(ask("shop.example")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_client_is_who_trusted_proxies_say() {
    let shop = Shop::open().await;
    let mut listener = https();
    listener.client_address = ClientAddress::ForwardedFor { hops: 1 };
    let mut slice = shop.slice(vec![listener]);
    slice.access.services[0].rules[0].conditions =
        vec![Condition::ClientIp(vec!["10.0.0.0/8".parse().unwrap()])];
    shop.gateway.apply(&slice);
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("got-x-forwarded-for"), "10.0.0.1, 127.0.0.1");
    let mut outside = ask("shop.example");
    outside.headers_mut().remove("x-forwarded-for");
    assert_eq!(shop.https(outside).await.status, StatusCode::FORBIDDEN);
}

/// The client is who a trusted proxy says in the PROXY protocol, for rules and for the services behind.
#[tokio::test]
async fn the_client_is_who_the_proxy_in_front_says() {
    let mut shop = Shop::open().await;
    let mut listener = https();
    listener.client_address = ClientAddress::ProxyProtocol;
    let mut slice = shop.slice(vec![listener]);
    slice.access.services[0].rules[0].conditions =
        vec![Condition::ClientIp(vec!["192.0.2.0/24".parse().unwrap()])];
    let prepared = shop.gateway.plane.prepare(&slice, "0.1.2");
    let refused = prepared.unwrap_err().to_string();
    assert!(refused.contains("--trusted-proxy"), "{refused}");

    let credentials = shop.mesh.authority.credentials("/gateway/public");
    let secrets = shop.secrets.clone();
    shop.gateway = Proxy::start_as(credentials, None, |settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        settings.secrets = secrets;
    });
    let at = endpoints("reviews", &[("v1", shop.reviews.inbound())]);
    shop.gateway.plane.set_endpoints(at);
    shop.gateway.apply(&slice);
    shop.said_before = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("got-x-forwarded-for"), "192.0.2.7");
    shop.said_before = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\0\x07\0\x50";
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.header("got-x-forwarded-for"), "192.0.2.8");
    shop.said_before = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n";
    let got = shop.https(ask("shop.example")).await;
    assert_eq!(got.status, StatusCode::FORBIDDEN);
    // Without a header nobody is anybody.
    shop.said_before = b"";
    assert!(shop.shake_hands("shop.example", &[]).await.is_err());
    let reason = "bad_request:proxy_protocol";
    shop.gateway
        .record(|record| record["reason"] == reason)
        .await;
}
