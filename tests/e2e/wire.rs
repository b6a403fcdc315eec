//! What travels through two proxies: HTTP/1.1, HTTP/2 and gRPC, with nothing lost and nothing added
//! that a peer could abuse.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tests::Failure;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpStream;

use crate::support::{Bookshop, LIMIT, bookshop};

/// What the echo application received.
fn received(body: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(body)
        .map_err(|error| Failure::from(error).while_doing(format!("{body:?}")))
}

fn header<'a>(received: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let headers = received["headers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    headers
        .iter()
        .filter(|header| header[0] == name)
        .filter_map(|header| header[1].as_str())
        .collect()
}

#[test]
fn the_application_sees_who_called_and_cannot_be_told_otherwise() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let response = shop.get(
        "productpage",
        "reviews",
        "/reviews/7",
        &[
            ("x-mesh-peer", "spiffe://bookshop.example/service/admin"),
            ("x-kept", "yes"),
            ("connection", "x-nominated"),
            ("x-nominated", "gone"),
            ("upgrade", "h2c"),
        ],
    )?;
    assert_eq!(response.status, 200, "{response:?}");
    let seen = received(&response.body)?;
    assert_eq!(
        header(&seen, "x-mesh-peer"),
        ["spiffe://bookshop.example/service/productpage"]
    );
    assert_eq!(header(&seen, "x-kept"), ["yes"]);
    assert_eq!(header(&seen, "x-nominated"), Vec::<&str>::new());
    assert_eq!(header(&seen, "upgrade"), Vec::<&str>::new());
    assert_eq!(seen["protocol"], "HTTP/1.1");
    Ok(())
}

#[test]
fn the_path_that_is_authorised_is_the_path_that_is_forwarded() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    let response = shop.get(
        "productpage",
        "reviews",
        "/admin/../reviews//7?x=/../y",
        &[],
    )?;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(received(&response.body)?["target"], "/reviews/7?x=/../y");
    let hidden = shop.get("productpage", "reviews", "/reviews/%2e%2e/admin", &[])?;
    assert_eq!(hidden.status, 403, "{hidden:?}");
    let refused = shop.get("productpage", "reviews", "/reviews/a%2fb", &[])?;
    assert_eq!(refused.status, 400, "{refused:?}");
    Ok(())
}

#[test]
fn a_header_route_wins_over_the_split() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    for _ in 0..20 {
        let response = shop.get(
            "productpage",
            "reviews",
            "/reviews/7",
            &[("user", "tester")],
        )?;
        assert_eq!(
            response.header("x-echo-version"),
            Some("v2"),
            "{response:?}"
        );
    }
    Ok(())
}

#[test]
fn grpc_passes_with_its_trailers() -> Result<(), Failure> {
    let shop = bookshop(0)?;
    // gRPC calls are POSTs, which the bookshop allows nobody.
    let commit = shop.dev.commit_edit(
        "teams/reviews/reviews.kdl",
        &[("method GET\n", "method GET POST\n")],
    )?;
    shop.dev.wait_serving(&commit, LIMIT)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(grpc(&shop))
}

async fn grpc(shop: &Bookshop) -> Result<(), Failure> {
    let outbound = shop.dev.instance("productpage")?.outbound;
    // One length-prefixed gRPC message; its content is opaque to proxies.
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sent-bin", HeaderValue::from_static("AAEC"));
    let frames = [
        Ok::<_, Infallible>(Frame::data(message.clone())),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("http://reviews/reviews/list")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let response = exchange(outbound, request).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let collected = response.into_body().collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    assert_eq!(
        trailers.get("grpc-status").map(HeaderValue::as_bytes),
        Some(&b"0"[..])
    );
    assert_eq!(
        trailers.get("x-sent-bin").map(HeaderValue::as_bytes),
        Some(&b"AAEC"[..])
    );
    assert_eq!(collected.to_bytes(), message);

    // A refusal is a gRPC answer, too: PERMISSION_DENIED in the trailers, or in headers alone.
    let request = Request::post("http://reviews/admin/drop")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::new()))?;
    let response = exchange(outbound, request).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response
            .headers()
            .get("grpc-status")
            .map(HeaderValue::as_bytes),
        Some(&b"7"[..])
    );
    Ok(())
}

async fn exchange<B>(
    address: SocketAddr,
    request: Request<B>,
) -> Result<Response<Incoming>, Failure>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
