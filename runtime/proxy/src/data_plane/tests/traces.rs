//! Trace context through two proxies, and the hops that a collector is told.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_bundle::slice::{Protocol, RetryCause, Slice, Telemetry, Traces};
use prost::Message as _;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::harness::*;
use super::tcp;
use crate::limits::{self, Limits};
use crate::secrets::tests::certificate;
use crate::secrets::{SecretPath, Secrets, provider};
use crate::traces::message::{ExportTraceServiceRequest, KeyValue, SpanMessage, Value};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A hop, and whose it is.
#[derive(Clone, Debug)]
struct Hop {
    service: String,
    span: SpanMessage,
}

/// A collector of OTLP that remembers.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Hop>>>);

impl Collector {
    /// Over gRPC or HTTP, and over TLS if it is given a key.
    async fn start(grpc: bool, tls: Option<TlsAcceptor>) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (serving, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serving.serve(tcp, grpc).await,
                        Some(tls) => {
                            let stream = tls.accept(tcp).await.unwrap();
                            serving.serve(stream, grpc).await;
                        }
                    }
                });
            }
        });
        (collector, address)
    }

    async fn serve<IO>(self, io: IO, grpc: bool)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let collector = self.clone();
            async move { Ok::<_, Infallible>(collector.take(request, grpc).await) }
        });
        let io = TokioIo::new(io);
        if grpc {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(builder.serve_connection(io, service).await);
        } else {
            let builder = hyper::server::conn::http1::Builder::new();
            drop(builder.serve_connection(io, service).await);
        }
    }

    async fn take(&self, request: Request<Incoming>, grpc: bool) -> Response<TestBody> {
        let expected = if grpc {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        } else {
            "/v1/traces"
        };
        assert_eq!(request.uri().path(), expected);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let message = if grpc {
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
            assert_eq!(usize::try_from(length).unwrap(), body.len() - 5);
            body.slice(5..)
        } else {
            body
        };
        let exported = ExportTraceServiceRequest::decode(message).unwrap();
        for of_resource in exported.resource_spans {
            let resource = of_resource.resource.unwrap();
            let service = text(&resource.attributes, "service.name").to_owned();
            let spans = of_resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let hops = spans.map(|span| Hop {
                service: service.clone(),
                span,
            });
            self.0.lock().unwrap().extend(hops);
        }
        if !grpc {
            return Response::new(empty());
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let body = Full::new(Bytes::from_static(&[0; 5]));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        Response::new(body.map_err(|never: Infallible| match never {}).boxed())
    }

    /// Waits for so many hops.
    async fn hops(&self, count: usize) -> Vec<Hop> {
        eventually(|| {
            let hops = self.0.lock().unwrap();
            (hops.len() >= count).then(|| hops.clone())
        })
        .await
    }
}

