//! A downstream connection whose bytes are judged as they are read.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mesh_engine::http1::{Http1Scan, Phase, Refusal};
use mesh_engine::http2_frames::{self, FrameScan, SentResets};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Place, WireState};
use crate::http::sanitise::Rule;
use crate::limits::{self, Limits};
use crate::pieces::poll_write_pieces;

/// What stands for a request line that was refused, or that never ended.
const NO_LINE: &[u8] = b"- * HTTP/1.1\r\n\r\n";

/// What the connection speaks.
#[derive(Debug)]
enum Scan {
    Http1(Http1Scan),
    Http2(FrameScan, SentResets, Refused),
}

/// Is told of streams that never became a request.
pub(crate) struct Refused(pub(crate) Box<dyn Fn(Rule) + Send>);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refused")
    }
}

/// What follows a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Nothing was refused.
    Nothing,
    /// The error that a refused body still has to get.
    Error(Rule),
    /// What comes is thrown away, as long as it is not more than this.
    Discarded(u64),
}

/// A downstream connection whose bytes are judged as they are read.
#[derive(Debug)]
pub(crate) struct Guarded<IO> {
    io: IO,
    /// Bytes that detection took, to be judged first.
    prefix: Vec<u8>,
    scan: Scan,
    state: Arc<WireState>,
    /// The head that is not whole yet.
    held: Vec<u8>,
    /// Judged bytes that did not fit, given out first.
    judged: Vec<u8>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing, and when it has been told that the connection ends.
    write_timer: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    phase_since: Instant,
    after: After,
    /// The peer sends no more, but waits for answers.
    half_closed: bool,
    /// Makes the end of the connection one that nobody takes for the end of a message.
    reset: fn(&IO),
}

impl<IO> Guarded<IO> {
    /// Guards an HTTP/1 connection of which `prefix` has been read.
    pub(crate) fn http1(io: IO, prefix: Vec<u8>, state: Arc<WireState>) -> Self {
        let bounds = state.limits.http1();
        Self::new(io, prefix, state, Scan::Http1(Http1Scan::new(bounds)))
    }

    /// Guards an HTTP/2 connection of which `prefix` has been read.
    pub(crate) fn http2(io: IO, prefix: Vec<u8>, state: Arc<WireState>, refused: Refused) -> Self {
        let frames = FrameScan::new(state.limits.control_frames);
        let scan = Scan::Http2(frames, SentResets::default(), refused);
        Self::new(io, prefix, state, scan)
    }

    fn new(io: IO, prefix: Vec<u8>, state: Arc<WireState>, scan: Scan) -> Self {
        Self {
            io,
            prefix,
            scan,
            state,
            held: Vec::new(),
            judged: Vec::new(),
            timer: None,
            write_timer: None,
            phase: Phase::Between,
            phase_since: Instant::now(),
            after: After::Nothing,
            half_closed: false,
            reset: |_| (),
        }
    }

    /// How the connection is ended when an answer broke off.
    pub(crate) fn or_reset(mut self, reset: fn(&IO)) -> Self {
        self.reset = reset;
        self
    }

