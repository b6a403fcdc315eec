//! Waiting until a program that was started serves, with what it logged if it does not.

use std::path::Path;
use std::time::Duration;

use crate::{Failure, Response, Running, unix_request, wait_until};

/// Lines of a log that say why.
const TAIL_LINES: usize = 20;

/// Waits until `meshd serve` is ready, as its socket says.
pub fn until_ready(
    distributor: &mut Running,
    socket: &Path,
    log: &Path,
    limit: Duration,
) -> Result<(), Failure> {
    until("the distributor serves", distributor, log, limit, || {
        let answer = unix_request(socket, "GET", "/ready", "")?;
        objection_unless(answer.status == 200, &answer)
    })
}

/// Waits until `meshp run` serves a generation, as its admin socket says.
pub fn until_serving(
    proxy: &mut Running,
    admin: &Path,
    log: &Path,
    limit: Duration,
) -> Result<(), Failure> {
    until("a proxy serves", proxy, log, limit, || {
        let answer = unix_request(admin, "GET", "/config", "")?;
        objection_unless(answer.json()?["sequence"].is_u64(), &answer)
    })
}

fn objection_unless(serves: bool, answer: &Response) -> Result<(), Failure> {
    if serves {
        return Ok(());
    }
    Err(Failure::new(answer.body.clone()))
}

/// Asks until it serves, or has ended.
fn until(
    what: &str,
    program: &mut Running,
    log: &Path,
    limit: Duration,
    ask: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    wait_until(what, limit, || match program.ended()? {
        Some(status) => Ok(Err(Failure::new(format!("it ended with {status}")))),
        None => ask().map(Ok),
    })
    .and_then(|served| served)
    .map_err(|failure| failure.while_doing(log_tail(log)))
}

/// The last lines of a log.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let last = lines
        .get(lines.len().saturating_sub(TAIL_LINES)..)
        .unwrap_or_default();
    format!("{} says\n{}\n", log.display(), last.join("\n"))
}
