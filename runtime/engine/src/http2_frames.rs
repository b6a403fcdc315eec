//! HTTP/2 frames as bytes that pass: how many a peer sends that cost their receiver work and that HTTP/2 libraries do
//! not bound themselves (CVE-2019-9512, CVE-2019-9515), and which streams are refused. Payloads are passed over.

use std::time::Instant;

use crate::detect::HTTP2_PREFACE as PREFACE;
use crate::limits;

const HEADER_BYTES: usize = 9;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const RST_STREAM: u8 = 3;
const CODE_BYTES: usize = 4;
const ACK: u8 = 1;

/// A peer sends more of them than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are too many control frames")]
pub struct Flood;

/// Why a stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was over the number that is taken, or its head over its bound.
    Bound,
    /// Its frames, or the head in them, are not as RFC 9113 has them.
    Malformed,
}

/// Codes of RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;

/// Follows what a peer sends.
#[derive(Debug)]
pub struct FrameScan {
    /// Bytes to pass over: the preface, or a payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    filled: usize,
    /// Frames that a peer may send within the window.
    allowed: usize,
    counted: usize,
    /// Bytes that were sent to the peer since the window began.
    sent: usize,
    window_start: Option<Instant>,
}

impl FrameScan {
    /// Lets so many frames pass.
    pub fn new(allowed: usize) -> Self {
        Self {
            allowed,
            skip: PREFACE.len(),
            header: [0; HEADER_BYTES],
            filled: 0,
            counted: 0,
            sent: 0,
            window_start: None,
        }
    }

    /// Notes that bytes were sent to the peer.
    pub fn wrote(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// Passes over `bytes`; an error when the peer floods.
    pub fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (HEADER_BYTES - self.filled).min(bytes.len());
            let (part, rest) = bytes.split_at(wanted);
            if let Some(to) = self.header.get_mut(self.filled..self.filled + wanted) {
                to.copy_from_slice(part);
            }
            self.filled += wanted;
            bytes = rest;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                self.frame(now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let costly = kind == PRIORITY || matches!(kind, SETTINGS | PING) && flags & ACK == 0;
        if !costly {
            return Ok(());
        }
        let window = *self.window_start.get_or_insert(now);
        if now.duration_since(window) > limits::CONTROL_FRAME_WINDOW {
            self.window_start = Some(now);
            self.counted = 0;
            self.sent = 0;
        }
        self.counted += 1;
        let earned = self.sent / limits::SENT_BYTES_PER_CONTROL_FRAME;
        let allowed = self.allowed.saturating_add(earned);
        if self.counted > allowed {
            return Err(Flood);
        }
        Ok(())
    }
}

/// Follows what a peer is sent: streams that a library refuses before there is a request, of which it tells nobody
/// but the peer.
#[derive(Debug, Default)]
pub struct SentResets {
    /// Bytes of a payload to pass over.
    skip: usize,
    /// A header, and the code of a reset behind it.
    header: [u8; HEADER_BYTES + CODE_BYTES],
    filled: usize,
}

impl SentResets {
    /// Follows bytes that were sent; tells what the peer did wrong where a stream was refused.
    pub fn wrote(&mut self, mut bytes: &[u8], mut refused: impl FnMut(Refused)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let [_, _, _, kind, ..] = self.header;
            let is_reset = self.filled >= HEADER_BYTES && kind == RST_STREAM;
            let wanted = HEADER_BYTES + if is_reset { CODE_BYTES } else { 0 };
            let taken = (wanted - self.filled).min(bytes.len());
            let (part, rest) = bytes.split_at(taken);
            if let Some(to) = self.header.get_mut(self.filled..self.filled + taken) {
                to.copy_from_slice(part);
            }
            self.filled += taken;
            bytes = rest;
            if is_reset && self.filled == wanted {
                let [.., a, b, c, d] = self.header;
                self.filled = 0;
                match u32::from_be_bytes([a, b, c, d]) {
                    REFUSED_STREAM => refused(Refused::Bound),
                    PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR => {
                        refused(Refused::Malformed);
                    }
                    _ => {}
                }
            } else if self.filled == HEADER_BYTES {
                let [high, middle, low, kind, ..] = self.header;
                if kind != RST_STREAM {
                    self.filled = 0;
                    self.skip =
                        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests begin somewhere in time")]
mod tests {
    use super::*;

    const ALLOWED: usize = 200;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 0];
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn pings_are_bounded_however_they_are_split() {
        for size in [1, 7, 1000] {
            let mut bytes = PREFACE.to_vec();
            for _ in 0..=ALLOWED {
                bytes.extend(frame(PING, 0, &[0; 8]));
                bytes.extend(frame(PING, ACK, &[0; 8]));
                bytes.extend(frame(0, 0, b"data"));
            }
            let mut scan = FrameScan::new(ALLOWED);
            let now = Instant::now();
            let verdict = bytes.chunks(size).try_for_each(|part| scan.read(part, now));
            assert_eq!(verdict, Err(Flood), "in pieces of {size}");
        }
    }

    /// gRPC clients send one for every window of data that they get, to measure it.
    #[test]
    fn pings_that_measure_an_answer_are_welcome() {
        let mut scan = FrameScan::new(ALLOWED);
        let now = Instant::now();
        scan.read(PREFACE, now).unwrap();
        for _ in 0..10 * ALLOWED {
            // A DATA frame with one small message, and the answer to the PING before.
            scan.wrote(9 + 5 + 2);
            scan.wrote(9 + 8);
            scan.read(&frame(PING, 0, &[0; 8]), now).unwrap();
        }
        // Answers to PINGs alone don't pay for them.
        let flood = std::iter::repeat_with(|| {
            scan.wrote(9 + 8);
            scan.read(&frame(PING, 0, &[0; 8]), now)
        });
        let most = ALLOWED * 4;
        assert!(flood.take(most).any(|verdict| verdict.is_err()));
    }

    #[test]
    fn refused_streams_are_seen_however_they_are_written() {
        let reset = |code: u8| frame(RST_STREAM, 0, &[0, 0, 0, code]);
        let data = frame(0, 0, &[3; 200]);
        let sent = [
            frame(SETTINGS, 0, &[0; 12]),
            reset(1),
            data.clone(),
            frame(SETTINGS, ACK, &[]),
            reset(8),
            reset(7),
            data,
            reset(1),
        ]
        .concat();
        for size in [1, 3, 13, 4096] {
            let mut resets = SentResets::default();
            let mut seen = Vec::new();
            for piece in sent.chunks(size) {
                resets.wrote(piece, |rule| seen.push(rule));
            }
            let wanted = [Refused::Malformed, Refused::Bound, Refused::Malformed];
            assert_eq!(seen, wanted, "pieces of {size}");
        }
    }

    #[test]
    fn a_ping_now_and_then_is_welcome() {
        let mut scan = FrameScan::new(ALLOWED);
        scan.read(PREFACE, Instant::now()).unwrap();
        let start = Instant::now();
        for second in 0..1000 {
            let now = start + std::time::Duration::from_secs(second);
            scan.read(&frame(PING, 0, &[0; 8]), now).unwrap();
        }
    }
}
