//! The scanner of HTTP/1 request bytes: lines, lengths and chunks, strictly as RFC 9112 has them.

use crate::http::sanitise::Rule;
use crate::limits;

/// What of a line is kept when it comes in pieces: all of a chunk's, and enough of a field's to
/// know the two that frame a message. Those two may not be longer.
const LINE_KEPT: usize = limits::CHUNK_LINE_BYTES_MAX + 2;

/// What a connection is in the middle of, for its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of the next request has come.
    Between,
    /// A part of a head.
    Head,
    /// A part of a body.
    Body,
}

/// A broken rule, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Which rule.
    pub(crate) rule: Rule,
    /// Index of the byte in what was just read.
    pub(crate) at: usize,
    /// Whether the head has already been let through.
    pub(crate) in_body: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RequestLine,
    Field,
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after the data of a chunk.
    ChunkEnd,
    Trailer,
}

/// Follows one connection's requests.
#[derive(Debug)]
pub(crate) struct Http1Scan {
    state: State,
    /// Beginning of a line whose end has not come yet.
    line: Vec<u8>,
    line_bytes: usize,
    last_byte: u8,
    blank_lines: u8,
    trailer_bytes: usize,
    content_length: Option<u64>,
    chunked: bool,
}

impl Default for Http1Scan {
    fn default() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            line_bytes: 0,
            last_byte: 0,
            blank_lines: 0,
            trailer_bytes: 0,
            content_length: None,
            chunked: false,
        }
    }
}

impl Http1Scan {
    /// What the connection is in the middle of.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::RequestLine if self.line_bytes == 0 => Phase::Between,
            State::RequestLine | State::Field => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// Follows `bytes`. After an error nothing more may be read.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.state {
                State::Sized(left) => self.pass(rest, left, State::Sized, State::RequestLine),
                State::ChunkData(left) => self.pass(rest, left, State::ChunkData, State::ChunkEnd),
                _ => self.line_part(rest).map_err(|(rule, offset)| Refusal {
                    rule,
                    at: at + offset,
                    in_body: self.phase() == Phase::Body,
                })?,
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

    /// Takes what there is of a line, its end included if it has come.
    fn line_part(&mut self, rest: &[u8]) -> Result<usize, (Rule, usize)> {
        let end = memchr::memchr(b'\n', rest);
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if self.state == State::RequestLine
            && let Some(at) = memchr::memchr(b'#', part)
        {
            return Err((Rule::Fragment, at));
        }
        self.line_bytes += part.len() + usize::from(end.is_some());
        let (bytes_max, rule) = self.line_bound();
        if self.line_bytes > bytes_max {
            return Err((rule, 0));
        }
        let Some(end) = end else {
            self.keep(part);
            return Ok(part.len());
        };
        let before = part.last().copied().unwrap_or(self.last_byte);
        if before != b'\r' {
            return Err((Rule::BareLineFeed, end));
        }
        let kept = std::mem::take(&mut self.line);
        let verdict = if kept.is_empty() {
            self.line_end(part.strip_suffix(b"\r").unwrap_or(part))
        } else {
            let mut line = kept;
            line.extend(part.iter().take(LINE_KEPT.saturating_sub(line.len())));
            let text = line.strip_suffix(b"\r").unwrap_or(&line);
            let verdict = self.line_end(text);
            // Keeps the allocation for the next line that comes in pieces.
            line.clear();
            self.line = line;
            verdict
        };
        self.line_bytes = 0;
        self.last_byte = 0;
        verdict.map_err(|rule| (rule, end))?;
        Ok(end + 1)
    }

    fn keep(&mut self, part: &[u8]) {
        if let Some(&last) = part.last() {
            self.last_byte = last;
        }
        let room = LINE_KEPT.saturating_sub(self.line.len());
        self.line.extend(part.iter().take(room));
    }

    fn line_bound(&self) -> (usize, Rule) {
        match self.state {
            State::ChunkSize => (limits::CHUNK_LINE_BYTES_MAX, Rule::Chunk),
            State::ChunkEnd => (2, Rule::Chunk),
            State::Trailer => (limits::TRAILER_BYTES_MAX, Rule::Chunk),
            // hyper answers a head that is too large with 431 and needs to see it for that.
            _ => (limits::HEAD_BYTES_MAX * 2, Rule::HeadTooLarge),
        }
    }

