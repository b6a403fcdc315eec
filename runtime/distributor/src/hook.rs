//! `POST /hook`: whoever pushed says "look now". The body is never read, so nothing in it can
//! matter; without a secret it is only taken on loopback. A browser finds the status at `/`, to read.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_daemon::drain::DrainWatcher;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::follow::Trigger;
use crate::limits;

/// Why the hook cannot be taken there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// Anyone could call.
    #[error("the hook has no secret, so it listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address could not be bound.
    #[error("could not listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Binds the address of the hook.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, HookError> {
    if !address.ip().is_loopback() {
        return Err(HookError::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(|source| HookError::Bind { address, source })
}

/// What the listener answers with.
#[derive(Clone)]
pub(crate) struct Answers {
    /// Pulled by the hook.
    pub(crate) trigger: Trigger,
    /// Renders the status for a browser.
    pub(crate) page: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Serves until told to drain.
pub(crate) async fn serve(listener: TcpListener, answers: Answers, mut drain: DrainWatcher) {
    let permits = Arc::new(Semaphore::new(limits::HOOK_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = drain.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                // Beyond the bound the connection is closed: the poll will see the push anyway.
                if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                    let answers = answers.clone();
                    connections.spawn(async move {
                        exchange(stream, answers).await;
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a hook's connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn exchange(stream: TcpStream, answers: Answers) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &answers);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HOOK_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(limits::HOOK_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "hook's connection broke"),
        Err(_elapsed) => tracing::debug!("hook's connection took too long"),
    }
}

fn respond<B>(request: &Request<B>, answers: &Answers) -> Response<Full<Bytes>> {
    match (request.uri().path(), request.method()) {
        ("/hook", &Method::POST) => plain(call_hook(request, &answers.trigger)),
        ("/", &Method::GET) if names_loopback(request) => page((answers.page)()),
        ("/", &Method::GET) => plain(StatusCode::MISDIRECTED_REQUEST),
        ("/hook" | "/", _) => plain(StatusCode::METHOD_NOT_ALLOWED),
        _ => plain(StatusCode::NOT_FOUND),
    }
}

/// A page in a browser can reach loopback too; it cannot send a POST without an `Origin`.
fn call_hook<B>(request: &Request<B>, trigger: &Trigger) -> StatusCode {
    if request.headers().contains_key(header::ORIGIN) {
        return StatusCode::FORBIDDEN;
    }
    trigger.pull();
    StatusCode::ACCEPTED
}

/// A name that a stranger points at loopback would let his pages read ours.
fn names_loopback<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST);
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{status}\n"))));
    *response.status_mut() = status;
    response
}

fn page(html: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(html)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow;

    fn answers(trigger: Trigger) -> Answers {
        Answers {
            trigger,
            page: Arc::new(|| "status".to_owned()),
        }
    }

    #[test]
    fn the_page_is_for_names_of_loopback_only() {
        let (trigger, _triggers) = follow::trigger();
        let answers = answers(trigger);
        let ask = |host: &str| {
            let request = Request::builder().uri("/").header(header::HOST, host);
            respond(&request.body(()).unwrap(), &answers).status()
        };
        for host in ["127.0.0.1:9", "localhost:9", "localhost", "[::1]:9"] {
            assert_eq!(ask(host), StatusCode::OK, "{host}");
        }
        for host in ["evil.example", "10.0.0.1:9", "localhost.evil.example", ""] {
            assert_eq!(ask(host), StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
    }

    #[test]
    fn only_a_post_to_the_hook_pulls() {
        let (trigger, triggers) = follow::trigger();
        let answers = answers(trigger);
        let ask = |method: Method, path: &str, origin: bool| {
            let mut request = Request::builder().method(method).uri(path);
            if origin {
                request = request.header(header::ORIGIN, "http://evil.example");
            }
            respond(&request.body(()).unwrap(), &answers).status()
        };
        assert_eq!(
            ask(Method::GET, "/hook", false),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            ask(Method::POST, "/", false),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(ask(Method::POST, "/hooks", false), StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::POST, "/hook", true), StatusCode::FORBIDDEN);
        assert!(triggers.try_recv().is_err());
        assert_eq!(ask(Method::POST, "/hook", false), StatusCode::ACCEPTED);
        assert_eq!(ask(Method::POST, "/hook", false), StatusCode::ACCEPTED);
        assert!(triggers.try_recv().is_ok());
        assert!(
            triggers.try_recv().is_err(),
            "two pulls before a look are one"
        );
    }

    #[tokio::test]
    async fn a_reachable_address_is_refused() {
        let refused = bind(SocketAddr::from(([0, 0, 0, 0], 0))).await;
        assert!(matches!(refused, Err(HookError::NotLoopback(_))));
    }
}
