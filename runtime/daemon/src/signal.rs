//! What ends a daemon: a signal, or the end of the process that started it.

use std::io::{self, Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Listens for SIGTERM and SIGINT from the moment it is made.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    owner: Option<oneshot::Receiver<()>>,
}

impl Shutdown {
    /// Installs the handlers; needs a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: None,
            owner: None,
        })
    }

    /// Takes the end of standard input for a request to end, too. A process that starts daemons holds
    /// the other end of that pipe, so that they end with it, however it ends.
    #[must_use]
    pub fn or_end_of_stdin(mut self) -> Self {
        let (ended, owner) = oneshot::channel();
        // A blocking read cannot be cancelled, so it has a thread that nobody waits for.
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let mut stdin = io::stdin().lock();
            while !matches!(stdin.read(&mut buffer), Ok(0) | Err(_)) {}
            if ended.send(()).is_err() {
                tracing::debug!("the daemon ends for another reason");
            }
        });
        self.owner = Some(owner);
        self
    }

    /// Takes the end of the terminal for a request to end, too, unless the program was started to outlive
    /// it, as by `nohup`.
    pub fn or_hangup(mut self) -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !ignores_hangup(&status) {
            self.hangup = Some(signal(SignalKind::hangup())?);
        }
        Ok(self)
    }

    /// Takes a hang-up for nothing at all, and says so: other programs read their files again then, and this one has
    /// none to read.
    pub fn ignoring_hangup(self, why: &'static str) -> io::Result<Self> {
        let mut hangups = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                tracing::warn!("SIGHUP changes nothing: {why}");
            }
        });
        Ok(self)
    }

    /// Waits for the next of these and returns its name. The first asks for a drain; a program that
    /// is asked twice should end at once.
    pub async fn requested(&mut self) -> &'static str {
        let owner = &mut self.owner;
        let hangup = &mut self.hangup;
        let hung_up = async {
            match hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        let orphaned = async {
            match owner {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = hung_up => "SIGHUP",
            () = orphaned => {
                self.owner = None;
                "end of standard input"
            }
        }
    }
}

/// What the kernel tells of a process that ignored SIGHUP, signal 1, when it was started.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_up_that_was_to_be_ignored_is() {
        let status =
            |mask: &str| format!("Name:\tmeshd\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup(""));
    }
}
