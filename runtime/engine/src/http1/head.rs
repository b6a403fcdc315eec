//! The scanner: each byte is looked at once, however the bytes come.

use super::chunk::SizeLine;
use super::{Bounds, Fault, Phase, Refusal, class};
use crate::host;
use crate::limits::METHOD_BYTES_MAX;

/// Blank lines that are skipped before a request line (RFC 9112 section 2.2).
const BLANK_LINES_MAX: u8 = 4;
/// Scheme and authority of a URL: more than the longest host has.
const ORIGIN_BYTES_MAX: usize = 300;
/// The longer of the two names that frame a message.
const FRAMING_NAME_BYTES: usize = "transfer-encoding".len();
/// Their values, with white space around them.
const FRAMING_VALUE_BYTES: usize = 32;

const VERSION: &[u8; 7] = b"HTTP/1.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    StartLineFeed,
    Method,
    /// The first bytes of a target: a path, or scheme and authority.
    Target,
    Path,
    Query,
    /// As many bytes of the version as are there.
    Version(usize),
    RequestLineFeed,
    Field,
    Name,
    Value,
    ValueLineFeed,
    HeadLineFeed,
    Sized(u64),
    ChunkSize(SizeLine),
    ChunkData(u64),
    ChunkReturn,
    ChunkLineFeed,
}

/// What the field that is being read says of framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    No,
    ContentLength,
    TransferEncoding,
}

/// Follows one connection's requests. After an error nothing more may be read.
#[derive(Debug)]
pub struct Http1Scan {
    bounds: Bounds,
    state: State,
    /// Whether the fields are trailers.
    in_trailers: bool,
    /// Bytes of the head or the trailers so far.
    bytes: usize,
    /// The same when the request line ended.
    request_line: Option<usize>,
    blank_lines: u8,
    fields: usize,
    target_bytes: usize,
    /// Bytes that are needed whole: a method, a URL's origin, the name of a field, a framing value.
    kept: Vec<u8>,
    is_connect: bool,
    is_1_0: bool,
    framing: Framing,
    content_length: Option<u64>,
    chunked: bool,
    heads: u64,
    /// Where the present head begins in the bytes that are read, 0 if it began before them.
    head_at: usize,
}

