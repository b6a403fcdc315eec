//! Records as JSON, one object per line.

use std::io::Write as _;
use std::time::SystemTime;

use crate::limits;

/// One JSON object that is being written.
#[derive(Debug)]
pub(crate) struct Line(Vec<u8>);

impl Line {
    /// Begins with the time.
    pub(crate) fn new(now: SystemTime) -> Self {
        let mut line = Self(Vec::with_capacity(512));
        line.0.extend_from_slice(b"{\"time\":\"");
        timestamp(&mut line.0, now);
        line.0.push(b'"');
        line
    }

    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Adds a text, shortened and escaped; `null` for none.
    pub(crate) fn text(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        let Some(value) = value else {
            self.0.extend_from_slice(b"null");
            return;
        };
        let value = value.get(..limits::ACCESS_LOG_VALUE_BYTES).unwrap_or(value);
        self.0.push(b'"');
        for &byte in value {
            self.escaped(byte);
        }
        self.0.push(b'"');
    }

    /// Everything that is not plain ASCII is escaped, so that no terminal and no parser is led
    /// astray; bytes above 0x7f as if they were Latin-1.
    fn escaped(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => self.0.push(byte),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                self.0.extend_from_slice(b"\\u00");
                self.0
                    .extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
    }

    /// Adds a whole number; `null` for none.
    pub(crate) fn number(&mut self, key: &str, value: Option<u64>) {
        self.key(key);
        match value {
            Some(value) => self.write_fmt(format_args!("{value}")),
            None => self.0.extend_from_slice(b"null"),
        }
    }

    /// Adds a duration in milliseconds, to the microsecond; `null` for none.
    pub(crate) fn millis(&mut self, key: &str, value: Option<std::time::Duration>) {
        self.key(key);
        match value {
            Some(value) => {
                let micros = value.as_micros();
                self.write_fmt(format_args!("{}.{:03}", micros / 1000, micros % 1000));
            }
            None => self.0.extend_from_slice(b"null"),
        }
    }

    fn write_fmt(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0.write_fmt(arguments).expect("a Vec takes any bytes");
    }

    /// The line with its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn timestamp(to: &mut Vec<u8>, now: SystemTime) {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    to.write_fmt(format_args!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
    ))
    .expect("a Vec takes any bytes");
}

/// Year, month and day of a number of days since 1970, by Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_json_whatever_comes_in() {
        let mut line = Line::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_634_245_007));
        line.text("path", Some(b"/a\"\\\r\n\x1b[31m\xff"));
        line.text("reason", None);
        line.number("code", Some(200));
        line.millis("duration_ms", Some(Duration::from_micros(1_042)));
        let bytes = line.finish();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["time"], "2025-11-20T10:24:05.007Z");
        assert_eq!(value["path"], "/a\"\\\r\n\u{1b}[31m\u{ff}");
        assert!(value["reason"].is_null());
        assert_eq!(value["duration_ms"], 1.042);
        assert_eq!(
            bytes.iter().position(|byte| *byte == b'\n'),
            Some(bytes.len() - 1)
        );
    }

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_777), (2026, 11, 20));
    }
}
