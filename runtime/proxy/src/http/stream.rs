//! The end of an HTTP/2 stream whose reader does not read. hyper polls no body then, so no body's
//! clock would be asked; what it runs for each stream is dropped instead, which resets the stream.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;

/// When the stream of the task that runs must have ended.
#[derive(Debug, Default)]
struct StreamEnd {
    until: OnceLock<Instant>,
    known: Notify,
}

tokio::task_local! {
    static END: Arc<StreamEnd>;
}

impl StreamEnd {
    /// Waits until it is time; for ever if nobody says when.
    async fn passed(&self) {
        self.known.notified().await;
        match self.until.get() {
            Some(until) => tokio::time::sleep_until(*until).await,
            None => std::future::pending().await,
        }
    }
}

/// Ends the stream of the task that runs at `until`.
pub(crate) fn end_at(until: Instant) {
    // Elsewhere there is no stream to end.
    let _elsewhere = END.try_with(|end| {
        end.until.get_or_init(|| until);
        end.known.notify_one();
    });
}

/// Runs each stream of a connection in a task of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamExecutor;

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let end = Arc::new(StreamEnd::default());
        let watched = Arc::clone(&end);
        tokio::spawn(END.scope(end, async move {
            tokio::select! {
                // First, so that a stream that needs no waiting makes no timer.
                biased;
                _ = stream => {}
                () = watched.passed() => {}
            }
        }));
    }
}
