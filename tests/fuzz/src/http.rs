//! The HTTP edge: what the scanners let through has the one reading that another parser has of it, however it comes.

use std::time::Instant;

use httparse::{EMPTY_HEADER, Request, Status};
use mesh_engine::detect::HTTP2_PREFACE;
use mesh_engine::http1::{Bounds, Fault, Http1Scan, Phase};
use mesh_engine::http2_frames::{FrameScan, Refused, SentResets};

const BOUNDS: Bounds = Bounds {
    head_bytes: 4 << 10,
    target_bytes: 1 << 10,
    fields: FIELDS_MAX,
    trailer_bytes: 1 << 10,
};
const FIELDS_MAX: usize = 32;
const CONTROL_FRAMES: usize = 20;

/// What is let through is read as httparse reads it: the same heads, and bodies that end at the same bytes. Nothing of
/// it depends on the pieces in which it comes.
pub fn http1(data: &[u8]) {
    let (ends, refused) = heads(data);
    let mut whole = Http1Scan::new(BOUNDS);
    let at_once = whole.read(data).err();
    assert_eq!(
        at_once.map(|refusal| (refusal.fault, refusal.at, refusal.in_body)),
        refused
    );
    assert_eq!(usize::try_from(whole.heads()), Ok(ends.len()));
    let mut start = 0;
    let last = ends.last().copied();
    for end in ends {
        let head = data.get(start..end).unwrap_or_default();
        let after = body_end(head, data.get(end..).unwrap_or_default());
        let Some(length) = after else {
            // It is not whole, or refused within.
            assert_eq!(
                Some(end),
                last,
                "a head follows what httparse finds no end of"
            );
            return;
        };
        start = end + length;
    }
    // What is left is the beginning of a head, or what was refused.
    let rest = data.get(start..).unwrap_or_default();
    if refused.is_none() {
        assert_eq!(
            whole.phase() == Phase::Between,
            rest.is_empty(),
            "{}",
            rest.escape_ascii()
        );
    }
}

/// Where heads end, byte by byte, and where and why no more is read.
fn heads(data: &[u8]) -> (Vec<usize>, Option<(Fault, usize, bool)>) {
    let mut scan = Http1Scan::new(BOUNDS);
    let mut ends = Vec::new();
    for (at, byte) in data.iter().enumerate() {
        if let Err(refusal) = scan.read(&[*byte]) {
            return (
                ends,
                Some((refusal.fault, at + refusal.at, refusal.in_body)),
            );
        }
        if usize::try_from(scan.heads()) != Ok(ends.len()) {
            ends.push(at + 1);
        }
    }
    (ends, None)
}

/// Reads a head that was let through, and how many of the bytes after it are its body; none: not all of it is there.
fn body_end(head: &[u8], rest: &[u8]) -> Option<usize> {
    let shown = head.escape_ascii();
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    assert_eq!(
        request.parse(head),
        Ok(Status::Complete(head.len())),
        "{shown}"
    );
    let target = request.path.unwrap_or_default();
    assert!(target.starts_with('/') || target.contains("://"), "{shown}");
    assert!(!target.contains('#'), "{shown}");
    let values = |name: &str| -> Vec<&[u8]> {
        let of = request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        of.map(|field| field.value.trim_ascii()).collect()
    };
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Some(0),
        ([first, others @ ..], []) => {
            assert!(others.iter().all(|other| other == first), "{shown}");
            let text = std::str::from_utf8(first).unwrap_or_default();
            let length = text.parse().unwrap_or_else(|_| panic_at(head));
            (rest.len() >= length).then_some(length)
        }
        ([], [encoding]) => {
            assert!(encoding.eq_ignore_ascii_case(b"chunked"), "{shown}");
            assert_eq!(request.version, Some(1), "{shown}");
            chunks_end(rest)
        }
        _ => panic_at(head),
    }
}

#[expect(
    clippy::panic,
    reason = "that is how a target says that an input shows a fault"
)]
fn panic_at(head: &[u8]) -> ! {
    panic!("it has no one framing: {}", head.escape_ascii())
}

