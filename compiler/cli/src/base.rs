//! What is deployed, read from git: the other side of `meshc check --base`.

use std::path::Path;

use mesh_compiler::{Input, LinkedMesh};
use mesh_lint::Skipped;
use mesh_repo::{ReadError, Repository, input_digest};

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
        "there is no commit `{0}` to compare with; fetch it (`git fetch origin`), or name another with --base"
    )]
    NoCommit(String),
    #[error(
        "the clone is shallow and does not have `{0}`; fetch it (`git fetch --depth=1 origin {0}:{0}`), or the whole history (`git fetch --unshallow`)"
    )]
    Shallow(String),
    #[error("the clone does not have all of `{0}`; fetch it (`git fetch --refetch origin {0}`)")]
    Partial(String, #[source] ReadError),
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
        let Some(commit) = repository.resolve(name)? else {
            let name = name.to_owned();
            return Err(Box::new(if repository.is_shallow() {
                BaseError::Shallow(name)
            } else {
                BaseError::NoCommit(name)
            }));
        };
        let sources = match repository.policy_files(commit, &head.root_path) {
            Ok(sources) => sources,
            Err(ReadError::NoFolder(folder)) => {
                return Ok(Self::Nothing(format!("`{name}` has no folder `{folder}`")));
            }
            Err(error @ ReadError::Missing(_)) => {
                return Err(Box::new(BaseError::Partial(name.to_owned(), error)));
            }
            Err(error) => return Err(error.into()),
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

    /// What can't be compared with a mesh.
    pub(crate) fn skipped(&self, head: Option<&LinkedMesh>) -> Vec<Skipped> {
        match (self, head) {
            (Self::Same, _) | (Self::Mesh(_), Some(_)) => Vec::new(),
            (Self::Mesh(_), None) => skipped("needs policies without errors"),
            (Self::Nothing(why), _) => skipped(why),
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
