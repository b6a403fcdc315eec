//! Tries in flight and how many of them are retries, in one word so that both are read at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// In the lower half all tries, in the upper half the retries among them. Halves cannot overflow: four
/// thousand million tries do not fit into a machine.
#[derive(Debug, Default)]
pub(super) struct Active(AtomicU64);

const ORIGINAL: u64 = 1;
const RETRY: u64 = (1 << 32) | ORIGINAL;

impl Active {
    pub(super) fn add_original(&self) {
        self.0.fetch_add(ORIGINAL, Ordering::Relaxed);
    }

    /// Adds a retry if `allowed` says so of the numbers (tries, retries) as they would then be.
    pub(super) fn add_retry(&self, allowed: impl Fn(u64, u64) -> bool) -> bool {
        let update = |word: u64| {
            let after = word.checked_add(RETRY)?;
            allowed(after & u64::from(u32::MAX), after >> 32).then_some(after)
        };
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update)
            .is_ok()
    }

    /// Tries, and the retries among them.
    pub(super) fn counts(&self) -> (u64, u64) {
        let word = self.0.load(Ordering::Relaxed);
        (word & u64::from(u32::MAX), word >> 32)
    }

    pub(super) fn end(&self, is_retry: bool) {
        self.0
            .fetch_sub(if is_retry { RETRY } else { ORIGINAL }, Ordering::Relaxed);
    }
}
