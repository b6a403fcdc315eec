//! A clock that lies: what programs take for the time of day is moved while they run, by libfaketime. Clocks that only
//! count on are left alone, as a wrong date leaves them alone.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_tests::Failure;

use crate::mesh::With;
use crate::say;

/// The clock of whatever was started with it.
pub(crate) struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// One that is right; none where the library is missing, which is then said.
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Option<Self>, Failure> {
        let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|system| format!("/usr/lib/{system}/faketime/libfaketime.so.1"))
            .map(PathBuf::from)
            .into_iter()
            .find(|library| library.is_file());
        let Some(library) = library else {
            let lacking = "libfaketime is not there; `.ci/run` installs it";
            if std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required") {
                return Err(Failure::new(lacking));
            }
            let case = std::thread::current();
            say(&format!(
                "SKIPPED {}: {lacking}",
                case.name().unwrap_or("a drill")
            ));
            return Ok(None);
        };
        let clock = Self {
            file: folder.join(name),
            library,
        };
        clock.set("+0s")?;
        Ok(Some(clock))
    }

    /// Moves it: `+11m` is eleven minutes ahead of the true time.
    pub(crate) fn set(&self, offset: &str) -> Result<(), Failure> {
        let aside = self.file.with_extension("new");
        fs::write(&aside, offset)?;
        Ok(fs::rename(aside, &self.file)?)
    }

    /// For programs that go by it.
    pub(crate) fn with(&self, arguments: &[&str]) -> With {
        With {
            before: format!(
                "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
                 DONT_FAKE_MONOTONIC=1",
                self.library.display(),
                self.file.display()
            ),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        }
    }
}
