//! A commit's place in the order of commits, and what it descends from.

use git2::{ErrorCode, Oid};

use crate::limits;
use crate::repository::{CommitId, ReadError, Repository};

/// Why the history could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Part of the history was left out when it was cloned, so that a count would lie.
    #[error("the repository is a shallow clone; fetch its whole history (`git fetch --unshallow`)")]
    Shallow,
    /// `info/grafts` shows another history than the commits say.
    #[error("the repository has grafts (info/grafts), which hide the true history")]
    Grafts,
    /// More commits than anyone has.
    #[error("the history has more than {max} commits", max = limits::COMMITS_MAX)]
    TooLong,
    /// A commit of the history is missing.
    #[error("a commit of the history is missing from the repository")]
    Missing(#[source] git2::Error),
    /// git's own words.
    #[error("walk the history")]
    Git(#[source] git2::Error),
}

impl From<git2::Error> for HistoryError {
    fn from(error: git2::Error) -> Self {
        if error.code() == ErrorCode::NotFound {
            Self::Missing(error)
        } else {
            Self::Git(error)
        }
    }
}

impl Repository {
    /// The number of commits reachable from this one, itself included: it rises with every fast-forward,
    /// and is the same in every full clone.
    pub fn sequence(&self, commit: CommitId) -> Result<u64, HistoryError> {
        self.refuse_partial_history()?;
        let mut walk = self.git.revwalk()?;
        walk.push(commit.0)?;
        let mut count = 0_u64;
        for commit in walk {
            let _: Oid = commit?;
            count += 1;
            if count > limits::COMMITS_MAX {
                return Err(HistoryError::TooLong);
            }
        }
        Ok(count)
    }

    /// Whether `commit` is `ancestor` or descends from it.
    pub fn is_ancestor(&self, ancestor: CommitId, commit: CommitId) -> Result<bool, HistoryError> {
        self.refuse_partial_history()?;
        if ancestor == commit {
            return Ok(true);
        }
        Ok(self.git.graph_descendant_of(commit.0, ancestor.0)?)
    }

    /// The last commit that both descend from, where the histories part; none: they have none in common, or
    /// it is beyond the edge of a shallow clone.
    pub fn merge_base(
        &self,
        one: CommitId,
        other: CommitId,
    ) -> Result<Option<CommitId>, ReadError> {
        match self.git.merge_base(one.0, other.0) {
            Ok(found) => Ok(Some(CommitId(found))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When a commit was made, in seconds of Unix time, as it says itself.
    pub fn commit_time(&self, commit: CommitId) -> Result<i64, HistoryError> {
        Ok(self.git.find_commit(commit.0)?.time().seconds())
    }

    /// Whether part of the history was left out when it was cloned.
    pub fn is_shallow(&self) -> bool {
        self.git.is_shallow() || self.git.commondir().join("shallow").exists()
    }

    /// libgit2 knows no `refs/replace`, but it does follow these two.
    pub(crate) fn refuse_partial_history(&self) -> Result<(), HistoryError> {
        let common = self.git.commondir();
        if self.is_shallow() {
            return Err(HistoryError::Shallow);
        }
        if common.join("info").join("grafts").exists() {
            return Err(HistoryError::Grafts);
        }
        Ok(())
    }
}
