//! The applications behind both gateways: one answers requests of HTTP/1 and HTTP/2, streams of gRPC and WebSockets, the
//! other one sends bytes back.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_tests::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

type Body = BoxBody<Bytes, hyper::Error>;

/// Starts both; they end with the runtime.
pub(crate) async fn start() -> Result<(SocketAddr, SocketAddr), Failure> {
    let requests = TcpListener::bind("127.0.0.1:0").await?;
    let bytes = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = (requests.local_addr()?, bytes.local_addr()?);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = requests.accept().await {
            tokio::spawn(serve(tcp));
        }
    });
    tokio::spawn(async move {
        while let Ok((tcp, _)) = bytes.accept().await {
            tokio::spawn(send_back(tcp));
        }
    });
    Ok(addresses)
}

async fn send_back(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    // However it ends, it has ended.
    drop(tokio::io::copy(&mut read, &mut write).await);
}

async fn serve(tcp: TcpStream) {
    let mut first = [0; 3];
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request)) });
    let ended = match tcp.peek(&mut first).await {
        Ok(3) if &first == b"PRI" => {
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(tcp), service)
                .await
        }
        _ => {
            http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
                .await
        }
    };
    drop(ended);
}

fn answer(mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                send_back(TokioIo::new(upgraded)).await;
            }
        });
        let mut agreed = Response::new(Empty::new().map_err(|never| match never {}).boxed());
        *agreed.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = agreed.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return agreed;
    }
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    if kind.as_ref().is_some_and(|kind| kind == "application/grpc") {
        // Messages and trailers go back as they come.
        let mut echo = Response::new(request.into_body().boxed());
        echo.headers_mut().extend([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        )]);
        return echo;
    }
    Response::new(Full::from("ok\n").map_err(|never| match never {}).boxed())
}
