//! What commands found, as text for people and programs. The types that reach a program are of their own, so that no
//! inner change alters an output.

pub(crate) mod audit;
pub(crate) mod difference;
mod effective;
pub(crate) mod expectation;
pub(crate) mod explanation;
pub(crate) mod fmt;
pub(crate) mod github;
pub(crate) mod graph;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod picture;
pub(crate) mod sarif;
pub(crate) mod shown;
pub(crate) mod tests;

/// A path as the path of a URI.
pub(crate) fn uri(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}
