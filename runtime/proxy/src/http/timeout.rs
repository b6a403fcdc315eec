//! The clocks of one exchange. A timer is only made when something has to be waited for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep};

use crate::limits;

/// The least that is waited between two looks at who is late.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// gRPC's own deadline.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Waits for `future`, but no longer than `limit` if there is one.
pub(crate) async fn within<F: Future>(
    limit: Option<Duration>,
    future: F,
) -> Result<F::Output, Elapsed> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await,
        None => Ok(future.await),
    }
}

/// What was waited for took too long.
#[derive(Debug)]
pub(crate) struct TooLate;

/// Waits for `future`, but no longer than `limit` beside the time that `waited` says was somebody else's, and never past
/// `until`.
pub(crate) async fn within_own<F: Future>(
    limit: Duration,
    until: Option<Instant>,
    waited: impl Fn() -> Duration,
    future: F,
) -> Result<F::Output, TooLate> {
    let (began, before) = (Instant::now(), waited());
    let mut future = pin!(future);
    let mut own = limit;
    loop {
        let at = Instant::now() + own;
        let at = until.map_or(at, |until| until.min(at));
        if let Ok(output) = tokio::time::timeout_at(at, future.as_mut()).await {
            return Ok(output);
        }
        let spent = began
            .elapsed()
            .saturating_sub(waited().saturating_sub(before));
        own = limit.saturating_sub(spent);
        if own.is_zero() || until.is_some_and(|until| until <= Instant::now()) {
            return Err(TooLate);
        }
        own = own.max(LOOK_AGAIN);
    }
}

/// How long somebody was waited for in all; one waits, and others look.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// What the numbers count from.
    base: OnceLock<Instant>,
    /// Since when, in microseconds and one more; 0: nobody is waited for.
    since: AtomicU64,
    /// What is over, in microseconds.
    sum: AtomicU64,
}

impl Silence {
    fn now(&self) -> u64 {
        let base = self.base.get_or_init(Instant::now);
        u64::try_from(base.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }

    /// Nothing has come.
    pub(crate) fn begins(&self) {
        if !self.lasts() {
            self.since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// Something has.
    pub(crate) fn ends(&self) {
        if self.lasts() {
            let since = self.since.swap(0, Ordering::Relaxed);
            let silent = (self.now() + 1).saturating_sub(since);
            self.sum.fetch_add(silent, Ordering::Relaxed);
        }
    }

    /// Whether it lasts.
    pub(crate) fn lasts(&self) -> bool {
        self.since.load(Ordering::Relaxed) != 0
    }

    /// All of it.
    pub(crate) fn sum(&self) -> Duration {
        let lasting = match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.now() + 1).saturating_sub(since),
        };
        Duration::from_micros(self.sum.load(Ordering::Relaxed) + lasting)
    }
}

/// The deadline that a gRPC client sets: at most eight digits and a unit (gRPC over HTTP/2,
/// "Timeout"). What is malformed is no deadline.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    let timeout = match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    };
    Some(timeout.min(limits::DEADLINE_MAX))
}

/// A duration as `x-mesh-timeout-ms` has it, at least 1. Rounded up: the next hop must not give up
/// before this one does, or the ending would look like its failure.
pub(crate) fn milliseconds(left: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(whole_millis(left)).unwrap_or(u64::MAX))
}

fn whole_millis(left: Duration) -> u128 {
    left.as_nanos().div_ceil(1_000_000).max(1)
}

/// A duration as `grpc-timeout` has it, at least one millisecond; rounded up like the other.
pub(crate) fn grpc_milliseconds(left: Duration) -> HeaderValue {
    let millis = whole_millis(left.min(limits::DEADLINE_MAX));
    HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter are a header value")
}

/// When an exchange ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadlines {
    /// Unless it has become a stream.
    pub(crate) exchange: Option<std::time::Instant>,
    /// What a gRPC client asks for itself, and the application is told. What policy allows is not, as it ends with
    /// the beginning of a stream, which no header could say.
    pub(crate) asked: Option<std::time::Instant>,
    /// Whether the exchange is one that becomes a stream with its answer.
    pub(crate) streaming: bool,
}