/// How many bytes chunks and trailers take; none: not all of them are there.
fn chunks_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            return None;
        };
        at += line;
        if size == 0 {
            let mut trailers = [EMPTY_HEADER; FIELDS_MAX];
            let read = httparse::parse_headers(bytes.get(at..)?, &mut trailers);
            return match read {
                Ok(Status::Complete((length, _))) => Some(at + length),
                _ => None,
            };
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

/// Frames are found where their lengths say, however they come.
pub fn http2_frames(data: &[u8]) {
    let frames = frames(data.get(HTTP2_PREFACE.len()..).unwrap_or_default(), false);
    let is_costly =
        |frame: &&Frame<'_>| frame.kind == 2 || matches!(frame.kind, 4 | 6) && frame.flags & 1 == 0;
    let costly = frames.iter().filter(is_costly).count();
    let now = moment();
    for size in [1, 5, data.len().max(1)] {
        let mut scan = FrameScan::new(CONTROL_FRAMES);
        let flooded = data
            .chunks(size)
            .any(|piece| scan.read(piece, now).is_err());
        assert_eq!(flooded, costly > CONTROL_FRAMES, "pieces of {size}");
    }
    // What is sent has no preface.
    let sent = self::frames(data, true);
    let wanted: Vec<_> = sent.iter().filter_map(Frame::refused).collect();
    for size in [1, 5, data.len().max(1)] {
        let (mut resets, mut seen) = (SentResets::default(), Vec::new());
        for piece in data.chunks(size) {
            resets.wrote(piece, |why| seen.push(why));
        }
        assert_eq!(seen, wanted, "pieces of {size}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "all frames come at one moment, whichever"
)]
fn moment() -> Instant {
    Instant::now()
}

/// A frame, with as much of its payload as is there.
struct Frame<'d> {
    kind: u8,
    flags: u8,
    payload: &'d [u8],
}

impl Frame<'_> {
    fn refused(&self) -> Option<Refused> {
        let code = self.payload.first_chunk::<4>();
        match (self.kind, code.map(|code| u32::from_be_bytes(*code))?) {
            (3, 7) => Some(Refused::Bound),
            (3, 1 | 3 | 5 | 6) => Some(Refused::Malformed),
            _ => None,
        }
    }
}

/// `sent`: by ourselves, so that a reset always has a code and nothing else.
fn frames(mut bytes: &[u8], sent: bool) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some(([a, b, c, kind, flags, _, _, _, _], rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let length = if sent && *kind == 3 { 4 } else { length };
        let (payload, after) = rest.split_at(length.min(rest.len()));
        frames.push(Frame {
            kind: *kind,
            flags: *flags,
            payload,
        });
        bytes = after;
    }
    frames
}

/// Requests of every shape, several on one connection.
pub fn requests() -> Vec<Vec<u8>> {
    let targets = [
        "/",
        "/a/b?c=d",
        "http://reviews/x",
        "https://r.example:8443/?q",
        "/%2e%2e/;a",
        "*",
    ];
    let bodies = [
        "\r\n",
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\nConnection: close, te\r\n\r\n",
    ];
    let mut seeds = Vec::new();
    for (at, target) in targets.into_iter().enumerate() {
        for body in bodies {
            let version = if at % 5 == 4 { "1.0" } else { "1.1" };
            let one = format!("POST {target} HTTP/{version}\r\nHost: reviews\r\n{body}");
            seeds.push(format!("{one}GET /next HTTP/1.1\r\nHost: a\r\n\r\n\r\n{one}").into_bytes());
        }
    }
    seeds
}

/// Connections of HTTP/2, and what they are answered.
pub fn framed() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], payload].concat()
    };
    let mut seeds = Vec::new();
    for count in [1, 5, 21, 30] {
        for (kind, flags, payload) in [
            (0, 1, &b"data"[..]),
            (1, 5, b"head"),
            (2, 0, b"depen"),
            (3, 0, &[0, 0, 0, 7]),
            (3, 0, &[0, 0, 0, 1]),
            (4, 0, &[0, 3, 0, 0, 0, 9]),
            (6, 0, &[0; 8]),
            (6, 1, &[0; 8]),
        ] {
            let many = frame(kind, flags, payload).repeat(count);
            seeds.push([HTTP2_PREFACE, &many].concat());
            seeds.push(many);
        }
    }
    seeds
}
