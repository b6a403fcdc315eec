//! What the kernel says of a process, and where it may run.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use mesh_tests::{Failure, Running, wait_until, workspace_root};

/// The processor of what is measured, and that of all that is not.
pub(super) const MEASURED: &str = "0";
pub(super) const OTHERS: &str = "1";
/// What `/proc/PID/stat` counts in: Linux has shown programs hundredths of seconds ever since.
const TICKS_PER_SECOND: f64 = 100.0;
const START_LIMIT: Duration = Duration::from_secs(20);

/// A command on one processor.
pub(super) fn on(processor: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", processor]).arg(program);
    command.stdin(Stdio::null());
    command
}

/// A program that is not ours, if it is there: the tools of CI first, and where only root's `PATH` leads.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let own = workspace_root().join("target/ci-tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A port of loopback that nobody has just now.
pub(super) fn free_port() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Waits until a process listens.
pub(super) fn wait_listening(process: &mut Running, at: SocketAddr) -> Result<(), Failure> {
    wait_until("a proxy listens", START_LIMIT, || {
        if let Some(status) = process.ended()? {
            return Ok(Err(Failure::new(format!("it ended with {status}"))));
        }
        TcpStream::connect(at)?;
        Ok(Ok(()))
    })?
}

/// Seconds of processor time that a process has had, user and system.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(')').unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || -> Result<f64, Failure> {
        let field = ticks
            .next()
            .ok_or_else(|| Failure::new("no processor time"))?;
        Ok(field.parse()?)
    };
    Ok((next()? + next()?) / TICKS_PER_SECOND)
}

/// Resident memory of a process.
pub(super) fn resident_mib(pid: u32) -> Result<f64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.ok_or_else(|| Failure::new("no VmRSS"))?.parse()?;
    Ok(kib / 1024.0)
}
