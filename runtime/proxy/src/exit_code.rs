//! How `meshp` ends.

use std::process::ExitCode;

/// Why the program ended, for whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was asked to end and every request was finished.
    Ended,
    /// It was asked to end and requests were cut at the deadline.
    Cut,
    /// It was asked whether a proxy is ready, and that is not.
    NotReady,
    /// It could not start: bad arguments, no pinned root, a store that is not private, a port that is
    /// taken.
    CouldNotStart,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ended => 0,
            Exit::Cut | Exit::NotReady => 1,
            Exit::CouldNotStart => 2,
        })
    }
}