    /// Judges what was just read, `buf.filled()` from `before` on, and leaves of it what may be read.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let now = Instant::now();
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let scan = match &mut self.scan {
            Scan::Http1(scan) => scan,
            Scan::Http2(scan, ..) => {
                return scan.read(bytes, now.into_std()).map_err(|_flood| {
                    let rule = Rule::ControlFlood;
                    self.state.refuse(rule, Place::Connection);
                    self.after = After::Discarded(0);
                    refusal_error(rule)
                });
            }
        };
        let was = self.phase;
        let verdict = scan.read(bytes);
        self.phase = scan.phase();
        // A head is timed from its first byte, everything else from its last.
        if !(was == Phase::Head && self.phase == Phase::Head) {
            self.phase_since = now;
        }
        let whole = match verdict {
            Ok(()) if self.phase == Phase::Head => scan.head_at(),
            Ok(()) => bytes.len(),
            Err(refusal) if refusal.in_body => {
                // Requests that came before it in the same read, and its own head, are good.
                let rule = Rule::Wire(refusal.fault);
                self.state.refuse(rule, Place::Body);
                self.after = After::Error(rule);
                refusal.at
            }
            Err(refusal) => {
                self.replace(refusal, buf, before);
                return Ok(());
            }
        };
        let is_held = self.phase == Phase::Head;
        if self.held.is_empty() {
            if is_held {
                self.held.extend(bytes.get(whole..).unwrap_or_default());
            }
            buf.set_filled(before + whole);
            return Ok(());
        }
        if whole > 0 || !is_held {
            self.judged.append(&mut self.held);
            self.judged.extend(bytes.get(..whole).unwrap_or_default());
        }
        if is_held {
            self.held.extend(bytes.get(whole..).unwrap_or_default());
        }
        buf.set_filled(before);
        Ok(())
    }

    /// Gives out what came before a refused head, and in its place one that is refused as soon as it is read.
    fn replace(&mut self, refusal: Refusal, buf: &mut ReadBuf<'_>, before: usize) {
        let Scan::Http1(scan) = &self.scan else {
            return;
        };
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let (earlier, of_head) = bytes.split_at(scan.head_at().min(bytes.len()));
        let mut judged = Vec::new();
        if !earlier.is_empty() {
            judged.append(&mut self.held);
            judged.extend(earlier);
        }
        let line = scan.request_line_bytes();
        match line {
            Some(line) => {
                judged.extend(self.held.iter().chain(of_head).take(line));
                judged.extend(b"\r\n");
            }
            None => judged.extend(NO_LINE),
        }
        self.held = Vec::new();
        self.judged = judged;
        buf.set_filled(before);
        self.refuse_head(Rule::Wire(refusal.fault), line.is_some());
    }

    /// Has a head refused that never became whole.
    fn refuse_held(&mut self, rule: Rule) {
        let Scan::Http1(scan) = &self.scan else {
            return;
        };
        let line = scan.request_line_bytes();
        match line {
            Some(line) => {
                self.held.truncate(line);
                self.held.extend(b"\r\n");
                self.judged = std::mem::take(&mut self.held);
            }
            None => self.judged = NO_LINE.to_vec(),
        }
        self.refuse_head(rule, line.is_some());
    }

    fn refuse_head(&mut self, rule: Rule, has_line: bool) {
        let Scan::Http1(scan) = &self.scan else {
            return;
        };
        let number = scan.heads();
        self.state.refuse(rule, Place::Head { number, has_line });
        self.after = After::Discarded(limits::LINGER_BYTES_MAX);
    }

    /// Gives out bytes that were judged before.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.judged.len().min(buf.remaining());
        buf.put_slice(self.judged.get(..taken).unwrap_or_default());
        self.judged.drain(..taken);
        if self.judged.is_empty() {
            self.judged = Vec::new();
        }
    }

    /// Looks at what was sent, the first `bytes` of it.
    fn sent(&mut self, buf: &[u8], bytes: usize) {
        if let Scan::Http2(_, resets, refused) = &mut self.scan {
            let sent = buf.get(..bytes.min(buf.len())).unwrap_or_default();
            resets.wrote(sent, |why| {
                (refused.0)(match why {
                    http2_frames::Refused::Bound => Rule::Http2Refused,
                    http2_frames::Refused::Malformed => Rule::Http2,
                });
            });
        }
    }

    /// Watches a write: counts what was taken, and gives up on a peer that takes nothing.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            WireState::count(&self.state.sent, *bytes);
        }
        match (&written, &mut self.scan) {
            (Poll::Ready(Ok(bytes)), Scan::Http2(scan, ..)) => scan.wrote(*bytes),
            (Poll::Pending, Scan::Http1(_)) if !self.state.is_upgraded() => {
                let state = &self.state;
                state.stalled(true);
                let timer = self.write_timer.get_or_insert_with(|| {
                    let latest = Instant::now() + state.limits.write_stall_timeout;
                    let until = state.lock().map_or(latest, |until| until.min(latest));
                    Box::pin(tokio::time::sleep_until(until))
                });
                ready!(timer.as_mut().poll(cx));
                self.state.meet("write_stall_timeout");
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        if self.write_timer.take().is_some() {
            self.state.stalled(false);
        }
        written
    }

    /// Whether the present silence has lasted too long; registers for waking if not.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.scan, Scan::Http2(..)) {
            return Poll::Pending;
        }
        loop {
            let wanted = self.phase_since + limit(&self.state.limits, self.phase);
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
            let next = self.phase_since + limit(&self.state.limits, self.phase);
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

fn limit(limits: &Limits, phase: Phase) -> Duration {
    match phase {
        Phase::Between => limits.idle_timeout,
        Phase::Head => limits.head_timeout,
        Phase::Body => limits.body_idle_timeout,
    }
}

fn refusal_error(rule: Rule) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule.as_str())
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Reads and judges. Ready without bytes is the end.
    fn poll_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if !self.judged.is_empty() {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            match self.after {
                After::Nothing => {}
                After::Error(rule) => {
                    self.after = After::Discarded(0);
                    return Poll::Ready(Err(refusal_error(rule)));
                }
                After::Discarded(_) => return self.poll_discard(cx),
            }
            if self.half_closed {
                self.state.answered.register(cx.waker());
                return if self.is_awaited() {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            if self.prefix.is_empty() {
                match Pin::new(&mut self.io).poll_read(cx, buf) {
                    Poll::Ready(Ok(())) if buf.filled().len() == before => {
                        let since = self.phase_since.elapsed();
                        self.half_closed = since < limits::HALF_CLOSE_WITHIN && self.is_awaited();
                        if self.half_closed {
                            continue;
                        }
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(self.poll_silence(cx));
                        match self.phase {
                            // The end of the connection, as if the peer had closed it.
                            Phase::Between => {
                                self.state.meet("idle_timeout");
                                return Poll::Ready(Ok(()));
                            }
                            Phase::Head => {
                                self.refuse_held(Rule::HeadTimeout);
                                continue;
                            }
                            Phase::Body => {
                                self.after = After::Discarded(0);
                                self.state.refuse(Rule::BodyTimeout, Place::Body);
                                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                            }
                        }
                    }
                }
            } else {
                let taken = self.prefix.len().min(buf.remaining());
                buf.put_slice(self.prefix.get(..taken).unwrap_or_default());
                self.prefix.drain(..taken);
            }
            let read = buf.filled().len().saturating_sub(before);
            WireState::count(&self.state.received, read);
            self.judge(buf, before)?;
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether whole requests of HTTP/1 have no whole answer yet.
    fn is_awaited(&self) -> bool {
        let Scan::Http1(scan) = &self.scan else {
            return false;
        };
        let [begun, ..] = self.state.counted();
        self.phase == Phase::Between && (self.state.in_flight() > 0 || scan.heads() > begun)
    }

    /// Throws away what follows a refused message, so that who sent it can still read why. Told that the
    /// connection had ended, hyper would drop the answer.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut thrown = [0; 1024];
        while let After::Discarded(left @ 1..) = self.after {
            let mut buf = ReadBuf::new(&mut thrown);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.after = After::Discarded(left.saturating_sub(buf.filled().len() as u64));
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What follows has been judged by whoever agreed to it, and is timed by whoever passes it on.
        if this.state.is_upgraded() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = buf.filled().len().saturating_sub(before);
            WireState::count(&this.state.received, read);
            return Poll::Ready(Ok(()));
        }
        this.poll_judged(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            this.sent(buf, *bytes);
        }
        this.written(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        if !matches!(this.after, After::Discarded(1..)) {
            return Poll::Ready(Ok(()));
        }
        // With bytes unread the connection would be reset, and the answer lost.
        let timer = this
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::LINGER_TIMEOUT)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let discarded = this.poll_discard(cx);
        if matches!(this.after, After::Discarded(0)) {
            return Poll::Ready(Ok(()));
        }
        // An error is an end.
        discarded.map(|_ended| Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = poll_write_pieces(&mut this.io, cx, bufs);
        if let Poll::Ready(Ok(bytes)) = &written {
            let mut left = *bytes;
            for buf in bufs {
                this.sent(buf, left);
                left = left.saturating_sub(buf.len());
            }
        }
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
        let state = Arc::new(WireState::new(Arc::default()));
        let mut guarded = Guarded::http1(ours, Vec::new(), Arc::clone(&state));
        state.begin();
        let mut byte = [0; 1];
        let waited =
            tokio::time::timeout(Limits::default().idle_timeout * 3, guarded.read(&mut byte)).await;
        assert!(waited.is_err(), "a request runs, so the connection stays");
        state.end();
        let started = Instant::now();
        assert_eq!(guarded.read(&mut byte).await.unwrap(), 0);
        assert!(started.elapsed() <= Limits::default().idle_timeout);
    }

    /// The beginning of what stands for a refused head.
    async fn replaced(guarded: &mut Guarded<tokio::io::DuplexStream>) -> Vec<u8> {
        let mut all = vec![0; 1024];
        let read = guarded.read(&mut all).await.unwrap();
        all.truncate(read);
        all
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_timed_from_its_first_byte() {
        let (mut peer, ours) = tokio::io::duplex(1024);
        let state = Arc::new(WireState::new(Arc::default()));
        let mut guarded = Guarded::http1(ours, Vec::new(), Arc::clone(&state));
        let started = Instant::now();
        let feeding = tokio::spawn(async move {
            for byte in b"GET / HTTP/1.1\r\nHost: slow".chunks(1) {
                peer.write_all(byte).await?;
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            io::Result::Ok(peer)
        });
        assert_eq!(replaced(&mut guarded).await, b"GET / HTTP/1.1\r\n\r\n");
        assert!(started.elapsed() <= Limits::default().head_timeout + Duration::from_secs(1));
        let refused = state.refused_head().unwrap();
        assert_eq!(refused.rule, Rule::HeadTimeout);
        drop(guarded);
        assert!(feeding.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_refused_head_is_replaced_wherever_it_comes() {
        const BAD: &str = "GET /a HTTP/1.1\r\nHost: x\r\nX: \0";
        const GOOD: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok";
        for (sent, line) in [
            (BAD, "GET /a HTTP/1.1\r\n\r\n"),
            (
                "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
                "- * HTTP/1.1\r\n\r\n",
            ),
            ("\r\n\r\nG{T", "- * HTTP/1.1\r\n\r\n"),
        ] {
            for (before, number) in [("", 0), (GOOD, 1)] {
                for size in [1, 7, 20, 4096] {
                    let (mut peer, ours) = tokio::io::duplex(4096);
                    let state = Arc::new(WireState::new(Arc::default()));
                    let mut guarded = Guarded::http1(ours, Vec::new(), Arc::clone(&state));
                    let all = format!("{before}{sent}GET /smuggled HTTP/1.1\r\n");
                    let feeding = tokio::spawn(async move {
                        for piece in all.as_bytes().chunks(size) {
                            peer.write_all(piece).await.unwrap();
                            tokio::task::yield_now().await;
                        }
                        peer
                    });
                    let mut got = Vec::new();
                    while state.violation.get().is_none() || !guarded.judged.is_empty() {
                        got.extend(replaced(&mut guarded).await);
                    }
                    let wanted = format!("{before}{line}");
                    assert_eq!(String::from_utf8_lossy(&got), wanted, "pieces of {size}");
                    let at = state.violation.get().map(|violation| violation.place);
                    let has_line = !line.starts_with('-');
                    assert_eq!(at, Some(Place::Head { number, has_line }));
                    drop(feeding.await.unwrap());
                    // Nothing that follows is looked at.
                    assert_eq!(replaced(&mut guarded).await, b"");
                }
            }
        }
    }
}
