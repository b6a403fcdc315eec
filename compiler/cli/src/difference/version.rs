//! The two versions that are compared: where their files come from, and which folder of theirs is the policy root.

use std::fs;
use std::path::Path;

use mesh_compiler::{Earlier, Input, LinkedMesh};
use mesh_repo::{CommitId, ReadError, Repository};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use super::Side;
use crate::base::{self, files};
use crate::commands::Failure;
use crate::load::{self, LoadError};

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    /// Neither has policies.
    #[error(
        "neither `{0}` nor `{1}` has a policy root: a folder with a file that has a `mesh` node"
    )]
    NoPolicies(String, String),
    /// A command takes one.
    #[error("`{name}` has several policy roots: {}; name one with -C", .roots.join(", "))]
    SeveralRoots {
        /// Of which version.
        name: String,
        /// They.
        roots: Vec<String>,
    },
    /// They have no history in common.
    #[error(
        "`{0}` and `{1}` have no commit in common; if `{0}` was force-pushed, fetch it again (`git fetch origin`), or compare the two directly, without --merge-base"
    )]
    Unrelated(String, String),
    /// The same, where a part of the history is not here.
    #[error(
        "the clone is shallow, and ends before the last common commit of `{0}` and `{1}`; fetch the whole history (`git fetch --unshallow`)"
    )]
    ShallowHistory(String, String),
}

/// The policies of a commit or of the work tree.
#[derive(Debug)]
pub(crate) struct Version {
    /// As it was asked for.
    pub(crate) name: String,
    /// None for the work tree.
    pub(crate) commit: Option<CommitId>,
    /// None where it has no policies.
    pub(crate) root: Option<String>,
    /// The files below the root.
    pub(crate) sources: SourceSet,
    /// What is to be known of the files.
    pub(crate) note: Option<String>,
}

/// A version as far as it can be understood.
pub(crate) struct Understood {
    /// None where there are errors.
    pub(crate) mesh: Option<LinkedMesh>,
    /// What was found while it was read.
    pub(crate) errors: Vec<Diagnostic>,
    /// Its environments.
    pub(crate) environments: Vec<String>,
}

