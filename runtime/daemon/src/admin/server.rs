//! Serves [`Routes`] over HTTP/1 with every bound set.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Uid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::socket::AdminSocket;
use super::{AdminRequest, AdminResponse, Routes};
use crate::drain::DrainWatcher;
use crate::limits::{ADMIN_BODY_BYTES_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_TIMEOUT};

/// Serves until told to drain.
pub async fn serve_tcp(listener: TcpListener, routes: Routes, drain: DrainWatcher) {
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        Ok(Some(stream))
    };
    serve(accept, routes, drain).await;
}

/// Serves until told to drain. Peers of another uid than ours or root's are closed at once, should
/// the mode of the socket have been changed.
pub async fn serve_unix(socket: AdminSocket, routes: Routes, drain: DrainWatcher) {
    let accept = || async {
        let (stream, _) = socket.listener().accept().await?;
        Ok(is_permitted(&stream).then_some(stream))
    };
    serve(accept, routes, drain).await;
}

fn is_permitted(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| {
        let uid = Uid::from_raw(peer.uid());
        uid.is_root() || uid == Uid::effective()
    })
}

async fn serve<A, F, S>(mut accept: A, routes: Routes, mut drain: DrainWatcher)
where
    A: FnMut() -> F,
    F: Future<Output = io::Result<Option<S>>>,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = Arc::new(routes);
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (permit, accept().await)
        };
        tokio::select! {
            () = drain.draining() => break,
            (permit, accepted) = next => match accepted {
                Ok(Some(stream)) => {
                    connections.spawn(connection(stream, Arc::clone(&routes), permit));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "could not accept an admin connection");
                    // Out of descriptors: trying again at once would spin.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            },
        }
    }
    // An answer that is under way, such as that of the drain itself, is finished.
    drop(
        tokio::time::timeout(ADMIN_TIMEOUT, async {
            while connections.join_next().await.is_some() {}
        })
        .await,
    );
}

async fn connection<S>(stream: S, routes: Arc<Routes>, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(respond(&routes, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_TIMEOUT)
        // One exchange per connection: nothing idles here, and a drain waits for nobody.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(ADMIN_TIMEOUT * 2, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection broke"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
    drop(permit);
}

async fn respond(routes: &Routes, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, ADMIN_BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            routes
                .answer(AdminRequest {
                    method: head.method,
                    path: head.uri.path().to_owned(),
                    tail: String::new(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    headers: head.headers,
                    body: body.to_bytes(),
                })
                .await
        }
        Err(error) if error.is::<LengthLimitError>() => {
            AdminResponse::text(StatusCode::PAYLOAD_TOO_LARGE, "body too large\n")
        }
        Err(error) => AdminResponse::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use http::Method;

    use super::super::client;
    use super::*;
    use crate::drain;

    #[tokio::test]
    async fn answers_over_a_private_unix_socket_and_removes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (trigger, watcher) = drain::channel();
        let routes = Routes::new().at(Method::POST, "/echo", |request| async move {
            AdminResponse {
                status: StatusCode::OK,
                content_type: "text/plain",
                body: request.body,
            }
        });
        let server = tokio::spawn(serve_unix(socket, routes, watcher));

        let (status, body) = client::request(&path, Method::POST, "/echo", Bytes::from("hello"))
            .await
            .unwrap();
        assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"hello"[..]));
        let (status, _) = client::request(
            &path,
            Method::POST,
            "/echo",
            Bytes::from(vec![0; ADMIN_BODY_BYTES_MAX + 1]),
        )
        .await
        .unwrap();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);

        trigger.start();
        server.await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = AdminSocket::bind(&path).unwrap();
        assert_eq!(
            AdminSocket::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(live);
        std::fs::write(&path, "a file").unwrap();
        assert!(AdminSocket::bind(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    }
}