/// The clocks of a body that is being passed on.
#[derive(Debug)]
pub(crate) struct BodyClock {
    /// When it must have ended.
    until: Option<Instant>,
    /// How long it may be silent.
    silence: Option<Duration>,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// The exchange or the stream lasted too long.
    Whole,
    /// The stream was silent too long.
    Silence,
}

impl BodyClock {
    /// Runs from now.
    pub(crate) fn new(until: Option<Instant>, silence: Option<Duration>) -> Self {
        Self {
            until,
            silence,
            last: Instant::now(),
            timer: None,
        }
    }

    /// Something came.
    pub(crate) fn touch(&mut self) {
        if self.silence.is_some() {
            self.last = Instant::now();
        }
    }

    /// When the body must have ended.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it is past the time when the body must have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Whether a clock has run out; to be asked when there is nothing else to do.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let silent = self.silence.map(|silence| self.last + silence);
            let (at, expired) = match (self.until, silent) {
                (None, None) => return Poll::Pending,
                (Some(until), Some(silent)) if silent < until => (silent, Expired::Silence),
                (None, Some(silent)) => (silent, Expired::Silence),
                (Some(until), _) => (until, Expired::Whole),
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            // A timer that fires early is moved then; moving it for every chunk would cost more.
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(expired);
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn the_next_hop_gives_up_no_sooner() {
        let text = |left| milliseconds(left).to_str().unwrap().to_owned();
        assert_eq!(text(Duration::ZERO), "1");
        assert_eq!(text(Duration::from_millis(20)), "20");
        assert_eq!(text(Duration::from_micros(20_001)), "21");
        assert_eq!(grpc_milliseconds(Duration::from_micros(20_001)), "21m");
    }

    #[test]
    fn grpc_deadlines() {
        let parse = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(parse("1S"), Some(Duration::from_secs(1)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999H"), Some(limits::DEADLINE_MAX));
        for bad in ["", "S", "1", "-1S", "123456789S", "1x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let longest = grpc_milliseconds(Duration::MAX);
        assert_eq!(longest, "86400000m");
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_takes_is_not_ones_own_time() {
        let second = Duration::from_secs(1);
        let silence = Silence::default();
        let sending = async {
            tokio::time::sleep(second / 2).await;
            silence.begins();
            tokio::time::sleep(10 * second).await;
            silence.ends();
            tokio::time::sleep(second / 4).await;
            silence.begins();
            silence.begins();
            tokio::time::sleep(2 * second).await;
            silence.ends();
        };
        let began = Instant::now();
        let answered = async {
            sending.await;
            tokio::time::sleep(second / 8).await;
        };
        let answered = within_own(second, None, || silence.sum(), answered).await;
        assert!(answered.is_ok());
        assert_eq!(silence.sum(), 12 * second);
        assert_eq!(began.elapsed(), 12 * second + 7 * second / 8);

        // What was waited for before does not count.
        let began = Instant::now();
        let never = std::future::pending::<()>();
        let late = within_own(second, None, || silence.sum(), never).await;
        assert!(late.is_err());
        assert_eq!(began.elapsed(), second);

        silence.begins();
        let until = Instant::now() + 3 * second;
        let never = std::future::pending::<()>();
        let late = within_own(second, Some(until), || silence.sum(), never).await;
        assert!(late.is_err());
        assert_eq!(Instant::now(), until, "and the end of all is the end");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_chunk() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = BodyClock::new(Some(start + 30 * second), Some(10 * second));
        for _ in 0..2 {
            let waited =
                tokio::time::timeout(8 * second, poll_fn(|cx| clock.poll_expired(cx))).await;
            assert!(waited.is_err());
            clock.touch();
        }
        assert_eq!(poll_fn(|cx| clock.poll_expired(cx)).await, Expired::Silence);
        assert_eq!(start.elapsed(), 26 * second);
        clock.touch();
        assert_eq!(poll_fn(|cx| clock.poll_expired(cx)).await, Expired::Whole);
        assert_eq!(start.elapsed(), 30 * second);
    }
}
