//! `meshd trigger`: has a running distributor look at the followed ref now.

use bytes::Bytes;
use http::Method;

use crate::args::SocketArgument;
use crate::commands::ask::{ask, print};
use crate::exit_code::ExitCode;

/// Asks, and prints nothing but a failure.
pub(crate) fn run(arguments: &SocketArgument) -> ExitCode {
    match ask(&arguments.socket, Method::POST, "/trigger", Bytes::new()) {
        Ok(_accepted) => ExitCode::Success,
        Err(error) => print(Err(error)),
    }
}
