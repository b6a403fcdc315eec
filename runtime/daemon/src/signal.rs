//! What ends a daemon: a signal, or the end of the process that started it.

use std::io::{self, Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Listens for SIGTERM and SIGINT from the moment it is made.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    owner: Option<oneshot::Receiver<()>>,
}

impl Shutdown {
    /// Installs the handlers; needs a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
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

    /// Waits for the next of these and returns its name. The first asks for a drain; a program that
    /// is asked twice should end at once.
    pub async fn requested(&mut self) -> &'static str {
        let owner = &mut self.owner;
        let orphaned = async {
            match owner {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = orphaned => {
                self.owner = None;
                "end of standard input"
            }
        }
    }
}
