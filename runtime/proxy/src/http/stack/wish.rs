//! What a server that failed says of another try: `Retry-After` (RFC 9110 section 10.2.3), and gRPC's push-back
//! (gRFC A6).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use mesh_engine::retry::Wish;

use crate::limits;

const PUSH_BACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What these headers ask for.
pub(super) fn of(headers: &HeaderMap, grpc: bool) -> Wish {
    let wish = match (headers.get(&PUSH_BACK), headers.get(header::RETRY_AFTER)) {
        // What is no number, or a negative one, means not at all.
        (Some(push_back), _) if grpc => {
            let text = push_back.to_str().unwrap_or_default();
            match text.parse() {
                Ok(millis) => Wish::After(Duration::from_millis(millis)),
                Err(_) => Wish::Never,
            }
        }
        (_, Some(after)) => match after.to_str().ok().and_then(retry_after) {
            Some(after) => Wish::NotBefore(after),
            None => Wish::Nothing,
        },
        _ => Wish::Nothing,
    };
    match wish {
        Wish::NotBefore(after) | Wish::After(after) if after > limits::RETRY_AFTER_MAX => {
            Wish::Never
        }
        wish => wish,
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(
        date.duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wish(name: HeaderName, value: &'static str, grpc: bool) -> Wish {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        of(&headers, grpc)
    }

    #[test]
    fn retry_after() {
        let wish = |value| wish(header::RETRY_AFTER, value, false);
        assert_eq!(wish("2"), Wish::NotBefore(Duration::from_secs(2)));
        assert_eq!(wish("301"), Wish::Never);
        assert_eq!(wish("soon"), Wish::Nothing);
        assert_eq!(wish("-1"), Wish::Nothing);
        assert_eq!(
            wish("Sun, 06 Nov 1994 08:49:37 GMT"),
            Wish::NotBefore(Duration::ZERO)
        );
        assert_eq!(wish("Tue, 01 Jan 2999 00:00:00 GMT"), Wish::Never);
    }

    /// gRFC A6: "If the value is negative or cannot be parsed, the client should not retry".
    #[test]
    fn push_back() {
        let wish = |value, grpc| wish(PUSH_BACK, value, grpc);
        assert_eq!(wish("250", true), Wish::After(Duration::from_millis(250)));
        assert_eq!(wish("-1", true), Wish::Never);
        assert_eq!(wish("x", true), Wish::Never);
        assert_eq!(wish("250", false), Wish::Nothing);
    }
}
