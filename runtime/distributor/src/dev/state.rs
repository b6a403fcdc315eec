//! The folder that one `meshd dev` keeps everything in. A lock in it is held for as long as the process
//! lives, however it ends: a second `meshd dev` sees that the folder is in use, and a later one may remove
//! what a killed one has left, development keys above all.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DevArguments, DevError};

/// What folders of our own making are called.
const SCRATCH: &str = "meshd-dev-";
/// Folders below that of temporary files that may be left behind, by the start of their names, and where
/// in them the lock is. The second is what `cargo xtask demo` makes.
const LEFT_BEHIND: [(&str, &str); 2] = [(SCRATCH, ""), ("mesh-demo-", "dev")];
const LOCK: &str = "owner.lock";

/// The folder, held.
#[derive(Debug)]
pub(super) struct StateFolder {
    path: PathBuf,
    /// Whether it outlives the process.
    kept: bool,
    /// Removed at the end.
    remove: Vec<PathBuf>,
    /// Closing it lets go of the lock.
    _owner: File,
}

impl StateFolder {
    /// Takes the folder that the user names, or a new temporary one; first removes those that killed
    /// processes have left.
    pub(super) async fn open(arguments: &DevArguments) -> Result<Self, DevError> {
        let mut scratch: Vec<PathBuf> = arguments.remove_at_end.iter().cloned().collect();
        let temporary = std::env::temp_dir();
        let path = match &arguments.state {
            Some(state) => {
                make_folder(state)?;
                state.clone()
            }
            None => {
                let made = tempfile::Builder::new()
                    .prefix(SCRATCH)
                    .permissions(Permissions::from_mode(0o700))
                    .tempdir_in(&temporary)
                    .map_err(|error| DevError::Io("cannot make a temporary folder", error))?
                    .keep();
                scratch.push(made.clone());
                made
            }
        };
        let owner = match hold(&path) {
            Ok(owner) => owner,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(DevError::Arguments(format!(
                    "{}{} is in use by another `meshd dev`; end that one, or give this one another --state",
                    path.display(),
                    owner_of(&path)
                )));
            }
            Err(error) => return Err(DevError::Io("cannot lock the state folder", error)),
        };
        for (folder, _held) in left_behind(&temporary, &path) {
            remove(&folder).await;
        }
        Ok(Self {
            kept: scratch.is_empty(),
            path,
            remove: scratch,
            _owner: owner,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there after the end, for whoever wants to read the logs.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// Removes what is not to stay. Children that still end may write a last time into it.
    pub(super) async fn close(self) {
        for folder in &self.remove {
            remove(folder).await;
        }
    }
}

async fn remove(folder: &Path) {
    for _ in 0..50 {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::warn!(folder = %folder.display(), "could not remove the folder");
}

/// Makes a folder that nobody else may look into.
pub(super) fn make_folder(folder: &Path) -> Result<(), DevError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| DevError::Io("cannot make the state folder", error))
}

/// Takes the lock of a folder; `WouldBlock` while another process has it. A lock file is never there
/// without being locked by whoever made it, so that nobody takes a folder that just begins for one that
/// was left behind.
fn hold(folder: &Path) -> io::Result<File> {
    let place = folder.join(LOCK);
    let aside = folder.join(format!("{LOCK}.{}", std::process::id()));
    let mut made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    try_lock(&made)?;
    writeln!(made, "{}", std::process::id())?;
    let linked = std::fs::hard_link(&aside, &place);
    std::fs::remove_file(&aside)?;
    match linked {
        Ok(()) => Ok(made),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut there = OpenOptions::new().read(true).write(true).open(&place)?;
            try_lock(&there)?;
            there.set_len(0)?;
            writeln!(there, "{}", std::process::id())?;
            Ok(there)
        }
        Err(error) => Err(error),
    }
}

fn try_lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryLockError::Error(error) => error,
    })
}

/// Which process holds it, for people.
fn owner_of(folder: &Path) -> String {
    let mut text = String::new();
    let read =
        File::open(folder.join(LOCK)).and_then(|file| file.take(20).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// Folders whose owners are dead, with their locks: ours, for us alone, of a name that we give. `own` tells
/// who we are.
fn left_behind(temporary: &Path, own: &Path) -> Vec<(PathBuf, File)> {
    let (Ok(entries), Ok(own)) = (std::fs::read_dir(temporary), std::fs::metadata(own)) else {
        return Vec::new();
    };
    let abandoned = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let mut places = LEFT_BEHIND.iter();
        let (_, below) = places.find(|(start, _)| name.starts_with(start))?;
        let folder = entry.path();
        let held = abandoned(&folder, below, own.uid())?;
        Some((folder, held))
    };
    entries.flatten().filter_map(abandoned).collect()
}

/// The lock of a folder whose owner is dead.
fn abandoned(folder: &Path, below: &str, uid: u32) -> Option<File> {
    // Not followed: a link of this name could lead anywhere.
    let about = std::fs::symlink_metadata(folder).ok()?;
    if !about.is_dir() || about.uid() != uid || about.mode() & 0o077 != 0 {
        return None;
    }
    let place = folder.join(below).join(LOCK);
    let lock = OpenOptions::new().read(true).write(true).open(place).ok()?;
    lock.try_lock().ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(folder: &Path) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .unwrap();
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = hold(folder.path()).unwrap();
        let second = hold(folder.path()).map_err(|error| error.kind());
        assert_eq!(second.err(), Some(io::ErrorKind::WouldBlock));
        assert_eq!(
            owner_of(folder.path()),
            format!(" (process {})", std::process::id())
        );
        drop(first);
        drop(hold(folder.path()).unwrap());
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn what_dead_owners_left_is_found_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let below = |name: &str| temporary.path().join(name);
        let names = [
            "meshd-dev-dead",
            "meshd-dev-lives",
            "meshd-dev-begins",
            "mesh-demo-dead",
            "meshd-other",
        ];
        for name in names {
            private(&below(name));
        }
        private(&below("mesh-demo-dead/dev"));
        let outside = tempfile::tempdir().unwrap();
        drop(hold(outside.path()).unwrap());
        std::os::unix::fs::symlink(outside.path(), below("meshd-dev-link")).unwrap();
        drop(hold(&below("meshd-dev-dead")).unwrap());
        drop(hold(&below("mesh-demo-dead/dev")).unwrap());
        drop(hold(&below("meshd-other")).unwrap());
        let lives = hold(&below("meshd-dev-lives")).unwrap();
        let mut left: Vec<PathBuf> = left_behind(temporary.path(), temporary.path())
            .into_iter()
            .map(|(folder, _held)| folder)
            .collect();
        left.sort();
        assert_eq!(left, [below("mesh-demo-dead"), below("meshd-dev-dead")]);
        assert!(outside.path().join(LOCK).exists());
        drop(lives);
    }
}
