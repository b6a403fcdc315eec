//! A folder that only this user can write: what the distributor remembers lives in one. Files
//! are replaced whole, and are on the disk before anyone is told of them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW};

/// Bits of a mode that let anyone but the owner in.
const OTHERS: u32 = 0o077;

/// A private folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Why a folder or file cannot be trusted or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Something failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not a folder, or a link to one.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Someone else owns it.
    #[error("{} belongs to another user", .0.display())]
    Owner(PathBuf),
    /// Someone else could read or change it.
    #[error("{} is open to other users (mode {mode:03o}); it must be 700 for a folder, 600 for a file", path.display())]
    Mode {
        /// Of what.
        path: PathBuf,
        /// The permissions that it has.
        mode: u32,
    },
    /// Larger than its bound.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its bound.
        bytes_max: u64,
    },
}

impl Folder {
    /// Opens a folder, making it when it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let made = DirBuilder::new().mode(0o700).create(path);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", path)(error));
            }
            _ => {}
        }
        let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
        if !metadata.is_dir() {
            return Err(FolderError::NotAFolder(path.to_owned()));
        }
        private(path, &metadata)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// A folder inside this one.
    pub(crate) fn folder(&self, name: &str) -> Result<Self, FolderError> {
        Self::open(&self.path.join(name))
    }

    /// Reads a file; none if there is no such file.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join(name);
        match read_private(&path, bytes_max) {
            Err(FolderError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Replaces a file: a reader, also one after a crash, sees the old bytes or the new.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        self.put(name, bytes)?;
        self.sync()
    }

    /// Makes sure that a crash does not take back what was put before.
    pub(crate) fn sync(&self) -> Result<(), FolderError> {
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync", &self.path))
    }

    /// Replaces a file like [`Folder::write`], one of several that are followed by one
    /// [`Folder::sync`].
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        // A leftover of a crash is ours: the folder admits nobody else.
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed("remove", &temporary)(error));
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW | O_CLOEXEC)
            .open(&temporary)
            .map_err(failed("create", &temporary))?;
        file.write_all(bytes).map_err(failed("write", &temporary))?;
        file.sync_all().map_err(failed("sync", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("replace", &path))
    }

    /// A file to lock; it is empty and stays.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File, FolderError> {
        let path = self.path.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW | O_CLOEXEC)
            .open(&path)
            .map_err(failed("open", &path))
    }

    /// Names of the files, ascending, leftovers excepted.
    pub(crate) fn names(&self) -> Result<Vec<String>, FolderError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let name = entry.map_err(failed("list", &self.path))?.file_name();
            if let Some(name) = name.to_str()
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a file that may be gone already.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FolderError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a file that only this user may read, such as a key.
pub(crate) fn read_private(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(failed("look at", path))?;
    private(path, &metadata)?;
    read_bounded(path, file, bytes_max)
}

/// Reads a file that anyone may read, such as a certificate.
pub(crate) fn read_public(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    read_bounded(path, open(path)?, bytes_max)
}

/// Whether [`create_private`] would work: tried, and nothing left behind.
pub(crate) fn check_creatable(path: &Path) -> Result<(), FolderError> {
    create_private(path, b"")?;
    fs::remove_file(path).map_err(failed("remove", path))
}

/// Creates a file that only this user may read; it must not exist.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW | O_CLOEXEC)
        .open(path)
        .map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

fn open(path: &Path) -> Result<File, FolderError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_CLOEXEC)
        .open(path)
        .map_err(failed("open", path))
}

fn read_bounded(path: &Path, file: File, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(FolderError::TooLarge {
            path: path.to_owned(),
            bytes_max,
        });
    }
    Ok(bytes)
}

fn private(path: &Path, metadata: &fs::Metadata) -> Result<(), FolderError> {
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(FolderError::Owner(path.to_owned()));
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(FolderError::Mode {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        });
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn files_are_replaced_whole_and_private() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("state")).unwrap();
        assert_eq!(folder.read("a", 10).unwrap(), None);
        folder.write("a", b"one").unwrap();
        folder.write("a", b"two").unwrap();
        assert_eq!(folder.read("a", 10).unwrap(), Some(b"two".to_vec()));
        assert_eq!(folder.names().unwrap(), ["a"]);
        let mode = fs::metadata(temporary.path().join("state/a"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            folder.read("a", 2),
            Err(FolderError::TooLarge { .. })
        ));
        folder.remove("a").unwrap();
        folder.remove("a").unwrap();
    }

    #[test]
    fn what_others_may_open_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            Folder::open(&path),
            Err(FolderError::Mode { mode: 0o750, .. })
        ));

        let key = temporary.path().join("head.key");
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read_private(&key, 10),
            Err(FolderError::Mode { mode: 0o640, .. })
        ));
        assert!(read_public(&key, 10).is_ok());
    }

    #[test]
    fn links_are_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(&temporary.path().join("state")).unwrap();
        symlink(
            temporary.path().join("state"),
            temporary.path().join("link"),
        )
        .unwrap();
        assert!(matches!(
            Folder::open(&temporary.path().join("link")),
            Err(FolderError::NotAFolder(_))
        ));
        symlink("/etc/hostname", temporary.path().join("state/a")).unwrap();
        assert!(folder.read("a", 1000).is_err());
    }

    #[test]
    fn a_created_file_is_new() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("join.json");
        check_creatable(&path).unwrap();
        assert!(!path.exists());
        create_private(&path, b"{}").unwrap();
        assert!(create_private(&path, b"{}").is_err());
        assert!(check_creatable(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
