//! Who may make a connection to an endpoint when many want one at once. Handshakes cost both ends processor time, and
//! those that are made all at once are all late; so a few are made at a time, in the order in which they were asked for,
//! and a connection that comes free meanwhile goes to whoever has waited longest. How many are made at a time is found
//! out: each that took long gives its place up, each that was quick while others waited makes
//! one more.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::limits::{CONNECTING_MAX, CONNECTING_MIN, CONNECTING_START};

/// The turns of one endpoint.
#[derive(Debug)]
pub(super) struct Turns {
    /// It serves in the order of asking.
    places: Semaphore,
    /// How many places there are, taken ones too.
    all: AtomicUsize,
    /// When a connection was made last.
    made: Mutex<Option<Instant>>,
}

/// Nobody had a connection made for as long as one may take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoneMade;

/// The right to make one connection.
#[derive(Debug)]
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    place: Option<SemaphorePermit<'t>>,
    began: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            places: Semaphore::new(CONNECTING_START),
            all: AtomicUsize::new(CONNECTING_START),
            made: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for one's turn, as long as connections are made: an endpoint that nobody reaches within `limit` is out of
    /// reach for those who wait, too.
    pub(super) async fn take(&self, limit: Duration) -> Result<Turn<'_>, NoneMade> {
        let mut since = Instant::now();
        let mut place = pin!(self.places.acquire());
        loop {
            if let Ok(place) = timeout_at(since + limit, place.as_mut()).await {
                return Ok(Turn {
                    turns: self,
                    // They are never closed.
                    place: place.ok(),
                    began: Instant::now(),
                });
            }
            let made = *lock(&self.made);
            since = made.filter(|made| *made > since).ok_or(NoneMade)?;
        }
    }

    /// Begins anew where nobody makes a connection: how long the next ones take may be another matter.
    pub(super) fn sweep(&self) {
        let all = self.all.load(Ordering::Relaxed);
        if all > CONNECTING_START {
            let Ok(places) = u32::try_from(all).map(|all| self.places.try_acquire_many(all)) else {
                return;
            };
            if let Ok(mut places) = places {
                self.all.store(CONNECTING_START, Ordering::Relaxed);
                if let Some(extra) = places.split(all - CONNECTING_START) {
                    extra.forget();
                }
            }
        } else if all < CONNECTING_START && self.places.available_permits() == all {
            let added = self.all.compare_exchange(
                all,
                CONNECTING_START,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if added.is_ok() {
                self.places.add_permits(CONNECTING_START - all);
            }
        }
    }
}

