//! `meshc man`: manual pages, from the same definitions that read the command line.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap_mangen::Man as Page;

use super::Failure;
use crate::args::{self, Man};
use crate::exit_code::Exit;
use crate::{atomic, output};

#[derive(Debug, thiserror::Error)]
#[error("could not write {}", path.display())]
struct ManError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

pub(super) fn run(args: &Man) -> Result<Exit, Failure> {
    let mut command = args::command();
    // Options of every command are on every page, and names are whole.
    command.build();
    let Some(folder) = &args.out else {
        output::data(&text(command)?)?;
        return Ok(Exit::Clean);
    };
    fs::create_dir_all(folder).map_err(|source| ManError {
        path: folder.clone(),
        source,
    })?;
    let commands: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    for command in std::iter::once(command).chain(commands) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        let written = atomic::replace(&path, &text(command)?);
        written.map_err(|source| ManError { path, source })?;
    }
    Ok(Exit::Clean)
}

fn text(command: clap::Command) -> Result<String, Failure> {
    let synopsis = synopsis(&command);
    let mut page = Vec::new();
    Page::new(command).render(&mut page)?;
    let page = String::from_utf8(page)?;
    Ok(with_synopsis(&page, &synopsis))
}

const SYNOPSIS: &str = ".SH SYNOPSIS\n";

/// The page with our own synopsis: that of the library leaves out what options take.
fn with_synopsis(page: &str, synopsis: &str) -> String {
    let Some((before, after)) = page.split_once(SYNOPSIS) else {
        return page.to_owned();
    };
    let rest = after.find(".SH ").and_then(|end| after.get(end..));
    format!("{before}{SYNOPSIS}{synopsis}\n{}", rest.unwrap_or_default())
}

fn synopsis(command: &clap::Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut parts = vec![bold(name)];
    let shown = || command.get_arguments().filter(|arg| !arg.is_hide_set());
    parts.extend(shown().filter(|arg| !arg.is_positional()).map(option));
    parts.extend(shown().filter(|arg| arg.is_positional()).map(positional));
    if command.has_subcommands() {
        parts.push(italic("COMMAND"));
    }
    parts.join(" ")
}

fn option(arg: &clap::Arg) -> String {
    let short = arg.get_short().map(|short| bold(&format!("-{short}")));
    let long = arg.get_long().map(|long| bold(&format!("--{long}")));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let mut text = names.join("|");
    if arg.get_action().takes_values() {
        text = format!("{text} {}", values(arg));
    }
    bracketed(text, arg)
}

fn positional(arg: &clap::Arg) -> String {
    bracketed(values(arg), arg)
}

fn values(arg: &clap::Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| italic(name)).collect();
    names.join(" ")
}

fn bracketed(text: String, arg: &clap::Arg) -> String {
    let is_list = matches!(arg.get_action(), clap::ArgAction::Append)
        || arg.get_num_args().is_some_and(|many| many.max_values() > 1);
    let text = if arg.is_required_set() {
        text
    } else {
        format!("[{text}]")
    };
    if is_list { format!("{text}...") } else { text }
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", text.replace('-', "\\-"))
}

fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", text.replace('-', "\\-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synopsis_says_what_options_take() {
        let mut command = args::command();
        command.build();
        for command in command.get_subcommands() {
            let text = text(command.clone()).unwrap();
            let line = text.split(SYNOPSIS).nth(1).unwrap().lines().next().unwrap();
            let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set());
            for arg in arguments.filter(|arg| arg.get_action().takes_values()) {
                assert!(line.contains(&values(arg)), "{}: {line}", arg.get_id());
            }
            assert_eq!(text.matches(".SH SYNOPSIS").count(), 1);
        }
        let diff = command.find_subcommand("diff").unwrap().clone();
        let diff = synopsis(&diff);
        assert!(
            diff.starts_with("\\fBmeshc diff\\fR ")
                && diff.contains("[\\fB\\-\\-write\\-tests\\fR \\fIFILE\\fR]")
                && diff.ends_with("\\fIBASE\\fR [\\fIHEAD\\fR]"),
            "{diff}"
        );
    }
}
