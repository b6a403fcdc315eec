//! A policy repository with a branch, and the script run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesh_tests::{Failure, PolicyRepository, program, run, workspace_root};

/// Where the split of the example stands.
pub(crate) const REVIEWS: &str = "teams/reviews/reviews.kdl";
/// A change that means something, and that no test of the example is about.
pub(crate) const SHIFT: [(&str, &str); 1] =
    [("\"/reviews/**\"", "\"/reviews/**\" \"/opinions/**\"")];
/// One that has an error.
pub(crate) const BREAK: [(&str, &str); 1] = [("to v2 weight", "to v3 weight")];
/// One that changes no meaning.
pub(crate) const REMARK: [(&str, &str); 1] = [("// What readers say", "// What people say")];

/// The bookshop in a repository, and a clone of it.
pub(crate) struct Pull {
    folder: tempfile::TempDir,
    pub(crate) clone: PathBuf,
    /// Where the branch left `main`, which has gone on since.
    pub(crate) from: String,
}

impl Pull {
    /// A branch with one commit that makes these edits, while `main` goes on with another.
    pub(crate) fn new(edits: &[(&str, &str)]) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mesh-ci-").tempdir()?;
        let policies = workspace_root().join("policies/examples/bookshop");
        let repository = PolicyRepository::create(folder.path(), &policies)?;
        let clone = folder.path().join("clone");
        repository.clone_to(&clone)?;
        let from = git(&clone, &["rev-parse", "HEAD"])?;
        git(&clone, &["switch", "--quiet", "--create", "topic"])?;
        commit(&clone, REVIEWS, edits)?;
        git(&clone, &["push", "--quiet", "origin", "topic"])?;
        let other = [("method GET", "method GET HEAD")];
        repository.edit(
            &folder.path().join("other"),
            "teams/catalog/details.kdl",
            &other,
        )?;
        git(&clone, &["fetch", "--quiet", "origin"])?;
        Ok(Self {
            folder,
            clone,
            from,
        })
    }

    /// The bare repository, as others name it.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.folder.path().join("mesh.git").display())
    }

    /// A place for further files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The script in a clone, without what the machine's own CI says.
pub(crate) fn script(clone: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(workspace_root().join("ci/scripts/mesh-ci.sh"));
    command
        .current_dir(clone)
        .env("MESHC", program("meshc")?)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("no_proxy", "127.0.0.1");
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if ["GITHUB_", "GITLAB_", "CI_", "GH_"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            command.env_remove(&key);
        }
    }
    Ok(command)
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn said(command: &mut Command) -> Result<Said, Failure> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output()?;
    Ok(Said {
        code: status.code(),
        out: String::from_utf8(stdout)?,
        err: String::from_utf8(stderr)?,
    })
}

/// Git without the machine's configuration.
pub(crate) fn git(folder: &Path, words: &[&str]) -> Result<String, Failure> {
    let output = run(Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(words))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Replaces texts in a file; fails if one is not there.
pub(crate) fn edit(clone: &Path, file: &str, edits: &[(&str, &str)]) -> Result<(), Failure> {
    let path = clone.join(file);
    let mut text = std::fs::read_to_string(&path)?;
    for (old, new) in edits {
        if !text.contains(old) {
            return Err(Failure::new(format!("{file} does not contain {old:?}")));
        }
        text = text.replace(old, new);
    }
    Ok(std::fs::write(path, text)?)
}

pub(crate) fn commit(clone: &Path, file: &str, edits: &[(&str, &str)]) -> Result<(), Failure> {
    edit(clone, file, edits)?;
    git(
        clone,
        &["commit", "--quiet", "--all", "--message", "Edit policy"],
    )
    .map(drop)
}

/// A program that a case needs and that is not ours. Where it is absent the case is skipped and says so, but
/// where all of them must be there, as in our own CI, it fails.
#[expect(clippy::print_stderr, reason = "a skipped case is not silent")]
pub(crate) fn tool(name: &str) -> Result<Option<PathBuf>, Failure> {
    let own = workspace_root().join("target/ci-tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        if std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required") {
            return Err(Failure::new(format!(
                "{name} is not there; `.ci/run` installs it"
            )));
        }
        eprintln!("SKIPPED: {name} is not there; `.ci/run` installs it");
    }
    Ok(found)
}
