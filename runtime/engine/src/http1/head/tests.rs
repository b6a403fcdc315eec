//! What the scanner takes and refuses, in pieces of every size.

use proptest::prelude::*;

use super::*;
use crate::host::HostError;

const BOUNDS: Bounds = Bounds {
    head_bytes: 4096,
    target_bytes: 1024,
    fields: 20,
    trailer_bytes: 512,
};

fn verdict(bytes: &[u8], size: usize) -> Result<Phase, Fault> {
    let mut scan = Http1Scan::new(BOUNDS);
    for part in bytes.chunks(size) {
        scan.read(part).map_err(|refusal| refusal.fault)?;
    }
    Ok(scan.phase())
}

fn check(bytes: &str, expected: Result<Phase, Fault>) {
    for size in [1, 3, 4096] {
        let got = verdict(bytes.as_bytes(), size);
        assert_eq!(got, expected, "{bytes:?} in pieces of {size}");
    }
}

fn check_line(line: &str, expected: Fault) {
    check(&format!("{line}\r\nHost: a\r\n\r\n"), Err(expected));
}

#[test]
fn requests_follow_each_other() {
    let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /b?c HTTP/1.1\r\nContent-Length: 5 \t\r\n\r\nhello\r\n\
         POST /c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhe\nlo\r\n0\r\nx: y\r\n\r\n\
         GET http://a.b:80/d HTTP/1.0\r\nX:\r\n\r\n";
    check(whole, Ok(Phase::Between));
    check("GET / HT", Ok(Phase::Head));
    check("\r\n", Ok(Phase::Head));
    check("GET / HTTP/1.1\r\nHost: a\r\n", Ok(Phase::Head));
    let half = "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nfour";
    check(half, Ok(Phase::Body));
}

#[test]
fn request_lines_have_one_reading() {
    check_line("G{T / HTTP/1.1", Fault::Method);
    check_line(" / HTTP/1.1", Fault::Method);
    check_line(&format!("{} / HTTP/1.1", "A".repeat(33)), Fault::Method);
    check_line("GET  / HTTP/1.1", Fault::TargetForm);
    check_line("GET admin HTTP/1.1", Fault::TargetForm);
    check_line("OPTIONS * HTTP/1.1", Fault::TargetForm);
    check_line("CONNECT a:80 HTTP/1.1", Fault::Connect);
    check_line("GET ftp://a/ HTTP/1.1", Fault::Scheme);
    check_line("GET http:///a HTTP/1.1", Fault::Host(HostError::Empty));
    check_line("GET http://u@a/ HTTP/1.1", Fault::Host(HostError::BadByte));
    check_line("GET /a#b HTTP/1.1", Fault::Fragment);
    check_line("GET /a\u{e9} HTTP/1.1", Fault::TargetByte);
    check_line("GET /a<b HTTP/1.1", Fault::TargetByte);
    check_line("GET /a?\" HTTP/1.1", Fault::TargetByte);
    for version in [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "http/1.1",
        " HTTP/1.1",
        "HTTP/1.1 ",
    ] {
        check_line(&format!("GET / {version}"), Fault::Version);
    }
    check("GET /\r\n\r\n", Err(Fault::Version));
    check("GET / HTTP/1.1\n\n", Err(Fault::BareLineFeed));
    check("\n", Err(Fault::BareLineFeed));
    check(&"\r\n".repeat(9), Err(Fault::BlankLines));
    check(
        &format!("GET /{}", "a".repeat(1024)),
        Err(Fault::TargetTooLong),
    );
}

#[test]
fn fields_have_one_reading() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
    for (fields, fault) in [
        ("a: b\r\n folded", Fault::FoldedField),
        ("a: b\nc: d", Fault::BareLineFeed),
        ("a: b\rc", Fault::FieldValue),
        ("a: b\0", Fault::FieldValue),
        ("a: b\u{7f}", Fault::FieldValue),
        (": a", Fault::FieldName),
        ("no colon", Fault::FieldName),
        ("a : b", Fault::FieldName),
        ("a\u{85}: b", Fault::FieldName),
        ("a\0: b", Fault::FieldName),
    ] {
        check(&with(fields), Err(fault));
    }
    check(&with("a: \u{85}\t~"), Ok(Phase::Between));
    check(&with("a: b\r\n".repeat(20).trim_end()), Ok(Phase::Between));
    let many = "a: b\r\n".repeat(21);
    check(&with(&many), Err(Fault::TooManyFields));
    let long = format!("a: {}", "b".repeat(4096));
    check(&with(&long), Err(Fault::HeadTooLarge));
}

