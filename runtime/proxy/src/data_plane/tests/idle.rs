//! How long connections that carry nothing are kept: `timeout idle=`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_bundle::slice::{CalleeKind, DeclaredEndpoint, EndpointAddress, EndpointSource};
use tokio::net::TcpListener;

use super::harness::*;

/// An application of HTTP/1.1, and how many connections it has at the moment.
async fn counting_connections() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let service = service_fn(async |_: Request<Incoming>| {
                    let mut answer = Response::new(full("data: x\n\n"));
                    let kind = http::HeaderValue::from_static("text/event-stream");
                    answer.headers_mut().insert("content-type", kind);
                    Ok::<_, Infallible>(answer)
                });
                let serving = hyper::server::conn::http1::Builder::new();
                drop(serving.serve_connection(TokioIo::new(tcp), service).await);
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, open)
}

/// Of both versions between the proxies, and of routes that are streams.
#[tokio::test]
async fn a_connection_that_carries_nothing_ends_when_policy_says() {
    let mesh = Mesh::new();
    let application = Application::named("v1").await;
    let reviews = mesh.reviews(application.address);
    let open = |proxy: &Proxy| {
        let text = proxy.metrics.encode();
        let gauge = "mesh_connections_open{reporter=\"destination\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(gauge));
        line.map_or(0, |count| count.parse::<usize>().unwrap())
    };
    for streaming in [false, true] {
        let mut quick = route();
        quick.exchange.idle = Some(Duration::from_millis(100));
        quick.filters.streaming = streaming;
        let kept = route();
        for (route, ends) in [(quick, true), (kept, false)] {
            let productpage = mesh.productpage(vec![route], &[("v1", reviews.inbound())]);
            let got = send(productpage.outbound(), get("/")).await;
            assert_eq!(got.status, 200, "{got:?}");
            let mut client = http2_client(productpage.outbound()).await;
            let request = Request::get("http://reviews/").body(empty()).unwrap();
            let got = client.send_request(request).await.map(|got| got.status());
            // The application speaks HTTP/1.1, but the connection between the proxies does not.
            assert!(got.is_ok());
            if ends {
                eventually(|| (open(&reviews) == 0).then_some(())).await;
            } else {
                assert!(open(&reviews) > 0);
                drop(productpage);
                eventually(|| (open(&reviews) == 0).then_some(())).await;
            }
        }
    }
}

/// What leaves the mesh, or goes to a service without a proxy, lies in the same pools.
#[tokio::test]
async fn a_connection_to_a_service_without_a_proxy_ends_too() {
    let mesh = Mesh::new();
    let (address, open) = counting_connections().await;
    let mut quick = route();
    quick.exchange.idle = Some(Duration::from_millis(100));
    quick.filters.streaming = true;
    let productpage = mesh.proxy("productpage", None);
    let mut slice = mesh.calling(vec![quick]);
    for callee in &mut slice.callees {
        callee.kind = CalleeKind::Unmeshed;
        callee.identities.clear();
        callee.endpoints = EndpointSource::Declared(vec![DeclaredEndpoint {
            address: EndpointAddress::Static(address),
            port: PORT,
            labels: Vec::new(),
        }]);
    }
    productpage.apply(&slice);
    let got = send(productpage.outbound(), get("/")).await;
    assert_eq!(got.status, 200, "{got:?}");
    eventually(|| (open.load(Ordering::SeqCst) == 0).then_some(())).await;
}
