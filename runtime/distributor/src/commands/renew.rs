//! `meshd renew`

use http::Method;

use crate::api::RenewalRequest;
use crate::args::RenewArguments;
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;

/// Asks, and prints nothing but a failure.
pub(crate) fn run(arguments: &RenewArguments) -> ExitCode {
    match renew(arguments) {
        Ok(_accepted) => ExitCode::Success,
        Err(error) => ask::print(Err(error)),
    }
}

fn renew(arguments: &RenewArguments) -> Result<bytes::Bytes, AskError> {
    let request = RenewalRequest {
        within_s: u32::try_from(arguments.within.as_secs()).unwrap_or(u32::MAX),
    };
    let body = serde_json::to_vec(&request)?;
    ask::ask(
        &arguments.socket.socket,
        Method::POST,
        "/renewals",
        body.into(),
    )
}
