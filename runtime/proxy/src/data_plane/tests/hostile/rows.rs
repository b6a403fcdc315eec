//! The list, row by row, over HTTP/1.

use super::super::harness::eventually;
use super::rig::*;

/// What must come of an input.
enum Expect {
    /// This status, for this rule, and nothing at the application.
    Refused(u16, &'static str),
    /// Exactly this target, once, and an answer to it.
    Forwarded(&'static str),
}

use Expect::{Forwarded, Refused};

/// One input, by the number that it has in the list.
struct Row {
    number: u8,
    bytes: Vec<u8>,
    expect: Expect,
}

fn row(number: u8, bytes: impl Into<Vec<u8>>, expect: Expect) -> Row {
    let bytes = bytes.into();
    Row {
        number,
        bytes,
        expect,
    }
}

const HOST: &str = "Host: reviews\r\n";
const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n";

fn post(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\n{HOST}{fields}\r\n\r\n0\r\n\r\n{NEXT}")
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n")
}

fn chunked(body: &str) -> String {
    format!("POST /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}{NEXT}")
}

fn last(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\n{HOST}{fields}Connection: close\r\n\r\n{body}")
}

/// Rows 1 to 12: where a message ends.
fn framing() -> Vec<Row> {
    let mut rows = vec![
        row(
            1,
            post("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            Refused(400, "length_and_encoding"),
        ),
        row(
            1,
            post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            Refused(400, "length_and_encoding"),
        ),
        row(
            2,
            post("Content-Length: 5\r\nContent-Length: 6"),
            Refused(400, "content_length"),
        ),
        row(
            3,
            post("Content-Length: 5, 5"),
            Refused(400, "content_length"),
        ),
        row(
            3,
            last("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"),
            Forwarded("/a"),
        ),
        row(5, post("Content-Length : 5"), Refused(400, "field_name")),
        row(
            6,
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Refused(400, "transfer_encoding"),
        ),
        row(
            10,
            format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{NEXT}"),
            Refused(400, "transfer_encoding"),
        ),
    ];
    for length in [
        "+5",
        "-1",
        "0x1",
        "1_0",
        "",
        "18446744073709551617",
        "5\t5",
        "05",
    ] {
        let bytes = post(&format!("Content-Length: {length}"));
        rows.push(row(4, bytes, Refused(400, "content_length")));
    }
    for coding in [
        "identity, chunked",
        "gzip, chunked",
        "chunked, identity",
        "xchunked",
        "\"chunked\"",
        "",
        "chunked;a=b",
        "identity",
        "chunked chunked",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {coding}"));
        rows.push(row(7, bytes, Refused(400, "transfer_encoding")));
    }
    for field in [
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chun\0ked",
    ] {
        rows.push(row(9, post(field), Refused(400, "field_value")));
    }
    for field in [
        "Transfer-Encoding : chunked",
        "Transfer Encoding: chunked",
        "Transfer-Encoding\u{b}: chunked",
    ] {
        rows.push(row(9, post(field), Refused(400, "field_name")));
    }
    for body in [
        "0x1\r\na\r\n0\r\n\r\n",
        "1zz\r\n",
        "\r\n",
        "-1\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "11111111111111111\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1;\u{1}\r\na\r\n0\r\n\r\n",
        "1;a\r\r\n",
        "0\r\na b: c\r\n\r\n",
    ] {
        rows.push(row(11, chunked(body), Refused(400, "chunk")));
    }
    for body in ["1\na\r\n0\r\n\r\n", "1\r\na\n0\r\n\r\n"] {
        rows.push(row(12, chunked(body), Refused(400, "bare_line_feed")));
    }
    rows
}

/// Rows 14 to 24: heads.
fn heads() -> Vec<Row> {
    let mut rows = vec![
        row(
            14,
            last(
                "Transfer-Encoding: chunked\r\nTrailer: host\r\n",
                "2;x=y\r\nok\r\n0\r\nHost: evil\r\nContent-Length: 9\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\nX-Mesh-Peer: me\r\n\r\n",
            ),
            Forwarded("/a"),
        ),
        row(
            15,
            format!("GET / HTTP/1.1\n{HOST}\r\n"),
            Refused(400, "bare_line_feed"),
        ),
        row(
            15,
            "GET / HTTP/1.1\r\nHost: reviews\n\r\n",
            Refused(400, "bare_line_feed"),
        ),
        row(
            15,
            "GET / HTTP/1.1\r\nHost: reviews\r\n\n",
            Refused(400, "bare_line_feed"),
        ),
        row(
            16,
            post("X: a\r\n Transfer-Encoding: chunked"),
            Refused(400, "folded_field"),
        ),
        row(
            16,
            b"GET / HTTP/1.1\r\nHost: reviews\r\nX\x85: b\r\n\r\n",
            Refused(400, "field_name"),
        ),
        row(
            17,
            format!("GET /a HTTP/1.1\r\n{HOST}Content-Length: 2\r\nConnection: close\r\n\r\nok"),
            Forwarded("/a"),
        ),
        row(
            17,
            format!(
                "DELETE /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            ),
            Forwarded("/a"),
        ),
        row(
            17,
            format!("HEAD /a HTTP/1.1\r\n{HOST}Content-Length: 2\r\nConnection: close\r\n\r\nok"),
            Forwarded("/a"),
        ),
        row(
            17,
            get("/", &format!("{HOST}Expect: foo\r\n")),
            Refused(417, "expectation"),
        ),
        row(
            18,
            get("/", &format!("{HOST}{}", "X: y\r\n".repeat(200))),
            Refused(431, "too_many_fields"),
        ),
        row(
            18,
            get("/", &format!("{HOST}X: {}\r\n", "y".repeat(70_000))),
            Refused(431, "head_too_large"),
        ),
        row(
            18,
            get(&format!("/{}", "a".repeat(16_000)), HOST),
            Refused(414, "target_too_long"),
        ),
        row(
            18,
            format!("{}{}", "\r\n".repeat(9), get("/", HOST)),
            Refused(400, "blank_lines"),
        ),
        row(
            19,
            format!(
                "GET /a HTTP/1.1\r\n{HOST}Upgrade: websocket\r\nConnection: upgrade, close\r\n\r\n{NEXT}"
            ),
            Forwarded("/a"),
        ),
        row(
            21,
            format!("CONNECT reviews:80 HTTP/1.1\r\n{HOST}\r\n{NEXT}"),
            Refused(405, "connect"),
        ),
        row(
            23,
            format!("GET  / HTTP/1.1\r\n{HOST}\r\n"),
            Refused(400, "target_form"),
        ),
        row(
            23,
            format!("GET /\n HTTP/1.1\r\n{HOST}\r\n"),
            Refused(505, "version"),
        ),
        row(23, "GET /\r\n\r\n", Refused(505, "version")),
        row(
            24,
            format!("TRACE / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
            Refused(405, "trace"),
        ),
        row(
            24,
            format!("G{{T / HTTP/1.1\r\n{HOST}\r\n"),
            Refused(400, "method"),
        ),
        // Methods are told apart by case (RFC 9110 section 9.1): this is another one than GET, and passes like any other.
        row(
            24,
            format!("get /a HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
            Forwarded("/a"),
        ),
    ];
    for value in ["a\rb", "a\0b", "a\u{7f}b", "a\u{1}b"] {
        rows.push(row(
            16,
            post(&format!("X: {value}")),
            Refused(400, "field_value"),
        ));
    }
    for name in [": empty", "no colon", "a b: c", "a\0b: c", "(a): b"] {
        rows.push(row(16, post(name), Refused(400, "field_name")));
    }
    for version in [
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/1.1 ",
        "http/1.1",
        "HTTP/11",
    ] {
        rows.push(row(
            23,
            format!("GET / {version}\r\n{HOST}\r\n"),
            Refused(505, "version"),
        ));
    }
    rows
}

/// Rows 25 to 35: what is asked, and of whom.
fn targets() -> Vec<Row> {
    let mut rows = vec![
        row(25, get("/", ""), Refused(400, "host_missing")),
        row(
            25,
            get("/", "Host: reviews\r\nHost: reviews\r\n"),
            Refused(400, "host_repeated"),
        ),
        row(
            25,
            get("/", "Host: reviews:99999\r\n"),
            Refused(400, "host_bad_port"),
        ),
        row(25, get("/", "Host: \r\n"), Refused(400, "host_empty")),
        row(
            26,
            get("http://reviews/a", "Host: other\r\n"),
            Forwarded("/a"),
        ),
        row(27, get("ftp://reviews/", HOST), Refused(400, "scheme")),
        row(27, get("https://reviews/", HOST), Refused(400, "scheme")),
        row(
            27,
            get("http://u@reviews/", HOST),
            Refused(400, "host_bad_byte"),
        ),
        row(28, get("/a", "Host: REVIEWS.\r\n"), Forwarded("/a")),
        row(29, get("/pub/../admin", HOST), Forwarded("/admin")),
        row(29, get("/pub/%2e%2e/%61dmin", HOST), Forwarded("/admin")),
        row(29, get("/pub/./..", HOST), Forwarded("/")),
        row(29, get("/../../admin", HOST), Forwarded("/admin")),
        row(30, get("//admin", HOST), Forwarded("/admin")),
        row(30, get("/a//b", HOST), Forwarded("/a/b")),
        row(33, get("/admin#x", HOST), Refused(400, "fragment")),
        row(34, get("/\u{e9}", HOST), Refused(400, "target_byte")),
        row(34, get("/?\u{e9}", HOST), Refused(400, "target_byte")),
        row(34, get("/a\u{1}b", HOST), Refused(400, "target_byte")),
        row(35, get("admin", HOST), Refused(400, "target_form")),
        row(35, get("*", HOST), Refused(400, "target_form")),
        row(35, get("reviews:80", HOST), Refused(400, "target_form")),
    ];
    for host in [
        "reviews, a",
        "a@reviews",
        "reviews/x",
        "re views",
        "reviews\u{e9}",
        "reviews?x",
    ] {
        rows.push(row(
            25,
            get("/", &format!("Host: {host}\r\n")),
            Refused(400, "host_bad_byte"),
        ));
    }
    for (target, rule) in [
        ("/a%2fb", "path_encoded_slash"),
        ("/a%5cb", "path_encoded_backslash"),
        ("/a\\b", "path_backslash"),
        ("/a;x=y/b", "path_semicolon"),
        ("/..;/admin", "path_semicolon"),
        ("/%3b", "path_semicolon"),
        ("/%00", "path_control"),
        ("/%0d%0a", "path_control"),
        ("/%zz", "path_bad_escape"),
        ("/%", "path_bad_escape"),
        ("/%c0%af", "path_not_utf8"),
    ] {
        rows.push(row(31, get(target, HOST), Refused(400, rule)));
    }
    rows
}

/// Rows 39 to 46: headers that are trusted, and those of one hop.
fn headers() -> Vec<Row> {
    vec![
        row(
            39,
            b"GET /bytes HTTP/1.1\r\nHost: reviews\r\nX: \x80\xff\r\nConnection: close\r\n\r\n",
            Forwarded("/bytes"),
        ),
        row(
            43,
            get(
                "/a",
                &format!("{HOST}Connection: X-Forwarded-For\r\nX-Forwarded-For: 1\r\n"),
            ),
            Forwarded("/a"),
        ),
        row(
            43,
            get("/a", &format!("{HOST}Connection: x-mesh-peer\r\n")),
            Refused(400, "connection"),
        ),
        row(
            43,
            get(
                "/a",
                &format!("{HOST}Connection: authorization\r\nAuthorization: x\r\n"),
            ),
            Refused(400, "connection"),
        ),
        row(
            43,
            get("/a", &format!("{HOST}Connection: host\r\n")),
            Refused(400, "connection"),
        ),
        row(
            44,
            get(
                "/a",
                &format!(
                    "{HOST}Keep-Alive: 1\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTE: gzip\r\nTrailer: x\r\n"
                ),
            ),
            Forwarded("/a"),
        ),
        row(
            45,
            get(
                "/a",
                &format!(
                    "{HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
                ),
            ),
            Forwarded("/a"),
        ),
        row(
            46,
            get(
                "/a",
                &format!(
                    "{HOST}X-Forwarded-Client-Cert: me\r\nX-Forwarded_Client-Cert: me\r\nX-Mesh-Peer: me\r\nX_Mesh_Peer: me\r\nX-Mesh-Timeout-Ms: 99999999999999\r\nGrpc-Timeout: 99999999H\r\n"
                ),
            ),
            Forwarded("/a"),
        ),
    ]
}

async fn check(rows: Vec<Row>) {
    let rig = Rig::start().await;
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        for Row {
            number,
            bytes,
            expect,
        } in &rows
        {
            let shown = bytes.get(..160).unwrap_or(bytes).escape_ascii();
            let what = format!("row {number}, {entrance:?}: {shown}");
            victim.is_well(&what).await;
            let before = match expect {
                Refused(_, rule) => rig.counted(entrance, rule),
                Forwarded(_) => 0,
            };
            let answer = rig.attack(entrance, bytes).await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            victim.is_well(&what).await;
            let reached = rig.backend.take();
            let line = answer.lines().next().unwrap_or_default();
            let status = line.split(' ').nth(1).unwrap_or_default();
            match expect {
                Refused(wanted, rule) => {
                    assert_eq!(status, wanted.to_string(), "{what}: {answer}");
                    let reason = format!("x-mesh-reason: bad_request:{rule}\r\n");
                    assert!(answer.contains(&reason), "{what}: {answer}");
                    assert!(answer.contains("connection: close\r\n"), "{what}: {answer}");
                    assert_eq!(reached, [], "{what}: it was forwarded");
                    assert_eq!(
                        rig.counted(entrance, rule),
                        before + 1,
                        "{what}: {rule} is not counted"
                    );
                }
                Forwarded(target) => {
                    assert_eq!(status, "200", "{what}: {answer}");
                    let [reached] = reached.as_slice() else {
                        panic!("{what}: {reached:?}");
                    };
                    assert_eq!(reached.target, *target, "{what}");
                    assert_eq!(reached.values("x-mesh-reason"), Vec::<&str>::new());
                    for (name, value) in &reached.fields {
                        let is_forged = value == "me" || name.contains("x_mesh");
                        assert!(!is_forged, "{what}: {reached:?}");
                    }
                }
            }
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
        }
        for rule in rows.iter().filter_map(|row| match row.expect {
            Refused(_, rule) => Some(rule),
            Forwarded(_) => None,
        }) {
            let counted = usize::try_from(rig.counted(entrance, rule)).unwrap();
            let all = || (rig.recorded(entrance, rule) == counted).then_some(());
            eventually(all).await;
        }
    }
}

#[tokio::test]
async fn where_a_message_ends() {
    check(framing()).await;
}

#[tokio::test]
async fn what_a_head_is() {
    check(heads()).await;
}

#[tokio::test]
async fn what_is_asked_and_of_whom() {
    check(targets()).await;
}

#[tokio::test]
async fn what_others_would_say_in_our_name() {
    check(headers()).await;
}

/// Rows 81 and 82: half a head and a stalled body end by their clocks, and are told so.
#[tokio::test]
async fn what_never_goes_on_ends() {
    check(vec![
        row(
            81,
            "GET /a HTTP/1.1\r\nHost: rev",
            Refused(408, "head_timeout"),
        ),
        row(81, "GET /", Refused(408, "head_timeout")),
        row(
            82,
            "POST /a HTTP/1.1\r\nHost: reviews\r\nContent-Length: 9\r\n\r\nfour",
            Refused(408, "body_timeout"),
        ),
        row(
            82,
            "POST /a HTTP/1.1\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nfour",
            Refused(408, "body_timeout"),
        ),
    ])
    .await;
}
