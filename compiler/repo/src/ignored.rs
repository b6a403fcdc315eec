//! Which files of the work tree git leaves out: what is ignored and not tracked will be in no commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::FileMode;

use crate::is_policy_file;
use crate::repository::{ReadError, Repository};

/// What git leaves out of a work tree.
pub struct Ignored<'r> {
    repository: &'r Repository,
    /// Where the work tree begins.
    top: PathBuf,
    /// Policy files of the index, which are no longer ignored.
    tracked: BTreeSet<String>,
    /// Submodules of the index.
    submodules: BTreeSet<String>,
}

impl std::fmt::Debug for Ignored<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ignored").field("top", &self.top).finish()
    }
}

impl Repository {
    /// What is left out of the work tree; `top` is its folder, as paths begin with it.
    pub fn ignored(&self, top: &Path) -> Result<Ignored<'_>, ReadError> {
        let (mut tracked, mut submodules) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.git.index()?.iter() {
            let Ok(path) = String::from_utf8(entry.path) else {
                continue;
            };
            if entry.mode == u32::from(FileMode::Commit) {
                submodules.insert(path);
            } else if is_policy_file(&path) {
                tracked.insert(path);
            }
        }
        Ok(Ignored {
            repository: self,
            top: top.to_path_buf(),
            tracked,
            submodules,
        })
    }
}

impl Ignored<'_> {
    /// Whether a commit of everything would leave this file out, or everything in this folder.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.top).ok();
        let Some(inside) = inside.and_then(Path::to_str) else {
            return false;
        };
        if inside.is_empty() || self.is_tracked(inside) {
            return false;
        }
        let git = &self.repository.git;
        // What git can't say is read: too much is seen, too little is not.
        git.is_path_ignored(inside).unwrap_or(false)
    }

    /// Whether a commit of everything would have a submodule here, and nothing of what is in this folder: one that is
    /// tracked, or another repository, which `git add` makes one of.
    pub fn is_submodule(&self, folder: &Path) -> bool {
        let inside = folder.strip_prefix(&self.top).ok();
        let Some(inside) = inside.and_then(Path::to_str) else {
            return false;
        };
        if inside.is_empty() {
            return false;
        }
        self.submodules.contains(inside)
            || folder.join(".git").exists() && !self.is_tracked(inside) && !self.leaves_out(folder)
    }

    /// Whether it is tracked, or holds what is.
    fn is_tracked(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let mut after = self.tracked.range(below.clone()..);
        self.tracked.contains(path) || after.next().is_some_and(|next| next.starts_with(&below))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_ignored_and_not_tracked_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(folder.path()).unwrap();
        let git = git2::Repository::init(&top).unwrap();
        for path in ["kept.kdl", "draft.kdl", "old/a.kdl", "out/b.kdl", "new.kdl"] {
            fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
            fs::write(top.join(path), "").unwrap();
        }
        let mut index = git.index().unwrap();
        index.add_path(Path::new("kept.kdl")).unwrap();
        index.add_path(Path::new("old/a.kdl")).unwrap();
        index.write().unwrap();
        fs::write(top.join(".gitignore"), "kept.kdl\ndraft.kdl\nold/\nout/\n").unwrap();
        let repository = Repository::open(&top).unwrap();
        let ignored = repository.ignored(&top).unwrap();
        let out = |path: &str| ignored.leaves_out(&top.join(path));
        assert!(out("draft.kdl") && out("out") && out("out/b.kdl"));
        assert!(!out("kept.kdl") && !out("old") && !out("old/a.kdl") && !out("new.kdl"));
        assert!(!ignored.leaves_out(&top) && !ignored.leaves_out(Path::new("/")));
    }

    #[test]
    fn submodules_are_those_of_the_index_and_other_repositories() {
        let folder = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(folder.path()).unwrap();
        let git = git2::Repository::init(&top).unwrap();
        for path in ["shared", "cloned", "ours", "out"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        for path in ["cloned", "ours", "out"] {
            git2::Repository::init(top.join(path)).unwrap();
        }
        fs::write(top.join("ours/a.kdl"), "").unwrap();
        fs::write(top.join(".gitignore"), "out/\n").unwrap();
        let mut index = git.index().unwrap();
        let entry = |mode: FileMode, path: &str, id| git2::IndexEntry {
            ctime: git2::IndexTime::new(0, 0),
            mtime: git2::IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: mode.into(),
            uid: 0,
            gid: 0,
            file_size: 0,
            id,
            flags: 0,
            flags_extended: 0,
            path: path.as_bytes().to_vec(),
        };
        let blob = git.blob(b"").unwrap();
        let commit = git2::Oid::from_str("0123456789012345678901234567890123456789").unwrap();
        index
            .add(&entry(FileMode::Commit, "shared", commit))
            .unwrap();
        index
            .add(&entry(FileMode::Blob, "ours/a.kdl", blob))
            .unwrap();
        index.write().unwrap();
        let repository = Repository::open(&top).unwrap();
        let ignored = repository.ignored(&top).unwrap();
        let is_submodule = |path: &str| ignored.is_submodule(&top.join(path));
        assert!(is_submodule("shared") && is_submodule("cloned"));
        assert!(!is_submodule("ours") && !is_submodule("out") && !ignored.is_submodule(&top));
    }
}
