//! A started program that ends with its owner.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::{Failure, run, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A child process; dropped, it is asked to end and then made to.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        Ok(Self(command.spawn()?))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.0.try_wait()?)
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        signal(self.id(), "TERM")?;
        wait_until("the end of a stopped program", PATIENCE, || {
            self.ended()?.ok_or_else(|| Failure::new("it still runs"))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // Both fail only when the process is gone already.
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// Sends a signal by name to a process that the harness, or a program it started, has started.
pub(crate) fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    run(Command::new("kill").args(["-s", name, &pid.to_string()])).map(drop)
}
