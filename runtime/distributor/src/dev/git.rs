//! The working clone that the user of `meshd dev` commits in, when the repository is bare.
//!
//! A hook of the clone, and only of the clone, pushes each commit and then triggers the distributor,
//! as the hook of a git server would.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// A place where commits can be made that reach the followed ref.
#[derive(Debug)]
pub(super) struct WorkingClone {
    pub(super) path: PathBuf,
    /// Full name of the followed ref.
    pub(super) reference: String,
}

/// Uses the repository itself if it has a work tree, else clones it into `folder`.
pub(super) async fn working_clone(repository: &Path, folder: &Path) -> io::Result<WorkingClone> {
    let reference = git(repository, &["symbolic-ref", "HEAD"]).await?;
    let bare = git(repository, &["rev-parse", "--is-bare-repository"]).await?;
    if bare != "true" {
        return Ok(WorkingClone {
            path: repository.to_path_buf(),
            reference,
        });
    }
    let from = path_text(repository)?;
    let to = path_text(folder)?;
    git(repository, &["clone", "--quiet", from, to]).await?;
    for (key, value) in [
        ("user.name", "meshd dev"),
        ("user.email", "dev@localhost"),
        ("commit.gpgsign", "false"),
    ] {
        if git(folder, &["config", key]).await.is_err() {
            git(folder, &["config", key, value]).await?;
        }
    }
    Ok(WorkingClone {
        path: folder.to_path_buf(),
        reference,
    })
}

impl WorkingClone {
    /// Makes each commit of the clone reach the followed ref and the distributor at once.
    pub(super) fn install_hook(&self, meshd: &Path, socket: &Path) -> io::Result<()> {
        let hook = self.path.join(".git/hooks/post-commit");
        let script = format!(
            "#!/bin/sh\n\
             # Written by meshd dev: what is committed here reaches the followed ref.\n\
             git push --quiet origin HEAD:{} && {} trigger --socket {}\n",
            quoted(&self.reference),
            quoted(path_text(meshd)?),
            quoted(path_text(socket)?),
        );
        super::write_whole(&hook, &script)?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755))
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn path_text(path: &Path) -> io::Result<&str> {
    path.to_str()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))
}

async fn git(folder: &Path, words: &[&str]) -> io::Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(io::Error::other(format!(
        "`git {}` in {}: {}",
        words.join(" "),
        folder.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
