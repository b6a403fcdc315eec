//! `cargo xtask demo`: the bookshop mesh on this machine, to play with or to check.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use mesh_tests::{Failure, PolicyRepository, program};

use crate::{story, test};

/// The policies that the demo runs.
const BOOKSHOP: &str = "policies/examples/bookshop";

/// Builds everything, puts the bookshop into a repository of its own and runs the mesh on it.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), Failure> {
    test::build_programs(root)?;
    // There will be keys in it.
    let folder = tempfile::Builder::new()
        .prefix("mesh-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let repository = PolicyRepository::create(folder.path(), &root.join(BOOKSHOP))?;
    if check {
        return story::play(&repository, folder.path(), &root.join(BOOKSHOP));
    }
    // From here on `meshd dev` is this process, so that the terminal's signals reach it alone; it
    // removes the folder at its end.
    let folder = folder.keep();
    let error = Command::new(program("meshd")?)
        .arg("dev")
        .arg(repository.path())
        .arg("--state")
        .arg(folder.join("dev"))
        .arg("--remove-at-end")
        .arg(&folder)
        .exec();
    std::fs::remove_dir_all(&folder)?;
    Err(Failure::from(error).while_doing("starting meshd dev"))
}
