//! A bounded look at the raw bytes of a downstream connection, below hyper.
//!
//! hyper repairs or forgives some framing faults before anything above it can see them: a
//! `Content-Length` beside a `Transfer-Encoding` is dropped, bare line feeds end lines, a fragment
//! is cut off. Those are how requests are smuggled past a proxy, so the bytes are judged here by a
//! scanner that knows only lines, lengths and chunks. A refused head is spoilt with a NUL before
//! hyper has seen its end and then given an end, which hyper answers with 400 and a close; a
//! refused body ends in an error, after the bytes before it. For HTTP/2 only the frames that h2 does not bound itself are counted.
//!
//! The clocks of a connection that hyper does not have (half a head, stalled body, idle) are kept
//! here too, on one lazily moved timer, and so is that of a peer that does not take what is written:
//! hyper polls no body then, so no body's clock would be asked.

pub(crate) mod frames;
pub(crate) mod head;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::sanitise::Rule;
use crate::limits;
use frames::FrameScan;
use head::{Http1Scan, Phase};

/// What the wire and the requests of one connection tell each other.
#[derive(Debug, Default)]
pub(crate) struct WireState {
    in_flight: AtomicUsize,
    violation: AtomicU8,
    in_body: AtomicBool,
    /// The end of the connection would be taken for the end of a message that is not whole.
    broken_off: AtomicBool,
    /// What passes is HTTP no longer.
    upgraded: AtomicBool,
    /// When the answer that is being written over HTTP/1 must be out.
    answer_until: Mutex<Option<Instant>>,
}

impl WireState {
    /// Notes that a request began.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request ended.
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.answer(None);
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

    /// How many requests run.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The rule that the bytes broke.
    pub(crate) fn violation(&self) -> Option<Rule> {
        Rule::from_number(self.violation.load(Ordering::Relaxed))
    }

    /// Whether they broke it in the body of a request that had been let through.
    pub(crate) fn is_in_body(&self) -> bool {
        self.in_body.load(Ordering::Relaxed)
    }

    fn refuse(&self, rule: Rule, in_body: bool) {
        self.in_body.store(in_body, Ordering::Relaxed);
        self.violation.store(rule.number(), Ordering::Relaxed);
    }
}

/// What the connection speaks.
#[derive(Debug)]
enum Scan {
    Http1(Http1Scan),
    Http2(FrameScan),
}

/// A downstream connection whose bytes are judged as they are read.
#[derive(Debug)]
pub(crate) struct Guarded<IO> {
    io: IO,
    /// Bytes that detection took, given out first.
    prefix: Vec<u8>,
    scan: Scan,
    state: Arc<WireState>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing.
    write_timer: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    phase_since: Instant,
    refused: bool,
    /// The end that a spoilt head still has to get.
    spoilt_end: &'static [u8],
    /// The error that a refused body still has to get.
    broken_off: Option<Rule>,
    /// Makes the end of the connection one that nobody takes for the end of a message.
    reset: fn(&IO),
}

/// hyper parses a head that came in pieces only once it sees an end.
const SPOILT_END: &[u8] = b"\n\n";

impl<IO> Guarded<IO> {
    /// Guards an HTTP/1 connection of which `prefix` has been read.
    pub(crate) fn http1(io: IO, prefix: Vec<u8>, state: Arc<WireState>) -> Self {
        Self::new(io, prefix, state, Scan::Http1(Http1Scan::default()))
    }

    /// Guards an HTTP/2 connection of which `prefix` has been read.
    pub(crate) fn http2(io: IO, prefix: Vec<u8>, state: Arc<WireState>) -> Self {
        Self::new(io, prefix, state, Scan::Http2(FrameScan::default()))
    }

    fn new(io: IO, prefix: Vec<u8>, state: Arc<WireState>, scan: Scan) -> Self {
        Self {
            io,
            prefix,
            scan,
            state,
            timer: None,
            write_timer: None,
            phase: Phase::Between,
            phase_since: Instant::now(),
            refused: false,
            spoilt_end: &[],
            broken_off: None,
            reset: |_| (),
        }
    }

    /// How the connection is ended when an answer broke off.
    pub(crate) fn or_reset(mut self, reset: fn(&IO)) -> Self {
        self.reset = reset;
        self
    }

