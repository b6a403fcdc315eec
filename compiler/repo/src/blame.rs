//! Since which commit each line of a file is as it is.

use std::path::Path;

use git2::{BlameOptions, ErrorCode};

use crate::history::HistoryError;
use crate::repository::{CommitId, Repository};

/// A commit that wrote a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// The commit.
    pub commit: CommitId,
    /// When it was made, in seconds of Unix time, as it says itself.
    pub time: i64,
    /// Who made it, as it says itself.
    pub author: String,
}

impl Repository {
    /// For each line of a text, which may differ from what `head` has at this path, the commit that wrote it last; none:
    /// it is not committed. A history that is not whole would name the wrong ones, and is refused.
    pub fn lines_since(
        &self,
        head: CommitId,
        path: &str,
        text: &str,
    ) -> Result<Vec<Option<Since>>, HistoryError> {
        self.refuse_partial_history()?;
        let lines = text.lines().count();
        let mut options = BlameOptions::new();
        options.newest_commit(head.0);
        let blame = match self.git.blame_file(Path::new(path), Some(&mut options)) {
            Ok(blame) => blame,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(vec![None; lines]),
            Err(error) => return Err(error.into()),
        };
        let blame = blame.blame_buffer(text.as_bytes())?;
        let mut since = Vec::with_capacity(lines);
        for line in 1..=lines {
            let id = blame.get_line(line).map(|hunk| hunk.final_commit_id());
            since.push(match id {
                Some(id) if !id.is_zero() => {
                    let commit = self.git.find_commit(id)?;
                    let author = commit.author();
                    Some(Since {
                        commit: CommitId(id),
                        time: commit.time().seconds(),
                        author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
                    })
                }
                _ => None,
            });
        }
        Ok(since)
    }
}
