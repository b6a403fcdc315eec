//! `file:` URIs and the paths that they name.

use std::path::{Path, PathBuf};

/// The path of a `file:` URI on this machine.
pub(super) fn to_path(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = decode(rest)?;
    // `file:///C:/x`
    let drive = path.get(1..3).is_some_and(|drive| {
        drive.ends_with(':') && drive.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    let path = if drive && cfg!(windows) {
        path.get(1..).unwrap_or_default()
    } else {
        &path
    };
    (path.starts_with('/') || cfg!(windows)).then(|| PathBuf::from(path))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The URI of a path, which must be absolute.
pub(super) fn of_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = if cfg!(windows) {
        format!("/{}", text.replace('\\', "/"))
    } else {
        text.into_owned()
    };
    let mut uri = String::from("file://");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.extend([format!("%{byte:02X}")]);
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_there_and_back() {
        for path in ["/a/b.kdl", "/a b/ß%/c#d?.kdl"] {
            assert_eq!(
                to_path(&of_path(Path::new(path))),
                Some(PathBuf::from(path))
            );
        }
        assert_eq!(of_path(Path::new("/a b")), "file:///a%20b");
    }

    #[test]
    fn what_is_no_file_has_no_path() {
        for uri in [
            "untitled:a",
            "file://host/a",
            "file:///a%2",
            "file:///%ff",
            "",
            "http://a/b",
        ] {
            assert_eq!(to_path(uri), None, "{uri}");
        }
    }
}
