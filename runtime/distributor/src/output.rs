//! The one place that prints: data to stdout, everything else to stderr.

use std::io::{self, Write};

/// Prints data, such as a status.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a message for people. A closed stderr is no reason to stop.
pub(crate) fn message(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{text}");
}

/// An error and its causes on one line, each fact once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not open the state directory")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_prints_each_fact_once() {
        let error = Outer(io::Error::new(io::ErrorKind::NotFound, "no such folder"));
        assert_eq!(
            chain(&error),
            "could not open the state directory: no such folder"
        );
    }
}
