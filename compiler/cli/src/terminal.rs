//! What the terminal can show, if there is one: colours, links, a line that is drawn again.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs};

use supports_hyperlinks::Stream;

use crate::args::Color;
use crate::render::uri;

static CHOSEN: OnceLock<Color> = OnceLock::new();
static TOP: OnceLock<PathBuf> = OnceLock::new();

/// Remembers what the command line says of colours; the first time counts.
pub(crate) fn choose(color: Color) {
    CHOSEN.get_or_init(|| color);
}

/// Whether stdout gets colours.
pub(crate) fn wants_colour() -> bool {
    let chosen = CHOSEN.get().copied().unwrap_or_default();
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    colours(chosen, variable, io::stdout().is_terminal())
}

/// The command line first; then, as <https://no-color.org> and <https://bixense.com/clicolors> say, the environment.
fn colours(
    chosen: Color,
    variable: impl Fn(&'static str) -> Option<String>,
    is_terminal: bool,
) -> bool {
    match chosen {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if variable("NO_COLOR").is_some() => false,
        Color::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        Color::Auto => {
            is_terminal
                && variable("TERM").is_none_or(|term| term != "dumb")
                && variable("CLICOLOR").is_none_or(|value| value != "0")
        }
    }
}

/// Whether stdout is a terminal that shows nothing but text.
pub(crate) fn is_dumb() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether what is on stdout can be wiped and written again.
pub(crate) fn redraws() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// Whether a line on stderr can be written again.
pub(crate) fn redraws_stderr() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How wide stdout is, if it is a terminal.
pub(crate) fn columns() -> Option<usize> {
    const UNKNOWN: usize = 80;
    const LEAST: usize = 40;
    if !io::stdout().is_terminal() {
        return None;
    }
    let size = terminal_size::terminal_size_of(io::stdout());
    Some(size.map_or(UNKNOWN, |(width, _)| usize::from(width.0).max(LEAST)))
}

/// A text that opens a file where it is clicked, on terminals that know links and get colours.
pub(crate) fn linked(text: &str, path: &str) -> String {
    let is_link = wants_colour() && supports_hyperlinks::on(Stream::Stdout);
    match is_link.then(|| address(path)).flatten() {
        Some(address) => format!("\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"),
        None => text.to_owned(),
    }
}

/// Remembers what paths in outputs are relative to; the first time counts.
pub(crate) fn paths_are_in(folder: &Path) {
    TOP.get_or_init(|| folder.to_path_buf());
}

/// The address of a file that is there.
fn address(path: &str) -> Option<String> {
    let top = TOP.get().map_or(Path::new("."), PathBuf::as_path);
    let path = fs::canonicalize(top.join(path)).ok()?;
    Some(format!("file://{}", uri(path.to_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_by_the_command_line_then_the_environment_then_the_terminal() {
        let with = |chosen, variables: &[(&str, &str)], is_terminal| {
            let variable = |name: &'static str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            colours(chosen, variable, is_terminal)
        };
        let xterm = ("TERM", "xterm");
        assert!(with(Color::Auto, &[xterm], true));
        assert!(!with(Color::Auto, &[xterm], false));
        assert!(!with(Color::Auto, &[("TERM", "dumb")], true));
        assert!(!with(Color::Auto, &[("CLICOLOR", "0")], true));
        assert!(!with(
            Color::Auto,
            &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
            true
        ));
        assert!(with(Color::Auto, &[("CLICOLOR_FORCE", "1")], false));
        assert!(!with(Color::Auto, &[("CLICOLOR_FORCE", "0")], false));
        assert!(with(
            Color::Always,
            &[("NO_COLOR", "1"), ("TERM", "dumb")],
            false
        ));
        assert!(!with(Color::Never, &[("CLICOLOR_FORCE", "1")], true));
    }
}
