//! A bounded look at the raw bytes of a downstream connection, below hyper.
//!
//! hyper repairs or forgives some framing faults before anything above it can see them: a
//! `Content-Length` beside a `Transfer-Encoding` is dropped, bare line feeds end lines, a fragment
//! is cut off. Those are how requests are smuggled past a proxy, so the bytes are judged here by a
//! scanner that knows only syntax and framing. hyper gets a head once it is whole and good; in place of a bad one
//! it gets a request that the stack knows to refuse, so that every refusal has its answer, its reason and its
//! record. A refused body ends in an error, after the bytes before it. For HTTP/2 only the frames that h2 does not
//! bound itself are counted.
//!
//! The clocks of a connection that hyper does not have (half a head, stalled body, idle) are kept
//! here too, on one lazily moved timer, and so is that of a peer that does not take what is written:
//! hyper polls no body then, so no body's clock would be asked.

mod guarded;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::sanitise::Rule;
use crate::limits::Limits;
use crate::listener::Seat;
pub(crate) use guarded::{Guarded, Refused};

/// What the wire and the requests of one connection tell each other.
#[derive(Debug)]
pub(crate) struct WireState {
    /// Bounds.
    pub(crate) limits: Arc<Limits>,
    /// Where the connection says whether it works.
    seat: Option<Arc<Seat>>,
    in_flight: AtomicUsize,
    received: AtomicU64,
    sent: AtomicU64,
    /// Requests that have begun.
    begun: AtomicU64,
    violation: OnceLock<Violation>,
    /// The end of the connection would be taken for the end of a message that is not whole.
    broken_off: AtomicBool,
    /// What passes is HTTP no longer.
    upgraded: AtomicBool,
    /// The limit that ended the connection, or that its peer came up to.
    met: OnceLock<&'static str>,
    /// Whoever waits for the last answer of a connection that is half closed.
    answered: AtomicWaker,
    /// When the answer that is being written over HTTP/1 must be out.
    answer_until: Mutex<Option<Instant>>,
}

impl WireState {
    /// Of a connection that begins.
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            seat: Seat::current(),
            in_flight: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            violation: OnceLock::new(),
            broken_off: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            met: OnceLock::new(),
            answered: AtomicWaker::new(),
            answer_until: Mutex::new(None),
        }
    }

    /// Notes that a request began.
    pub(crate) fn begin(&self) {
        let running = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(seat) = &self.seat {
            seat.busy();
        }
        // No more are taken then. Over HTTP/1 there is one at a time.
        if running > 1 && running >= self.limits.streams {
            self.meet("streams");
        }
    }

    /// Notes that a request ended.
    pub(crate) fn end(&self) {
        let others = self.in_flight.fetch_sub(1, Ordering::Relaxed) - 1;
        if let Some(seat) = self.seat.as_ref().filter(|_| others == 0) {
            seat.idle();
        }
        self.answer(None);
        self.answered.wake();
    }

    /// Notes until when a client of HTTP/1 may take its answer. HTTP/2 has many answers at once.
    pub(crate) fn answer(&self, until: Option<Instant>) {
        *self.lock() = until;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answer_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client is about to be told that its connection is HTTP no longer.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Notes that the connection must not end as if all were well.
    pub(crate) fn break_off(&self) {
        self.broken_off.store(true, Ordering::Relaxed);
    }

    /// How many requests there were, and how many bytes came and went.
    pub(crate) fn counted(&self) -> [u64; 3] {
        [&self.begun, &self.received, &self.sent].map(|count| count.load(Ordering::Relaxed))
    }

    fn count(count: &AtomicU64, bytes: usize) {
        count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many requests run.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The rule that a request broke whose head was replaced; to be asked by each request once, as it begins. Over
    /// HTTP/1 they begin in the order in which they came.
    pub(crate) fn refused_head(&self) -> Option<Violation> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let violation = self.violation.get().copied();
        violation.filter(
            |violation| matches!(violation.place, Place::Head { number: at, .. } if at == number),
        )
    }

    /// The rule that the bytes of a body broke.
    pub(crate) fn broken_body(&self) -> Option<Rule> {
        let violation = self.violation.get()?;
        (violation.place == Place::Body).then_some(violation.rule)
    }

    /// The rule that was broken by what belongs to no request.
    pub(crate) fn broken_connection(&self) -> Option<Rule> {
        let violation = self.violation.get()?;
        (violation.place == Place::Connection).then_some(violation.rule)
    }

    /// Notes whether the peer takes what is written to it.
    fn stalled(&self, stalled: bool) {
        if let Some(seat) = &self.seat {
            seat.stalled(stalled);
        }
    }

    /// Notes that a limit was met; the first is told.
    pub(crate) fn meet(&self, limit: &'static str) {
        self.met.get_or_init(|| limit);
    }

    /// The limit that was met.
    pub(crate) fn met(&self) -> Option<&'static str> {
        self.met.get().copied()
    }

    fn refuse(&self, rule: Rule, place: Place) {
        // Nothing is read after the first.
        self.violation.get_or_init(|| Violation { rule, place });
    }
}

/// A rule that bytes broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) rule: Rule,
    /// Where.
    pub(crate) place: Place,
}

impl Violation {
    /// Whether nothing is known of the request.
    pub(crate) fn has_no_line(&self) -> bool {
        matches!(
            self.place,
            Place::Head {
                has_line: false,
                ..
            }
        )
    }
}

/// Where a rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a head, which was replaced.
    Head {
        /// How many heads came before it.
        number: u64,
        /// Whether its request line is its own.
        has_line: bool,
    },
    /// In the body of a request that had been let through.
    Body,
    /// Elsewhere.
    Connection,
}
