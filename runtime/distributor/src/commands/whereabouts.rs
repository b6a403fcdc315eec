//! `meshd where`

use crate::args::{Format, WhereArguments};
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;
use crate::status::{WhereReport, table};

/// Prints which proxies serve a commit, and why the others do not.
pub(crate) fn run(arguments: &WhereArguments) -> ExitCode {
    ask::print(text(arguments))
}

fn text(arguments: &WhereArguments) -> Result<String, AskError> {
    let commit = arguments.commit.to_ascii_lowercase();
    if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(AskError::Argument(format!(
            "{:?} is not a commit",
            arguments.commit
        )));
    }
    let (report, json) =
        ask::get::<WhereReport>(&arguments.socket.socket, &format!("/where/{commit}"))?;
    Ok(match arguments.format {
        Format::Json => String::from_utf8_lossy(&json).into_owned(),
        Format::Human => table::whereabouts(&report),
    })
}
