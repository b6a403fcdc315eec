//! `meshd token`

use http::Method;

use crate::api::TokenRequest;
use crate::args::TokenArguments;
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;
use crate::folder;
use crate::output;

/// Creates a join file. The secret in it is printed nowhere.
pub(crate) fn run(arguments: &TokenArguments) -> ExitCode {
    let join_file = match join_file(arguments) {
        Ok(join_file) => join_file,
        Err(error @ AskError::Refused(_)) => return ask::fail(&error, ExitCode::Failure),
        Err(error) => return ask::fail(&error, ExitCode::CouldNotRun),
    };
    match folder::create_private(&arguments.out, &join_file) {
        Ok(()) => {
            let path = arguments.out.display();
            output::message(&format!(
                "wrote {path}; it admits {} once",
                arguments.identity
            ));
            ExitCode::Success
        }
        Err(error) => ask::fail(&error, ExitCode::CouldNotRun),
    }
}

fn join_file(arguments: &TokenArguments) -> Result<bytes::Bytes, AskError> {
    let request = TokenRequest {
        identity: arguments.identity.clone(),
        ttl_s: Some(arguments.life.as_secs()),
    };
    let body = serde_json::to_vec(&request)?;
    ask::ask(
        &arguments.socket.socket,
        Method::POST,
        "/join-tokens",
        body.into(),
    )
}
