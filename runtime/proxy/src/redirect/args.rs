//! The arguments of `meshp redirect`.

use std::net::IpAddr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use nix::unistd::{Group, User};

use super::rules::{Owner, Redirection};

/// What to do with the connections of this network namespace.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RedirectCommand {
    /// Send connections through the proxy from now on; a second time changes only what differs
    Apply(Box<RuleArguments>),
    /// Let connections go their own way again
    Remove {
        /// Which addresses.
        #[arg(long, value_name = "WHICH", default_value = "both")]
        family: Wanted,
    },
    /// Print what `apply` loads into iptables-restore and ip6tables-restore; changes nothing, needs no root
    Print(Box<RuleArguments>),
}

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// IPv4, and IPv6 where the kernel has it
    Both,
    /// IPv4 alone; IPv6 then goes past the proxy
    Ipv4,
    /// IPv6 alone; IPv4 then goes past the proxy
    Ipv6,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// As people write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// Which way connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// Those that come in and those that go out
    Both,
    /// Only those that come in
    Inbound,
    /// Only those that go out
    Outbound,
}

/// Which connections go through the proxy. What is skipped goes past it and past all policy.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("proxy").required(true).multiple(true))]
pub(crate) struct RuleArguments {
    /// The user that the proxy runs as, by number or name; its own connections go out untouched; repeatable.
    #[arg(long, value_name = "USER", value_parser = user, group = "proxy")]
    proxy_uid: Vec<u32>,
    /// The group that the proxy runs as, where it shares its user with the application; repeatable.
    #[arg(long, value_name = "GROUP", value_parser = group, group = "proxy")]
    proxy_gid: Vec<u32>,
    /// Which connections.
    #[arg(long, value_name = "WHICH", default_value = "both")]
    direction: Direction,
    /// Which addresses.
    #[arg(long, value_name = "WHICH", default_value = "both")]
    pub(crate) family: Wanted,
    /// Where the proxy takes connections that go out.
    #[arg(long, value_name = "PORT", default_value = "15001", value_parser = port())]
    outbound_port: u16,
    /// Where the proxy takes connections that come in.
    #[arg(long, value_name = "PORT", default_value = "15006", value_parser = port())]
    inbound_port: u16,
    /// Takes in only connections to this port; repeatable [default: every port that is not skipped].
    #[arg(long = "inbound", value_name = "PORT", value_parser = port())]
    inbound: Vec<u16>,
    /// Leaves connections to this port of this host alone; repeatable, and replaces the default: SSH, readiness, metrics.
    #[arg(long, value_name = "PORT", default_values = ["22", "15021", "15090"], value_parser = port())]
    skip_inbound_port: Vec<u16>,
    /// Leaves connections from these addresses alone; repeatable.
    #[arg(long, value_name = "CIDR", value_parser = net)]
    skip_inbound_cidr: Vec<IpNet>,
    /// Leaves connections to this port of other hosts alone; repeatable, and replaces the default: DNS.
    #[arg(long, value_name = "PORT", default_values = ["53"], value_parser = port())]
    skip_outbound_port: Vec<u16>,
    /// Leaves connections to these addresses alone; repeatable.
    #[arg(long, value_name = "CIDR", value_parser = net)]
    skip_outbound_cidr: Vec<IpNet>,
    /// Leaves what this user connects to alone; repeatable.
    #[arg(long, value_name = "USER", value_parser = user)]
    skip_uid: Vec<u32>,
}

impl RuleArguments {
    /// What they mean.
    pub(crate) fn redirection(&self) -> Redirection {
        let uids = self.proxy_uid.iter().copied().map(Owner::Uid);
        let gids = self.proxy_gid.iter().copied().map(Owner::Gid);
        let goes = |other: Direction| self.direction != other;
        Redirection {
            proxy: uids.chain(gids).collect(),
            inbound_port: goes(Direction::Outbound).then_some(self.inbound_port),
            outbound_port: goes(Direction::Inbound).then_some(self.outbound_port),
            inbound_only: self.inbound.clone(),
            skip_inbound_ports: self.skip_inbound_port.clone(),
            skip_inbound_nets: self.skip_inbound_cidr.clone(),
            skip_outbound_ports: self.skip_outbound_port.clone(),
            skip_outbound_nets: self.skip_outbound_cidr.clone(),
            skip_uids: self.skip_uid.clone(),
        }
    }
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

fn user(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("this system has no user {text}")),
        Err(error) => Err(format!("could not look up user {text}: {error}")),
    }
}

fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("this system has no group {text}")),
        Err(error) => Err(format!("could not look up group {text}: {error}")),
    }
}

/// A network, or one address of it.
pub(crate) fn net(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    match text.parse::<IpNet>().or_else(|_not_a_net| alone()) {
        Ok(net) if net.trunc() == net => Ok(net),
        Ok(net) => Err(format!("{net} is an address within {}", net.trunc())),
        Err(error) => Err(format!(
            "{text} is not a network such as 10.0.0.0/8: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_groups_and_networks() {
        assert_eq!(user("1337"), Ok(1337));
        assert_eq!(user("root"), Ok(0));
        assert!(user("nobody at all").unwrap_err().contains("no user"));
        assert_eq!(group("1337"), Ok(1337));
        assert_eq!(group("root"), Ok(0));
        assert!(group("nobody at all").unwrap_err().contains("no group"));
        assert_eq!(net("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(net("fd00::/8").unwrap().to_string(), "fd00::/8");
        assert!(net("10.0.0.1/8").unwrap_err().contains("within 10.0.0.0/8"));
        assert!(net("example.com").is_err());
    }
}
