//! Asking a running distributor over its Unix socket.

use std::path::Path;

use bytes::Bytes;
use http::{Method, StatusCode};
use mesh_daemon::admin::client::{self, AdminClientError};
use serde::de::DeserializeOwned;

use crate::api::Refusal;
use crate::exit_code::ExitCode;
use crate::output;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody answered.
    #[error("no answer from a distributor at {socket}")]
    Client {
        /// Where.
        socket: String,
        /// Why not.
        #[source]
        source: AdminClientError,
    },
    /// It said no.
    #[error("the distributor refused: {0}")]
    Refused(String),
    /// There is nothing to ask.
    #[error("{0}")]
    Argument(String),
    /// It said something that this release does not understand.
    #[error("the distributor's answer is not understood")]
    Answer(#[from] serde_json::Error),
    /// The runtime.
    #[error("could not start")]
    Runtime(#[source] std::io::Error),
}

/// Sends one request and returns the body of a good answer.
pub(crate) fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AskError::Runtime)?;
    let (status, body) = runtime
        .block_on(client::request(socket, method, path, body))
        .map_err(|source| AskError::Client {
            socket: socket.display().to_string(),
            source,
        })?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(refused(status, &body))
    }
}

/// Asks for JSON.
pub(crate) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<(T, Bytes), AskError> {
    let body = ask(socket, Method::GET, path, Bytes::new())?;
    Ok((serde_json::from_slice(&body)?, body))
}

/// Prints an answer, or why there is none.
pub(crate) fn print(answer: Result<String, AskError>) -> ExitCode {
    match answer {
        Ok(text) => match output::data(&text) {
            Ok(()) => ExitCode::Success,
            // Whoever read it has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::Success,
            Err(error) => fail(&error, ExitCode::Failure),
        },
        Err(error @ AskError::Refused(_)) => fail(&error, ExitCode::Failure),
        Err(error) => fail(&error, ExitCode::CouldNotRun),
    }
}

/// Prints an error.
pub(crate) fn fail(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    output::message(&format!("meshd: {}", output::chain(error)));
    code
}

fn refused(status: StatusCode, body: &[u8]) -> AskError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => AskError::Refused(refusal.error),
        Err(_not_ours) => AskError::Refused(status.to_string()),
    }
}
