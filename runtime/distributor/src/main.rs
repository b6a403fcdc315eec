//! `meshd`, the distributor: git in, slices out, identities issued, fleet status.

mod api;
mod archive;
mod args;
mod build;
mod commands;
mod dev;
mod distributor;
mod duration;
mod echo;
mod endpoints;
mod events;
mod exit_code;
mod finding;
mod folder;
mod follow;
mod generation;
mod git;
mod hook;
mod issue;
mod keys;
mod limits;
mod mesh;
mod output;
mod page;
mod publish;
mod published;
mod revoke;
mod rotation;
mod serve;
mod status;
mod store;
mod trust;

#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod fixture;

use clap::Parser as _;

use crate::args::{Arguments, Command};

fn main() -> std::process::ExitCode {
    let code = match Arguments::parse().command {
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Where(arguments) => commands::whereabouts::run(&arguments),
        Command::Token(arguments) => commands::token::run(&arguments),
        Command::Revoke(arguments) => commands::revoke::run(&arguments),
        Command::Rotation(arguments) => commands::rotation::run(&arguments),
        Command::Renew(arguments) => commands::renew::run(&arguments),
        Command::Trigger(arguments) => commands::trigger::run(&arguments),
        Command::Dev(arguments) => commands::dev::run(arguments),
        Command::Echo(arguments) => commands::echo::run(arguments),
    };
    code.into()
}
