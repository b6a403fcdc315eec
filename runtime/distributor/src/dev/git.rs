//! The working clone that the user of `meshd dev` commits in, when the repository is bare.
//!
//! A hook of the clone, and only of the clone, pushes each commit and then triggers the distributor,
//! as the hook of a git server would.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::DevError;

/// A place where commits can be made that reach the followed ref.
#[derive(Debug)]
pub(super) struct WorkingClone {
    pub(super) path: PathBuf,
    /// What is followed.
    pub(super) repository: PathBuf,
    /// The folder of the policies in it, if the user named one.
    pub(super) root: Option<String>,
    /// Full name of the followed ref.
    pub(super) reference: String,
}

/// Uses the repository itself if it has a work tree, else clones it into `folder`.
pub(super) async fn working_clone(named: &Path, folder: &Path) -> Result<WorkingClone, DevError> {
    let reference = followable(named).await?;
    let bare = git(named, &["rev-parse", "--is-bare-repository"]).await;
    if bare.map_err(cannot_clone)? != "true" {
        let ask =
            |what| async move { git(named, &["rev-parse", what]).await.map_err(cannot_clone) };
        let top = PathBuf::from(ask("--show-toplevel").await?);
        let root = ask("--show-prefix").await?;
        return Ok(WorkingClone {
            path: top.clone(),
            repository: top,
            root: Some(root.trim_end_matches('/').to_owned()).filter(|root| !root.is_empty()),
            reference,
        });
    }
    clone_bare(named, folder, reference)
        .await
        .map_err(cannot_clone)
}

fn cannot_clone(error: io::Error) -> DevError {
    DevError::Io("cannot make a working clone", error)
}

/// The branch that HEAD names, if generations can be made of it.
async fn followable(named: &Path) -> Result<String, DevError> {
    let place = named.display();
    let found = git(named, &["rev-parse", "--is-shallow-repository"]).await;
    let shallow = match found {
        Ok(shallow) => shallow == "true",
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DevError::Io(
                "cannot run git, which must be installed",
                error,
            ));
        }
        Err(error) => {
            let why = error.to_string();
            // Git's own words where it is something else, such as a repository of another user.
            let reason = if why.contains("not a git repository") {
                format!(
                    "{place} is not in a git repository, and what is served is always a commit; \
                     `git init` there and commit the policies"
                )
            } else {
                why
            };
            return Err(DevError::Arguments(reason));
        }
    };
    if shallow {
        return Err(DevError::Arguments(format!(
            "{place} is a shallow clone, and generations are numbered by the whole history; \
             `git fetch --unshallow` there"
        )));
    }
    git(named, &["symbolic-ref", "--quiet", "HEAD"])
        .await
        .map_err(|_detached| {
            DevError::Arguments(format!(
                "HEAD of {place} is detached, and what is followed is a branch; `git switch` to one there"
            ))
        })
}

async fn clone_bare(
    repository: &Path,
    folder: &Path,
    reference: String,
) -> io::Result<WorkingClone> {
    let from = path_text(repository)?;
    let to = path_text(folder)?;
    if folder.join(".git").exists() {
        // Of an earlier run on the same folder. What was committed there and did not get out stays.
        git(folder, &["fetch", "--quiet", "origin"]).await?;
        if let Err(error) = git(folder, &["merge", "--quiet", "--ff-only", "@{upstream}"]).await {
            tracing::warn!(%error, clone = to, "the clone of an earlier run is not at the tip");
        }
    } else {
        git(repository, &["clone", "--quiet", from, to]).await?;
    }
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
        repository: repository.to_path_buf(),
        root: None,
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
        .env("LC_ALL", "C")
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
