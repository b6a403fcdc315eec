//! The small HTTP/1 servers of a daemon: the admin socket (a Unix socket of mode 0600, the only
//! place where anything can be changed) and the listeners for metrics, readiness and hooks. The
//! program adds the routes.

pub mod client;
mod server;
mod socket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;

pub use server::{serve_tcp, serve_unix};
pub use socket::{AdminSocket, SocketHandle};

use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};

/// What a handler is given.
#[derive(Debug)]
pub struct AdminRequest {
    /// Of the request.
    pub method: Method,
    /// As sent, without the query.
    pub path: String,
    /// What follows the path of a route that was added with [`Routes::below`]; else empty.
    pub tail: String,
    /// As sent; empty if none.
    pub query: String,
    /// Of the request.
    pub headers: HeaderMap,
    /// Bounded by [`crate::limits::ADMIN_BODY_BYTES_MAX`].
    pub body: Bytes,
}

/// What a handler answers.
#[derive(Clone, Debug)]
pub struct AdminResponse {
    /// Of the answer.
    pub status: StatusCode,
    /// Of the body.
    pub content_type: &'static str,
    /// The whole of it.
    pub body: Bytes,
}

impl AdminResponse {
    /// A line of text.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: Bytes::from(text.into()),
        }
    }

    /// A JSON document, 200.
    pub fn json<T: Serialize>(value: &T) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    /// A JSON document.
    pub fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self {
                status,
                content_type: "application/json",
                body: Bytes::from(body),
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

/// The answer that a handler is working on.
pub type AdminFuture = Pin<Box<dyn Future<Output = AdminResponse> + Send>>;

type Handler = Arc<dyn Fn(AdminRequest) -> AdminFuture + Send + Sync>;

/// Which handler takes which request; the first that fits.
#[derive(Clone, Default)]
pub struct Routes(Vec<Entry>);

#[derive(Clone)]
struct Entry {
    method: Method,
    path: &'static str,
    below: bool,
    handler: Handler,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|entry| (&entry.method, entry.path)))
            .finish()
    }
}

impl Routes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `method path`, exactly.
    #[must_use]
    pub fn at<H, F>(self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Fn(AdminRequest) -> F + Send + Sync + 'static,
        F: Future<Output = AdminResponse> + Send + 'static,
    {
        self.with(method, path, false, handler)
    }

    /// Takes `method` on everything that starts with `prefix`; the rest is the request's `tail`.
    #[must_use]
    pub fn below<H, F>(self, method: Method, prefix: &'static str, handler: H) -> Self
    where
        H: Fn(AdminRequest) -> F + Send + Sync + 'static,
        F: Future<Output = AdminResponse> + Send + 'static,
    {
        self.with(method, prefix, true, handler)
    }

    /// Adds `GET /metrics`.
    #[must_use]
    pub fn metrics(self, metrics: Metrics) -> Self {
        self.at(Method::GET, "/metrics", move |_| {
            let body = Bytes::from(metrics.encode());
            async move {
                AdminResponse {
                    status: StatusCode::OK,
                    content_type: METRICS_CONTENT_TYPE,
                    body,
                }
            }
        })
    }

    /// Adds `GET /ready`: 200 when `ready` says `Ok`, else 503; its text is the body.
    #[must_use]
    pub fn ready<R>(self, ready: R) -> Self
    where
        R: Fn() -> Result<String, String> + Send + Sync + 'static,
    {
        self.at(Method::GET, "/ready", move |_| {
            let answer = match ready() {
                Ok(text) => AdminResponse::text(StatusCode::OK, text + "\n"),
                Err(text) => AdminResponse::text(StatusCode::SERVICE_UNAVAILABLE, text + "\n"),
            };
            async move { answer }
        })
    }

    fn with<H, F>(mut self, method: Method, path: &'static str, below: bool, handler: H) -> Self
    where
        H: Fn(AdminRequest) -> F + Send + Sync + 'static,
        F: Future<Output = AdminResponse> + Send + 'static,
    {
        self.0.push(Entry {
            method,
            path,
            below,
            handler: Arc::new(move |request| Box::pin(handler(request))),
        });
        self
    }

    /// The handler and the tail for a path, or the status that says why there is none.
    fn find(&self, method: &Method, path: &str) -> Result<(Handler, String), StatusCode> {
        let mut status = StatusCode::NOT_FOUND;
        for entry in &self.0 {
            let tail = if entry.below {
                path.strip_prefix(entry.path)
            } else {
                (path == entry.path).then_some("")
            };
            let Some(tail) = tail else { continue };
            if entry.method == method {
                return Ok((Arc::clone(&entry.handler), tail.to_owned()));
            }
            status = StatusCode::METHOD_NOT_ALLOWED;
        }
        Err(status)
    }

    async fn answer(&self, mut request: AdminRequest) -> AdminResponse {
        match self.find(&request.method, &request.path) {
            Ok((handler, tail)) => {
                request.tail = tail;
                handler(request).await
            }
            Err(status) => AdminResponse::text(status, format!("{status}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, path: &str) -> AdminRequest {
        AdminRequest {
            method,
            path: path.to_owned(),
            tail: String::new(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_not_a_missing_path() {
        let routes = Routes::new()
            .at(Method::POST, "/drain", |_| async {
                AdminResponse::text(StatusCode::ACCEPTED, "draining")
            })
            .below(Method::GET, "/where/", |request| async move {
                AdminResponse::text(StatusCode::OK, request.tail)
            });
        let status = |method, path: &str| {
            let request = request(method, path);
            let routes = routes.clone();
            async move { routes.answer(request).await }
        };
        assert_eq!(status(Method::POST, "/drain").await.status, 202);
        assert_eq!(status(Method::GET, "/drain").await.status, 405);
        assert_eq!(status(Method::GET, "/drain/").await.status, 404);
        assert_eq!(status(Method::GET, "/where/abc").await.body, "abc");
    }
}