impl Turn<'_> {
    /// How long it has lasted.
    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// It was used for what may take up to `limit`. Where processor time is short, as many again take twice as long: below
    /// a quarter there is room for them, and above half of it there were too many.
    pub(super) fn used(mut self, limit: Duration, made: bool) {
        if made {
            *lock(&self.turns.made) = Some(Instant::now());
        }
        let all = &self.turns.all;
        let change = |to: fn(usize) -> Option<usize>| {
            let changed = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, to);
            changed.is_ok()
        };
        let took = self.took();
        if took > limit / 2 {
            if change(|all| (all > CONNECTING_MIN).then(|| all - 1))
                && let Some(place) = self.place.take()
            {
                place.forget();
            }
        } else if took < limit / 4
            && self.turns.places.available_permits() == 0
            && change(|all| (all < CONNECTING_MAX).then_some(all + 1))
        {
            self.turns.places.add_permits(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves a time in it, which is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What lies idle, the newest last; and who waits for one, the oldest first. Only one of the two has anything in it.
#[derive(Debug)]
pub(super) struct Idle<T> {
    pub(super) all: Vec<T>,
    waiting: VecDeque<oneshot::Sender<T>>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Idle<T> {
    /// Gives one to whoever has waited longest; back if nobody waits.
    pub(super) fn give(&mut self, mut one: T) -> Option<T> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(one) {
                Ok(()) => return None,
                // That one waits no more.
                Err(back) => one = back,
            }
        }
        Some(one)
    }

    /// Takes the newest one, or waits for the next one that comes free.
    pub(super) fn take_or_wait(&mut self) -> Result<T, oneshot::Receiver<T>> {
        self.all.pop().ok_or_else(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiting.push_back(sender);
            receiver
        })
    }

    /// Lets go of those who wait no more: they may have been served otherwise while nothing came free.
    pub(super) fn sweep(&mut self) {
        self.waiting.retain(|waiting| !waiting.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;
    use tokio::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(250);

    /// Runs handshakes of this length, all asked for at once; gives in which order they were made, how many at once at
    /// most, and how many places there are at the end.
    async fn run(count: usize, lasting: Duration) -> (Vec<usize>, usize, usize) {
        let turns = Arc::new(Turns::default());
        let running = Arc::new(AtomicUsize::new(0));
        let (order, mut made) = mpsc::unbounded_channel();
        for number in 0..count {
            let (turns, running, order) = (Arc::clone(&turns), Arc::clone(&running), order.clone());
            tokio::spawn(async move {
                let turn = turns.take(LIMIT).await.unwrap();
                let at_once = running.fetch_add(1, Ordering::Relaxed) + 1;
                order.send((number, at_once)).unwrap();
                tokio::time::sleep(lasting).await;
                running.fetch_sub(1, Ordering::Relaxed);
                turn.used(LIMIT, true);
            });
        }
        drop(order);
        let mut seen = Vec::new();
        let mut most = 0;
        while let Some((number, at_once)) = made.recv().await {
            seen.push(number);
            most = most.max(at_once);
        }
        (seen, most, turns.all.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_handshakes_are_made_few_at_a_time_and_in_turn() {
        let (order, most, left) = run(200, LIMIT).await;
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!((most, left), (CONNECTING_START, CONNECTING_MIN));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reaches_is_out_of_reach_for_all() {
        let turns = Turns::default();
        let began = Instant::now();
        let try_once = || async {
            let turn = turns.take(LIMIT).await?;
            tokio::time::sleep(LIMIT).await;
            turn.used(LIMIT, false);
            Ok::<_, NoneMade>(())
        };
        let tried = join_all((0..100).map(|_| try_once())).await;
        let refused = tried.iter().filter(|tried| tried.is_err()).count();
        assert!(refused > 50, "{refused}");
        // A few got their turn when the first had failed.
        assert!(began.elapsed() <= 2 * LIMIT, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_burst_begins_anew() {
        let turns = Turns::default();
        let held = turns.take(LIMIT).await.unwrap();
        let first: Vec<_> = join_all((1..CONNECTING_START).map(|_| turns.take(LIMIT))).await;
        held.used(LIMIT, true);
        let all = |turns: &Turns| turns.all.load(Ordering::Relaxed);
        assert_eq!(all(&turns), CONNECTING_START + 1, "all were taken");
        turns.take(LIMIT).await.unwrap().used(LIMIT, true);
        assert_eq!(all(&turns), CONNECTING_START + 1, "one was left");
        turns.sweep();
        assert_eq!(all(&turns), CONNECTING_START + 1, "they still run");
        drop(first);
        turns.sweep();
        assert_eq!(all(&turns), CONNECTING_START);
        assert_eq!(turns.places.available_permits(), CONNECTING_START);
        for _ in 0..CONNECTING_START {
            let slow = turns.take(LIMIT).await.unwrap();
            tokio::time::advance(LIMIT).await;
            slow.used(LIMIT, true);
        }
        assert_eq!(all(&turns), CONNECTING_MIN);
        turns.sweep();
        assert_eq!(turns.places.available_permits(), CONNECTING_START);
    }

    #[tokio::test(start_paused = true)]
    async fn quick_ones_are_made_more_and_more_at_a_time() {
        let (order, most, left) = run(3000, LIMIT / 10).await;
        assert!(order.is_sorted());
        assert_eq!((most, left), (CONNECTING_MAX, CONNECTING_MAX));
    }

    #[test]
    fn what_comes_free_goes_to_whoever_waits_longest() {
        let mut idle = Idle::default();
        let mut first = idle.take_or_wait().unwrap_err();
        drop(idle.take_or_wait());
        let mut third = idle.take_or_wait().unwrap_err();
        assert_eq!(idle.give(1), None);
        assert_eq!(idle.give(2), None, "the second waits no more");
        assert_eq!(idle.give(3), Some(3));
        assert_eq!((first.try_recv(), third.try_recv()), (Ok(1), Ok(2)));
        drop(idle.take_or_wait());
        idle.sweep();
        assert!(idle.waiting.is_empty());
    }
}
