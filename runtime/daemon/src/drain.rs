//! Ending without dropping work: a trigger that tells everyone to finish, and watchers whose
//! holders are waited for.

use std::time::Duration;

use tokio::sync::watch;

/// Tells watchers to finish and waits until the last is dropped.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

/// Learns that it is time to finish. Whoever holds one is waited for, so it is cloned per piece of
/// work and dropped with it.
#[derive(Clone, Debug)]
pub struct DrainWatcher(watch::Receiver<bool>);

/// Makes a pair.
pub fn channel() -> (DrainTrigger, DrainWatcher) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), DrainWatcher(receiver))
}

impl DrainTrigger {
    /// Tells every watcher, present and future.
    pub fn start(&self) {
        self.0.send_replace(true);
    }

    /// How many watchers are left.
    pub fn remaining(&self) -> usize {
        self.0.receiver_count()
    }

    /// Another watcher.
    pub fn watcher(&self) -> DrainWatcher {
        DrainWatcher(self.0.subscribe())
    }

    /// Tells every watcher and waits for the last, at most `deadline`; returns how many had to be
    /// left behind.
    pub async fn finish(&self, deadline: Duration) -> usize {
        self.start();
        if tokio::time::timeout(deadline, self.0.closed())
            .await
            .is_ok()
        {
            return 0;
        }
        self.remaining()
    }
}

impl DrainWatcher {
    /// Whether it is time to finish.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time to finish; also when the trigger is gone.
    pub async fn draining(&mut self) {
        // An error means that the trigger was dropped: nobody waits for this work any more.
        drop(self.0.wait_for(|draining| *draining).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_last_watcher() {
        let (trigger, watcher) = channel();
        let mut second = watcher.clone();
        let work = tokio::spawn(async move {
            second.draining().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        drop(watcher);
        assert_eq!(trigger.finish(Duration::from_secs(10)).await, 0);
        work.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn leaves_behind_what_does_not_finish() {
        let (trigger, watcher) = channel();
        let stuck = watcher.clone();
        drop(watcher);
        assert_eq!(trigger.finish(Duration::from_secs(1)).await, 1);
        assert!(stuck.is_draining());
        assert!(trigger.watcher().is_draining());
    }
}
