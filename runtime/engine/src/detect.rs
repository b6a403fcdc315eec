//! What a connection speaks, told by its first bytes, where nobody says. It is never asked on ports that policy
//! declares as bytes: whose server speaks first, or whose bytes look like something else, is not kept waiting.

use crate::client_hello::HANDSHAKE_RECORD;
use crate::limits;

/// How a client that knows beforehand begins HTTP/2 (RFC 9113 §3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// TLS.
    Tls,
    /// Something else.
    Opaque,
}

/// What the first bytes of a connection say; `None`: too few, more are needed. Whoever gets no more in
/// time takes it for [`Detected::Opaque`].
pub fn detect(bytes: &[u8]) -> Option<Detected> {
    match bytes {
        [] | [HANDSHAKE_RECORD] => return None,
        [HANDSHAKE_RECORD, 3, ..] => return Some(Detected::Tls),
        _ => {}
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(Detected::Http2);
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return None;
    }
    request_line(bytes)
}

/// Whether a line of HTTP/1 begins here: nothing shorter is certain, as `HELO mail.example` shows.
fn request_line(bytes: &[u8]) -> Option<Detected> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let is_whole = line.len() < bytes.len();
    let mut words = line.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let is_method = |method: &[u8]| {
        method.len() <= limits::METHOD_BYTES_MAX && method.iter().copied().all(is_token)
    };
    if !is_method(method) || method.is_empty() {
        return Some(Detected::Opaque);
    }
    let target = words.next();
    let is_target = |target: &[u8]| target.iter().all(u8::is_ascii_graphic);
    if line.len() > limits::DETECT_BYTES_MAX || !target.is_none_or(is_target) {
        return Some(Detected::Opaque);
    }
    if !is_whole {
        return None;
    }
    let version = words.next().unwrap_or_default();
    let version = version.strip_suffix(b"\r").unwrap_or(version);
    let is_http = version.starts_with(b"HTTP/") && words.next().is_none();
    Some(if is_http {
        Detected::Http1
    } else {
        Detected::Opaque
    })
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<Detected>) {
        assert_eq!(detect(bytes), expected, "{:?}", bytes.escape_ascii());
    }

    #[test]
    fn protocols() {
        check(b"", None);
        check(b"GET / HTTP/1.1\r\nHost", Some(Detected::Http1));
        check(b"GET / HTTP/1.0\n", Some(Detected::Http1));
        check(b"GET /", None);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Some(Detected::Http2));
        check(b"PRI * HTTP/2.0\r\n", None);
        check(b"PRI * HTTP/1.1\r\n", Some(Detected::Http1));
        check(&[22], None);
        check(&[22, 3, 1], Some(Detected::Tls));
        check(&[22, 2], Some(Detected::Opaque));
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", Some(Detected::Opaque));
        check(b"EHLO mail.example\r\n", Some(Detected::Opaque));
        check(b"*1\r\n$4\r\nPING\r\n", Some(Detected::Opaque));
        check(b"SET a b\r\n", Some(Detected::Opaque));
        check(b"SSH-2.0-OpenSSH_9.9\r\n", Some(Detected::Opaque));
        check(b"GET \0", Some(Detected::Opaque));
        check(b" GET", Some(Detected::Opaque));
    }

    #[test]
    fn no_line_is_waited_for_without_end() {
        check(
            &[b'A'; limits::METHOD_BYTES_MAX + 1],
            Some(Detected::Opaque),
        );
        let mut long = b"GET /".to_vec();
        long.resize(limits::DETECT_BYTES_MAX, b'a');
        check(&long, None);
        long.push(b'a');
        check(&long, Some(Detected::Opaque));
        long.extend_from_slice(b" HTTP/1.1\r\n");
        check(&long, Some(Detected::Opaque));
    }

    proptest! {
        /// What was certain stays so whatever follows.
        #[test]
        fn more_bytes_change_no_verdict(
            start in prop_oneof![Just(&b""[..]), Just(&b"GET / HTTP/1.1\r\n"[..]), Just(HTTP2_PREFACE), Just(&[22, 3][..])],
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = [start, &rest].concat();
            let mut verdict = None;
            for end in 0..=bytes.len() {
                let now = detect(&bytes[..end]);
                prop_assert!(verdict.is_none() || now == verdict, "{:?}", &bytes[..end]);
                verdict = now;
            }
        }
    }
}
