//! Programs that the cases need and that are not ours.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Failure, workspace_root};

/// What every case needs.
const ALWAYS: [&str; 8] = [
    "ip",
    "unshare",
    "nsenter",
    "setpriv",
    "iptables-restore",
    "ip6tables-restore",
    "curl",
    "nginx",
];

/// Whether a case can run: it may make network namespaces, and these programs are there too. Otherwise it
/// says so, past the harness that keeps what passing tests say.
pub fn ready(more: &[&str]) -> Result<bool, Failure> {
    if !is_root()? {
        return skipped("network namespaces need root");
    }
    let names = ALWAYS.iter().chain(more);
    let missing: Vec<_> = names.filter(|name| find(name).is_none()).copied().collect();
    if missing.is_empty() {
        return if may_redirect()? {
            Ok(true)
        } else {
            // Root of a container, say, that has neither CAP_SYS_ADMIN nor CAP_NET_ADMIN.
            skipped("this root may not make network namespaces, or redirect in them")
        };
    }
    let lacking = format!("{} not there; `.ci/run` installs it", missing.join(", "));
    if std::env::var_os("MESH_CI_TOOLS").is_some_and(|wanted| wanted == "required") {
        return Err(Failure::new(lacking));
    }
    skipped(&lacking)
}

fn skipped(why: &str) -> Result<bool, Failure> {
    let case = std::thread::current();
    let case = case.name().unwrap_or("a case");
    writeln!(std::io::stderr(), "SKIPPED {case}: {why}")?;
    Ok(false)
}

/// Where a program is; the tools of CI first, and where only root's `PATH` leads.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::iter::once(workspace_root().join("target/ci-tools/bin"))
        .chain(std::env::split_paths(&path))
        .chain(others)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The same for what [`ready`] has found.
pub fn tool(name: &str) -> Result<PathBuf, Failure> {
    find(name).ok_or_else(|| Failure::new(format!("{name} is not there")))
}

fn may_redirect() -> Result<bool, Failure> {
    let mut command = Command::new(tool("unshare")?);
    command
        .arg("--net")
        .arg(tool("iptables-restore")?)
        .arg("--test");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let rule = "*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n";
        // One that may not even start does not read.
        drop(input.write_all(rule.as_bytes()));
    }
    Ok(child.wait()?.success())
}

fn is_root() -> Result<bool, Failure> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}
