//! Rows 50 to 60, over HTTP/2, in frames that are made by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::harness::eventually;
use super::rig::*;
use mesh_engine::detect::HTTP2_PREFACE as PREFACE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// Fields as HPACK has them that are not indexed (RFC 7541 section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        let mut bytes = Vec::new();
        if length < 127 {
            bytes.push(u8::try_from(length).unwrap());
        } else {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128 + 128).unwrap());
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend(text.as_bytes());
        bytes
    };
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

const PSEUDO: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/h2"),
    (":authority", "reviews"),
];

/// A whole request without a body, in as many frames as its head takes.
fn request(stream: u32, of: &[(&str, &str)]) -> Vec<u8> {
    let block = fields(of);
    let mut parts = block.chunks(16_000).peekable();
    let mut kind = HEADERS;
    let mut frames = Vec::new();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        let stream_end = if kind == HEADERS { END_STREAM } else { 0 };
        frames.extend(frame(kind, end | stream_end, stream, part));
        kind = CONTINUATION;
    }
    frames
}

/// The same with other fields in place of these, and more.
fn with(change: &[(&str, &str)]) -> Vec<u8> {
    let is_changed = |name: &str| change.iter().any(|(changed, _)| *changed == name);
    let mut all: Vec<_> = PSEUDO
        .into_iter()
        .filter(|(name, _)| !is_changed(name))
        .collect();
    // Pseudo-fields come first, but where that is the matter.
    all.extend(change.iter().filter(|(name, _)| name.starts_with(':')));
    all.extend(change.iter().filter(|(name, _)| !name.starts_with(':')));
    request(1, &all)
}

/// Sends frames, closes its side, and reads until the connection ends or the stream has an end.
async fn exchange(rig: &Rig, entrance: Entrance, frames: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let mut io = rig.connect(entrance, true).await;
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat();
    drop(io.write_all(&bytes).await);
    drop(io.flush().await);
    let mut got = Vec::new();
    let mut all = Vec::new();
    let reading = async {
        while !got.iter().any(|(kind, flags, _)| ends(*kind, *flags)) {
            match io.read_buf(&mut all).await {
                Ok(1..) => got = parse(&all),
                _ => return,
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, reading).await;
    assert!(ended.is_ok(), "{}: it hangs", frames.escape_ascii());
    got
}

fn ends(kind: u8, flags: u8) -> bool {
    let with_end = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
    with_end || matches!(kind, RST_STREAM | GOAWAY)
}

pub(super) fn parse(mut bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(9) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        frames.push((header[3], header[4], payload.to_vec()));
        bytes = rest;
    }
    frames
}

/// Rows of which h2 refuses the stream or the connection, before there is a request.
fn refused_by_frames() -> Vec<(&'static str, Vec<u8>)> {
    let long = "y".repeat(9_000);
    let crumbs: Vec<_> = std::iter::repeat_n(("cookie", "a=b"), 3_000).collect();
    let late = [&PSEUDO[..3], &[("x", "y"), (":authority", "reviews")]].concat();
    vec![
        ("50 te: chunked", with(&[("transfer-encoding", "chunked")])),
        ("50 connection", with(&[("connection", "close")])),
        ("50 upper case", with(&[("X-Upper", "y")])),
        ("50 CR LF in a value", with(&[("x", "a\r\nb: c")])),
        ("50 NUL in a value", with(&[("x", "a\0b")])),
        ("50 NUL in a name", with(&[("x\0", "a")])),
        ("50 an empty name", with(&[("", "a")])),
        (
            "50 the path twice",
            with(&[(":path", "/a"), (":path", "/b")]),
        ),
        ("50 a late pseudo-field", request(1, &late)),
        ("50 an unknown pseudo-field", with(&[(":x", "y")])),
        ("50 a path with a space", with(&[(":path", "/a b")])),
        (
            "50 a path with CR LF",
            with(&[(":path", "/a HTTP/1.1\r\nHost: x\r\n\r\n")]),
        ),
        ("50 no path", with(&[(":path", "")])),
        (
            "50 a method with CR LF",
            with(&[(":method", "GET / HTTP/1.1\r\nX: y")]),
        ),
        ("50 te: gzip", with(&[("te", "gzip")])),
        (
            "50 a length without a body",
            with(&[("content-length", "5")]),
        ),
        (
            "50 a body over its length",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &fields(&[&PSEUDO[..], &[("content-length", "1")]].concat()),
                ),
                frame(DATA, END_STREAM, 1, b"more"),
            ]
            .concat(),
        ),
        ("55 crumbs", with(&crumbs)),
        (
            "55 much in little",
            with(&[
                ("a", &*long),
                ("b", &*long),
                ("c", &*long),
                ("d", &*long),
                ("e", &*long),
                ("f", &*long),
                ("g", &*long),
                ("h", &*long),
            ]),
        ),
        ("a frame of the wrong size", frame(PING, 0, 0, &[0; 7])),
        ("data before a head", frame(DATA, END_STREAM, 1, b"x")),
        ("an even stream", request(2, &PSEUDO)),
    ]
}

