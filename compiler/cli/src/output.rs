//! The only place that writes to the terminal: data to stdout, everything else to stderr.

use std::io::{self, Write as _};

use crate::render::shown::escaped;

/// Writes data. A reader that went away, as `head` does, is no error.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line for people. If even that fails there is nobody to tell.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes why a command could not run, with every cause once.
pub(crate) fn error(error: &dyn std::error::Error) {
    let mut text = format!("meshc: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    note(&escaped(&text));
}
