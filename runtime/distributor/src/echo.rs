//! The stand-in for an application that `meshd dev` has not been given: it answers every request
//! with what it received. Knows nothing of meshes.
//!
//! A request can ask for trouble: `x-echo-status: 503` sets the status, `x-echo-delay-ms: 200` waits
//! before the answer. A gRPC request gets its message back and `grpc-status: 0` in the trailers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mesh_daemon::signal::Shutdown;
use serde_json::json;
use tokio::net::TcpListener;

/// Longest body that is read and given back.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Longest wait that a request can ask for.
const DELAY_MAX: Duration = Duration::from_mins(1);
/// An idle connection to the application is the proxy's to close; this bounds a silent one.
const HEAD_TIMEOUT: Duration = Duration::from_mins(5);

/// An application that answers with what it received.
#[derive(Debug, clap::Args)]
pub(crate) struct EchoArguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Name to answer with.
    #[arg(long)]
    service: String,
    /// Version to answer with.
    #[arg(long)]
    subset: Option<String>,
    /// Instance to answer with.
    #[arg(long)]
    instance: String,
    /// Write the bound address to this file.
    #[arg(long)]
    address_file: Option<PathBuf>,
    /// End when standard input does.
    #[arg(long)]
    end_with_stdin: bool,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until the process is told to end.
pub(crate) async fn run(args: EchoArguments) -> std::io::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    if let Some(file) = &args.address_file {
        super::dev::write_whole(file, &format!("\"{}\"", listener.local_addr()?))?;
    }
    let mut shutdown = Shutdown::listen()?;
    if args.end_with_stdin {
        shutdown = shutdown.or_end_of_stdin();
    }
    tokio::select! {
        never = accept(listener, Arc::new(args)) => never,
        _ = shutdown.requested() => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, args: Arc<EchoArguments>) -> ! {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // A failed accept concerns one client; the next may succeed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let args = Arc::clone(&args);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let args = Arc::clone(&args);
                async move { Ok::<_, Infallible>(answer(&args, request).await) }
            });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
            server.http2().timer(TokioTimer::new());
            // A broken connection ends here; there is nobody to tell.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(args: &EchoArguments, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return plain(
            StatusCode::BAD_REQUEST,
            Bytes::from_static(b"unreadable body\n"),
        );
    };
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    if let Some(delay) = number(&head.headers, "x-echo-delay-ms") {
        tokio::time::sleep(Duration::from_millis(delay).min(DELAY_MAX)).await;
    }
    let grpc = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut response = if grpc {
        with_trailers(body, trailers.as_ref())
    } else {
        let status = number(&head.headers, "x-echo-status")
            .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok())
            .unwrap_or(StatusCode::OK);
        plain(status, received(args, &head, &body))
    };
    let version = args.subset.as_deref().unwrap_or_default();
    for (name, value) in [
        ("x-echo-service", args.service.as_str()),
        ("x-echo-version", version),
        ("x-echo-instance", args.instance.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn received(args: &EchoArguments, head: &http::request::Parts, body: &Bytes) -> Bytes {
    let headers: Vec<[String; 2]> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            [name.as_str().to_owned(), value]
        })
        .collect();
    let text = json!({
        "service": args.service,
        "version": args.subset,
        "instance": args.instance,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "protocol": format!("{:?}", head.version),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    });
    Bytes::from(format!("{text}\n"))
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// The message that came, then a success and the trailers that came with it.
fn with_trailers(message: Bytes, received: Option<&HeaderMap>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    for (name, value) in received.into_iter().flatten() {
        trailers.append(name, value.clone());
    }
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(stream::iter(frames));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
