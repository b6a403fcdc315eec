//! How many requests a destination bears at once, found out from how long its answers take. Pure: time is an argument.
//!
//! Beyond what a destination can work on at once, more requests make answers later and not more. So the number follows the
//! ratio of the shortest time that answers took to the time they take now (a gradient, as in Envoy's adaptive concurrency
//! and Netflix's concurrency limits), and grows by a little as long as that is near one. What "shortest" is grows old: then
//! it is measured anew with half as many requests, at which nobody waits whatever was there before, for the number is never
//! twice what can be worked on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use crate::limits;

/// A number of requests that follows how long answers take.
#[derive(Debug)]
pub struct Adaptive {
    /// Of 10,000: so much longer than at their best answers may take.
    tolerance: u32,
    /// The most that there may be.
    most: u32,
    now: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number before it is rounded, and while it is halved.
    number: f64,
    /// What answers take that nobody waits for, and since when that is known.
    shortest: Option<(Duration, Instant)>,
    /// Since when fewer are sent to measure that anew.
    probing: Option<Instant>,
    window: Window,
}

/// What has come since the number was thought over last.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    /// The newest of them.
    took: Vec<Duration>,
    /// Where the next one goes.
    next: usize,
    /// The most requests in flight.
    busiest: u32,
}

impl Adaptive {
    /// Nothing is known yet. `tolerance`, of 10,000: so much longer than at their best answers may take.
    pub fn new(tolerance: u32, most: Option<u32>) -> Self {
        let most = most.unwrap_or(limits::ADAPTIVE_MAX);
        let number = limits::ADAPTIVE_FIRST.min(most);
        Self {
            tolerance,
            most,
            now: AtomicU32::new(number),
            state: Mutex::new(State {
                number: f64::from(number),
                ..State::default()
            }),
        }
    }

    /// How many there may be now.
    pub fn limit(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Takes note of an answer that took so long, or did not come in that time, while so many requests were in flight.
    pub fn observe(&self, took: Duration, in_flight: u32, now: Instant) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            // A panic elsewhere leaves numbers that are still good.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // One answer of many: it is not worth waiting for.
            Err(TryLockError::WouldBlock) => return,
        };
        // What began before the number was halved has waited with the others.
        let is_late = |since: Instant| now.saturating_duration_since(since) < took;
        if state.probing.is_some_and(is_late) {
            return;
        }
        if let Some(median) = state.window.add(took, in_flight, now) {
            let busiest = std::mem::take(&mut state.window).busiest;
            let limit = self.think(&mut state, median, busiest, now);
            self.now.store(limit, Ordering::Relaxed);
        }
    }

    fn think(&self, state: &mut State, median: Duration, busiest: u32, now: Instant) -> u32 {
        if state.probing.take().is_some() {
            state.shortest = Some((median, now));
            return self.rounded(state.number);
        }
        let (shortest, since) = match state.shortest {
            Some((shortest, since)) if shortest <= median => (shortest, since),
            _ => (median, now),
        };
        state.shortest = Some((shortest, since));
        let is_busy = f64::from(busiest) * 2.0 >= state.number;
        let longest = shortest.as_secs_f64() * (1.0 + f64::from(self.tolerance) / 10_000.0);
        let gradient = longest / median.as_secs_f64().max(f64::MIN_POSITIVE);
        let next = state.number * gradient.clamp(limits::ADAPTIVE_SHRINK, limits::ADAPTIVE_GROW);
        let next = next + next.sqrt();
        // That there is room is known only of what was used.
        if is_busy || next < state.number {
            let (least, most) = (f64::from(limits::ADAPTIVE_MIN), f64::from(self.most));
            state.number = next.max(least).min(most);
        }
        if now.saturating_duration_since(since) < limits::ADAPTIVE_RENEW {
            return self.rounded(state.number);
        }
        if is_busy {
            state.probing = Some(now);
            return self.rounded(state.number / 2.0);
        }
        // Nobody waits where there is so little to do.
        state.shortest = Some((median, now));
        self.rounded(state.number)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number lies between two that have 32 bits"
    )]
    fn rounded(&self, number: f64) -> u32 {
        let least = limits::ADAPTIVE_MIN.min(self.most);
        (number.round() as u32).clamp(least, self.most)
    }
}

