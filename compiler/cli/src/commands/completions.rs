//! `meshc completions`: what a shell needs to complete the command line, from the same definitions that read it.

use super::Failure;
use crate::args::{self, Completions};
use crate::exit_code::Exit;
use crate::output;

pub(super) fn run(args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "meshc", &mut script);
    output::data(&String::from_utf8(script)?)?;
    Ok(Exit::Clean)
}
