//! `meshd status`

use crate::args::{Format, StatusArguments};
use crate::commands::ask::{self, AskError};
use crate::exit_code::ExitCode;
use crate::status::{StatusReport, table};

/// Prints the head and what each proxy reports.
pub(crate) fn run(arguments: &StatusArguments) -> ExitCode {
    ask::print(text(arguments))
}

fn text(arguments: &StatusArguments) -> Result<String, AskError> {
    let (report, json) = ask::get::<StatusReport>(&arguments.socket.socket, "/status")?;
    Ok(match arguments.format {
        // As the distributor wrote it: a newer one may say more than this release knows.
        Format::Json => String::from_utf8_lossy(&json).into_owned(),
        Format::Human => table::status(&report),
    })
}
