//! One request to an admin socket, for the commands that ask a running daemon.

use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ADMIN_TIMEOUT};

/// Why a daemon did not answer.
#[derive(Debug, Error)]
pub enum AdminClientError {
    /// Nobody listens there, or not for us.
    #[error("connect to the admin socket")]
    Connect(#[source] std::io::Error),
    /// The exchange broke.
    #[error("talk to the admin socket")]
    Exchange(#[source] hyper::Error),
    /// The path is not one.
    #[error("form the request")]
    Request(#[source] http::Error),
    /// The answer is too large or broke off.
    #[error("read the answer of the admin socket")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("get an answer from the admin socket in time")]
    Timeout,
}

/// Sends one request and reads the whole answer.
pub async fn request(
    socket: &Path,
    method: Method,
    path_and_query: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), AdminClientError> {
    // Longer than the server's own limit, so that its answer is what is seen.
    tokio::time::timeout(
        ADMIN_TIMEOUT * 3,
        exchange(socket, method, path_and_query, body),
    )
    .await
    .map_err(|_elapsed| AdminClientError::Timeout)?
}

async fn exchange(
    socket: &Path,
    method: Method,
    path_and_query: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), AdminClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(AdminClientError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(AdminClientError::Exchange)?;
    let request = Request::builder()
        .method(method)
        .uri(path_and_query)
        .header(http::header::HOST, "localhost")
        .body(Full::new(body))
        .map_err(AdminClientError::Request)?;
    let answer = async move {
        let response = sender
            .send_request(request)
            .await
            .map_err(AdminClientError::Exchange)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ADMIN_ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(AdminClientError::Answer)?
            .to_bytes();
        Ok((status, body))
    };
    // The connection is driven beside the exchange and dropped with it; its errors show up there.
    tokio::pin!(connection);
    tokio::pin!(answer);
    let mut open = true;
    loop {
        tokio::select! {
            result = &mut answer => return result,
            result = &mut connection, if open => {
                open = false;
                drop(result);
            }
        }
    }
}
