//! Bodies on their way through: counted, their trailers checked, passed on chunk by chunk. The
//! only thing that is ever kept is what may have to be sent again, and no more than a bound.

use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_daemon::telemetry::Reason;
use tokio::time::Sleep;

use self::copied::{Copied, CopySender};
use self::held::Held;
use super::grpc::MessageCounter;
use super::local_reply;
use super::record::Record;
use super::sanitise::{Rule, sanitise_trailers};
use super::timeout::{BodyClock, Expired, Silence};
use crate::limits;
use crate::upstream::pool::Slot;

pub(crate) mod copied;
pub(crate) mod held;

/// Why a body broke off. hyper then ends the message as broken, never as complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client's.
    #[error("read the request's body")]
    Downstream(#[source] hyper::Error),
    /// The endpoint's.
    #[error("read the answer's body")]
    Upstream(#[source] hyper::Error),
    /// A clock ran out.
    #[error("pass the answer's body on in time")]
    Expired,
    /// More came than the destination may get.
    #[error("pass on a body that is too large")]
    TooLarge,
    /// Nothing of it came for too long.
    #[error("wait for more of the request's body")]
    Stalled,
    /// Another try took the body over.
    #[error("send the body twice at once")]
    Superseded,
}

/// How far a request body has come, for whoever else needs to know.
#[derive(Debug)]
pub(crate) struct Transfer {
    bytes: AtomicU64,
    /// More than this is too large.
    bytes_max: AtomicU64,
    ended: AtomicBool,
    broken: AtomicBool,
    stalled: AtomicBool,
    /// Whether messages of gRPC are counted.
    grpc: AtomicBool,
    /// Those that nobody has counted on yet.
    messages: AtomicU64,
    silence: Silence,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            bytes_max: AtomicU64::new(u64::MAX),
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            grpc: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            silence: Silence::default(),
        }
    }
}

impl Transfer {
    /// So many bytes may go where it is sent next.
    pub(crate) fn may_be(&self, bytes_max: Option<u64>) {
        let bytes_max = bytes_max.unwrap_or(u64::MAX);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Whether more has come than that.
    pub(crate) fn is_too_large(&self) -> bool {
        self.bytes() > self.bytes_max.load(Ordering::Relaxed)
    }

    /// Bytes read from the client.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Messages of gRPC are to be counted.
    pub(crate) fn expect_messages(&self) {
        self.grpc.store(true, Ordering::Relaxed);
    }

    /// The messages that were read since this was asked last.
    pub(crate) fn take_messages(&self) -> u64 {
        self.messages.swap(0, Ordering::Relaxed)
    }

    /// Whether all of it has been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// How long the client was waited for, and is by now.
    pub(crate) fn waited(&self) -> Duration {
        self.silence.sum()
    }

    /// Whether it is the client who is waited for.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.silence.lasts()
    }

    /// Whether it was given up because nothing came.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Whether the client broke it off.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// The body of a request as the next hop gets it.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// Passed on once.
    Once(Downstream),
    /// Kept to be sent again.
    Replay(Replay),
    /// Made here.
    Fixed(Option<Bytes>),
    /// What somebody else passes on.
    Copied(Copied),
    /// Not asked for before the next hop wants it.
    Held(Box<Held>),
}