#[test]
fn framing_has_one_reading() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
    let cases = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Fault::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\ncontent-length: 0",
            Fault::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Fault::TransferEncoding,
        ),
        (
            "Transfer-Encoding: identity, chunked",
            Fault::TransferEncoding,
        ),
        ("Transfer-Encoding: gzip", Fault::TransferEncoding),
        ("Transfer-Encoding: chunked,", Fault::TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked", Fault::FieldValue),
        ("Transfer-Encoding:", Fault::TransferEncoding),
        (
            "Content-Length: 5\r\nContent-Length: 6",
            Fault::ContentLength,
        ),
        ("Content-Length: +5", Fault::ContentLength),
        ("Content-Length: 0x1", Fault::ContentLength),
        ("Content-Length: 05", Fault::ContentLength),
        ("Content-Length: 5, 5", Fault::ContentLength),
        ("Content-Length:", Fault::ContentLength),
        ("Content-Length: 99999999999999999999", Fault::ContentLength),
        (
            "Content-Length:                                  5",
            Fault::ContentLength,
        ),
    ];
    for (fields, fault) in cases {
        check(&with(fields), Err(fault));
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(old, Err(Fault::TransferEncoding));
}

#[test]
fn chunks_have_one_reading() {
    let with = |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let long = format!("1;{}\r\n", "a".repeat(300));
    for body in [
        "0x1\r\n",
        "1zz\r\n",
        "\r\n",
        "-1\r\n",
        " 1\r\n",
        "1 \r\n",
        "11111111111111111\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1;\u{1}\r\n",
        "1;a\r\r\n",
        "1\na\r\n",
        "0\r\na b: c\r\n",
        "0\r\na: b\nc: d\r\n",
        "0\r\n folded\r\n",
        &long,
        &format!("0\r\na: {}\r\n", "b".repeat(600)),
    ] {
        let mut scan = Http1Scan::new(BOUNDS);
        let refusal = scan.read(with(body).as_bytes()).unwrap_err();
        assert!(refusal.in_body, "{body:?} gave {refusal:?}");
    }
}

#[test]
fn where_a_head_begins_is_known() {
    let mut scan = Http1Scan::new(BOUNDS);
    scan.read(b"GET / HTTP/1.1\r\n\r\n\r\nGET /a").unwrap();
    assert_eq!((scan.head_at(), scan.request_line_bytes()), (18, None));
    scan.read(b" HTTP/1.1\r\nA").unwrap();
    assert_eq!((scan.head_at(), scan.request_line_bytes()), (0, Some(19)));
    scan.read(b": \0").unwrap_err();
    assert_eq!((scan.head_at(), scan.request_line_bytes()), (0, Some(19)));
    assert_eq!(scan.heads(), 1);
}

/// Of two faults the first counts, also where both come in one read.
#[test]
fn the_first_fault_counts() {
    let fields = |rest: &str| format!("GET / HTTP/1.1\r\n{rest}");
    let long = "9".repeat(40);
    check(
        &fields(&format!("Content-Length: {long}\n")),
        Err(Fault::ContentLength),
    );
    check(&fields("Content-Length: 9\n"), Err(Fault::BareLineFeed));
    check(
        &fields(&format!("Transfer-Encoding: {long}\0")),
        Err(Fault::TransferEncoding),
    );
    check(
        &fields(&format!("A: {}\0", "b".repeat(5000))),
        Err(Fault::HeadTooLarge),
    );
    check(
        &format!("GET /{} HTTP/1.1\r\n", "a".repeat(5000)),
        Err(Fault::TargetTooLong),
    );
    check(&"G".repeat(5000), Err(Fault::Method));
}

proptest! {
    #[test]
    fn pieces_never_change_the_verdict(
        bytes in proptest::collection::vec(prop_oneof![
            Just(b"\r\n".to_vec()), Just(b"Content-Length: 3".to_vec()), Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"Transfer-Encoding: chunked".to_vec()), Just(b"3".to_vec()), Just(b"abc".to_vec()),
            Just(b"0".to_vec()), Just(b"\n".to_vec()), Just(b"#".to_vec()), Just(b"GET http://a".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ], 0..24).prop_map(|parts| parts.concat()),
        size in 1_usize..9,
    ) {
        prop_assert_eq!(verdict(&bytes, size), verdict(&bytes, 4096));
    }
}
