//! How often something happened lately, without a lock: a ring of slots that each count a part of the
//! window and are reused when their time comes round again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What has left the window is forgotten this many parts at a time.
const SLOTS: u32 = 10;
/// Shorter windows count as ten of these.
const SLOT_MIN: Duration = Duration::from_millis(1);
const COUNT_BITS: u32 = 24;
/// More in one slot are not counted, which only makes a budget smaller.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Reached after 34 years of the shortest slots.
const NUMBER_MAX: u64 = (1 << (64 - COUNT_BITS)) - 1;

#[derive(Debug)]
pub(super) struct Window {
    start: Instant,
    slot: Duration,
    slots: [AtomicU64; SLOTS as usize],
}

/// Which slot of time, counted from the start, and how often in it. They share one word, so that reuse
/// and count change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u64,
    count: u64,
}

impl Window {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        let slot = (window / SLOTS).max(SLOT_MIN);
        Self {
            start: now,
            slot,
            slots: [const { AtomicU64::new(0) }; SLOTS as usize],
        }
    }

    /// Counts one.
    pub(super) fn add(&self, now: Instant) {
        self.update(now, |current, slot| {
            let count = if slot.number < current { 0 } else { slot.count };
            Slot {
                number: slot.number.max(current),
                count: (count + 1).min(COUNT_MAX),
            }
        });
    }

    /// Uncounts one that was added at the same `now`. If its slot has been reused since, nothing is
    /// left to uncount.
    pub(super) fn take_back(&self, now: Instant) {
        self.update(now, |current, slot| {
            let count = if slot.number == current {
                slot.count.saturating_sub(1)
            } else {
                slot.count
            };
            Slot { count, ..slot }
        });
    }

    /// How many were counted in the window that ends now.
    pub(super) fn sum(&self, now: Instant) -> u64 {
        let current = self.number(now);
        let recent = |word: &AtomicU64| {
            let slot = Slot::unpack(word.load(Ordering::Relaxed));
            // A slot that is newer than `now` was counted by a worker that looked at the clock later.
            let age = current.saturating_sub(slot.number);
            if age < SLOTS.into() { slot.count } else { 0 }
        };
        self.slots.iter().map(recent).sum()
    }

    fn update(&self, now: Instant, change: impl Fn(u64, Slot) -> Slot) {
        let current = self.number(now);
        let position = usize::try_from(current % u64::from(SLOTS)).unwrap_or_default();
        let Some(word) = self.slots.get(position) else {
            return;
        };
        word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(change(current, Slot::unpack(word)).pack())
        })
        .expect("the update is never refused");
    }

    fn number(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(since / self.slot.as_nanos())
            .unwrap_or(u64::MAX)
            .min(NUMBER_MAX)
    }
}

impl Slot {
    fn pack(self) -> u64 {
        self.number << COUNT_BITS | self.count
    }

    fn unpack(word: u64) -> Self {
        Self {
            number: word >> COUNT_BITS,
            count: word & COUNT_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn forgets_slot_by_slot() {
        let window = Window::new(10 * SECOND, now());
        for second in 0..10 {
            window.add(now() + second * SECOND);
        }
        let sum = |seconds| window.sum(now() + seconds * SECOND);
        assert_eq!((sum(9), sum(10), sum(15), sum(19)), (10, 9, 4, 0));
        window.add(now() + 12 * SECOND);
        assert_eq!((sum(12), sum(21), sum(22)), (8, 1, 0));
    }

    /// A worker may be late: its `now` lies before what others have counted already.
    #[test]
    fn late_counts_are_not_lost() {
        let window = Window::new(10 * SECOND, now());
        window.add(now() + 11 * SECOND);
        window.add(now() + SECOND);
        assert_eq!(window.sum(now() + 11 * SECOND), 2);
        window.take_back(now() + SECOND);
        assert_eq!(
            window.sum(now() + 11 * SECOND),
            2,
            "its slot has been reused"
        );
        window.take_back(now() + 11 * SECOND);
        assert_eq!(window.sum(now() + 11 * SECOND), 1);
    }

    #[test]
    fn words_hold_their_largest() {
        let slot = Slot {
            number: NUMBER_MAX,
            count: COUNT_MAX,
        };
        assert_eq!(Slot::unpack(slot.pack()), slot);
        let window = Window::new(Duration::ZERO, now());
        window.add(now() + Duration::from_secs(1 << 40));
        assert_eq!(window.sum(now() + Duration::from_secs(1 << 40)), 1);
    }
}