impl Http1Scan {
    /// At the start of a connection.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: State::Start,
            in_trailers: false,
            bytes: 0,
            request_line: None,
            blank_lines: 0,
            fields: 0,
            target_bytes: 0,
            kept: Vec::new(),
            is_connect: false,
            is_1_0: false,
            framing: Framing::No,
            content_length: None,
            chunked: false,
            heads: 0,
            head_at: 0,
        }
    }

    /// How many heads have been let through.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Start if self.bytes == 0 => Phase::Between,
            State::Sized(_) | State::ChunkSize(_) | State::ChunkData(_) => Phase::Body,
            State::ChunkReturn | State::ChunkLineFeed => Phase::Body,
            _ if self.in_trailers => Phase::Body,
            _ => Phase::Head,
        }
    }

    /// Where the present head begins in the bytes that were read last; 0 if it began before them.
    pub fn head_at(&self) -> usize {
        self.head_at
    }

    /// How many bytes of the head are its request line with all that precedes it, once that is whole and good.
    pub fn request_line_bytes(&self) -> Option<usize> {
        self.request_line
    }

    /// Follows `bytes`.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = 0;
        self.head_at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let phase = self.phase();
            let in_body = phase == Phase::Body;
            if phase == Phase::Between {
                self.head_at = at;
            }
            let refused = |(fault, offset)| Refusal {
                fault,
                at: at + offset,
                in_body,
            };
            at += match self.state {
                State::Sized(left) => self.pass(rest, left, State::Sized, State::Start),
                State::ChunkData(left) => {
                    self.pass(rest, left, State::ChunkData, State::ChunkReturn)
                }
                _ => self.step(rest).map_err(refused)?,
            };
        }
        Ok(())
    }

    /// Passes over body bytes.
    fn pass(&mut self, rest: &[u8], left: u64, more: fn(u64) -> State, then: State) -> usize {
        let taken = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
        let left = left - taken as u64;
        self.state = if left == 0 { then } else { more(left) };
        taken
    }

    /// Takes as many bytes as belong together. What is bad is at the offset.
    fn step(&mut self, rest: &[u8]) -> Result<usize, (Fault, usize)> {
        let Some(&first) = rest.first() else {
            return Ok(0);
        };
        let counts = self.in_trailers || self.phase() != Phase::Body;
        let taken = match self.state {
            State::Method | State::Name => class::count(rest, class::TOKEN),
            State::Path => class::count(rest, class::PATH),
            State::Query => class::count(rest, class::QUERY),
            State::Value => self.value(rest)?,
            _ => 0,
        };
        if counts {
            let room = self.room();
            if taken.max(1) > room {
                // Whatever is wrong before the last byte that there is room for was wrong first.
                self.keep(rest.get(..taken.min(room)).unwrap_or_default())?;
                return Err((self.too_long(), room));
            }
            self.bytes += taken.max(1);
        }
        if taken > 0 {
            self.keep(rest.get(..taken).unwrap_or_default())?;
            return Ok(taken);
        }
        let was = self.state;
        self.byte(first).map_err(|fault| (fault, 0))?;
        if was == State::RequestLineFeed {
            self.request_line = Some(self.bytes);
        }
        Ok(1)
    }

    /// How many more bytes the head or the trailers may have.
    fn room(&self) -> usize {
        let most = if self.in_trailers {
            self.bounds.trailer_bytes
        } else {
            self.bounds.head_bytes
        };
        most.saturating_sub(self.bytes)
    }

    fn too_long(&self) -> Fault {
        self.in_its_place(Fault::HeadTooLarge)
    }

    /// Keeps what is needed whole.
    fn keep(&mut self, part: &[u8]) -> Result<(), (Fault, usize)> {
        let (most, fault) = match self.state {
            State::Method => (METHOD_BYTES_MAX, Some(Fault::Method)),
            State::Name => (FRAMING_NAME_BYTES + 1, None),
            State::Value if self.framing != Framing::No => {
                (FRAMING_VALUE_BYTES, Some(self.framing_fault()))
            }
            State::Path | State::Query => {
                let room = self.bounds.target_bytes.saturating_sub(self.target_bytes);
                if part.len() > room {
                    return Err((Fault::TargetTooLong, room));
                }
                self.target_bytes += part.len();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let room = most.saturating_sub(self.kept.len());
        match fault {
            Some(fault) if part.len() > room => Err((fault, room)),
            _ => {
                self.kept.extend(part.iter().take(room));
                Ok(())
            }
        }
    }

    /// How much of a field's value there is, up to what may not be in it.
    fn value(&self, rest: &[u8]) -> Result<usize, (Fault, usize)> {
        let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
        let part = rest.get(..end).unwrap_or_default();
        let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
        // All of them, for this is quicker than to stop at the first.
        if part.iter().fold(false, |bad, byte| bad | is_control(*byte)) {
            let good = part.iter().take_while(|byte| !is_control(**byte)).count();
            if good > 0 {
                return Ok(good);
            }
            let fault = match part.first() {
                Some(b'\n') => Fault::BareLineFeed,
                _ => Fault::FieldValue,
            };
            return Err((self.in_its_place(fault), 0));
        }
        Ok(end)
    }

    /// Trailers are a part of the chunks.
    fn in_its_place(&self, fault: Fault) -> Fault {
        if self.in_trailers {
            Fault::Chunk
        } else {
            fault
        }
    }

    fn framing_fault(&self) -> Fault {
        match self.framing {
            Framing::ContentLength => Fault::ContentLength,
            _ => Fault::TransferEncoding,
        }
    }

    /// Takes the byte that ends something, or one of which each counts.
    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.state = match (self.state, byte) {
            (State::Start, b'\r') => State::StartLineFeed,
            (State::Start, b'\n') => return Err(Fault::BareLineFeed),
            (State::Start, _) if class::count(&[byte], class::TOKEN) == 1 => {
                self.kept.clear();
                self.kept.push(byte);
                State::Method
            }
            (State::StartLineFeed, b'\n') if self.blank_lines < BLANK_LINES_MAX => {
                self.blank_lines += 1;
                State::Start
            }
            (State::StartLineFeed, b'\n') => return Err(Fault::BlankLines),
            (State::Method, b' ') => {
                self.is_connect = self.kept == b"CONNECT";
                self.kept.clear();
                self.target_bytes = 0;
                State::Target
            }
            (State::Start | State::StartLineFeed | State::Method, _) => return Err(Fault::Method),
            (State::Target, _) => self.origin(byte)?,
            (State::Path, b'?') => {
                self.target_bytes += 1;
                State::Query
            }
            (State::Path | State::Query, b' ') => State::Version(0),
            (State::Path | State::Query, b'#') => return Err(Fault::Fragment),
            (State::Path | State::Query, b'\r' | b'\n') => return Err(Fault::Version),
            (State::Path | State::Query, _) => return Err(Fault::TargetByte),
            (State::Version(at), _) if VERSION.get(at) == Some(&byte) => State::Version(at + 1),
            (State::Version(7), b'0' | b'1') => {
                self.is_1_0 = byte == b'0';
                State::Version(8)
            }
            (State::Version(8), b'\r') => State::RequestLineFeed,
            (State::Version(8), b'\n') => return Err(Fault::BareLineFeed),
            (State::Version(_), _) => return Err(Fault::Version),
            (State::RequestLineFeed, b'\n') => State::Field,
            (State::RequestLineFeed, _) => return Err(Fault::Version),
            (State::Field, b'\r') => State::HeadLineFeed,
            (State::Field, b'\n') => return Err(self.in_its_place(Fault::BareLineFeed)),
            (State::Field, b' ' | b'\t') => return Err(self.in_its_place(Fault::FoldedField)),
            (State::Field, _) if class::count(&[byte], class::TOKEN) == 1 => self.name(byte)?,
            (State::Name, b':') => self.colon(),
            (State::Field | State::Name, _) => return Err(self.in_its_place(Fault::FieldName)),
            (State::Value, b'\r') => State::ValueLineFeed,
            (State::ValueLineFeed, b'\n') => self.field_end()?,
            (State::Value | State::ValueLineFeed, _) => {
                return Err(self.in_its_place(Fault::FieldValue));
            }
            (State::HeadLineFeed, b'\n') if self.in_trailers => self.message_end(),
            (State::HeadLineFeed, b'\n') => self.head_end()?,
            (State::HeadLineFeed, _) => return Err(self.in_its_place(Fault::FieldName)),
            (State::ChunkSize(mut line), _) => match line.byte(byte)? {
                None => State::ChunkSize(line),
                Some(0) => {
                    self.in_trailers = true;
                    self.bytes = 0;
                    self.fields = 0;
                    State::Field
                }
                Some(size) => State::ChunkData(size),
            },
            (State::ChunkReturn, b'\r') => State::ChunkLineFeed,
            (State::ChunkLineFeed, b'\n') => State::ChunkSize(SizeLine::default()),
            (State::ChunkReturn, b'\n') => return Err(Fault::BareLineFeed),
            (State::ChunkReturn | State::ChunkLineFeed, _) => return Err(Fault::Chunk),
            // Passed over before.
            (state @ (State::Sized(_) | State::ChunkData(_)), _) => state,
        };
        Ok(())
    }

    /// Takes a byte of what comes before a path: nothing, or scheme and authority (RFC 9112 section 3.2).
    fn origin(&mut self, byte: u8) -> Result<State, Fault> {
        if self.is_connect {
            return Err(Fault::Connect);
        }
        let is_whole = memchr::memmem::find(&self.kept, b"://").is_some();
        let ends = match byte {
            b'/' => self.kept.is_empty() || is_whole && !self.kept.ends_with(b"://"),
            b'?' | b' ' => true,
            _ => false,
        };
        if !ends {
            if !byte.is_ascii_graphic() || self.kept.len() >= ORIGIN_BYTES_MAX {
                return Err(self.no_origin());
            }
            // The slashes of `://` are told from a path's.
            if byte == b'/' && !(self.kept.ends_with(b":") || self.kept.ends_with(b":/")) {
                return Err(self.no_origin());
            }
            self.kept.push(byte);
            return Ok(State::Target);
        }
        if !self.kept.is_empty() || byte != b'/' {
            self.judge_origin()?;
        }
        self.target_bytes = 1;
        Ok(match byte {
            b'/' => State::Path,
            b'?' => State::Query,
            _ => State::Version(0),
        })
    }

    fn judge_origin(&self) -> Result<(), Fault> {
        let text = std::str::from_utf8(&self.kept).map_err(|_not_ascii| Fault::TargetByte)?;
        let (scheme, authority) = text.split_once("://").ok_or(Fault::TargetForm)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Fault::Scheme);
        }
        host::normalise(authority).map_err(Fault::Host).map(drop)
    }

    fn no_origin(&self) -> Fault {
        self.judge_origin().err().unwrap_or(Fault::TargetForm)
    }

    fn name(&mut self, byte: u8) -> Result<State, Fault> {
        self.fields += 1;
        if self.fields > self.bounds.fields {
            return Err(self.in_its_place(Fault::TooManyFields));
        }
        self.kept.clear();
        self.kept.push(byte);
        Ok(State::Name)
    }

    fn colon(&mut self) -> State {
        self.framing = if self.in_trailers {
            Framing::No
        } else if self.kept.eq_ignore_ascii_case(b"content-length") {
            Framing::ContentLength
        } else if self.kept.eq_ignore_ascii_case(b"transfer-encoding") {
            Framing::TransferEncoding
        } else {
            Framing::No
        };
        self.kept.clear();
        State::Value
    }

    fn field_end(&mut self) -> Result<State, Fault> {
        // Optional white space is spaces and tabs (RFC 9110 section 5.6.3); no other comes so far.
        let value = self.kept.trim_ascii();
        match self.framing {
            Framing::No => {}
            Framing::ContentLength => {
                let length = number(value).ok_or(Fault::ContentLength)?;
                if self.content_length.is_some_and(|before| before != length) {
                    return Err(Fault::ContentLength);
                }
                self.content_length = Some(length);
            }
            Framing::TransferEncoding => {
                let is_one = value.eq_ignore_ascii_case(b"chunked");
                if self.chunked || !is_one || self.is_1_0 {
                    return Err(Fault::TransferEncoding);
                }
                self.chunked = true;
            }
        }
        Ok(State::Field)
    }

    fn head_end(&mut self) -> Result<State, Fault> {
        let then = match (self.chunked, self.content_length) {
            (true, Some(_)) => return Err(Fault::LengthAndEncoding),
            (true, None) => State::ChunkSize(SizeLine::default()),
            (false, Some(length)) if length > 0 => State::Sized(length),
            (false, _) => State::Start,
        };
        self.forget();
        self.heads += 1;
        Ok(then)
    }

    fn message_end(&mut self) -> State {
        self.in_trailers = false;
        self.forget();
        State::Start
    }

    /// What holds for one message alone.
    fn forget(&mut self) {
        self.bytes = 0;
        self.request_line = None;
        self.blank_lines = 0;
        self.fields = 0;
        self.content_length = None;
        self.chunked = false;
        // The allocation is kept: its size is bounded.
        self.kept.clear();
    }
}

/// A number in its shortest form: others read `010` as eight.
fn number(value: &[u8]) -> Option<u64> {
    let is_shortest = value == b"0" || !value.starts_with(b"0");
    if value.is_empty() || value.len() > 18 || !is_shortest {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests;
