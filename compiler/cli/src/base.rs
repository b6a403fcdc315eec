//! What is deployed, read from git: the other side of `meshc check --base`.

mod root;

use std::path::Path;

use mesh_compiler::{Input, LinkedMesh};
use mesh_lint::Skipped;
use mesh_repo::{CommitId, ReadError, Repository, input_digest};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::commands::Failure;
use crate::load::Loaded;

/// The policies of a commit, as what they are compared with.
#[derive(Debug)]
pub(crate) struct Base {
    side: Side,
    /// What is to be known of where they lie.
    pub(crate) note: Option<String>,
}

#[derive(Debug)]
enum Side {
    /// The very same files.
    Same,
    /// Another mesh.
    Mesh(Box<LinkedMesh>),
    /// There is nothing to compare with.
    Nothing(NotCompared),
}

/// Why nothing was compared.
#[derive(Clone, Debug)]
pub(crate) struct NotCompared {
    /// In words.
    pub(crate) why: String,
    /// Whether something is wrong: there is a base, and it can't be understood. Where there is none a change can't do
    /// harm to it.
    pub(crate) is_wrong: bool,
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
        let Some(found) = root::find(&repository, (name, commit), head)? else {
            let folder = root::shown(&head.root_path);
            return Ok(Side::nothing(format!("`{name}` has no policies in {folder}")).into());
        };
        let is_moved = found.path != head.root_path;
        let note = is_moved.then(|| {
            let [from, to] = [&found.path, &head.root_path].map(|root| root::shown(root));
            format!("the policy root moved: {from} of `{name}` is compared with {to}")
        });
        if !is_moved && input_digest(&found.sources) == input_digest(&head.sources) {
            return Ok(Side::Same.into());
        }
        let analysed = mesh_compiler::load(Input {
            sources: &found.sources,
            environment,
            root_path: &found.path,
        });
        let unknown = mesh_compiler::no_environment(environment);
        let mut findings = analysed.diagnostics.iter();
        let is_there = findings.all(|found| found.message != unknown);
        let side = match analysed.mesh {
            Some(mesh) => Side::Mesh(Box::new(mesh)),
            None if !is_there => {
                Side::nothing(format!("`{name}` has no environment `{environment}`"))
            }
            None => Side::Nothing(NotCompared {
                why: broken(name, &found.sources, &analysed.diagnostics),
                is_wrong: true,
            }),
        };
        Ok(Self { side, note })
    }

    /// What is deployed, where it is another mesh.
    pub(crate) fn mesh(&self) -> Option<&LinkedMesh> {
        match &self.side {
            Side::Mesh(base) => Some(base),
            Side::Same | Side::Nothing(_) => None,
        }
    }

    /// Why nothing can be compared with a mesh.
    pub(crate) fn why_not_compared(&self, head: Option<&LinkedMesh>) -> Option<NotCompared> {
        match (&self.side, head) {
            (Side::Same, _) | (Side::Mesh(_), Some(_)) => None,
            (Side::Mesh(_), None) => Some(NotCompared {
                why: "these policies have errors".to_owned(),
                is_wrong: true,
            }),
            (Side::Nothing(why), _) => Some(why.clone()),
        }
    }

    /// The checks that it takes away.
    pub(crate) fn skipped(&self, head: Option<&LinkedMesh>) -> Vec<Skipped> {
        match (&self.side, self.why_not_compared(head)) {
            (_, None) => Vec::new(),
            (Side::Mesh(_), Some(_)) => skipped("needs policies without errors"),
            (_, Some(not)) => skipped(&not.why),
        }
    }
}

impl Side {
    fn nothing(why: String) -> Self {
        Self::Nothing(NotCompared {
            why,
            is_wrong: false,
        })
    }
}

impl From<Side> for Base {
    fn from(side: Side) -> Self {
        Self { side, note: None }
    }
}

/// That a base can't be understood, with the first of what is wrong in it.
fn broken(name: &str, sources: &SourceSet, findings: &[Diagnostic]) -> String {
    let errors = findings.iter().filter(|found| found.level == Level::Error);
    let first = errors.min_by_key(|found| found.sort_key()).map(|found| {
        let (line, _) = sources.line_column(found.span);
        let path = sources.path(found.span.file);
        format!(" ({} {path}:{line}: {})", found.code, found.message)
    });
    let first = first.unwrap_or_default();
    format!("the policies of `{name}` have errors of their own{first}")
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