fn value<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    match value(attributes, name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn number(attributes: &[KeyValue], name: &str) -> Option<i64> {
    match value(attributes, name) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

fn tracing(mut slice: Slice, service: &str, otlp: &str) -> Slice {
    slice.telemetry = vec![Telemetry {
        service: service.to_owned(),
        access_log: None,
        traces: Some(Traces {
            share: 10_000,
            otlp: otlp.to_owned(),
        }),
    }];
    slice
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn with(headers: &[(&str, &str)]) -> Request<TestBody> {
    let mut request = Request::builder()
        .uri("/reviews/7")
        .header("host", "reviews");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(empty()).unwrap()
}

/// Two proxies that tell of everything, before an application that fails the first time.
async fn traced(otlp: &str) -> (Proxy, Proxy, Application) {
    let mesh = Mesh::new();
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let application = Application::http1(move |request: Request<Incoming>| {
        let fails = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        async move {
            let mut response = Response::new(full("ok"));
            for (name, value) in request.headers() {
                let name = http::HeaderName::try_from(format!("got-{name}")).unwrap();
                response.headers_mut().insert(name, value.clone());
            }
            if fails {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    })
    .await;
    let reviews = mesh.proxy("reviews", Some(application.address));
    reviews.apply(&tracing(
        mesh.admitting("reviews", &["productpage"]),
        "reviews",
        otlp,
    ));
    let mut twice = route();
    twice.exchange.retry = retry(2, &[RetryCause::Status(503)]);
    let productpage = mesh.proxy("productpage", None);
    let at = endpoints("reviews", &[("v1", reviews.inbound())]);
    productpage.plane.set_endpoints(at);
    productpage.apply(&tracing(mesh.calling(vec![twice]), "productpage", otlp));
    (productpage, reviews, application)
}

async fn tells_its_hops(grpc: bool) {
    let (collector, address) = Collector::start(grpc, None).await;
    let path = if grpc { "" } else { "/v1/traces" };
    let otlp = format!("http://{address}{path}");
    let (productpage, reviews, _application) = traced(&otlp).await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let request = with(&[
        ("traceparent", &parent),
        ("tracestate", "a=1"),
        ("baggage", "k=v"),
    ]);
    let got = send(productpage.outbound(), request).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(got.header("got-tracestate"), "a=1");
    assert_eq!(got.header("got-baggage"), "k=v");

    let hops = collector.hops(3).await;
    let client = hops
        .iter()
        .find(|hop| hop.service == "productpage")
        .unwrap();
    let servers: Vec<_> = hops.iter().filter(|hop| hop.service == "reviews").collect();
    assert_eq!((hops.len(), servers.len()), (3, 2), "{hops:?}");
    let span = &client.span;
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), SPAN);
    assert_eq!((span.kind, span.name.as_str()), (3, "GET reviews"));
    assert_eq!(span.trace_state, "a=1");
    assert!(span.status.is_none() && span.start_time_unix_nano <= span.end_time_unix_nano);
    let has = &span.attributes;
    assert_eq!(text(has, "http.request.method"), "GET");
    assert_eq!(text(has, "url.path"), "/reviews/7");
    assert_eq!(text(has, "server.address"), "reviews");
    assert_eq!(text(has, "mesh.route"), "everyone");
    assert_eq!(
        text(has, "mesh.dst_identity"),
        "spiffe://shop.example/service/reviews"
    );
    assert_eq!(number(has, "http.response.status_code"), Some(200));
    assert_eq!(number(has, "http.request.resend_count"), Some(1));
    // The tries are events of the one hop.
    let tries = span.events.iter().map(|event| {
        assert_eq!(event.name, "attempt");
        number(&event.attributes, "http.response.status_code")
    });
    let tries: Vec<_> = tries.collect();
    assert_eq!(tries, [Some(503), Some(200)]);
    for server in &servers {
        assert_eq!(server.span.parent_span_id, span.span_id);
        assert_eq!(
            (hex(&server.span.trace_id).as_str(), server.span.kind),
            (TRACE, 2)
        );
    }
    // A 503 is the server's failure.
    let failed = servers.iter().filter(|server| server.span.status.is_some());
    assert_eq!(failed.count(), 1);
    // What the application was told is the hop of its own proxy.
    let told = got.header("got-traceparent");
    assert!(
        servers
            .iter()
            .any(|server| { told == format!("00-{TRACE}-{}-01", hex(&server.span.span_id)) })
    );
    for proxy in [&productpage, &reviews] {
        let record = proxy.record(|record| record["code"] == 200).await;
        assert_eq!(record["trace_id"], TRACE);
    }
    let counted = "mesh_spans_exported_total 1\n";
    eventually(|| productpage.metrics.encode().contains(counted).then_some(())).await;
}

#[tokio::test]
async fn hops_are_told_over_grpc() {
    tells_its_hops(true).await;
}

#[tokio::test]
async fn hops_are_told_over_http() {
    tells_its_hops(false).await;
}

/// The trace of a connection of bytes begins at its caller's proxy, which tells the other one in the preface.
#[tokio::test]
async fn connections_of_bytes_are_hops_too() {
    let (collector, address) = Collector::start(true, None).await;
    let otlp = format!("http://{address}");
    let mesh = Mesh::new();
    let mut server = tcp::Server::start().await;
    let reviews = mesh.proxy("reviews", Some(server.address));
    let admitting = tcp::admitting(&mesh, Protocol::Tcp, &["productpage"]);
    reviews.apply(&tracing(admitting, "reviews", &otlp));
    let mut twice = route();
    twice.exchange.retry = retry(2, &[RetryCause::ConnectFailure]);
    let calling = tcp::calling(&mesh, Protocol::Tcp, vec![twice]);
    let at = [("v1", nobody().await), ("v1", reviews.inbound())];
    let productpage = tcp::caller(&mesh, &tracing(calling, "productpage", &otlp), &at);
    let mut attempts = Vec::new();
    // At least one of two begins where nobody listens.
    for _ in 0..2 {
        let mut client = tcp::connect(&productpage).await;
        let mut accepted = server.accept().await;
        client.write_all(b"asked").await.unwrap();
        let mut got = [0; 5];
        accepted.read_exact(&mut got).await.unwrap();
        drop((client, accepted));
    }
    let hops = collector.hops(4).await;
    let (clients, servers): (Vec<_>, Vec<_>) =
        hops.iter().partition(|hop| hop.service == "productpage");
    assert_eq!((clients.len(), servers.len()), (2, 2), "{hops:?}");
    for server in servers {
        let client = clients
            .iter()
            .find(|client| client.span.span_id == server.span.parent_span_id)
            .unwrap();
        let (span, has) = (&client.span, &client.span.attributes);
        assert_eq!(span.trace_id, server.span.trace_id);
        assert_eq!((span.kind, server.span.kind), (3, 2));
        assert_eq!(span.name, "tcp reviews");
        assert_eq!(number(has, "mesh.bytes_in"), Some(5));
        let identity = "spiffe://shop.example/service/reviews";
        assert_eq!(text(has, "mesh.dst_identity"), identity);
        attempts.push(span.events.len());
        let failed = |event: &&crate::traces::message::Event| {
            text(&event.attributes, "error.type") == "connect_failure"
        };
        assert_eq!(
            span.events.iter().filter(failed).count(),
            span.events.len() - 1
        );
        let trace = hex(&span.trace_id);
        for proxy in [&productpage, &reviews] {
            proxy.record(|record| record["trace_id"] == trace).await;
        }
    }
    assert!(attempts.contains(&2), "{attempts:?}");
}

#[tokio::test]
async fn a_collector_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, file: &str| {
        let path = folder.path().join(file);
        std::fs::write(&path, certificate("localhost").0).unwrap();
        let name = name.to_owned();
        Secrets::read(&[SecretPath { name, path }]).unwrap()
    };
    let ours = read("otlp", "ours.pem");
    let key = ours.get("otlp").unwrap().key.clone().unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (collector, address) = Collector::start(true, Some(acceptor)).await;
    let mesh = Mesh::new();
    let otlp = format!("https://localhost:{}", address.port());
    let calling = |secrets| {
        let credentials = mesh.authority.credentials("/service/productpage");
        let proxy = Proxy::start_with(credentials, None, secrets);
        proxy.apply(&tracing(mesh.calling(vec![route()]), "productpage", &otlp));
        proxy
    };
    let trusting = calling(ours);
    // It has no endpoint, which is a hop as well.
    let got = send(trusting.outbound(), get("/")).await;
    assert_eq!(got.reason(), "no_healthy_upstream");
    let hop = &collector.hops(1).await[0].span;
    assert_eq!(text(&hop.attributes, "error.type"), "no_healthy_upstream");
    let strange = calling(read("otlp", "others.pem"));
    drop(send(strange.outbound(), get("/")).await);
    let lost = "mesh_spans_dropped_total{reason=\"export_failed\"} 1\n";
    eventually(|| strange.metrics.encode().contains(lost).then_some(())).await;
    assert_eq!(collector.hops(1).await.len(), 1);
}

/// Drill D22: the collector takes the connection and then nothing.
#[tokio::test]
async fn a_collector_that_stands_still_costs_spans_and_no_request() {
    let silent = TcpListener::bind(loopback()).await.unwrap();
    let otlp = format!("http://{}", silent.local_addr().unwrap());
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    productpage.apply(&tracing(mesh.calling(vec![route()]), "productpage", &otlp));
    let tcp = TcpStream::connect(productpage.outbound()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(connection);
    let spans = Limits::default().spans;
    let requests = spans + 2 * limits::SPAN_BATCH;
    for _ in 0..requests {
        let got = read(sender.send_request(get("/")).await.unwrap())
            .await
            .unwrap();
        assert_eq!(got.status, 200);
    }
    let text = productpage.metrics.encode();
    let name = "mesh_spans_dropped_total{reason=\"queue_full\"} ";
    let lost = text.lines().find_map(|line| line.strip_prefix(name));
    let lost: usize = lost.unwrap().parse().unwrap();
    // What was taken out of the queue before it filled is being sent, or was given up.
    assert!((1..=2 * limits::SPAN_BATCH).contains(&lost), "{lost}");
}

/// No proxy that tells nobody changes what it can read.
#[tokio::test]
async fn context_is_passed_on_where_nobody_is_told() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let productpage = mesh.productpage(vec![route()], &[("v1", reviews.inbound())]);
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let b3 = format!("{TRACE}-{SPAN}-1");
    for (name, value) in [
        ("traceparent", parent.as_str()),
        ("b3", &b3),
        ("x-b3-sampled", "0"),
    ] {
        let got = send(productpage.outbound(), with(&[(name, value)])).await;
        assert_eq!(got.header(&format!("got-{name}")), value);
        let untold = if name == "traceparent" {
            "got-b3"
        } else {
            "got-traceparent"
        };
        assert_eq!(got.header(untold), "", "{name}");
    }
    let got = send(productpage.outbound(), with(&[])).await;
    assert_eq!(got.header("got-traceparent"), "");
    let got = send(productpage.outbound(), with(&[("traceparent", "nonsense")])).await;
    assert!(got.header("got-traceparent").ends_with("-02"), "{got:?}");
    let record = productpage
        .record(|record| record["trace_id"] == TRACE)
        .await;
    assert_eq!(record["code"], 200);
}
