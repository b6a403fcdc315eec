//! What the exit code of every command means.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to object to.
    Clean = 0,
    /// Findings at or above `--deny`, a failed test, or a policy that can't be built.
    Findings = 1,
    /// It could not run: bad arguments, an unreadable folder or repository.
    CouldNotRun = 2,
}

impl Exit {
    /// [`Exit::Clean`] or [`Exit::Findings`].
    pub(crate) fn from_clean(clean: bool) -> Self {
        if clean { Self::Clean } else { Self::Findings }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
