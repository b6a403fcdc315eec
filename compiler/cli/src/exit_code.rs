//! What the exit code of every command means.

use std::process::ExitCode;

use mesh_syntax::{Diagnostic, code};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to object to.
    Clean = 0,
    /// Findings at or above `--deny`, a failed test, or a policy that can't be built.
    Findings = 1,
    /// It could not run: bad arguments, an unreadable folder or repository, a merge that is not finished.
    CouldNotRun = 2,
}

impl Exit {
    /// [`Exit::Clean`] or [`Exit::Findings`].
    pub(crate) fn from_clean(clean: bool) -> Self {
        if clean { Self::Clean } else { Self::Findings }
    }

    /// The same, where an unfinished merge among what was found says that there was nothing to judge yet.
    pub(crate) fn from_findings<'a>(
        clean: bool,
        findings: impl IntoIterator<Item = &'a Diagnostic>,
    ) -> Self {
        let mut findings = findings.into_iter();
        if findings.any(|finding| finding.code == code::MERGE_CONFLICT.code) {
            return Self::CouldNotRun;
        }
        Self::from_clean(clean)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
