//! A private folder: every file is opened beneath one directory handle, never through a symbolic
//! link, written aside under an exclusive name and renamed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags, fsync, unlinkat};

use super::StoreError;

/// An open folder that nobody else can enter, and no other process has open.
#[derive(Debug)]
pub(super) struct Folder {
    handle: Flock<File>,
    #[cfg(test)]
    pub(super) fault: std::sync::Arc<Fault>,
}

/// Breaks the n-th step from now, as a loss of power would; 0 breaks none.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Fault(pub(super) std::sync::atomic::AtomicUsize);

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the folder")(error));
            }
            _ => {}
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = nix::fcntl::open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| match error {
                Errno::ELOOP | Errno::ENOTDIR => StoreError::NotPrivate("it is not a folder"),
                other => failed("open the folder")(other.into()),
            })?;
        let found = handle.metadata().map_err(failed("look at the folder"))?;
        if found.uid() != Uid::effective().as_raw() {
            return Err(StoreError::NotPrivate("it belongs to another user"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(StoreError::NotPrivate("others may enter it"));
        }
        let handle = Flock::lock(handle, FlockArg::LockExclusiveNonblock).map_err(
            |(_, error)| match error {
                Errno::EWOULDBLOCK => StoreError::InUse,
                other => failed("lock the folder")(other.into()),
            },
        )?;
        Ok(Self {
            handle,
            #[cfg(test)]
            fault: std::sync::Arc::default(),
        })
    }

    /// Reads a whole file, or nothing if there is none.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        // Non-blocking, so that a pipe in the place of a file does not hang the boot.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let file = match self.open_file(name, flags) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(StoreError::Damaged(format!("{name} is a link"))),
            Err(error) => return Err(failed("open a file")(error.into())),
        };
        let found = file.metadata().map_err(failed("look at a file"))?;
        if !found.is_file() || found.uid() != Uid::effective().as_raw() {
            return Err(StoreError::Damaged(format!("{name} is not our file")));
        }
        if found.len() > bytes_max {
            return Err(StoreError::Damaged(format!("{name} is too large")));
        }
        let mut bytes = Vec::new();
        file.take(bytes_max)
            .read_to_end(&mut bytes)
            .map_err(failed("read a file"))?;
        Ok(Some(bytes))
    }

    /// Writes a file aside, makes it last, and gives it its name in one step. That the name lasts too
    /// needs [`Folder::sync`].
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let aside = format!(".{name}");
        self.step()?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let create = || self.open_file(&aside, flags);
        let mut file = match create() {
            // Left behind by a change that failed while this store was open.
            Err(Errno::EEXIST) => {
                self.remove(&aside)?;
                create()
            }
            other => other,
        }
        .map_err(|error| failed("make a file")(error.into()))?;
        self.write(&mut file, bytes)?;
        self.step()?;
        file.sync_all().map_err(failed("make a file last"))?;
        self.step()?;
        renameat(&*self.handle, aside.as_str(), &*self.handle, name)
            .map_err(|error| failed("name a file")(error.into()))
    }

    /// Makes names last.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.step()?;
        fsync(&*self.handle).map_err(|error| failed("make the folder last")(error.into()))
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.step()?;
        unlinkat(&*self.handle, name, UnlinkatFlags::NoRemoveDir)
            .map_err(|error| failed("remove a file")(error.into()))
    }

    /// Every name that is text; others are not ours and stay.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let listed = failed("list the folder");
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut folder = Dir::openat(&*self.handle, ".", flags, Mode::empty())
            .map_err(|error| listed(error.into()))?;
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry.map_err(|error| listed(error.into()))?;
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn open_file(&self, name: &str, flags: OFlag) -> Result<File, Errno> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file: OwnedFd = openat(self.handle.as_fd(), name, flags, mode)?;
        Ok(File::from(file))
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> Result<(), StoreError> {
        if let Err(power) = self.step() {
            // Half of it may have reached the disk.
            let (half, _) = bytes.split_at(bytes.len() / 2);
            file.write_all(half).map_err(failed("write a file"))?;
            return Err(power);
        }
        file.write_all(bytes).map_err(failed("write a file"))
    }

    /// Where a loss of power is tried out.
    #[cfg(test)]
    fn step(&self) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        match self.fault.0.load(Relaxed) {
            0 => Ok(()),
            1 => Err(failed("lose power")(io::Error::other("injected"))),
            left => {
                self.fault.0.store(left - 1, Relaxed);
                Ok(())
            }
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "only tests break a step"
    )]
    const fn step(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { action, source }
}
