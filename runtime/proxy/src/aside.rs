//! What a busy task waits for beside its work: asked when it has something to say, and not whenever there is
//! work. A connection is woken several times for each request; asking all that could end it each time, a lock
//! and a timer each, took a tenth of what a request costs outside of the kernel.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that is polled only after it was woken itself.
#[derive(Debug)]
pub(crate) struct Aside<'f, F> {
    future: Pin<&'f mut F>,
    own: Arc<Own>,
    /// Who waits; a task's waker stays the same.
    waiting: Option<Waker>,
}

/// Its waker.
#[derive(Debug)]
struct Own {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<'f, F: Future> Aside<'f, F> {
    /// Waits for `future`.
    pub(crate) fn new(future: Pin<&'f mut F>) -> Self {
        Self {
            future,
            own: Arc::new(Own {
                woken: AtomicBool::new(true),
                task: AtomicWaker::new(),
            }),
            waiting: None,
        }
    }
}

impl<F: Future> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Before it is looked whether it was woken, so that whoever wakes it in between wakes this task.
        let is_known = this
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.will_wake(cx.waker()));
        if !is_known {
            this.own.task.register(cx.waker());
            this.waiting = Some(cx.waker().clone());
        }
        if !this.own.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        // Waking takes the waker out.
        this.own.task.register(cx.waker());
        let own = Waker::from(Arc::clone(&this.own));
        this.future.as_mut().poll(&mut Context::from_waker(&own))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it is polled, until it may end.
    struct Counting<'c> {
        polls: &'c AtomicUsize,
        ends: &'c AtomicBool,
        waker: &'c AtomicWaker,
    }

    impl Future for Counting<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.polls.fetch_add(1, Ordering::Relaxed);
            self.waker.register(cx.waker());
            if self.ends.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            Poll::Pending
        }
    }

    /// Counts how often a task was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_asked_when_it_was_woken_and_not_before() {
        let (polls, ends, waker) = (
            AtomicUsize::new(0),
            AtomicBool::new(false),
            AtomicWaker::new(),
        );
        let mut counting = pin!(Counting {
            polls: &polls,
            ends: &ends,
            waker: &waker,
        });
        let mut aside = pin!(Aside::new(counting.as_mut()));
        let task = Arc::new(Task::default());
        let as_waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&as_waker);
        for _ in 0..10 {
            assert!(aside.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        for times in 1..4 {
            waker.wake();
            assert_eq!(task.0.load(Ordering::Relaxed), times);
            assert!(aside.as_mut().poll(&mut cx).is_pending());
            assert_eq!(polls.load(Ordering::Relaxed), 1 + times);
        }
        // Another task takes over.
        let other = Arc::new(Task::default());
        let as_waker = Waker::from(Arc::clone(&other));
        let mut cx = Context::from_waker(&as_waker);
        assert!(aside.as_mut().poll(&mut cx).is_pending());
        ends.store(true, Ordering::Relaxed);
        waker.wake();
        assert_eq!(other.0.load(Ordering::Relaxed), 1);
        assert!(aside.as_mut().poll(&mut cx).is_ready());
    }
}
