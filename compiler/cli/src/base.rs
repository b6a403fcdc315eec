//! What is deployed, read from git: the other side of `meshc check --base`.

use std::path::Path;

use mesh_compiler::{Input, LinkedMesh};
use mesh_lint::Skipped;
use mesh_repo::{CommitId, ReadError, Repository, input_digest};
use mesh_syntax::SourceSet;

use crate::commands::Failure;
use crate::load::Loaded;

/// The policies of a commit, as what they are compared with.
#[derive(Debug)]
pub(crate) enum Base {
    /// The very same files.
    Same,
    /// Another mesh.
    Mesh(Box<LinkedMesh>),
    /// There is nothing to compare with, and why.
    Nothing(String),
}

/// Why there is no such commit.
#[derive(Debug, thiserror::Error)]
enum BaseError {
    #[error(
        "there is no commit `{0}` to compare with; fetch it (`git fetch origin`), or name another"
    )]
    NoCommit(String),
    #[error(
        "`{name}` stands for no commit: the branch `{branch}` has none yet; commit the policies, or name another commit"
    )]
    Unborn { name: String, branch: String },
    #[error(
        "the clone is shallow and does not have `{name}`; fetch it (`{command}`), or the whole history (`git fetch --unshallow`)"
    )]
    Shallow { name: String, command: String },
    #[error("the clone does not have all of `{0}`; fetch it (`git fetch --refetch origin {0}`)")]
    Partial(String, #[source] ReadError),
}

/// The commit of a name; an error says how to get it.
pub(crate) fn commit(repository: &Repository, name: &str) -> Result<CommitId, Failure> {
    if let Some(commit) = repository.resolve(name)? {
        return Ok(commit);
    }
    let name = name.to_owned();
    let is_head = name == "HEAD" || name.starts_with("HEAD~") || name.starts_with("HEAD^");
    if let Some(branch) = repository.unborn_branch().filter(|_| is_head) {
        return Err(Box::new(BaseError::Unborn { name, branch }));
    }
    Err(Box::new(if repository.is_shallow() {
        let command = fetching(&name);
        BaseError::Shallow { name, command }
    } else {
        BaseError::NoCommit(name)
    }))
}

/// What git needs to be told to get one commit into a shallow clone. A clone with a depth follows one branch, so the
/// others need their place named.
fn fetching(name: &str) -> String {
    let is_hex = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A server knows whole ids only.
    let is_id = is_hex && name.len() == 40;
    let is_short = is_hex && !is_id;
    let is_plain = !is_short && !name.contains(['~', '^', '@', ':', ' ']) && name != "HEAD";
    let at = |from: &str, to: &str| format!("git fetch --depth=1 origin {from}:{to}");
    match name.strip_prefix("origin/") {
        _ if !is_plain => "git fetch --deepen=100".to_owned(),
        Some(branch) => at(branch, &format!("refs/remotes/origin/{branch}")),
        None if is_id => format!("git fetch --depth=1 origin {name}"),
        None => at(name, name),
    }
}

/// The policy files of a commit; none where it has no such folder.
pub(crate) fn files(
    repository: &Repository,
    (name, commit): (&str, CommitId),
    root_path: &str,
) -> Result<Option<SourceSet>, Failure> {
    match repository.policy_files(commit, root_path) {
        Ok(sources) => Ok(Some(sources)),
        Err(ReadError::NoFolder(_)) => Ok(None),
        Err(error) => Err(unreadable(repository, name, error)),
    }
}

/// Why a commit could not be read, and what helps.
pub(crate) fn unreadable(repository: &Repository, name: &str, error: ReadError) -> Failure {
    match error {
        ReadError::Missing(_) if repository.is_shallow() => Box::new(BaseError::Shallow {
            name: name.to_owned(),
            command: fetching(name),
        }),
        ReadError::Missing(_) => Box::new(BaseError::Partial(name.to_owned(), error)),
        error => error.into(),
    }
}

impl Base {
    /// Reads and links the policies of a commit, for the same root and environment.
    pub(crate) fn read(
        folder: &Path,
        name: &str,
        head: &Loaded,
        environment: &str,
    ) -> Result<Self, Failure> {
        let repository = Repository::discover(folder)?;
        let commit = commit(&repository, name)?;
        let Some(sources) = files(&repository, (name, commit), &head.root_path)? else {
            let folder = &head.root_path;
            return Ok(Self::Nothing(format!("`{name}` has no folder `{folder}`")));
        };
        if input_digest(&sources) == input_digest(&head.sources) {
            return Ok(Self::Same);
        }
        let analysed = mesh_compiler::load(Input {
            sources: &sources,
            environment,
            root_path: &head.root_path,
        });
        Ok(match analysed.mesh {
            Some(mesh) => Self::Mesh(Box::new(mesh)),
            None => Self::Nothing(format!("the policies of `{name}` have errors of their own")),
        })
    }

    /// What is deployed, where it is another mesh.
    pub(crate) fn mesh(&self) -> Option<&LinkedMesh> {
        match self {
            Self::Mesh(base) => Some(base),
            Self::Same | Self::Nothing(_) => None,
        }
    }

    /// Why nothing can be compared with a mesh.
    pub(crate) fn why_not_compared(&self, head: Option<&LinkedMesh>) -> Option<String> {
        match (self, head) {
            (Self::Same, _) | (Self::Mesh(_), Some(_)) => None,
            (Self::Mesh(_), None) => Some("these policies have errors".to_owned()),
            (Self::Nothing(why), _) => Some(why.clone()),
        }
    }

    /// The checks that it takes away.
    pub(crate) fn skipped(&self, head: Option<&LinkedMesh>) -> Vec<Skipped> {
        match (self, self.why_not_compared(head)) {
            (_, None) => Vec::new(),
            (Self::Mesh(_), Some(_)) => skipped("needs policies without errors"),
            (_, Some(why)) => skipped(&why),
        }
    }
}

fn skipped(reason: &str) -> Vec<Skipped> {
    let rules = mesh_lint::COMPARISONS.iter();
    rules
        .map(|rule| Skipped {
            code: rule.page.code,
            reason: reason.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_in_a_shallow_clone_is_a_command_that_git_takes() {
        let id = "1a2b3c4d".repeat(5);
        let all = ["origin/main", "main", &id, "1a2b3c4d", "HEAD~3", "v1.2"].map(fetching);
        assert_eq!(
            all,
            [
                "git fetch --depth=1 origin main:refs/remotes/origin/main",
                "git fetch --depth=1 origin main:main",
                &format!("git fetch --depth=1 origin {id}"),
                "git fetch --deepen=100",
                "git fetch --deepen=100",
                "git fetch --depth=1 origin v1.2:v1.2",
            ]
        );
    }
}
