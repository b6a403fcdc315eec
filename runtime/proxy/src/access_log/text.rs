//! Records as text, field by field in the order of Envoy's default format, for programs and people that know that.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::line::timestamp;
use crate::limits;

/// What a line of text tells; what there is not is `-`.
#[derive(Debug, Default)]
pub(crate) struct TextLine<'a> {
    /// How long ago it began.
    pub(crate) duration: Duration,
    /// As sent.
    pub(crate) method: &'a [u8],
    /// Normalised.
    pub(crate) path: &'a [u8],
    /// `HTTP/1.1`.
    pub(crate) protocol: &'a str,
    /// What the client got; 0 if nothing.
    pub(crate) code: u16,
    /// Envoy's for the reason.
    pub(crate) flag: &'a str,
    /// Of the request's body.
    pub(crate) bytes_in: u64,
    /// Of the answer's body.
    pub(crate) bytes_out: u64,
    /// How long was waited for endpoints.
    pub(crate) upstream_time: Option<Duration>,
    /// As sent.
    pub(crate) forwarded_for: &'a [u8],
    /// As sent.
    pub(crate) user_agent: &'a [u8],
    /// As sent.
    pub(crate) request_id: &'a [u8],
    /// Normalised.
    pub(crate) authority: &'a [u8],
    /// Where the last try went.
    pub(crate) upstream: Option<SocketAddr>,
}

impl TextLine<'_> {
    /// The line with its end.
    pub(crate) fn write(&self, now: SystemTime) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        line.push(b'[');
        timestamp(&mut line, now.checked_sub(self.duration).unwrap_or(now));
        line.extend_from_slice(b"] \"");
        value(&mut line, self.method);
        line.push(b' ');
        value(&mut line, self.path);
        line.push(b' ');
        value(&mut line, self.protocol.as_bytes());
        let (code, flag) = (self.code, or_dash(self.flag));
        let (bytes_in, bytes_out) = (self.bytes_in, self.bytes_out);
        let millis = self.duration.as_millis();
        let upstream = self.upstream_time.map(|time| time.as_millis().to_string());
        let upstream = upstream.as_deref().map_or("-", or_dash);
        line.write_fmt(format_args!(
            "\" {code} {flag} {bytes_in} {bytes_out} {millis} {upstream}"
        ))
        .expect("a Vec takes any bytes");
        let upstream = self.upstream.map(|address| address.to_string());
        let quoted = [
            self.forwarded_for,
            self.user_agent,
            self.request_id,
            self.authority,
            upstream.as_deref().unwrap_or_default().as_bytes(),
        ];
        for text in quoted {
            line.extend_from_slice(b" \"");
            value(&mut line, text);
            line.push(b'"');
        }
        line.push(b'\n');
        line
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Everything that is not plain ASCII is escaped, so that no terminal and no parser is led astray: neither a quote nor
/// the end of a line comes from outside.
fn value(line: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        line.push(b'-');
    }
    for &byte in text.get(..limits::ACCESS_LOG_VALUE_BYTES).unwrap_or(text) {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => line
                .write_fmt(format_args!("\\x{byte:02x}"))
                .expect("a Vec takes any bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_envoy_has_it() {
        let line = TextLine {
            duration: Duration::from_millis(1_500),
            method: b"GET",
            path: b"/reviews/7",
            protocol: "HTTP/1.1",
            code: 503,
            flag: "UH",
            bytes_in: 1,
            bytes_out: 2,
            upstream_time: Some(Duration::from_millis(3)),
            user_agent: b"curl/8 \"x\"\r\n[2025] \xff",
            authority: b"reviews:9080",
            ..TextLine::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_634_246_507);
        assert_eq!(
            String::from_utf8(line.write(now)).unwrap(),
            "[2025-11-20T10:24:05.007Z] \"GET /reviews/7 HTTP/1.1\" 503 UH 1 2 1500 3 \"-\" \
             \"curl/8 \\\"x\\\"\\x0d\\x0a[2025] \\xff\" \"-\" \"reviews:9080\" \"-\"\n"
        );
        let bare = String::from_utf8(TextLine::default().write(SystemTime::UNIX_EPOCH)).unwrap();
        assert!(
            bare.ends_with("\"- - -\" 0 - 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\"\n"),
            "{bare}"
        );
    }
}
