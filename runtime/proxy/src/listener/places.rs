//! How many connections there may be, and which of them goes when there is no place for another: whoever has waited
//! longest without asking for anything. So clients that only hold connections keep nobody out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits;

/// The places of one direction.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    began: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
}

/// A place that a connection has. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// What a connection says of itself.
#[derive(Debug)]
pub(crate) struct Seat {
    began: Instant,
    /// Milliseconds after `began`, and one; 0: something runs on it.
    idle_since: AtomicU64,
    /// The same for a peer that takes nothing of its answer; 0: it does.
    stalled_since: AtomicU64,
    leave: Notify,
}

tokio::task_local! {
    static SEAT: Arc<Seat>;
}

impl Seat {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).map_or(u64::MAX, |millis| millis + 1)
    }

    /// That of the connection whose task runs.
    pub(crate) fn current() -> Option<Arc<Self>> {
        SEAT.try_with(Arc::clone).ok()
    }

    /// Notes that something runs on the connection.
    pub(crate) fn busy(&self) {
        self.idle_since.store(0, Ordering::Relaxed);
    }

    /// Notes that nothing does.
    pub(crate) fn idle(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// Notes whether the peer takes what is written to it.
    pub(crate) fn stalled(&self, stalled: bool) {
        let was = self.stalled_since.load(Ordering::Relaxed);
        match (was, stalled) {
            (0, true) => self.stalled_since.store(self.now(), Ordering::Relaxed),
            (1.., false) => self.stalled_since.store(0, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Places {
    /// So many.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(count)),
            began: Instant::now(),
            taken: Mutex::default(),
        })
    }

    /// Takes a place, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.seated(permit))
    }

    /// The same, and waits for one for a moment; somebody who waits for nothing is asked to go.
    pub(super) async fn take_soon(self: &Arc<Self>) -> Option<Place> {
        for _ in 0..limits::PLACE_TRIES {
            self.make_room(false);
            let waiting = Arc::clone(&self.free).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(limits::PLACE_PAUSE, waiting).await {
                return Some(self.seated(permit.ok()?));
            }
        }
        None
    }

    fn seated(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let seat = Arc::new(Seat {
            began: self.began,
            idle_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
            leave: Notify::new(),
        });
        seat.idle();
        let mut taken = self.lock();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, Arc::clone(&seat));
        drop(taken);
        Place {
            places: Arc::clone(self),
            number,
            seat,
            _permit: permit,
        }
    }

    /// Asks a hundredth of all connections to go, those that have lain idle longest; or, where memory is what there
    /// is too little of, those whose peers have taken nothing for longest. Says how many.
    pub(crate) fn make_room(&self, of_stalled: bool) -> usize {
        let taken = self.lock();
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let least = u64::try_from(limits::IDLE_BEFORE_ASKED.as_millis()).unwrap_or(u64::MAX);
        let since = |seat: &Seat| {
            let since = if of_stalled {
                &seat.stalled_since
            } else {
                &seat.idle_since
            };
            since.load(Ordering::Relaxed)
        };
        let waits = |(number, seat): (&u64, &Arc<Seat>)| {
            let since = since(seat);
            (since > 0 && now.saturating_sub(since) >= least).then_some((since, *number))
        };
        let mut waiting: Vec<_> = taken.seats.iter().filter_map(waits).collect();
        waiting.sort_unstable();
        let most = taken.seats.len() / 100 + 1;
        let asked = waiting.iter().take(most);
        let asked: Vec<_> = asked
            .filter_map(|(_, number)| taken.seats.get(number))
            .collect();
        for seat in &asked {
            seat.leave.notify_one();
        }
        asked.len()
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Runs a connection until it ends, or is asked to go. True: it was.
    pub(super) async fn hold(self, connection: impl Future<Output = ()>) -> bool {
        let seat = Arc::clone(&self.seat);
        tokio::select! {
            () = SEAT.scope(Arc::clone(&seat), connection) => false,
            () = seat.leave.notified() => true,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_longest_goes_first_and_who_works_stays() {
        let places = Places::new(3);
        let busy = places.take().unwrap();
        busy.seat.busy();
        let first = places.take().unwrap();
        tokio::time::advance(Duration::from_millis(10)).await;
        let second = places.take().unwrap();
        assert!(places.take().is_none());
        assert_eq!(places.make_room(false), 0, "nobody has waited for long");
        tokio::time::advance(limits::IDLE_BEFORE_ASKED).await;
        let first = tokio::spawn(first.hold(pending()));
        let second = tokio::spawn(second.hold(pending()));
        tokio::task::yield_now().await;
        let third = places.take_soon().await;
        assert!(third.is_some());
        assert!(first.await.unwrap(), "it was asked to go");
        assert!(!second.is_finished());
        assert_eq!(places.make_room(true), 0, "nobody is stalled");
        busy.seat.stalled(true);
        tokio::time::advance(limits::IDLE_BEFORE_ASKED * 2).await;
        assert_eq!(places.make_room(true), 1);
        assert!(busy.hold(pending()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_place_where_everybody_works() {
        let places = Places::new(1);
        let only = places.take().unwrap();
        only.seat.busy();
        assert!(places.take_soon().await.is_none());
        drop(only);
        assert!(places.take_soon().await.is_some());
    }
}
