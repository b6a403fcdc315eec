//! `meshp redirect`: sends the connections of a network namespace through its proxy, and lets them go
//! their own way again. It knows nothing of policy, and needs no running proxy.

pub(crate) mod args;
mod firewall;
mod rules;

use std::io::{self, Write as _};
use std::path::Path;

use args::{Family, RedirectCommand, Wanted};
use firewall::{Firewall, FirewallError};
use rules::Redirection;

/// There when the kernel has IPv6.
const IPV6: &str = "/proc/net/if_inet6";

/// Carries a command out.
pub(crate) fn run(command: &RedirectCommand) -> Result<(), FirewallError> {
    match command {
        RedirectCommand::Print(arguments) => {
            let redirection = arguments.redirection();
            let texts: Vec<_> = families(arguments.family)
                .iter()
                .map(|family| redirection.script(*family))
                .collect();
            say(&texts.join("\n"))
        }
        RedirectCommand::Apply(arguments) => apply(&arguments.redirection(), arguments.family),
        RedirectCommand::Remove { family } => remove(*family),
    }
}

/// Loads the rules of every family, or of none.
fn apply(redirection: &Redirection, wanted: Wanted) -> Result<(), FirewallError> {
    firewall::may_change()?;
    let mut before: Vec<Firewall> = Vec::new();
    for family in present(wanted)? {
        let firewall = Firewall::read(family)?;
        if let Err(error) = firewall.apply(redirection) {
            // Half a redirection would let the other half slip past.
            for changed in &before {
                changed.restore()?;
            }
            return Err(error);
        }
        before.push(firewall);
    }
    let names: Vec<_> = before.iter().map(|each| each.family().name()).collect();
    let summary = redirection.summary();
    say(&format!("{} redirected: {summary}\n", names.join(" and ")))
}

fn remove(wanted: Wanted) -> Result<(), FirewallError> {
    firewall::may_change()?;
    let mut removed = Vec::new();
    for family in present(wanted)? {
        let firewall = Firewall::read(family)?;
        if firewall.remove()? {
            removed.push(family.name());
        }
    }
    if removed.is_empty() {
        return say("nothing was redirected\n");
    }
    say(&format!("{} no longer redirected\n", removed.join(" and ")))
}

fn families(wanted: Wanted) -> Vec<Family> {
    match wanted {
        Wanted::Both => vec![Family::Ipv4, Family::Ipv6],
        Wanted::Ipv4 => vec![Family::Ipv4],
        Wanted::Ipv6 => vec![Family::Ipv6],
    }
}

/// The families that this kernel has. What it has not, nothing can slip past by.
fn present(wanted: Wanted) -> Result<Vec<Family>, FirewallError> {
    let mut families = families(wanted);
    if !Path::new(IPV6).exists() {
        families.retain(|family| *family != Family::Ipv6);
    }
    if families.is_empty() {
        return Err(FirewallError::NoIpv6);
    }
    Ok(families)
}

fn say(text: &str) -> Result<(), FirewallError> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(FirewallError::Print),
    }
}
