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
    // Before there is a token that could then be written nowhere.
    if let Err(error) = folder::check_creatable(&arguments.out) {
        return ask::fail(&error, ExitCode::CouldNotRun);
    }
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
        known_only: !arguments.early,
    };
    let body = serde_json::to_vec(&request)?;
    ask::ask(
        &arguments.socket.socket,
        Method::POST,
        "/join-tokens",
        body.into(),
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    #[test]
    fn nobody_is_asked_for_a_token_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("meshd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let there = folder.path().join("join.json");
        std::fs::write(&there, "precious").unwrap();
        for out in [&there, &folder.path().join("nowhere/join.json")] {
            let words = [
                "meshd".as_ref(),
                "token".as_ref(),
                "spiffe://test.example/service/front".as_ref(),
                "--out".as_ref(),
                out.as_os_str(),
                "--socket".as_ref(),
                socket.as_os_str(),
            ];
            let Command::Token(arguments) = Arguments::parse_from(words).command else {
                panic!("another command");
            };
            assert!(matches!(run(&arguments), ExitCode::CouldNotRun));
            let asked = listener.accept().map_err(|error| error.kind());
            assert_eq!(asked.err(), Some(ErrorKind::WouldBlock));
        }
        assert_eq!(std::fs::read(&there).unwrap(), b"precious");
    }
}