    /// Judges what was just read, `buf.filled()` from `before` on.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let now = Instant::now();
        let Some(bytes) = buf.filled_mut().get_mut(before..) else {
            return Ok(());
        };
        match &mut self.scan {
            Scan::Http1(scan) => {
                let was = self.phase;
                let verdict = scan.read(bytes);
                self.phase = scan.phase();
                // A head is timed from its first byte, everything else from its last.
                if !(was == Phase::Head && self.phase == Phase::Head) {
                    self.phase_since = now;
                }
                let Err(refusal) = verdict else {
                    return Ok(());
                };
                self.refused = true;
                self.state.refuse(refusal.rule, refusal.in_body);
                if refusal.in_body {
                    // Requests that came before it in the same read, and its own head, are good.
                    buf.set_filled(before + refusal.at);
                    if refusal.at == 0 {
                        return Err(refusal_error(refusal.rule));
                    }
                    self.broken_off = Some(refusal.rule);
                    return Ok(());
                }
                if let Some(byte) = bytes.get_mut(refusal.at) {
                    *byte = 0;
                }
                buf.set_filled(before + refusal.at + 1);
                self.spoilt_end = SPOILT_END;
                Ok(())
            }
            Scan::Http2(scan) => scan.read(bytes, now).map_err(|rule| {
                self.refused = true;
                self.state.refuse(rule, false);
                refusal_error(rule)
            }),
        }
    }

    /// Watches a write: counts what was taken, and gives up on a peer that takes nothing.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match (&written, &mut self.scan) {
            (Poll::Ready(Ok(bytes)), Scan::Http2(scan)) => scan.wrote(*bytes),
            (Poll::Pending, Scan::Http1(_)) if !self.state.is_upgraded() => {
                let state = &self.state;
                let timer = self.write_timer.get_or_insert_with(|| {
                    let latest = Instant::now() + limits::WRITE_STALL_TIMEOUT;
                    let until = state.lock().map_or(latest, |until| until.min(latest));
                    Box::pin(tokio::time::sleep_until(until))
                });
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        self.write_timer = None;
        written
    }

    /// Whether the present silence has lasted too long; registers for waking if not.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.scan, Scan::Http2(_)) {
            return Poll::Pending;
        }
        loop {
            let wanted = self.phase_since + limit(self.phase);
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(wanted)));
            if timer.deadline() > wanted {
                timer.as_mut().reset(wanted);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= wanted && !(self.phase == Phase::Between && self.state.in_flight() > 0) {
                return Poll::Ready(());
            }
            if now >= wanted {
                self.phase_since = now;
            }
            let next = self.phase_since + limit(self.phase);
            timer.as_mut().reset(next);
        }
    }
}

impl<IO> Drop for Guarded<IO> {
    fn drop(&mut self) {
        if self.state.broken_off.load(Ordering::Relaxed) {
            (self.reset)(&self.io);
        }
    }
}

fn limit(phase: Phase) -> Duration {
    match phase {
        Phase::Between => limits::IDLE_TIMEOUT,
        Phase::Head => limits::HEAD_TIMEOUT,
        Phase::Body => limits::BODY_IDLE_TIMEOUT,
    }
}

fn refusal_error(rule: Rule) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule.as_str())
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refused {
            // Whatever follows a refused message is never looked at.
            if let Some(rule) = this.broken_off.take() {
                return Poll::Ready(Err(refusal_error(rule)));
            }
            let (now, later) = this
                .spoilt_end
                .split_at(this.spoilt_end.len().min(buf.remaining()));
            buf.put_slice(now);
            this.spoilt_end = later;
            return Poll::Ready(Ok(()));
        }
        // What follows has been judged by whoever agreed to it, and is timed by whoever passes it on.
        if this.state.is_upgraded() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        if !this.prefix.is_empty() {
            let taken = this.prefix.len().min(buf.remaining());
            buf.put_slice(this.prefix.get(..taken).unwrap_or_default());
            this.prefix.drain(..taken);
            return Poll::Ready(this.judge(buf, before));
        }
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.judge(buf, before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                match this.phase {
                    // The end of the connection, as if the peer had closed it.
                    Phase::Between => Poll::Ready(Ok(())),
                    Phase::Head => {
                        this.refused = true;
                        this.state.refuse(Rule::HeadTimeout, false);
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    Phase::Body => {
                        this.refused = true;
                        this.state.refuse(Rule::BodyTimeout, true);
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                }
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_a_busy_one_does_not() {
        let (_peer, ours) = tokio::io::duplex(1024);
        let state = Arc::new(WireState::default());
        let mut guarded = Guarded::http1(ours, Vec::new(), Arc::clone(&state));
        state.begin();
        let mut byte = [0; 1];
        let waited = tokio::time::timeout(limits::IDLE_TIMEOUT * 3, guarded.read(&mut byte)).await;
        assert!(waited.is_err(), "a request runs, so the connection stays");
        state.end();
        let started = Instant::now();
        assert_eq!(guarded.read(&mut byte).await.unwrap(), 0);
        assert!(started.elapsed() <= limits::IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_timed_from_its_first_byte() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let state = Arc::new(WireState::default());
        let mut guarded = Guarded::http1(ours, Vec::new(), Arc::clone(&state));
        let started = Instant::now();
        let feeding = tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nHost: slow".chunks(1) {
                peer.write_all(byte).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            io::Result::Ok(peer)
        });
        let mut all = Vec::new();
        let error = guarded.read_to_end(&mut all).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() <= limits::HEAD_TIMEOUT + Duration::from_secs(1));
        assert_eq!(state.violation(), Some(Rule::HeadTimeout));
        drop(guarded);
        assert!(feeding.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn nothing_after_a_refused_head_is_read() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let state = Arc::new(WireState::default());
        let prefix = b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let mut guarded = Guarded::http1(ours, prefix, Arc::clone(&state));
        peer.write_all(b"GET /smuggled HTTP/1.1\r\n").await.unwrap();
        let mut all = Vec::new();
        guarded.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(b"\0\n\n"), "{all:?}");
        assert!(!all.windows(8).any(|at| at == b"smuggled"));
        assert_eq!(state.violation(), Some(Rule::Fragment));
    }
}