    /// Takes a whole line without its end; of a line that came in pieces at least its beginning.
    fn line_end(&mut self, line: &[u8]) -> Result<(), Rule> {
        match self.state {
            State::RequestLine if line.is_empty() => {
                self.blank_lines += 1;
                if self.blank_lines > limits::BLANK_LINES_MAX {
                    return Err(Rule::BlankLines);
                }
            }
            State::RequestLine => self.state = State::Field,
            State::Field if line.is_empty() => self.head_end()?,
            State::Field => self.field(line)?,
            State::ChunkSize => self.chunk_size(line)?,
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => return Err(Rule::Chunk),
            State::Trailer if line.is_empty() => self.message_end(),
            State::Trailer => {
                self.trailer_bytes += self.line_bytes;
                if self.trailer_bytes > limits::TRAILER_BYTES_MAX {
                    return Err(Rule::Chunk);
                }
            }
            State::Sized(_) | State::ChunkData(_) => {}
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Rule> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Rule::FoldedField);
        }
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = digits(value)
                .filter(|_| self.line_bytes <= LINE_KEPT)
                .ok_or(Rule::ContentLength)?;
            if self.content_length.is_some_and(|before| before != length) {
                return Err(Rule::ContentLength);
            }
            self.content_length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let one_token = value.eq_ignore_ascii_case(b"chunked");
            if self.chunked || !one_token || self.line_bytes > LINE_KEPT {
                return Err(Rule::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn head_end(&mut self) -> Result<(), Rule> {
        self.state = match (self.chunked, self.content_length) {
            (true, Some(_)) => return Err(Rule::LengthAndEncoding),
            (true, None) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Sized(length),
            (false, _) => State::RequestLine,
        };
        self.content_length = None;
        self.chunked = false;
        self.blank_lines = 0;
        Ok(())
    }

    /// RFC 9112 section 7.1, without the white space that it tells recipients to forgive.
    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Rule> {
        let mut parts = line.splitn(2, |&byte| byte == b';');
        let size = parts.next().unwrap_or_default();
        let extension = parts.next().unwrap_or_default();
        let printable = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte);
        if size.is_empty() || size.len() > 15 || !extension.iter().all(printable) {
            return Err(Rule::Chunk);
        }
        let size = size.iter().try_fold(0_u64, |sum, &byte| {
            let digit = char::from(byte).to_digit(16).ok_or(Rule::Chunk)?;
            Ok(sum << 4 | u64::from(digit))
        })?;
        self.state = if size == 0 {
            self.trailer_bytes = 0;
            State::Trailer
        } else {
            State::ChunkData(size)
        };
        Ok(())
    }

    fn message_end(&mut self) {
        self.state = State::RequestLine;
        self.blank_lines = 0;
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(bytes: &[u8], size: usize) -> Result<Phase, Rule> {
        let mut scan = Http1Scan::default();
        for part in bytes.chunks(size) {
            scan.read(part).map_err(|refusal| refusal.rule)?;
        }
        Ok(scan.phase())
    }

    fn check(head: &str, expected: Result<Phase, Rule>) {
        for size in [1, 3, 4096] {
            assert_eq!(
                verdict(head.as_bytes(), size),
                expected,
                "{head:?} in pieces of {size}"
            );
        }
    }

    #[test]
    fn requests_follow_each_other() {
        let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\r\n\
             POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhe\nlo\r\n0\r\nx: y\r\n\r\n\
             GET / HTTP/1.1\r\n\r\n";
        check(whole, Ok(Phase::Between));
        check("GET / HT", Ok(Phase::Head));
        check("GET / HTTP/1.1\r\nHost: a\r\n", Ok(Phase::Head));
        check(
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour",
            Ok(Phase::Body),
        );
    }

    #[test]
    fn framing_has_one_reading() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
        let cases = [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                Rule::LengthAndEncoding,
            ),
            (
                "Transfer-Encoding: chunked\r\ncontent-length: 0",
                Rule::LengthAndEncoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Rule::TransferEncoding,
            ),
            (
                "Transfer-Encoding: identity, chunked",
                Rule::TransferEncoding,
            ),
            ("Transfer-Encoding: gzip", Rule::TransferEncoding),
            ("Transfer-Encoding: \u{b}chunked", Rule::TransferEncoding),
            ("Transfer-Encoding:", Rule::TransferEncoding),
            (
                "Content-Length: 5\r\nContent-Length: 6",
                Rule::ContentLength,
            ),
            ("Content-Length: +5", Rule::ContentLength),
            ("Content-Length: 0x1", Rule::ContentLength),
            ("Content-Length: 5, 5", Rule::ContentLength),
            ("Content-Length:", Rule::ContentLength),
            ("Content-Length: 99999999999999999999", Rule::ContentLength),
            ("a: b\r\n folded", Rule::FoldedField),
            ("a: b\nc: d", Rule::BareLineFeed),
        ];
        for (fields, rule) in cases {
            check(&with(fields), Err(rule));
        }
        check("GET / HTTP/1.1\n\n", Err(Rule::BareLineFeed));
        check("\n", Err(Rule::BareLineFeed));
        check("GET /a#b HTTP/1.1\r\n\r\n", Err(Rule::Fragment));
        check(&"\r\n".repeat(9), Err(Rule::BlankLines));
    }

    #[test]
    fn chunks_have_one_reading() {
        let with =
            |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for body in [
            "0x1\r\n",
            "1zz\r\n",
            "\r\n",
            "-1\r\n",
            " 1\r\n",
            "1 \r\n",
            "11111111111111111\r\n",
            "1\r\nab\r\n",
            "1;\u{1}\r\n",
            "1;a\r\r\n",
        ] {
            let mut scan = Http1Scan::default();
            let refusal = scan.read(with(body).as_bytes()).unwrap_err();
            assert!(refusal.in_body, "{body:?} gave {refusal:?}");
        }
        check(&with("1\na\r\n"), Err(Rule::BareLineFeed));
    }

    proptest! {
        #[test]
        fn pieces_never_change_the_verdict(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b"\r\n".to_vec()), Just(b"Content-Length: 3".to_vec()), Just(b"GET / HTTP/1.1".to_vec()),
                Just(b"Transfer-Encoding: chunked".to_vec()), Just(b"3".to_vec()), Just(b"abc".to_vec()),
                Just(b"0".to_vec()), Just(b"\n".to_vec()), Just(b"#".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..4),
            ], 0..24).prop_map(|parts| parts.concat()),
            size in 1_usize..9,
        ) {
            prop_assert_eq!(verdict(&bytes, size), verdict(&bytes, 4096));
        }
    }
}
