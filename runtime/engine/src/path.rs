//! The one normalised path of a request. Router, authorization, logs and the forwarded request all
//! use it, so that none of them can see another path than the others.

use std::borrow::Cow;
use std::fmt;

use crate::limits;

mod accepts;
mod pattern;

pub use accepts::Accepts;
pub(crate) use pattern::Placement;
pub use pattern::{PathMatcher, PathPatternError, PathTemplate, Segment};

/// A path in its one canonical form: absolute, no empty segment but the last, no dot segments,
/// what may stand for itself bare, everything else escaped in upper-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NormalisedPath<'r> {
    text: Cow<'r, str>,
    /// What others may read in it, see [`NormalisedPath::readings`]. Nearly always empty.
    readings: Vec<NormalisedPath<'static>>,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// Longer than [`limits::PATH_BYTES_MAX`].
    #[error("the path is longer than {} bytes", limits::PATH_BYTES_MAX)]
    TooLong,
    /// A space or control byte, bare or escaped.
    #[error("the path holds a space or control byte")]
    Control,
    /// A bare byte above 0x7f.
    #[error("the path holds a bare byte that is not ASCII")]
    NotAscii,
    /// A bare `#`: a fragment never travels.
    #[error("the path holds a fragment")]
    Fragment,
    /// A bare `?`: the query is not part of the path.
    #[error("the path holds a query")]
    Query,
    /// A bare backslash.
    #[error("the path holds a backslash")]
    Backslash,
    /// A `;`, bare or escaped: some servers cut parameters off before they match, others don't.
    #[error("the path holds a semicolon")]
    Semicolon,
    /// `%` without two hexadecimal digits.
    #[error("the path holds an incomplete escape")]
    BadEscape,
    /// `%2f`.
    #[error("the path holds an escaped slash")]
    EncodedSlash,
    /// `%5c`.
    #[error("the path holds an escaped backslash")]
    EncodedBackslash,
    /// Escapes that are not UTF-8, overlong forms of `/` and `.` among them.
    #[error("the path's escapes are not UTF-8")]
    NotUtf8,
}

impl PathError {
    /// The name of the broken rule, for metrics and logs.
    pub fn rule(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::TooLong => "path_too_long",
            Self::Control => "path_control",
            Self::NotAscii => "path_not_ascii",
            Self::Fragment => "path_fragment",
            Self::Query => "path_query",
            Self::Backslash => "path_backslash",
            Self::Semicolon => "path_semicolon",
            Self::BadEscape => "path_bad_escape",
            Self::EncodedSlash => "path_encoded_slash",
            Self::EncodedBackslash => "path_encoded_backslash",
            Self::NotUtf8 => "path_not_utf8",
        }
    }
}

/// Brings the path of a request, without its query, into its canonical form, or refuses it. Paths
/// that are canonical already, nearly all, are borrowed.
pub fn normalise(raw: &str) -> Result<NormalisedPath<'_>, PathError> {
    normalise_accepting(raw, Accepts::default())
}

/// Like [`normalise`], for paths that may hold this. Encoded slashes and backslashes stay encoded, and
/// a semicolon is bare.
pub fn normalise_accepting(raw: &str, accepts: Accepts) -> Result<NormalisedPath<'_>, PathError> {
    if raw.len() > limits::PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_plain(raw, accepts)? {
        return Ok(NormalisedPath {
            text: Cow::Borrowed(raw),
            readings: accepts::readings(raw, accepts),
        });
    }
    let escaped = canonical_escapes(raw, BareNonAscii::Refuse, accepts)?;
    let text = resolve(&escaped);
    if accepts != Accepts::default() {
        accepts::check_hidden_steps(&text)?;
        accepts::check_steps_over(&escaped, &text)?;
    }
    // Escaping what arrived bare may have lengthened it.
    if text.len() > limits::PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    Ok(NormalisedPath {
        readings: accepts::readings(&text, accepts),
        text: Cow::Owned(text),
    })
}

