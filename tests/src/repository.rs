//! A policy repository as a team has it: a bare repository that is followed, and commits that reach
//! it from a working clone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, run};

/// Branch that the repositories of tests and demo use.
const BRANCH: &str = "main";

/// A bare repository filled with one folder of policies.
#[derive(Debug)]
pub struct PolicyRepository {
    bare: PathBuf,
}

impl PolicyRepository {
    /// Makes `folder/mesh.git` with one commit that holds what is below `policies`.
    pub fn create(folder: &Path, policies: &Path) -> Result<Self, Failure> {
        let bare = folder.join("mesh.git");
        let seed = folder.join("seed");
        git(
            folder,
            ["init", "--quiet", "--bare", "--initial-branch", BRANCH],
            [&bare],
        )?;
        git(folder, ["clone", "--quiet"], [&bare, &seed])?;
        copy(policies, &seed)?;
        identify(&seed)?;
        // A clone of an empty repository does not know the branch's name yet.
        git(&seed, ["checkout", "--quiet", "-B", BRANCH], NO_PATHS)?;
        git(&seed, ["add", "--all"], NO_PATHS)?;
        git(
            &seed,
            ["commit", "--quiet", "--message", "Bookshop policies"],
            NO_PATHS,
        )?;
        git(&seed, ["push", "--quiet", "origin", BRANCH], NO_PATHS)?;
        std::fs::remove_dir_all(&seed)?;
        Ok(Self { bare })
    }

    /// The bare repository.
    pub fn path(&self) -> &Path {
        &self.bare
    }

    /// Replaces texts in a file, by a commit that is made in a clone at `folder`; fails if one is not there.
    pub fn edit(&self, folder: &Path, file: &str, edits: &[(&str, &str)]) -> Result<(), Failure> {
        self.clone_to(folder)?;
        replace(&folder.join(file), edits)?;
        let words = ["commit", "--quiet", "--all", "--message", "Edit policy"];
        git(folder, words, NO_PATHS)?;
        git(folder, ["push", "--quiet", "origin", BRANCH], NO_PATHS)?;
        Ok(())
    }

    /// A new working clone at `folder`.
    pub fn clone_to(&self, folder: &Path) -> Result<(), Failure> {
        git(&self.bare, ["clone", "--quiet"], [&self.bare, folder])?;
        identify(folder)
    }
}

const NO_PATHS: [&Path; 0] = [];

/// Runs git without the user's and the machine's configuration, so that tests mean the same everywhere.
pub(crate) fn git<P: AsRef<Path>>(
    folder: &Path,
    words: impl IntoIterator<Item = impl AsRef<str>>,
    paths: impl IntoIterator<Item = P>,
) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE");
    for word in words {
        command.arg(word.as_ref());
    }
    for path in paths {
        command.arg(path.as_ref());
    }
    let output = run(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn identify(clone: &Path) -> Result<(), Failure> {
    git(clone, ["config", "user.name", "Demo"], NO_PATHS)?;
    git(
        clone,
        ["config", "user.email", "demo@bookshop.example"],
        NO_PATHS,
    )?;
    git(clone, ["config", "commit.gpgsign", "false"], NO_PATHS)?;
    Ok(())
}

/// Replaces texts in a file; fails if one is not there.
pub(crate) fn replace(file: &Path, edits: &[(&str, &str)]) -> Result<(), Failure> {
    let mut text = std::fs::read_to_string(file)?;
    for (old, new) in edits {
        if !text.contains(old) {
            let file = file.display();
            return Err(Failure::new(format!("{file} does not contain {old:?}")));
        }
        text = text.replace(old, new);
    }
    Ok(std::fs::write(file, text)?)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
