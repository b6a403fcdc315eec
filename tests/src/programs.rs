//! Where the programs under test are, and running one to its end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Failure;

/// The top of the workspace.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies below the workspace root")
        .to_path_buf()
}

/// The release build of a program of this workspace. `cargo xtask test` has built it.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from);
    let path = target.join("release").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!(
        "{} is not built; `cargo build --release` makes it",
        path.display()
    )))
}

/// Runs a command to its end; fails with what it printed unless it succeeded.
pub fn run(command: &mut Command) -> Result<Output, Failure> {
    let output = command
        .output()
        .map_err(|error| Failure::from(error).while_doing(shown(command)))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Failure::new(format!(
        "{} ended with {}\n{}{}",
        shown(command),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