impl NormalisedPath<'_> {
    /// A path put together from canonical parts.
    pub(crate) fn of_canonical(text: String) -> NormalisedPath<'static> {
        NormalisedPath {
            readings: accepts::readings(&text, Accepts::ALL),
            text: Cow::Owned(text),
        }
    }

    /// What else may be read in a path that holds what only some routes accept: with its escapes decoded, its
    /// parameters cut off, and both in either order. What must not happen by any reading asks these too.
    pub fn readings(&self) -> &[NormalisedPath<'static>] {
        &self.readings
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments: what lies between slashes. The last one is empty if the path ends in a slash.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        // The first piece is what lies before the leading slash: nothing.
        self.text.split('/').skip(1)
    }

    /// The same path, borrowing nothing.
    pub fn into_owned(self) -> NormalisedPath<'static> {
        NormalisedPath {
            text: Cow::Owned(self.text.into_owned()),
            readings: self.readings,
        }
    }
}

impl fmt::Display for NormalisedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a byte is in a path.
enum Byte {
    /// Part of a segment as it stands (RFC 3986 §3.3, `pchar`), or a slash.
    Plain,
    /// Begins an escape.
    Percent,
    /// Not a `pchar`, but clients send it: escaped.
    Escape,
}

fn classify(byte: u8, accepts: Accepts) -> Result<Byte, PathError> {
    match byte {
        b';' if accepts.semicolon => Ok(Byte::Plain),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            Ok(Byte::Plain)
        }
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
            Ok(Byte::Plain)
        }
        b'%' => Ok(Byte::Percent),
        b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Ok(Byte::Escape),
        b'#' => Err(PathError::Fragment),
        b'?' => Err(PathError::Query),
        b'\\' => Err(PathError::Backslash),
        b';' => Err(PathError::Semicolon),
        0x80..=0xff => Err(PathError::NotAscii),
        _ => Err(PathError::Control),
    }
}

/// Whether nothing needs to be done: no escapes, no empty segments, no segment that begins with a dot.
fn is_plain(raw: &str, accepts: Accepts) -> Result<bool, PathError> {
    let mut plain = true;
    let mut previous = 0;
    for byte in raw.bytes() {
        plain &= matches!(classify(byte, accepts)?, Byte::Plain);
        plain &= !(previous == b'/' && matches!(byte, b'/' | b'.'));
        previous = byte;
    }
    Ok(plain)
}

/// What to do with bare bytes above 0x7f.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BareNonAscii {
    /// In requests.
    Refuse,
    /// In policies, where people write text.
    Escape,
}

/// Canonical escapes, RFC 3986 §6.2.2.1 and §6.2.2.2: hexadecimal digits in upper case, and bare
/// whatever a segment may hold bare (§3.3, `pchar`). The RFC stops at unreserved characters, since `%3A`
/// and `:` may differ in meaning; but to most servers they do not, and a rule on one spelling
/// would then be passed by with the other. An escape that reads as a character that is refused bare
/// is refused too.
fn canonical_escapes(
    raw: &str,
    non_ascii: BareNonAscii,
    accepts: Accepts,
) -> Result<String, PathError> {
    let mut canonical = String::with_capacity(raw.len());
    let mut high = Vec::new();
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte >= 0x80 && non_ascii == BareNonAscii::Escape {
            push_escape(&mut canonical, byte);
            continue;
        }
        match classify(byte, accepts)? {
            Byte::Plain => {
                end_of_escapes(&mut high)?;
                canonical.push(char::from(byte));
            }
            Byte::Escape => {
                end_of_escapes(&mut high)?;
                push_escape(&mut canonical, byte);
            }
            Byte::Percent => {
                let decoded = hex_digit(bytes.next())? << 4 | hex_digit(bytes.next())?;
                if decoded >= 0x80 {
                    high.push(decoded);
                    push_escape(&mut canonical, decoded);
                    continue;
                }
                end_of_escapes(&mut high)?;
                match decoded {
                    b'/' | b'\\' if accepts.escape(decoded) => push_escape(&mut canonical, decoded),
                    b'/' => return Err(PathError::EncodedSlash),
                    b'\\' => return Err(PathError::EncodedBackslash),
                    b';' if accepts.semicolon => canonical.push(';'),
                    b';' => return Err(PathError::Semicolon),
                    0x00..=0x1f | 0x7f => return Err(PathError::Control),
                    _ if matches!(classify(decoded, accepts), Ok(Byte::Plain)) => {
                        canonical.push(char::from(decoded));
                    }
                    _ => push_escape(&mut canonical, decoded),
                }
            }
        }
    }
    end_of_escapes(&mut high)?;
    Ok(canonical)
}