/// The client's body.
#[derive(Debug)]
pub(crate) struct Downstream {
    body: Incoming,
    transfer: Arc<Transfer>,
    messages: MessageCounter,
    /// Who gets what is read, too.
    copies: Vec<CopySender>,
    /// How long nothing may come; none: whoever reads the bytes has a clock.
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Downstream {
    /// Counts what comes into `transfer`.
    pub(crate) fn new(
        body: Incoming,
        transfer: Arc<Transfer>,
        copies: Vec<CopySender>,
        patience: Option<Duration>,
    ) -> Self {
        Self {
            body,
            transfer,
            messages: MessageCounter::default(),
            copies,
            patience,
            timer: None,
        }
    }

    /// Whether nothing has come for too long. It is asked only while somebody wants more, and calls of gRPC may be
    /// silent for as long as they like.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else {
            return Poll::Pending;
        };
        if self.transfer.grpc.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        timer.as_mut().poll(cx)
    }

    fn has_ended(&mut self) {
        self.transfer.ended.store(true, Ordering::Relaxed);
        for copy in self.copies.drain(..) {
            copy.end();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.transfer.silence.begins();
            ready!(self.poll_silence(cx));
            self.copies.clear();
            self.transfer.stalled.store(true, Ordering::Relaxed);
            self.transfer.broken.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        };
        self.transfer.silence.ends();
        self.timer = None;
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.transfer
                        .bytes
                        .fetch_add(data.len() as u64, Ordering::Relaxed);
                    if self.transfer.is_too_large() {
                        self.copies.clear();
                        self.transfer.broken.store(true, Ordering::Relaxed);
                        return Poll::Ready(Some(Err(BodyError::TooLarge)));
                    }
                    if self.transfer.grpc.load(Ordering::Relaxed) {
                        let messages = self.messages.read(data);
                        self.transfer
                            .messages
                            .fetch_add(messages, Ordering::Relaxed);
                    }
                }
                if let Some(trailers) = frame.trailers_mut() {
                    sanitise_trailers(trailers);
                }
                self.copies.retain(|copy| copy.pass(&frame));
                if self.body.is_end_stream() {
                    self.has_ended();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.copies.clear();
                self.transfer.broken.store(true, Ordering::Relaxed);
                Some(Err(BodyError::Downstream(error)))
            }
            None => {
                self.has_ended();
                None
            }
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(body) => body.poll(cx),
            Self::Replay(replay) => replay.poll(cx),
            Self::Copied(copy) => copy.poll(cx),
            Self::Held(held) => held.poll(cx),
            Self::Fixed(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.body.is_end_stream(),
            Self::Replay(replay) => replay.is_end_stream(),
            Self::Copied(copy) => copy.is_end_stream(),
            Self::Held(held) => held.body.is_end_stream(),
            Self::Fixed(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(body) => body.body.size_hint(),
            Self::Replay(replay) => replay.hint,
            Self::Copied(copy) => copy.size_hint(),
            Self::Held(held) => held.body.size_hint(),
            Self::Fixed(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// One sending of a body that may be sent again.
#[derive(Debug)]
pub(crate) struct Replay {
    kept: Arc<Mutex<Kept>>,
    /// Which sending; only the newest one gets anything.
    sending: u32,
    /// Position in the kept chunks.
    position: usize,
    hint: SizeHint,
}

/// What is shared by all sendings of one body.
#[derive(Debug)]
struct Kept {
    body: Downstream,
    chunks: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// More came than may be kept: what has been sent cannot be sent again.
    overflowed: bool,
    sending: u32,
}

impl Replay {
    /// The first sending.
    pub(crate) fn new(body: Downstream) -> Self {
        let hint = body.body.size_hint();
        let kept = Kept {
            body,
            chunks: Vec::new(),
            bytes: 0,
            trailers: None,
            ended: false,
            overflowed: false,
            sending: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
            sending: 0,
            position: 0,
            hint,
        }
    }

    /// A handle from which further sendings can be made.
    pub(crate) fn handle(&self) -> ReplayHandle {
        ReplayHandle {
            kept: Arc::clone(&self.kept),
            hint: self.hint,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Only the newest sending polls, so nobody is waited for here.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is read from what was kept, by as many as want it.
        let is_whole = kept.ended && !kept.overflowed;
        if kept.sending != self.sending && !is_whole {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(chunk) = kept.chunks.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.ended {
            let trailers = kept
                .trailers
                .clone()
                .filter(|_| self.position == kept.chunks.len());
            self.position = kept.chunks.len() + 1;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(kept.body.poll(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    // Without a handle there will be no other sending.
                    kept.keep(data, Arc::strong_count(&self.kept) > 1);
                    self.position = kept.chunks.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    kept.trailers = Some(trailers.clone());
                    kept.ended = true;
                    self.position = kept.chunks.len() + 1;
                }
                kept.ended |= kept.body.transfer.has_ended();
            }
            Some(Err(_)) => kept.overflowed = true,
            None => kept.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.position >= kept.chunks.len();
        let trailers_sent = kept.trailers.is_none() || self.position > kept.chunks.len();
        kept.ended && sent && trailers_sent
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes, is_wanted: bool) {
        self.bytes += data.len() + limits::REPLAY_CHUNK_OVERHEAD;
        if self.bytes > limits::REPLAY_BYTES_MAX || !is_wanted {
            self.overflowed = true;
            self.chunks = Vec::new();
        }
        if !self.overflowed {
            self.chunks.push(data.clone());
        }
    }
}

/// Makes further sendings of one body.
#[derive(Debug)]
pub(crate) struct ReplayHandle {
    kept: Arc<Mutex<Kept>>,
    hint: SizeHint,
}

impl ReplayHandle {
    /// A sending beside those that there are; none unless all of the body is here.
    pub(crate) fn beside(&self) -> Option<Replay> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.ended && !kept.overflowed).then(|| Replay {
            kept: Arc::clone(&self.kept),
            sending: kept.sending,
            position: 0,
            hint: self.hint,
        })
    }

    /// Whether a sending beside others may be made later: what is missing of the body may come.
    pub(crate) fn is_coming(&self) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        !kept.ended && !kept.overflowed
    }

    /// Takes the body away from the sending before; none if too much of it has gone.
    pub(crate) fn again(&self) -> Option<Replay> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.overflowed {
            return None;
        }
        kept.sending += 1;
        Some(Replay {
            kept: Arc::clone(&self.kept),
            sending: kept.sending,
            position: 0,
            hint: self.hint,
        })
    }
}

/// The body of an answer as the client gets it.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are passed on, and a box for each would cost more than the room"
)]
pub(crate) enum ResponseBody {
    /// Made here.
    Local(Option<Bytes>),
    /// Passed on.
    Upstream(Upstream),
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Local",
            Self::Upstream(_) => "Upstream",
        })
    }
}

