//! The firewall of this network namespace: what is in it of ours, and changing that in one transaction
//! of iptables-restore, which loads all of what it reads or nothing.

use std::io::{self, Write as _};
use std::process::{Child, Command, Output, Stdio};

use super::args::Family;
use super::rules::{CHAINS, Redirection};

/// How long another program may hold the lock of iptables, in seconds.
const LOCK_SECONDS: &str = "10";

/// Bit of `CAP_NET_ADMIN` in the sets of capabilities(7).
const NET_ADMIN: u64 = 1 << 12;

/// Why the firewall was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    /// No rights.
    #[error(
        "changing the firewall needs CAP_NET_ADMIN: run it as root of this network namespace; `meshp redirect print` shows the rules to whoever may"
    )]
    NoRights,
    /// No program.
    #[error(
        "{program} is not installed; it comes with the package iptables (1.8 or later, for nftables)"
    )]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// The program could not be run.
    #[error("run {program}")]
    Run {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The program refuses.
    #[error("{program} refuses: {said}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// In its words.
        said: String,
    },
    /// `--family ipv6`, without IPv6.
    #[error("this kernel has no IPv6")]
    NoIpv6,
    /// What was to be said could not be.
    #[error("write to standard output")]
    Print(#[source] io::Error),
}

/// Refuses early, and in better words than iptables has.
pub(super) fn may_change() -> Result<(), FirewallError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    match set {
        Some(set) if set & NET_ADMIN == 0 => Err(FirewallError::NoRights),
        // Without /proc iptables is to say it.
        _ => Ok(()),
    }
}

/// The table `nat` of one family, as far as it is ours, as it was when it was read.
#[derive(Debug)]
pub(super) struct Firewall {
    family: Family,
    /// Of our chains, those that are there.
    chains: Vec<&'static str>,
    /// Jumps to them from other chains, as iptables-save writes them.
    jumps: Vec<String>,
    /// The rules in them.
    rules: Vec<String>,
}

impl Firewall {
    /// Reads what is there.
    pub(super) fn read(family: Family) -> Result<Self, FirewallError> {
        let program = match family {
            Family::Ipv4 => "iptables-save",
            Family::Ipv6 => "ip6tables-save",
        };
        let saved = execute(program, &["-t", "nat"], "")?;
        Ok(Self::parse(family, &String::from_utf8_lossy(&saved.stdout)))
    }

    fn parse(family: Family, saved: &str) -> Self {
        let mut firewall = Self {
            family,
            chains: Vec::new(),
            jumps: Vec::new(),
            rules: Vec::new(),
        };
        for line in saved.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("-A"), Some(chain)) if CHAINS.contains(&chain) => {
                    firewall.rules.push(line.to_owned());
                }
                (Some("-A"), Some(_)) if words.any(|word| CHAINS.contains(&word)) => {
                    firewall.jumps.push(line.to_owned());
                }
                (Some(first), _) => {
                    let name = first.strip_prefix(':');
                    let ours = CHAINS.into_iter().find(|chain| name == Some(chain));
                    firewall.chains.extend(ours);
                }
                (None, _) => {}
            }
        }
        firewall
    }

    /// Whose addresses it is about.
    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Makes the redirection what is in force, whatever was before.
    pub(super) fn apply(&self, redirection: &Redirection) -> Result<(), FirewallError> {
        let lines = redirection.lines(self.family).into_iter();
        let lines: Vec<_> = lines.map(|(_, line)| line).collect();
        self.load(&self.replacing(&CHAINS, &lines))
    }

    /// Takes out everything of ours; says whether there was anything.
    pub(super) fn remove(&self) -> Result<bool, FirewallError> {
        if self.chains.is_empty() {
            return Ok(false);
        }
        self.load(&self.replacing(&[], &[]))?;
        Ok(true)
    }

    /// Makes what was read here what is in force again.
    pub(super) fn restore(&self) -> Result<(), FirewallError> {
        let chains = self.chains.iter().map(|chain| format!(":{chain} - [0:0]"));
        let jumps = self.jumps.iter().filter_map(|jump| {
            let (chain, rest) = jump.strip_prefix("-A ")?.split_once(' ')?;
            Some(format!("-I {chain} 1 {rest}"))
        });
        let rules = self.rules.iter().cloned();
        let lines: Vec<_> = chains.chain(jumps).chain(rules).collect();
        self.load(&Self::read(self.family)?.replacing(&self.chains, &lines))
    }

    /// A script that takes out what was read and puts `lines` in its place, which declare `chains`.
    fn replacing(&self, chains: &[&str], lines: &[String]) -> String {
        let mut script = vec!["*nat".to_owned()];
        let jumps = self
            .jumps
            .iter()
            .filter_map(|jump| jump.strip_prefix("-A "));
        script.extend(jumps.map(|jump| format!("-D {jump}")));
        let gone = || self.chains.iter().filter(|chain| !chains.contains(chain));
        // All are emptied first, as one may lead to another.
        script.extend(gone().map(|chain| format!("-F {chain}")));
        script.extend(gone().map(|chain| format!("-X {chain}")));
        script.extend_from_slice(lines);
        script.push("COMMIT\n".to_owned());
        script.join("\n")
    }

    /// Loads a script, whole or not at all.
    fn load(&self, script: &str) -> Result<(), FirewallError> {
        let program = match self.family {
            Family::Ipv4 => "iptables-restore",
            Family::Ipv6 => "ip6tables-restore",
        };
        execute(program, &["--noflush", "--wait", LOCK_SECONDS], script).map(drop)
    }
}

