//! Which files of the work tree git leaves out: what is ignored and not tracked will be in no commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::is_policy_file;
use crate::repository::{ReadError, Repository};

/// What git leaves out of a work tree.
pub struct Ignored<'r> {
    repository: &'r Repository,
    /// Where the work tree begins.
    top: PathBuf,
    /// Policy files of the index, which are no longer ignored.
    tracked: BTreeSet<String>,
}

impl std::fmt::Debug for Ignored<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ignored").field("top", &self.top).finish()
    }
}

impl Repository {
    /// What is left out of the work tree; `top` is its folder, as paths begin with it.
    pub fn ignored(&self, top: &Path) -> Result<Ignored<'_>, ReadError> {
        let index = self.git.index()?;
        let paths = index.iter().map(|entry| entry.path);
        let paths = paths.filter_map(|path| String::from_utf8(path).ok());
        Ok(Ignored {
            repository: self,
            top: top.to_path_buf(),
            tracked: paths.filter(|path| is_policy_file(path)).collect(),
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
}
