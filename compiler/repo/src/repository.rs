//! Opening a repository, and reading its objects within bounds.

use std::fmt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, RepositoryOpenFlags};

use crate::limits;

/// A commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(crate) Oid);

/// A tree: what a commit holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(pub(crate) Oid);

impl CommitId {
    /// The raw id.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The id written as 40 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        // libgit2 also takes shorter ones, and fills them up with zeros.
        (text.len() == 40)
            .then(|| Oid::from_str(text).ok().map(Self))
            .flatten()
    }
}

impl TreeId {
    /// The raw id.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitId({self})")
    }
}

impl fmt::Debug for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeId({self})")
    }
}

/// Why a folder could not be opened as a repository.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither it nor, where asked, a folder above it is a repository.
    #[error("{} is not a git repository", .0.display())]
    NotARepository(PathBuf),
    /// It belongs to another user, which git refuses for good reason.
    #[error("{} belongs to another user; `git config --global --add safe.directory` allows it", .0.display())]
    OtherOwner(PathBuf),
    /// git's own words.
    #[error("open the repository {}", .path.display())]
    Git {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: git2::Error,
    },
}

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The repository does not have it, as a partial or damaged copy.
    #[error("object {0} is missing from the repository")]
    Missing(String),
    /// Larger than anything that is policy.
    #[error("object {id} has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Which.
        id: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// More folders or files than a policy root has.
    #[error("the policy root has more than {0} entries, or folders nested more than {max} deep", max = limits::FOLDER_DEPTH_MAX)]
    TooMany(usize),
    /// The commit has no folder of this name.
    #[error("the commit has no folder \"{0}\"")]
    NoFolder(String),
    /// git's own words.
    #[error("read the repository")]
    Git(#[source] git2::Error),
}

impl From<git2::Error> for ReadError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

/// A local repository, bare or not.
pub struct Repository {
    pub(crate) git: git2::Repository,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Repository").field(&self.git.path()).finish()
    }
}

impl Repository {
    /// Opens the repository at this path, and nowhere above it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path.as_ref(), RepositoryOpenFlags::NO_SEARCH)
    }

    /// Opens the repository that this folder is in.
    pub fn discover(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(folder.as_ref(), RepositoryOpenFlags::empty())
    }

    fn open_with(path: &Path, flags: RepositoryOpenFlags) -> Result<Self, OpenError> {
        let nowhere: [&Path; 0] = [];
        match git2::Repository::open_ext(path, flags, nowhere) {
            Ok(git) => Ok(Self { git }),
            Err(error) => Err(match error.code() {
                ErrorCode::NotFound => OpenError::NotARepository(path.to_path_buf()),
                ErrorCode::Owner => OpenError::OtherOwner(path.to_path_buf()),
                _ => OpenError::Git {
                    path: path.to_path_buf(),
                    source: error,
                },
            }),
        }
    }

    /// The work tree; a bare repository has none.
    pub fn work_tree(&self) -> Option<&Path> {
        self.git.workdir()
    }

    /// Whether it has no work tree.
    pub fn is_bare(&self) -> bool {
        self.git.is_bare()
    }

    /// The branch that is checked out and has no commit yet; none where there is a commit.
    pub fn unborn_branch(&self) -> Option<String> {
        let error = self.git.head().err()?;
        if error.code() != ErrorCode::UnbornBranch {
            return None;
        }
        let head = self.git.find_reference("HEAD").ok()?;
        let branch = head.symbolic_target().ok().flatten()?;
        let name = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        Some(name.to_owned())
    }

    /// Whether git takes this for the full name of a ref, such as `refs/heads/main`.
    pub fn is_ref_name(name: &str) -> bool {
        name.starts_with("refs/") && git2::Reference::is_valid_name(name)
    }

    /// The commit that a ref (`refs/heads/main`, `HEAD`) or any other name of a commit stands for; nothing
    /// if there is none of this name.
    pub fn resolve(&self, name: &str) -> Result<Option<CommitId>, ReadError> {
        let object = if name == "HEAD" || name.starts_with("refs/") {
            self.git
                .find_reference(name)
                .and_then(|reference| reference.peel(ObjectType::Commit))
        } else {
            self.git
                .revparse_single(name)
                .and_then(|object| object.peel(ObjectType::Commit))
        };
        match object {
            Ok(commit) => Ok(Some(CommitId(commit.id()))),
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::NotFound | ErrorCode::UnbornBranch | ErrorCode::InvalidSpec
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What a commit holds.
    pub fn tree_id(&self, commit: CommitId) -> Result<TreeId, ReadError> {
        self.check_size(commit.0, limits::COMMIT_BYTES_MAX)?;
        Ok(TreeId(self.git.find_commit(commit.0)?.tree_id()))
    }

    /// Refuses an object that is too large, before it is read.
    pub(crate) fn check_size(&self, id: Oid, max: usize) -> Result<usize, ReadError> {
        let (bytes, _) = self
            .git
            .odb()?
            .read_header(id)
            .map_err(|error| match error.code() {
                ErrorCode::NotFound => ReadError::Missing(id.to_string()),
                _ => error.into(),
            })?;
        if bytes > max {
            return Err(ReadError::TooLarge {
                id: id.to_string(),
                bytes,
                max,
            });
        }
        Ok(bytes)
    }

    /// Policy files of the work tree below this folder that differ from `HEAD`, or are new or gone.
    pub fn uncommitted(&self, root_path: &str) -> Result<Vec<String>, ReadError> {
        let mut options = git2::StatusOptions::new();
        options
            .include_untracked(true)
            .recurse_untracked_dirs(true)
            .include_ignored(false)
            .exclude_submodules(true);
        if !root_path.is_empty() {
            options.pathspec(root_path).disable_pathspec_match(true);
        }
        let statuses = self.git.statuses(Some(&mut options))?;
        let mut paths: Vec<String> = statuses
            .iter()
            .filter_map(|entry| String::from_utf8(entry.path_bytes().to_vec()).ok())
            .filter(|path| crate::is_policy_file(path))
            .collect();
        paths.sort();
        Ok(paths)
    }
}
