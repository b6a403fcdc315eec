//! How `meshd` ends.

/// Exit codes of `meshd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// It did what was asked.
    Success = 0,
    /// It ran, and failed or was refused.
    Failure = 1,
    /// It could not run: bad arguments, unusable keys, state or repository.
    CouldNotRun = 2,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
