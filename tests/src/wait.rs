//! Waiting for something to become true in another process, which can only be asked.

use std::time::{Duration, Instant};

use crate::Failure;

const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again until there is an answer; fails after `limit` with the last objection.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(objection) if Instant::now() >= deadline => {
                return Err(objection.while_doing(format_args!("{what} not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// As [`wait_until`], and tells how long it took.
pub fn within<T>(
    what: &str,
    limit: Duration,
    ask: impl FnMut() -> Result<T, Failure>,
) -> Result<(T, Duration), Failure> {
    let start = Instant::now();
    Ok((wait_until(what, limit, ask)?, start.elapsed()))
}