/// An endpoint's body. Its end is the end of the exchange: the record is written then and the
/// connection given back.
pub(crate) struct Upstream {
    body: Incoming,
    clock: BodyClock,
    slot: Option<Slot>,
    record: Option<Box<Record>>,
}

impl Upstream {
    /// Passes `body` on under `clock`.
    pub(crate) fn new(body: Incoming, clock: BodyClock, slot: Slot, record: Box<Record>) -> Self {
        Self {
            body,
            clock,
            slot: Some(slot),
            record: Some(record),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.clock.touch();
                if let Some(record) = &mut self.record {
                    if let Some(data) = frame.data_ref() {
                        record.passed_on(data);
                    }
                    if let Some(trailers) = frame.trailers_mut() {
                        sanitise_trailers(trailers);
                        record.read_grpc_status(trailers);
                    }
                }
                if self.body.is_end_stream() {
                    self.end(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // The next hop was told of the same deadline, and may break off first.
            Poll::Ready(Some(Err(error))) if self.clock.is_over() => {
                if let Some(record) = &self.record {
                    record.count_timeout("request");
                }
                let error = BodyError::Upstream(error);
                Poll::Ready(Some(self.break_off(Reason::RequestTimeout, error)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = BodyError::Upstream(error);
                let is_ours = self
                    .record
                    .as_ref()
                    .is_some_and(|record| record.request_is_too_large());
                let reason = if is_ours {
                    Reason::BadRequest(Rule::BodyTooLarge.as_str())
                } else {
                    Reason::UpstreamReset
                };
                Poll::Ready(Some(self.break_off(reason, error)))
            }
            Poll::Ready(None) => {
                self.end(None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let expired = ready!(self.clock.poll_expired(cx));
                if let Some(record) = &self.record {
                    record.count_timeout(match expired {
                        Expired::Whole => "request",
                        Expired::Silence => "stream_idle",
                    });
                }
                let error = BodyError::Expired;
                Poll::Ready(Some(self.break_off(Reason::RequestTimeout, error)))
            }
        }
    }

    /// Breaks the answer off. gRPC has a status for that, and its clients make of a reset stream what they like;
    /// everything else must not look whole.
    fn break_off(&mut self, reason: Reason, error: BodyError) -> Result<Frame<Bytes>, BodyError> {
        let record = self.record.as_mut().filter(|record| record.has_trailers());
        let broken = match record {
            None => Err(error),
            Some(record) => {
                let trailers = local_reply::grpc_trailers(reason);
                record.read_grpc_status(&trailers);
                Ok(Frame::trailers(trailers))
            }
        };
        self.end(Some(reason));
        broken
    }

    /// Ends the exchange; a second call does nothing.
    fn end(&mut self, reason: Option<Reason>) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        let request_sent = record.request_has_ended();
        if reason.is_some() {
            record.break_off();
        }
        record.end(reason);
        drop(record);
        // Dropped instead, a connection closes: the rest of one of the bodies is still on it.
        if let Some(slot) = self.slot.take()
            && reason.is_none()
            && request_sent
        {
            slot.give_back();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // hyper does not poll a body to its end when it knows how long it is.
        if self.record.is_none() || self.body.is_end_stream() {
            return self.end(None);
        }
        // Past its time it was cut off because the client did not take it.
        if self.clock.is_over() {
            if let Some(record) = &self.record {
                record.count_timeout("request");
            }
            return self.end(Some(Reason::RequestTimeout));
        }
        self.end(Some(Reason::ClientDisconnect));
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Local(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(upstream) => upstream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            Self::Upstream(upstream) => upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Upstream(upstream) => upstream.body.size_hint(),
        }
    }
}