/// Runs a program of iptables to its end.
fn execute(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<Output, FirewallError> {
    let failed = |source| FirewallError::Run { program, source };
    let mut child = start(program, arguments)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read everything says why.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(FirewallError::Refused {
        program,
        said: said.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

/// They lie in folders that a user's `PATH` may not have.
fn start(program: &'static str, arguments: &[&str]) -> Result<Child, FirewallError> {
    for folder in ["", "/usr/sbin/", "/sbin/"] {
        let started = Command::new(format!("{folder}{program}"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        match started {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(|source| FirewallError::Run { program, source }),
        }
    }
    Err(FirewallError::NoProgram { program })
}

#[cfg(test)]
mod tests {
    use super::super::rules::Owner;
    use super::*;

    const SAVED: &str = "# Generated by iptables-save v1.8.9 (nf_tables)
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:MESH_INBOUND - [0:0]
:MESH_OUTBOUND - [0:0]
-A OUTPUT -p tcp -j MESH_OUTBOUND
-A OUTPUT -j DOCKER
-A OUTPUT -p tcp -j MESH_OUTBOUND
-A MESH_OUTBOUND -m owner --uid-owner 1337 -j RETURN
COMMIT
";

    /// What is not ours is not named, and a jump goes as often as it is there.
    #[test]
    fn only_what_is_ours_is_taken_out() {
        let firewall = Firewall::parse(Family::Ipv4, SAVED);
        assert_eq!(
            firewall.replacing(&[], &[]),
            "*nat
-D OUTPUT -p tcp -j MESH_OUTBOUND
-D OUTPUT -p tcp -j MESH_OUTBOUND
-F MESH_INBOUND
-F MESH_OUTBOUND
-X MESH_INBOUND
-X MESH_OUTBOUND
COMMIT
"
        );
        assert_eq!(firewall.rules.len(), 1);
    }

    #[test]
    fn a_second_time_adds_no_second_jump() {
        let redirection = Redirection {
            proxy: vec![Owner::Uid(1337)],
            outbound_port: Some(15001),
            ..Redirection::default()
        };
        let lines = redirection.lines(Family::Ipv4).into_iter();
        let lines: Vec<_> = lines.map(|(_, line)| line).collect();
        let script = Firewall::parse(Family::Ipv4, SAVED).replacing(&CHAINS, &lines);
        assert_eq!(
            script.matches("-D OUTPUT -p tcp -j MESH_OUTBOUND").count(),
            2
        );
        assert_eq!(
            script
                .matches("-I OUTPUT 1 -p tcp -j MESH_OUTBOUND")
                .count(),
            1
        );
        assert!(!script.contains("-X"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = execute("no-such-iptables", &[], "")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no-such-iptables is not installed"),
            "{error}"
        );
    }
}
