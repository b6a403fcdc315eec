//! How much may be looked at to answer the questions about one thing, counted and not timed, so that the same mesh
//! always gets the same answers. Each single question has bounds of its own; without this one, thousands of questions
//! that each stay below them would take minutes.
//!
//! What is left is kept by the thread and not handed through every operation on sets: questions about one thing are
//! asked by one thread, and an operation that forgot to hand it on would have no bound.

use std::cell::Cell;

use super::CapExceeded;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Steps for each part of what is asked about, a match or a rule: some tenths of a millisecond.
const STEPS_PER_PART: u64 = 200_000;
/// Steps for anything, however small it is.
const STEPS_AT_LEAST: u64 = 5_000_000;

/// What two products of sets cost in steps of an automaton.
pub(super) const STEPS_OF_PRODUCT: usize = 64;

/// How much is looked at for something that has this many parts, matches or rules: it grows with the parts and no
/// faster, whatever they are.
pub fn bound(parts: usize) -> u64 {
    let parts = u64::try_from(parts).unwrap_or(u64::MAX);
    STEPS_AT_LEAST.saturating_add(parts.saturating_mul(STEPS_PER_PART))
}

/// Restores what the thread had left, also when the work ends early.
struct Scope {
    outside: u64,
    given: u64,
}

impl Drop for Scope {
    fn drop(&mut self) {
        let spent = self.given - LEFT.get().min(self.given);
        LEFT.set(self.outside.saturating_sub(spent));
    }
}

/// Answers questions that together look at no more than `most`; the ones after that are answered with
/// [`CapExceeded::Effort`].
pub fn within<T>(most: u64, answer: impl FnOnce() -> T) -> T {
    let outside = LEFT.get();
    let given = outside.min(most);
    let _scope = Scope { outside, given };
    LEFT.set(given);
    answer()
}

/// Some places were looked at.
pub(in crate::analysis) fn spend(places: usize) -> Result<(), CapExceeded> {
    let places = u64::try_from(places).unwrap_or(u64::MAX);
    match LEFT.get().checked_sub(places) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => {
            LEFT.set(0);
            Err(CapExceeded::Effort)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_within_is_spent_without() {
        within(100, || {
            assert_eq!(within(10, || spend(11)), Err(CapExceeded::Effort));
            assert_eq!(within(1_000, || spend(90)), Ok(()));
            assert_eq!(spend(1), Err(CapExceeded::Effort));
        });
        assert_eq!(spend(1_000), Ok(()), "nothing bounds what nobody bounded");
    }
}
