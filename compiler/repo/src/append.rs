//! Files that are added to a ref, one commit after another, without a work tree: the one way anything is
//! written to a repository.

use std::collections::BTreeMap;

use git2::build::TreeUpdateBuilder;
use git2::{Commit, ErrorCode, FileMode, ObjectType, Oid, Signature, Time};

use crate::limits;
use crate::repository::{CommitId, ReadError, Repository};

/// Who adds files, and what is said about it.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Name of the author.
    pub author: &'a str,
    /// Mail address of the author.
    pub email: &'a str,
    /// Message of the commit.
    pub message: &'a str,
    /// Unix seconds.
    pub at: i64,
}

/// What became of files that were to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The new tip; none: all of it was there.
    pub commit: Option<CommitId>,
    /// Paths where something else is; that stays.
    pub occupied: Vec<String>,
}

/// Why files were not added; the ref is as it was, or as others made it.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// What is there cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The ref names another ref, or no commit.
    #[error("{0} does not name a commit")]
    NotACommit(String),
    /// Others moved or locked the ref each time that it was tried.
    #[error("others kept changing {0}")]
    Contended(String),
    /// git's own words.
    #[error("write the repository")]
    Git(#[source] git2::Error),
}

impl From<git2::Error> for AppendError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

/// What is at a path.
enum Found {
    Nothing,
    Same,
    Other,
}

impl Repository {
    /// Adds files to a ref as one commit on top of its tip; the first one makes the ref. A path that is there
    /// is never written again nor removed, and the ref moves only from the tip that was looked at: if others
    /// move it meanwhile, their commit becomes the parent.
    pub fn append(
        &self,
        reference: &str,
        files: &BTreeMap<String, Vec<u8>>,
        note: &Note<'_>,
    ) -> Result<Appended, AppendError> {
        for _ in 0..limits::APPEND_TRIES {
            let tip = self.tip(reference)?;
            let (commit, occupied) = self.commit_on(tip.as_ref(), files, note)?;
            let Some(commit) = commit else {
                let commit = None;
                return Ok(Appended { commit, occupied });
            };
            let from = tip.map(|tip| tip.id());
            if self.advance(reference, from, commit, note)? {
                let commit = Some(CommitId(commit));
                return Ok(Appended { commit, occupied });
            }
        }
        Err(AppendError::Contended(reference.to_owned()))
    }

    fn tip(&self, reference: &str) -> Result<Option<Commit<'_>>, AppendError> {
        let found = match self.git.find_reference(reference) {
            Ok(found) => found,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let not_a_commit = || AppendError::NotACommit(reference.to_owned());
        let id = found.target().ok_or_else(not_a_commit)?;
        self.check_size(id, limits::COMMIT_BYTES_MAX)?;
        let commit = self.git.find_commit(id).map_err(|_error| not_a_commit())?;
        Ok(Some(commit))
    }

    /// A commit with the files that are missing, on no ref yet; none if none is missing.
    fn commit_on(
        &self,
        tip: Option<&Commit<'_>>,
        files: &BTreeMap<String, Vec<u8>>,
        note: &Note<'_>,
    ) -> Result<(Option<Oid>, Vec<String>), AppendError> {
        let root = match tip {
            Some(tip) => tip.tree_id(),
            None => self.git.treebuilder(None)?.write()?,
        };
        let mut update = TreeUpdateBuilder::new();
        let mut occupied = Vec::new();
        let mut is_new = false;
        for (path, bytes) in files {
            match self.at(root, path, bytes)? {
                Found::Same => {}
                Found::Other => occupied.push(path.clone()),
                Found::Nothing => {
                    is_new = true;
                    update.upsert(path.as_str(), self.git.blob(bytes)?, FileMode::Blob);
                }
            }
        }
        if !is_new {
            return Ok((None, occupied));
        }
        let tree = update.create_updated(&self.git, &self.git.find_tree(root)?)?;
        let tree = self.git.find_tree(tree)?;
        let author = signature(note)?;
        let parents: Vec<_> = tip.into_iter().collect();
        let commit = self
            .git
            .commit(None, &author, &author, note.message, &tree, &parents)?;
        Ok((Some(commit), occupied))
    }

    fn at(&self, root: Oid, path: &str, bytes: &[u8]) -> Result<Found, AppendError> {
        let mut id = root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            self.check_size(id, limits::TREE_BYTES_MAX)?;
            let tree = self.git.find_tree(id)?;
            let Some(entry) = tree.get_name(name) else {
                return Ok(Found::Nothing);
            };
            id = entry.id();
            match entry.kind() {
                Some(ObjectType::Tree) if names.peek().is_some() => {}
                Some(ObjectType::Blob) if names.peek().is_none() => {}
                _ => return Ok(Found::Other),
            }
        }
        let same = Oid::hash_object(ObjectType::Blob, bytes)? == id;
        Ok(if same { Found::Same } else { Found::Other })
    }

    /// Moves the ref if it still is where it was: read, compared and written under git's own lock. Says whether
    /// it moved.
    fn advance(
        &self,
        reference: &str,
        from: Option<Oid>,
        to: Oid,
        note: &Note<'_>,
    ) -> Result<bool, AppendError> {
        let mut transaction = self.git.transaction()?;
        match transaction.lock_ref(reference) {
            Ok(()) => {}
            Err(error) if error.code() == ErrorCode::Locked => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.tip(reference)?.map(|tip| tip.id()) != from {
            return Ok(false);
        }
        let author = signature(note)?;
        transaction.set_target(reference, to, Some(&author), note.message)?;
        transaction.commit()?;
        Ok(true)
    }
}

fn signature(note: &Note<'_>) -> Result<Signature<'static>, git2::Error> {
    Signature::new(note.author, note.email, &Time::new(note.at, 0))
}

#[cfg(test)]
mod tests;
