//! The thread that follows: it looks when told to, and now and then by itself. Everything slow or
//! blocking about a commit happens here, apart from whoever serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mesh_daemon::clock::Clock;

use crate::git::{Attempt, Follower, Progress};
use crate::limits;
use crate::status::RefState;

/// Makes the follower look soon. Pulls that come before it looks are one.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    sender: SyncSender<()>,
    stopped: Arc<AtomicBool>,
}

/// Makes a trigger and what it triggers.
pub(crate) fn trigger() -> (Trigger, Receiver<()>) {
    let (sender, receiver) = sync_channel(1);
    (
        Trigger {
            sender,
            stopped: Arc::default(),
        },
        receiver,
    )
}

impl Trigger {
    /// Asks for a look.
    pub(crate) fn pull(&self) {
        // Full: a look is due anyway. Closed: the distributor is ending.
        let _due_or_ending = self.sender.try_send(());
    }

    /// Ends the thread, after the commit that it is judging.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.pull();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Where following stands, shared with the status.
#[derive(Clone, Debug)]
pub(crate) struct Watched(Arc<Mutex<(Progress, u64)>>);

impl Watched {
    /// Before the first look.
    pub(crate) fn new(clock: &Clock) -> Self {
        Self(Arc::new(Mutex::new((
            Progress::starting(),
            clock.wall_ms(),
        ))))
    }

    /// The progress, and since when (Unix milliseconds).
    pub(crate) fn get(&self) -> (Progress, u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the progress; says whether it differs.
    fn set(&self, progress: Progress, now_ms: u64) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.0 == progress {
            return false;
        }
        *watched = (progress, now_ms);
        true
    }
}

/// Starts the thread. It ends when its trigger is stopped.
pub(crate) fn start<J>(
    mut follower: Follower,
    mut judge: J,
    watched: Watched,
    poll: Duration,
    (trigger, triggers): (Trigger, Receiver<()>),
    clock: Clock,
) -> std::io::Result<JoinHandle<()>>
where
    J: FnMut(&mesh_repo::Repository, mesh_repo::CommitId) -> Attempt + Send + 'static,
{
    let poll = poll.clamp(limits::POLL_MIN, limits::POLL_MAX);
    thread::Builder::new()
        .name("follow".to_owned())
        .spawn(move || {
            while !trigger.is_stopped() {
                let progress = follower.look(&mut judge);
                if watched.set(progress.clone(), clock.wall_ms()) {
                    log(&progress);
                }
                match triggers.recv_timeout(jittered(poll, fastrand::f64())) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })
}

/// Between 80 % and 100 % of the interval, so that many distributors don't ask at once.
fn jittered(poll: Duration, random: f64) -> Duration {
    poll.mul_f64(1.0 - limits::POLL_JITTER * random)
}

fn log(progress: &Progress) {
    let state = progress.state.as_str();
    let tip = progress.tip.as_deref().unwrap_or("none");
    let detail = progress.detail.as_deref().unwrap_or_default();
    match progress.state {
        RefState::Starting | RefState::Following => tracing::info!(state, tip, "following the ref"),
        _ => {
            let finding = progress
                .findings
                .first()
                .map(crate::finding::Finding::line)
                .unwrap_or_default();
            let findings = progress.findings.len();
            tracing::warn!(
                state,
                tip,
                detail,
                findings,
                finding,
                "the tip is not served"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poll_is_spread() {
        let poll = Duration::from_secs(10);
        assert_eq!(jittered(poll, 0.0), poll);
        assert_eq!(jittered(poll, 1.0), Duration::from_secs(8));
    }

    #[test]
    fn since_moves_only_with_the_state() {
        let clock = Clock::manual(5);
        let watched = Watched::new(&clock);
        assert!(!watched.set(Progress::starting(), 6));
        assert_eq!(watched.get().1, 5);
        let mut other = Progress::starting();
        other.state = RefState::RefMissing;
        assert!(watched.set(other, 7));
        assert_eq!(watched.get().1, 7);
    }
}