impl Version {
    /// Reads the work tree.
    pub(crate) fn of_work_tree(folder: &Path) -> Result<Self, Failure> {
        let name = "work tree".to_owned();
        match load::load(folder) {
            Ok(loaded) => Ok(Self {
                note: loaded.notes(),
                name,
                commit: None,
                root: Some(loaded.root_path),
                sources: loaded.sources,
            }),
            Err(LoadError::NoRoot(_)) => Ok(Self {
                note: None,
                name,
                commit: None,
                root: None,
                sources: SourceSet::new(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a commit: its root where the folder is, or where the other version has it, or the only one.
    pub(crate) fn of_commit(
        repository: &Repository,
        (name, commit): (&str, CommitId),
        folder: &str,
        other: Option<&str>,
    ) -> Result<Self, Failure> {
        let roots = match repository.roots(commit) {
            Ok(roots) => roots,
            Err(error) => return Err(base::unreadable(repository, name, error)),
        };
        let root = root_of(&roots, folder, other).map_err(|roots| VersionError::SeveralRoots {
            name: name.to_owned(),
            roots,
        })?;
        let sources = match &root {
            Some(root) => files(repository, (name, commit), root)?.unwrap_or_default(),
            None => SourceSet::new(),
        };
        Ok(Self {
            note: None,
            name: name.to_owned(),
            commit: Some(commit),
            root,
            sources,
        })
    }

    /// As a sentence calls it, after `the`.
    pub(crate) fn named(&self) -> String {
        match self.commit {
            Some(_) => format!("commit `{}`", self.name),
            None => self.name.clone(),
        }
    }

    /// Reads, decodes and links.
    pub(crate) fn understood(&self, environment: &str, earlier: &mut Earlier) -> Understood {
        let input = Input {
            sources: &self.sources,
            environment,
            root_path: self.root.as_deref().unwrap_or_default(),
        };
        let analysed = mesh_compiler::load_again(input, earlier, &mut ());
        let mut errors = analysed.diagnostics;
        errors.retain(|finding| finding.level == Level::Error);
        Understood {
            mesh: analysed.mesh,
            errors,
            environments: analysed.environments,
        }
    }

    /// As outputs name it.
    pub(crate) fn side(&self) -> Side {
        Side {
            name: self.name.clone(),
            commit: self.commit.map(|commit| commit.to_string()),
            root: self.root.clone(),
            slices: 0,
        }
    }
}

/// A mesh of this name without anything in it: what a version without policies is compared as.
pub(crate) fn empty_like(mesh: &LinkedMesh) -> Option<LinkedMesh> {
    let mut sources = SourceSet::new();
    let environments: Vec<&str> = mesh.environments.iter().map(String::as_str).collect();
    let environments = if environments.is_empty() {
        String::new()
    } else {
        format!("environment {}", environments.join(" "))
    };
    let text = format!(
        "mesh {} {{ trust-domain {:?}; {environments} }}\n",
        mesh.name.value, mesh.trust_domain.value
    );
    sources.add("mesh.kdl", text.into_bytes());
    let analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment: &mesh.environment,
        root_path: "",
    });
    analysed.mesh
}

/// The root that a folder is in, else that of the other version, else the only one below the folder, else the only
/// one at all: a root that was moved is compared with where it went. Several: which.
fn root_of(
    roots: &[String],
    folder: &str,
    other: Option<&str>,
) -> Result<Option<String>, Vec<String>> {
    let contains = |outer: &str, inner: &str| {
        outer.is_empty()
            || inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(other) = other.filter(|other| roots.iter().any(|root| root == other)) {
        return Ok(Some(other.to_owned()));
    }
    let above = roots.iter().filter(|root| contains(root, folder));
    if let Some(root) = above.max_by_key(|root| root.len()) {
        return Ok(Some(root.clone()));
    }
    let below: Vec<&String> = roots.iter().filter(|root| contains(folder, root)).collect();
    let shown = |root: &String| {
        if root.is_empty() {
            ".".to_owned()
        } else {
            root.clone()
        }
    };
    match (below.as_slice(), roots) {
        ([only], _) => Ok(Some((*only).clone())),
        ([], [only]) => Ok(Some(only.clone())),
        ([], _) => Ok(None),
        _ => Err(below.into_iter().map(shown).collect()),
    }
}

/// A folder of the work tree, relative to it and without a slash at its end.
pub(crate) fn folder_in(repository: &Repository, folder: &Path) -> String {
    let relative = || {
        let top = fs::canonicalize(repository.work_tree()?).ok()?;
        let folder = fs::canonicalize(folder).ok()?;
        let inside = folder.strip_prefix(top).ok()?;
        inside.to_str().map(str::to_owned)
    };
    relative().unwrap_or_default()
}

/// Where the histories of two commits part.
pub(crate) fn merge_base(
    repository: &Repository,
    base: (&str, CommitId),
    head: (&str, CommitId),
) -> Result<CommitId, Failure> {
    let names = || (base.0.to_owned(), head.0.to_owned());
    match repository.merge_base(base.1, head.1) {
        Ok(Some(commit)) => Ok(commit),
        Ok(None) | Err(ReadError::Missing(_)) => {
            let (base, head) = names();
            Err(Box::new(if repository.is_shallow() {
                VersionError::ShallowHistory(base, head)
            } else {
                VersionError::Unrelated(base, head)
            }))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(roots: &[&str], (folder, other): (&str, Option<&str>), expected: Option<&str>) {
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        let found = root_of(&roots, folder, other);
        assert_eq!(found, Ok(expected.map(str::to_owned)));
    }

    #[test]
    fn the_root_is_found_where_it_is_or_went() {
        check(&["policy"], ("policy", None), Some("policy"));
        check(&["policy"], ("policy/teams", None), Some("policy"));
        check(&["policy"], ("", None), Some("policy"));
        check(&["old"], ("new", Some("new")), Some("old"));
        check(&["a", "b"], ("", Some("b")), Some("b"));
        check(&["a", "b"], ("c", None), None);
        check(&[""], ("x", None), Some(""));
        check(&[], ("", None), None);
        assert!(root_of(&["a".to_owned(), "b".to_owned()], "", None).is_err());
    }
}
