//! What a process has of memory, as the system tells it.

use std::fs;

use mesh_tests::Failure;

/// Of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory(u32);

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        Self(process)
    }

    /// Resident bytes that no file backs.
    pub(crate) fn own(self) -> Result<usize, Failure> {
        self.line("RssAnon:")
    }

    /// All resident bytes.
    pub(crate) fn resident(self) -> Result<usize, Failure> {
        self.line("VmRSS:")
    }

    /// The most since it was forgotten.
    pub(crate) fn peak(self) -> Result<usize, Failure> {
        self.line("VmHWM:")
    }

    /// Forgets the peak; proc(5), `clear_refs`.
    pub(crate) fn forget_peak(self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    fn line(self, name: &str) -> Result<usize, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap_or_default().trim().trim_end_matches(" kB");
        Ok(kib.parse::<usize>()? * 1024)
    }
}

/// In MiB, for people.
pub(crate) fn mib(bytes: usize) -> String {
    format!("{}.{}", bytes >> 20, ((bytes >> 10) % 1024) * 10 / 1024)
}
