//! Where the policies of a base lie: where those of the work tree do, or where they came from.

use std::path::Path;

use mesh_repo::{CommitId, Repository, holds_mesh};
use mesh_syntax::{KEY_SET_SUFFIX, SourceSet};

use super::{files, unreadable};
use crate::commands::Failure;
use crate::load::{self, Loaded};

/// Why the root of a base can't be told.
#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error(
        "`{name}` has no policies in {head}, and several of its policy roots are gone: {}; which of them was moved there can't be told; move one at a time", gone.join(", ")
    )]
    SeveralGone {
        name: String,
        head: String,
        gone: Vec<String>,
    },
}

/// The policies of a base.
#[derive(Debug)]
pub(super) struct BaseRoot {
    /// The folder.
    pub(super) path: String,
    /// What is in it.
    pub(super) sources: SourceSet,
}

/// The root of a commit that is compared with that of the work tree: the same folder, else the one that is not there
/// any more, for then it was moved. None where the commit has neither.
pub(super) fn find(
    repository: &Repository,
    commit: (&str, CommitId),
    head: &Loaded,
) -> Result<Option<BaseRoot>, Failure> {
    let same = files(repository, commit, &head.root_path)?;
    if let Some(sources) = same.filter(|sources| is_root(sources, &head.root_path)) {
        let path = head.root_path.clone();
        return Ok(Some(BaseRoot { path, sources }));
    }
    let (name, id) = commit;
    let roots = repository.roots(id);
    let mut gone = roots.map_err(|error| unreadable(repository, name, error))?;
    if let Some(top) = repository.work_tree() {
        let mut is_there = Vec::new();
        for root in &gone {
            is_there.push(load::is_root(&top.join(root))?);
        }
        let mut is_there = is_there.into_iter();
        gone.retain(|_| is_there.next() == Some(false));
    }
    match gone.as_slice() {
        [] => Ok(None),
        [path] => {
            let sources = files(repository, commit, path)?;
            let path = path.clone();
            Ok(sources.map(|sources| BaseRoot { path, sources }))
        }
        several => Err(Box::new(RootError::SeveralGone {
            name: name.to_owned(),
            head: shown(&head.root_path),
            gone: several.iter().map(|root| shown(root)).collect(),
        })),
    }
}

/// A root as texts name it.
pub(super) fn shown(root: &str) -> String {
    match root {
        "" => "the top of the repository".to_owned(),
        root => format!("`{root}`"),
    }
}

/// Whether one of the files right in a folder has a `mesh` node.
fn is_root(sources: &SourceSet, folder: &str) -> bool {
    let is_in = |path: &str| Path::new(path).parent() == Some(Path::new(folder));
    let mut own = sources.files().filter(|file| {
        let path = sources.path(*file);
        is_in(path) && !path.ends_with(KEY_SET_SUFFIX)
    });
    own.any(|file| sources.text(file).is_some_and(holds_mesh))
}
