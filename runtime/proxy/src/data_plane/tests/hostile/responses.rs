//! Row 22: what an application answers that means ill, or does not know better. A connection that saw such an answer
//! is never used again, and what is left on it is nobody's answer.

use super::super::harness::eventually;
use super::rig::*;

/// What the client may get.
enum Expect {
    /// The proxy's own answer, for this reason.
    Instead(u16, &'static str),
    /// The answer.
    Passed(u16),
    /// What there is of it, or the proxy's own if that is noticed in time.
    Broken,
}

use Expect::{Broken, Instead, Passed};

const SECOND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

fn rows() -> Vec<(&'static str, String, Expect)> {
    let ok = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let bad = || Instead(502, "upstream_protocol_error");
    vec![
        (
            "two lengths",
            ok("Content-Length: 2\r\nContent-Length: 3\r\n", "okk"),
            bad(),
        ),
        (
            "a list of lengths",
            ok("Content-Length: 2, 2\r\n", "ok"),
            bad(),
        ),
        ("a negative length", ok("Content-Length: -1\r\n", ""), bad()),
        (
            "both framings",
            ok(
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                "0\r\n\r\n",
            ),
            bad(),
        ),
        (
            "both framings, the other way round",
            ok(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            bad(),
        ),
        (
            "chunked twice",
            ok(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            bad(),
        ),
        (
            "a coding before chunked",
            ok("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            bad(),
        ),
        (
            "no chunked",
            ok("Transfer-Encoding: identity\r\n", SECOND),
            bad(),
        ),
        ("no HTTP", "hello\r\n\r\n".to_owned(), bad()),
        (
            "no version",
            format!("HTTP/3.0 200 OK\r\n\r\n{SECOND}"),
            bad(),
        ),
        ("no status", "HTTP/1.1 abc OK\r\n\r\n".to_owned(), bad()),
        (
            "a status that there is not",
            "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".to_owned(),
            bad(),
        ),
        ("a NUL", ok("X: a\0b\r\nContent-Length: 0\r\n", ""), bad()),
        (
            "a name with a space",
            ok("X y: a\r\nContent-Length: 0\r\n", ""),
            bad(),
        ),
        (
            "no end of a head",
            ok(&format!("X: {}\r\n", "y".repeat(200_000)), ""),
            bad(),
        ),
        (
            "an upgrade that nobody asked for",
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{SECOND}"
            ),
            bad(),
        ),
        (
            "two answers",
            ok("Content-Length: 2\r\n", &format!("ok{SECOND}")),
            Passed(200),
        ),
        (
            "more than its length",
            ok("Content-Length: 2\r\n", "okmore"),
            Passed(200),
        ),
        (
            "more after its chunks",
            ok(
                "Transfer-Encoding: chunked\r\n",
                &format!("2\r\nok\r\n0\r\n\r\n{SECOND}"),
            ),
            Passed(200),
        ),
        (
            "a body where there is none",
            format!("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello{SECOND}"),
            Passed(204),
        ),
        (
            "chunks where there is no body",
            format!(
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{SECOND}"
            ),
            Passed(204),
        ),
        (
            "a body that is not modified",
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello{SECOND}"),
            Passed(304),
        ),
        (
            "hints without end",
            format!(
                "{}{}",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5_000),
                ok("Content-Length: 2\r\n", &format!("ok{SECOND}"))
            ),
            Passed(200),
        ),
        (
            "a chunk that is none",
            ok("Transfer-Encoding: chunked\r\n", &format!("zz\r\n{SECOND}")),
            Broken,
        ),
        (
            "a chunk that is too long",
            ok(
                "Transfer-Encoding: chunked\r\n",
                &format!("ffffffffffffffffff\r\n{SECOND}"),
            ),
            Broken,
        ),
    ]
}

#[tokio::test]
async fn nobody_gets_what_was_not_meant_for_them() {
    let rig = Rig::start().await;
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        for (at, (what, answer, expect)) in rows().into_iter().enumerate() {
            let what = format!("{what}, {entrance:?}");
            victim.is_well(&what).await;
            let target = format!("/evil/{entrance:?}/{at}");
            rig.backend.answers(&target, answer.as_bytes());
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let got = rig.attack(entrance, request.as_bytes()).await;
            let got = String::from_utf8_lossy(&got).into_owned();
            for _ in 0..3 {
                victim.is_well(&what).await;
            }
            let wanted = match expect {
                Instead(status, reason) => {
                    let told = format!("x-mesh-reason: {reason}\r\n");
                    assert!(got.contains(&told), "{what}: {got}");
                    status
                }
                Passed(status) => status,
                Broken if got.contains("x-mesh-reason: upstream_") => 503,
                Broken => {
                    // Without a last chunk, nobody takes it for whole.
                    assert!(!got.ends_with("0\r\n\r\n"), "{what}: {got}");
                    200
                }
            };
            let is_wanted = got.starts_with(&format!("HTTP/1.1 {wanted} "));
            let is_other = matches!(expect, Broken) && got.starts_with("HTTP/1.1 502 ");
            let is_cut = matches!(expect, Broken) && got.is_empty();
            assert!(is_wanted || is_other || is_cut, "{what}: {got}");
            assert!(!got.contains("smuggled"), "{what}: {got}");
            assert!(got.matches("HTTP/1.1").count() <= 1, "{what}: {got}");
            assert_eq!(rig.backend.take().len(), 1, "{what}: sent twice");
        }
    }
}

/// An answer that comes before its request has ended is passed on; what is left of the request spoils both its
/// connections.
#[tokio::test]
async fn an_early_answer_ends_its_connections() {
    let rig = Rig::start().await;
    let early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    rig.backend.answers_early(early);
    for entrance in ENTRANCES {
        let mut victim = Victim::of(&rig, entrance).await;
        let bytes = "POST /early HTTP/1.1\r\nHost: reviews\r\nContent-Length: 40\r\n\r\nfour";
        let got = rig.attack(entrance, bytes.as_bytes()).await;
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(got.starts_with("HTTP/1.1 413 "), "{entrance:?}: {got}");
        assert!(got.contains("connection: close\r\n"), "{entrance:?}: {got}");
        victim.is_well("an early answer").await;
        assert_eq!(rig.backend.take(), [], "it never became whole");
        let known = || {
            rig.proxy(entrance)
                .records()
                .into_iter()
                .find(|record| record["code"] == 413)
        };
        eventually(known).await;
    }
}