#[tokio::test]
async fn what_frames_cannot_say_reaches_nobody() {
    let rig = Rig::start().await;
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        for (what, frames) in refused_by_frames() {
            let what = format!("{what}, {entrance:?}");
            let total = || rejected(&rig, entrance);
            let before = total();
            let got = exchange(&rig, entrance, &frames).await;
            victim.is_well(&what).await;
            assert_eq!(rig.backend.take(), [], "{what}: {got:?}");
            let counted = || (total() > before).then_some(());
            let waited = tokio::time::timeout(PATIENCE, eventually(counted)).await;
            assert!(waited.is_ok(), "{what}: nobody counted it: {got:?}");
        }
    }
}

/// How many were rejected, for whatever rule.
fn rejected(rig: &Rig, entrance: Entrance) -> u64 {
    let text = rig.proxy(entrance).metrics.encode();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("mesh_rejected_requests_total{"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Rows of which the proxy refuses the request, with an answer.
#[tokio::test]
async fn what_is_asked_in_two_ways_is_refused() {
    let rig = Rig::start().await;
    let long = "y".repeat(10_000);
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let large = names.map(|name| (name, long.as_str()));
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        for (fields, rule) in [
            (&[("host", "ratings")][..], "hosts_differ"),
            (&[(":authority", "u@reviews")], "host_bad_byte"),
            (&[(":path", "/a%2fb")], "path_encoded_slash"),
            (&[(":path", "/a;b")], "path_semicolon"),
            (&[(":path", "/a\\b")], "path_backslash"),
            (&[("expect", "foo")], "expectation"),
            (&[(":scheme", "ftp")], "scheme"),
            (&[(":scheme", "https")], "scheme"),
            (&large, "head_too_large"),
            (&[(":method", "TRACE")], "trace"),
        ] {
            let what = format!("{fields:?}, {entrance:?}");
            let before = rig.counted(entrance, rule);
            let got = exchange(&rig, entrance, &with(fields)).await;
            victim.is_well(&what).await;
            assert_eq!(rig.backend.take(), [], "{what}");
            assert!(
                got.iter().any(|(kind, ..)| *kind == HEADERS),
                "{what}: {got:?}"
            );
            assert_eq!(rig.counted(entrance, rule), before + 1, "{what}");
        }
    }
    // A gateway makes HTTP/1.1 of it, which is where what HTTP/2 lets through would say something else.
    for (fields, target) in [
        (&[(":path", "/pub/../a")][..], "/a"),
        (
            &[(":path", "//a"), ("cookie", "a=b"), ("cookie", "c=d")],
            "/a",
        ),
        (&[("host", "reviews"), ("te", "trailers")], "/h2"),
        (&[("x-mesh-peer", "me"), ("x_mesh_peer", "me")], "/h2"),
    ] {
        let got = exchange(&rig, Entrance::Gateway, &with(fields)).await;
        assert!(got.iter().any(|(kind, ..)| *kind == HEADERS), "{got:?}");
        let reached = rig.backend.take();
        let [reached] = reached.as_slice() else {
            panic!("{fields:?}: {reached:?}");
        };
        assert_eq!(reached.target, target, "{fields:?}");
        assert!(
            reached.fields.iter().all(|(_, value)| value != "me"),
            "{reached:?}"
        );
        assert!(reached.values("cookie").len() < 2, "{reached:?}");
    }
}

/// Rows 56 to 60: floods end their connection, are counted, and hurt nobody else.
#[tokio::test]
async fn floods_end_their_connection() {
    let rig = Rig::start().await;
    let streams = (0..20_000).map(|at| 2 * at + 1);
    let reset = |stream| {
        [
            request(stream, &PSEUDO),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let made = |stream| {
        [
            request(stream, &PSEUDO),
            frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
        ]
        .concat()
    };
    let opened = frame(HEADERS, 0, 1, &fields(&PSEUDO));
    let floods: [(&str, Vec<u8>, &[&str]); 6] = [
        (
            "56 rapid reset",
            streams.clone().flat_map(reset).collect(),
            &["http2_flood"],
        ),
        (
            "57 resets that we are made to send",
            streams.flat_map(made).collect(),
            &["http2_flood", "http2"],
        ),
        (
            "58 CONTINUATION",
            [opened, frame(CONTINUATION, 0, 1, &[]).repeat(100_000)].concat(),
            &["http2_flood", "http2"],
        ),
        (
            "59 empty DATA",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &fields(&[&[(":method", "POST")], &PSEUDO[1..]].concat()),
                ),
                frame(DATA, 0, 1, &[]).repeat(100_000),
            ]
            .concat(),
            &["http2_flood", "http2"],
        ),
        (
            "60 PING",
            frame(PING, 0, 0, &[0; 8]).repeat(100_000),
            &["control_flood"],
        ),
        (
            "60 SETTINGS",
            frame(SETTINGS, 0, 0, &[]).repeat(20_000),
            &["control_flood"],
        ),
    ];
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        for (what, frames, rules) in &floods {
            let what = format!("{what}, {entrance:?}");
            let counted = || {
                rules
                    .iter()
                    .map(|rule| rig.counted(entrance, rule))
                    .sum::<u64>()
            };
            let before = counted();
            let io = rig.connect(entrance, true).await;
            let (mut reading, mut writing) = tokio::io::split(io);
            let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat();
            let sending = async { drop(writing.write_all(&bytes).await) };
            let mut got = Vec::new();
            let both = async { tokio::join!(sending, reading.read_to_end(&mut got)) };
            let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
            assert!(ended.is_ok(), "{what}: it goes on");
            let told = || (counted() > before).then_some(());
            let waited = tokio::time::timeout(PATIENCE, eventually(told)).await;
            assert!(waited.is_ok(), "{what}: nobody counted it");
            victim.is_well(&what).await;
            drop(rig.backend.take());
        }
    }
}

/// Row 82: a body of which no more comes.
#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let rig = Rig::start().await;
    let post = fields(&[&[(":method", "POST")], &PSEUDO[1..]].concat());
    let stalled = [
        frame(HEADERS, END_HEADERS, 1, &post),
        frame(DATA, 0, 1, b"four"),
    ]
    .concat();
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        let before = rig.counted(entrance, "body_timeout");
        let got = exchange(&rig, entrance, &stalled).await;
        assert!(
            got.iter().any(|(kind, ..)| *kind == HEADERS),
            "{entrance:?}: {got:?}"
        );
        assert_eq!(
            rig.counted(entrance, "body_timeout"),
            before + 1,
            "{entrance:?}"
        );
        victim.is_well("a stalled body").await;
        assert_eq!(rig.backend.take(), [], "it never became whole");
    }
}