impl Window {
    /// The median, once the window is full.
    fn add(&mut self, took: Duration, in_flight: u32, now: Instant) -> Option<Duration> {
        let began = *self.began.get_or_insert(now);
        match self.took.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.took.push(took),
        }
        self.next = (self.next + 1) % limits::ADAPTIVE_SAMPLES.1;
        self.busiest = self.busiest.max(in_flight);
        let is_over = now.saturating_duration_since(began) >= limits::ADAPTIVE_WINDOW;
        if !is_over || self.took.len() < limits::ADAPTIVE_SAMPLES.0 {
            return None;
        }
        let middle = self.took.len() / 2;
        Some(*self.took.select_nth_unstable(middle).1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::now;

    const BASE: Duration = Duration::from_millis(10);

    /// A destination that works on so many requests at once, each for [`BASE`]; what comes beyond that waits.
    struct Server {
        works_on: u32,
        base: Duration,
        at: Instant,
    }

    impl Server {
        fn new(works_on: u32) -> Self {
            Self {
                works_on,
                base: BASE,
                at: now(),
            }
        }

        /// Sends as many requests as there may be, but no more than `demand`, for so long; gives the highest and the
        /// lowest number that there might have been.
        fn run(&mut self, adaptive: &Adaptive, demand: u32, lasts: Duration) -> (u32, u32) {
            let end = self.at + lasts;
            let (mut lowest, mut highest) = (u32::MAX, 0);
            while self.at < end {
                let in_flight = adaptive.limit().min(demand);
                let wait = f64::from(in_flight) / f64::from(self.works_on);
                let took = self.base.mul_f64(wait.max(1.0));
                self.at += took;
                for _ in 0..in_flight {
                    adaptive.observe(took, in_flight, self.at);
                }
                lowest = lowest.min(adaptive.limit());
                highest = highest.max(adaptive.limit());
            }
            (lowest, highest)
        }
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn it_finds_what_can_be_worked_on_and_stays_there() {
        for works_on in [5, 40, 400] {
            let adaptive = Adaptive::new(2_500, None);
            let mut server = Server::new(works_on);
            // It has to be seen once unhurried.
            server.run(&adaptive, works_on.min(100), Duration::from_secs(1));
            server.run(&adaptive, 10_000, Duration::from_secs(10));
            for _ in 0..30 {
                let (_, highest) = server.run(&adaptive, 10_000, MINUTE);
                let most = works_on + works_on / 2 + 10;
                assert!(highest <= most, "{works_on}: {highest}");
            }
            let settled = adaptive.limit();
            assert!(settled * 4 >= works_on * 3, "{works_on}: {settled}");
        }
    }

    #[test]
    fn it_follows_a_destination_that_has_become_slower() {
        let adaptive = Adaptive::new(2_500, None);
        let mut server = Server::new(100);
        server.run(&adaptive, 80, Duration::from_secs(2));
        server.run(&adaptive, 10_000, Duration::from_secs(5));
        assert!(adaptive.limit() >= 90, "{}", adaptive.limit());
        server.works_on = 20;
        server.run(&adaptive, 10_000, Duration::from_secs(10));
        assert!(adaptive.limit() <= 40, "{}", adaptive.limit());
        server.works_on = 100;
        server.run(&adaptive, 10_000, Duration::from_secs(10));
        assert!(adaptive.limit() >= 90, "{}", adaptive.limit());
    }

    /// What answers take at their best may change for good.
    #[test]
    fn the_best_is_measured_anew() {
        let adaptive = Adaptive::new(2_500, None);
        let mut server = Server::new(50);
        server.run(&adaptive, 40, Duration::from_secs(2));
        server.base = BASE * 5;
        server.run(&adaptive, 10_000, 5 * MINUTE);
        let (_, highest) = server.run(&adaptive, 10_000, MINUTE);
        assert!((45..=100).contains(&highest), "{highest}");
    }

    #[test]
    fn what_was_not_needed_is_not_promised() {
        let adaptive = Adaptive::new(2_500, None);
        Server::new(1_000).run(&adaptive, 10, 3 * MINUTE);
        assert_eq!(adaptive.limit(), limits::ADAPTIVE_FIRST);
    }

    #[test]
    fn it_stays_below_what_policy_allows() {
        let adaptive = Adaptive::new(2_500, Some(30));
        assert_eq!(adaptive.limit(), 30);
        Server::new(1_000).run(&adaptive, 10_000, MINUTE);
        assert_eq!(adaptive.limit(), 30);
        let one = Adaptive::new(2_500, Some(1));
        Server::new(1).run(&one, 10_000, 3 * MINUTE);
        assert_eq!(one.limit(), 1);
    }

    #[test]
    fn few_answers_say_nothing() {
        let adaptive = Adaptive::new(2_500, None);
        for second in 0..5 {
            let at = now() + Duration::from_secs(second);
            adaptive.observe(BASE * 100, 1, at);
        }
        assert_eq!(adaptive.limit(), limits::ADAPTIVE_FIRST);
    }

    proptest! {
        /// Whatever comes, there is always room for some and never for more than policy allows.
        #[test]
        fn it_stays_within_its_bounds(
            most in 1_u32..2_000, tolerance in 1_u32..=10_000,
            answers in proptest::collection::vec((0_u64..5_000_000, 0_u32..3_000, 0_u64..2_000), 0..600),
        ) {
            let adaptive = Adaptive::new(tolerance, Some(most));
            let mut at = now();
            for (micros, in_flight, wait) in answers {
                at += Duration::from_millis(wait);
                adaptive.observe(Duration::from_micros(micros), in_flight, at);
                prop_assert!((limits::ADAPTIVE_MIN.min(most)..=most).contains(&adaptive.limit()));
            }
        }
    }
}