/// A run of escapes above 0x7f has ended: it must be whole characters.
fn end_of_escapes(high: &mut Vec<u8>) -> Result<(), PathError> {
    if !high.is_empty() {
        std::str::from_utf8(high).map_err(|_not_utf8| PathError::NotUtf8)?;
        high.clear();
    }
    Ok(())
}

fn hex_digit(digit: Option<u8>) -> Result<u8, PathError> {
    let digit = digit.ok_or(PathError::BadEscape)?;
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::BadEscape),
    }
}

fn push_escape(text: &mut String, byte: u8) {
    let digit = |value: u8| {
        char::from_digit(u32::from(value), 16)
            .expect("four bits are one digit")
            .to_ascii_uppercase()
    };
    text.push('%');
    text.push(digit(byte >> 4));
    text.push(digit(byte & 15));
}

/// Merges slashes, then resolves dot segments (RFC 3986 §5.2.4; `..` at the root stays there).
fn resolve(path: &str) -> String {
    let mut resolved = String::with_capacity(path.len());
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = match segment {
            "" | "." => true,
            ".." => {
                let parent = resolved.rfind('/').unwrap_or(0);
                resolved.truncate(parent);
                true
            }
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                false
            }
        };
    }
    if open || resolved.is_empty() {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        assert_eq!(
            normalise(raw).as_ref().map(NormalisedPath::as_str),
            Ok(expected),
            "{raw}"
        );
    }

    #[track_caller]
    fn check_refused(raw: &str, expected: PathError) {
        assert_eq!(normalise(raw), Err(expected), "{raw}");
    }

    #[test]
    fn canonical_paths_are_borrowed() {
        for path in ["/", "/a", "/a/", "/a.b/c..", "/A~", "/a!$&'()*+,=:@-_"] {
            let normalised = normalise(path).unwrap();
            assert!(
                matches!(normalised.text, Cow::Borrowed(text) if text == path),
                "{path}"
            );
        }
    }

    /// bad-inputs row 29; RFC 3986 §5.2.4.
    #[test]
    fn resolves_dots() {
        check("/pub/../admin", "/admin");
        check("/pub/./..", "/");
        check("/%2e%2e/", "/");
        check("/a/%2E%2e/b", "/b");
        check("/a/.%2e/b", "/b");
        check("/../../a", "/a");
        check("/a/b/..", "/a/");
        check("/a/.", "/a/");
        check("/.", "/");
        check("/...", "/...");
        check("/.well-known/x", "/.well-known/x");
        check("/a..b/..c", "/a..b/..c");
    }

    /// bad-inputs row 30. Slashes merge before dots are resolved, so that `//` is no level of its own.
    #[test]
    fn merges_slashes() {
        check("//admin", "/admin");
        check("/a//b", "/a/b");
        check("///", "/");
        check("/a//../b", "/b");
        check("/a//", "/a/");
    }

    /// RFC 3986 §6.2.2.
    #[test]
    fn escapes_are_canonical() {
        check("/%61%7e%41", "/a~A");
        check("/%c3%a9", "/%C3%A9");
        check("/%21%24%26%27%28%29%2a%2b%2c%3d%3a%40", "/!$&'()*+,=:@");
        check("/{x}|%7bx%7d", "/%7Bx%7D%7C%7Bx%7D");
        check("/%252f", "/%252f");
        check("/%25%32%66", "/%252f");
        check("/a%20b", "/a%20b");
        check("/%3f%23%3d", "/%3F%23=");
    }

    /// bad-inputs rows 31 to 35.
    #[test]
    fn refuses() {
        check_refused("", PathError::NotAbsolute);
        check_refused("admin", PathError::NotAbsolute);
        check_refused("*", PathError::NotAbsolute);
        check_refused("/a%2fb", PathError::EncodedSlash);
        check_refused("/a%2Fb", PathError::EncodedSlash);
        check_refused("/a%5cb", PathError::EncodedBackslash);
        check_refused(r"/a\..\b", PathError::Backslash);
        check_refused("/admin;x=y/action", PathError::Semicolon);
        check_refused("/..;/", PathError::Semicolon);
        check_refused("/..%3b/", PathError::Semicolon);
        check_refused("/admin%3Bx=y", PathError::Semicolon);
        check_refused("/admin#x", PathError::Fragment);
        check_refused("/admin?x", PathError::Query);
        check_refused("/%00", PathError::Control);
        check_refused("/%0d%0a", PathError::Control);
        check_refused("/%7f", PathError::Control);
        check_refused("/a b", PathError::Control);
        check_refused("/a\tb", PathError::Control);
        check_refused("/%zz", PathError::BadEscape);
        check_refused("/%", PathError::BadEscape);
        check_refused("/%4", PathError::BadEscape);
        check_refused("/%+1", PathError::BadEscape);
        check_refused("/é", PathError::NotAscii);
        check_refused("/%ff", PathError::NotUtf8);
        check_refused("/%c0%af", PathError::NotUtf8);
        check_refused("/%c0%ae%c0%ae/", PathError::NotUtf8);
        check_refused("/%c3x%a9", PathError::NotUtf8);
        check_refused(&format!("/{}", "a".repeat(16 * 1024)), PathError::TooLong);
        check_refused(
            &format!("/{}", "{".repeat(16 * 1024 - 1)),
            PathError::TooLong,
        );
    }

    /// Pieces that meet in ways nobody thinks of.
    fn good_path() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/",
            "/",
            ".",
            "..",
            "%2e",
            "%2E",
            "%7e",
            "a",
            "B",
            "%41",
            "{",
            "%7B",
            "%c3%A9",
            "%25",
            "2f",
            "5c",
            "!",
            "%21",
            "%3a",
            "%2A",
            ":",
            "%E2%82%AC",
            "~",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(raw in good_path()) {
            let once = normalise(&raw).unwrap();
            let twice = normalise(once.as_str()).unwrap();
            prop_assert_eq!(twice.as_str(), once.as_str());
            prop_assert!(!once.as_str().contains("//"));
            prop_assert!(once.segments().all(|segment| !matches!(segment, "." | "..")));
        }

        #[test]
        fn nothing_bad_passes(
            raw in good_path(),
            at in 1_usize..40,
            bad in prop::sample::select(vec![
                "%2f", "%2F", "%5c", "%5C", "\\", ";", "%3b", "#", "?", "%00", "%1f", "%zz", "%", "%a",
                "\u{80}", "é", "\u{1}", "\u{7f}", " ", "%80", "%c0%ae", "%ed%a0%80",
            ]),
        ) {
            // A lone `%` would otherwise make a good escape of what follows.
            let bad = format!("{bad}/");
            let at = at.min(raw.len());
            prop_assume!(raw.is_char_boundary(at));
            let (before, after) = raw.split_at(at);
            let spoilt = format!("{before}{bad}{after}");
            prop_assert!(normalise(&spoilt).is_err(), "{}", spoilt);
        }

        #[test]
        fn never_panics(raw in "\\PC*") {
            if let Ok(path) = normalise(&raw) {
                prop_assert!(path.as_str().starts_with('/'));
            }
        }
    }
}
