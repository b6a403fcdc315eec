//! The policy files of a commit.

use aws_lc_rs::digest::{Context, SHA256};
use git2::{ObjectType, Oid, Tree};
use mesh_syntax::{SourceSet, limits as source_limits};

use crate::limits;
use crate::link::{LinkedFolder, led_to};
use crate::repository::{CommitId, ReadError, Repository};
use crate::root::{is_hidden, is_policy_name};

/// Git's mode of a symbolic link.
const SYMLINK: i32 = 0o120_000;

/// What was found below a root, not yet read.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    path: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    File(Oid),
    Refused(&'static str),
    /// A link that is no policy file.
    Link(Oid),
}

impl Repository {
    /// The policy files of a commit below `root_path` (empty: all of it), ascending by path. Their paths are relative to
    /// the repository. Links and submodules are refused files of the set, and what is too large is known by its size.
    pub fn policy_files(&self, commit: CommitId, root_path: &str) -> Result<SourceSet, ReadError> {
        let mut entries = self.entries(commit, root_path)?;
        entries.sort();
        let mut sources = SourceSet::new();
        for entry in entries {
            match entry.what {
                What::Refused(why) => drop(sources.add_refused(entry.path, why)),
                What::File(id) => self.add_file(&mut sources, entry.path, id)?,
                What::Link(id) => {
                    if let Some(folder) = self.linked_folder(commit, &entry.path, id)? {
                        sources.add_passed(entry.path, folder.why());
                    }
                }
            }
        }
        Ok(sources)
    }

    fn add_file(&self, sources: &mut SourceSet, path: String, id: Oid) -> Result<(), ReadError> {
        match self.check_size(id, source_limits::FILE_BYTES_MAX) {
            Ok(_) => {
                sources.add(path, self.git.find_blob(id)?.content().to_vec());
                Ok(())
            }
            Err(ReadError::TooLarge { bytes, .. }) => {
                sources.add_too_large(path, bytes as u64);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Every policy file, link and submodule below a folder.
    fn entries(&self, commit: CommitId, root_path: &str) -> Result<Vec<Entry>, ReadError> {
        let mut found = Vec::new();
        let mut visited = 0;
        let mut folders = vec![(self.folder(commit, root_path)?, root_path.to_owned(), 0)];
        while let Some((folder, path, depth)) = folders.pop() {
            self.check_size(folder, limits::TREE_BYTES_MAX)?;
            let tree = self.git.find_tree(folder)?;
            visited += tree.len();
            if visited > limits::ENTRIES_MAX || depth > limits::FOLDER_DEPTH_MAX {
                return Err(ReadError::TooMany(limits::ENTRIES_MAX));
            }
            for entry in &tree {
                // A name that is not UTF-8 gets a replacement character, and stays unique enough to be found.
                let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                match entry.kind() {
                    _ if is_hidden(&name) => {}
                    Some(ObjectType::Tree) => folders.push((entry.id(), path, depth + 1)),
                    Some(ObjectType::Commit) => found.push(Entry {
                        path,
                        what: What::Refused(SUBMODULE),
                    }),
                    Some(ObjectType::Blob) if is_policy_name(&name) => {
                        let link = entry.filemode() == SYMLINK;
                        let what = if link {
                            What::Refused(LINK)
                        } else {
                            What::File(entry.id())
                        };
                        found.push(Entry { path, what });
                    }
                    Some(ObjectType::Blob) if entry.filemode() == SYMLINK => found.push(Entry {
                        path,
                        what: What::Link(entry.id()),
                    }),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Whether a link leads to a folder, or out of the repository; none: to a file, or nowhere.
    fn linked_folder(
        &self,
        commit: CommitId,
        link: &str,
        id: Oid,
    ) -> Result<Option<LinkedFolder>, ReadError> {
        let mut at = link.to_owned();
        let mut id = id;
        for _ in 0..limits::LINKS_MAX {
            self.check_size(id, limits::LINK_BYTES_MAX)?;
            let blob = self.git.find_blob(id)?;
            let Ok(target) = str::from_utf8(blob.content()) else {
                return Ok(None);
            };
            let Some(target) = led_to(&at, target) else {
                return Ok(Some(LinkedFolder::Outside));
            };
            let (mut found, mut walked) = (Found::Folder(self.tree_id(commit)?.0), String::new());
            let mut names = target.split('/').filter(|name| !name.is_empty());
            while let Found::Folder(folder) = found {
                let Some(name) = names.next() else {
                    return Ok(Some(LinkedFolder::Within));
                };
                self.check_size(folder, limits::TREE_BYTES_MAX)?;
                let tree = self.git.find_tree(folder)?;
                if !walked.is_empty() {
                    walked.push('/');
                }
                walked.push_str(name);
                found = match tree.get_name(name) {
                    Some(entry) if entry.kind() == Some(ObjectType::Tree) => {
                        Found::Folder(entry.id())
                    }
                    Some(entry) if entry.filemode() == SYMLINK => Found::Link(entry.id()),
                    _ => Found::Else,
                };
            }
            let Found::Link(next) = found else {
                return Ok(None);
            };
            // What stands behind a link on the way does not matter: whether it leads out does, and else it is a folder.
            if names.next().is_some() {
                return Ok(Some(LinkedFolder::Within));
            }
            (at, id) = (walked, next);
        }
        Ok(None)
    }

    fn folder(&self, commit: CommitId, root_path: &str) -> Result<Oid, ReadError> {
        let mut folder = self.tree_id(commit)?.0;
        for name in root_path.split('/').filter(|name| !name.is_empty()) {
            self.check_size(folder, limits::TREE_BYTES_MAX)?;
            let tree: Tree<'_> = self.git.find_tree(folder)?;
            folder = match tree.get_name(name) {
                Some(entry) if entry.kind() == Some(ObjectType::Tree) => entry.id(),
                _ => return Err(ReadError::NoFolder(root_path.to_owned())),
            };
        }
        Ok(folder)
    }
}

/// What stands at a place of a commit.
enum Found {
    Folder(Oid),
    Link(Oid),
    Else,
}

const LINK: &str = "this is a symbolic link; a policy file is a file of its own";
/// What is said of a submodule, wherever it is found.
pub const SUBMODULE: &str = "this is a submodule; policies are files of the repository itself";

/// SHA-256 over paths and contents of the files, ascending by path, each with its length before it: what a generation
/// says it was compiled from.
pub fn input_digest(sources: &SourceSet) -> [u8; 32] {
    let mut files: Vec<_> = sources
        .files()
        .map(|file| (sources.path(file), sources.text(file).unwrap_or_default()))
        .collect();
    files.sort_unstable();
    let mut context = Context::new(&SHA256);
    for (path, text) in files {
        for part in [path.as_bytes(), text.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
