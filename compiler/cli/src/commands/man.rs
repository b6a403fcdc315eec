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
    let mut page = Vec::new();
    Page::new(command).render(&mut page)?;
    Ok(String::from_utf8(page)?)
}
