//! HTTP/2 connections give way to their streams before they work. What a stream sends wakes its connection, which the
//! runtime would then run at once, and each frame would be a write of its own; after all streams that are ready have
//! run, their frames go out together.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Whether a task has given way since it was woken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather {
    gathers: bool,
    gave_way: bool,
}

impl Gather {
    /// Gives way once each time.
    pub(crate) const FRAMES: Self = Self {
        gathers: true,
        gave_way: false,
    };
    /// Never gives way.
    pub(crate) const NOTHING: Self = Self {
        gathers: false,
        gave_way: false,
    };

    /// Whether the task that runs should do nothing now; it is woken again, after all that are ready.
    pub(crate) fn gives_way(&mut self, cx: &Context<'_>) -> bool {
        if !self.gathers {
            return false;
        }
        self.gave_way = !self.gave_way;
        if self.gave_way {
            cx.waker().wake_by_ref();
        }
        self.gave_way
    }
}

/// What runs an HTTP/2 connection to an endpoint.
struct Gathered<F> {
    connection: Pin<Box<F>>,
    gather: Gather,
}

impl<F: Future> Future for Gathered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if this.gather.gives_way(cx) {
            return Poll::Pending;
        }
        this.connection.as_mut().poll(cx)
    }
}

/// Runs what one connection to an endpoint is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionExecutor {
    runs: Arc<AtomicBool>,
}

impl<F> hyper::rt::Executor<F> for ConnectionExecutor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, part: F) {
        // The first is the connection, which the handshake starts; all others are of single streams.
        if self.runs.swap(true, Ordering::Relaxed) {
            tokio::spawn(part);
            return;
        }
        tokio::spawn(Gathered {
            connection: Box::pin(part),
            gather: Gather::FRAMES,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;

    use hyper::rt::Executor as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_works_after_its_streams() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let executor = ConnectionExecutor::default();
        for name in ["connection", "one stream", "another"] {
            let order = Arc::clone(&order);
            executor.execute(async move {
                order.lock().unwrap().push(name);
            });
        }
        while order.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            *order.lock().unwrap(),
            ["one stream", "another", "connection"]
        );
    }

    #[tokio::test]
    async fn it_gives_way_once_each_time_it_is_woken() {
        let mut gather = Gather::FRAMES;
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if gather.gives_way(cx) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        assert_eq!(polls, 2);
        let mut nothing = Gather::NOTHING;
        poll_fn(|cx| {
            assert!(!nothing.gives_way(cx));
            Poll::Ready(())
        })
        .await;
    }
}
