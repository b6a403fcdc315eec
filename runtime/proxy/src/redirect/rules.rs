//! Which connections are sent through the proxy, as the rules of one family. Pure: from what is wanted
//! to the text that `iptables-restore --noflush` reads.

use ipnet::IpNet;

use super::args::Family;

/// Connections that come in.
pub(super) const INBOUND: &str = "MESH_INBOUND";
/// Connections that go out.
pub(super) const OUTBOUND: &str = "MESH_OUTBOUND";
/// All of our chains; nothing else is ever touched but the jumps to them.
pub(super) const CHAINS: [&str; 2] = [INBOUND, OUTBOUND];

/// How the proxy's own connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// By the user that it runs as.
    Uid(u32),
    /// By its group. (A mark would need a proxy that may set it, which takes CAP_NET_ADMIN.)
    Gid(u32),
}

/// Which connections are redirected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redirection {
    /// How the proxy's own connections are told; never empty.
    pub(super) proxy: Vec<Owner>,
    /// Where those go that come in; none: their own way.
    pub(super) inbound_port: Option<u16>,
    /// Where those go that go out; none: their own way.
    pub(super) outbound_port: Option<u16>,
    /// The only ports that are taken in; empty: all.
    pub(super) inbound_only: Vec<u16>,
    pub(super) skip_inbound_ports: Vec<u16>,
    pub(super) skip_inbound_nets: Vec<IpNet>,
    pub(super) skip_outbound_ports: Vec<u16>,
    pub(super) skip_outbound_nets: Vec<IpNet>,
    pub(super) skip_uids: Vec<u32>,
}

/// A rule, and why it is there.
type Rule = (&'static str, String);

impl Owner {
    fn matching(self) -> String {
        match self {
            Self::Uid(uid) => format!("-m owner --uid-owner {uid}"),
            Self::Gid(gid) => format!("-m owner --gid-owner {gid}"),
        }
    }
}

impl Redirection {
    /// The lines between `*nat` and `COMMIT`: our chains from nothing, and the jumps to them. Declaring a
    /// chain empties it, so that what an earlier `apply` wrote is gone.
    pub(super) fn lines(&self, family: Family) -> Vec<Rule> {
        let mut lines: Vec<Rule> = CHAINS
            .iter()
            .map(|chain| ("", format!(":{chain} - [0:0]")))
            .collect();
        if let Some(port) = self.inbound_port {
            lines.push((
                "what comes in for this host, before anybody else's rules",
                format!("-I PREROUTING 1 -p tcp -m addrtype --dst-type LOCAL -j {INBOUND}"),
            ));
            self.inbound(family, port, &mut lines);
        }
        if let Some(port) = self.outbound_port {
            lines.push((
                "what goes out from this host, before anybody else's rules",
                format!("-I OUTPUT 1 -p tcp -j {OUTBOUND}"),
            ));
            self.outbound(family, port, &mut lines);
        }
        lines
    }

    fn inbound(&self, family: Family, port: u16, lines: &mut Vec<Rule>) {
        let mut add = |why, rule: String| lines.push((why, format!("-A {INBOUND} {rule}")));
        for net in of(family, &self.skip_inbound_nets) {
            add(
                "skipped: from these addresses",
                format!("-s {net} -j RETURN"),
            );
        }
        for port in &self.skip_inbound_ports {
            let rule = format!("-p tcp -m tcp --dport {port} -j RETURN");
            add("skipped: to this port", rule);
        }
        let why = "everything else to the proxy";
        if self.inbound_only.is_empty() {
            add(why, format!("-p tcp -j REDIRECT --to-ports {port}"));
        }
        for only in &self.inbound_only {
            let rule = format!("-p tcp -m tcp --dport {only} -j REDIRECT --to-ports {port}");
            add("to the proxy", rule);
        }
    }

    fn outbound(&self, family: Family, port: u16, lines: &mut Vec<Rule>) {
        let mut add = |why, rule: String| lines.push((why, format!("-A {OUTBOUND} {rule}")));
        let loopback = match family {
            Family::Ipv4 => "127.0.0.0/8",
            Family::Ipv6 => "::1/128",
        };
        for owner in self.proxy.iter().map(|owner| owner.matching()) {
            if self.inbound_port.is_some() {
                // Without it the proxy would reach its own application past its own inbound rules.
                add(
                    "the proxy calls its own service: that comes in like any other call",
                    format!("! -d {loopback} -o lo -p tcp {owner} -j {INBOUND}"),
                );
            }
            // Without it the proxy's connections would come back to it.
            add("the proxy's own connections", format!("{owner} -j RETURN"));
        }
        for uid in &self.skip_uids {
            let rule = format!("-m owner --uid-owner {uid} -j RETURN");
            add("skipped: this user", rule);
        }
        add(
            "what stays on this host",
            "-m addrtype --dst-type LOCAL -j RETURN".to_owned(),
        );
        for net in of(family, &self.skip_outbound_nets) {
            add("skipped: to these addresses", format!("-d {net} -j RETURN"));
        }
        for port in &self.skip_outbound_ports {
            let rule = format!("-p tcp -m tcp --dport {port} -j RETURN");
            add("skipped: to this port", rule);
        }
        add(
            "everything else to the proxy",
            format!("-p tcp -j REDIRECT --to-ports {port}"),
        );
    }

    /// What is loaded where nothing was, for people.
    pub(super) fn script(&self, family: Family) -> String {
        let program = match family {
            Family::Ipv4 => "iptables-restore",
            Family::Ipv6 => "ip6tables-restore",
        };
        let mut script = format!("# {program} --noflush\n*nat\n");
        let mut last = "";
        for (why, line) in self.lines(family) {
            if why != last {
                last = why;
                script.extend(["# ", why, "\n"]);
            }
            script.extend([&line, "\n"]);
        }
        script.push_str("COMMIT\n");
        script
    }

    /// In one line.
    pub(super) fn summary(&self) -> String {
        let inbound = self
            .inbound_port
            .map(|port| format!("inbound to port {port}"));
        let outbound = self
            .outbound_port
            .map(|port| format!("outbound to port {port}"));
        let both: Vec<_> = inbound.into_iter().chain(outbound).collect();
        both.join(", ")
    }
}

/// Those of the family.
fn of(family: Family, nets: &[IpNet]) -> impl Iterator<Item = &IpNet> {
    nets.iter().filter(move |net| match net {
        IpNet::V4(_) => family == Family::Ipv4,
        IpNet::V6(_) => family == Family::Ipv6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirection() -> Redirection {
        Redirection {
            proxy: vec![Owner::Uid(1337)],
            inbound_port: Some(15006),
            outbound_port: Some(15001),
            skip_inbound_ports: vec![22],
            skip_outbound_nets: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            skip_outbound_ports: vec![53],
            ..Redirection::default()
        }
    }

    #[track_caller]
    fn check(redirection: &Redirection, family: Family, expected: &str) {
        let lines = redirection.lines(family);
        let lines: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        let expected: Vec<_> = expected.lines().map(str::trim).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn both_directions() {
        check(
            &redirection(),
            Family::Ipv4,
            ":MESH_INBOUND - [0:0]
            :MESH_OUTBOUND - [0:0]
            -I PREROUTING 1 -p tcp -m addrtype --dst-type LOCAL -j MESH_INBOUND
            -A MESH_INBOUND -p tcp -m tcp --dport 22 -j RETURN
            -A MESH_INBOUND -p tcp -j REDIRECT --to-ports 15006
            -I OUTPUT 1 -p tcp -j MESH_OUTBOUND
            -A MESH_OUTBOUND ! -d 127.0.0.0/8 -o lo -p tcp -m owner --uid-owner 1337 -j MESH_INBOUND
            -A MESH_OUTBOUND -m owner --uid-owner 1337 -j RETURN
            -A MESH_OUTBOUND -m addrtype --dst-type LOCAL -j RETURN
            -A MESH_OUTBOUND -d 10.1.0.0/16 -j RETURN
            -A MESH_OUTBOUND -p tcp -m tcp --dport 53 -j RETURN
            -A MESH_OUTBOUND -p tcp -j REDIRECT --to-ports 15001",
        );
    }

    #[test]
    fn one_direction_of_ipv6_by_group() {
        let mut outbound = redirection();
        outbound.inbound_port = None;
        outbound.proxy = vec![Owner::Gid(16)];
        outbound.skip_uids = vec![0];
        check(
            &outbound,
            Family::Ipv6,
            ":MESH_INBOUND - [0:0]
            :MESH_OUTBOUND - [0:0]
            -I OUTPUT 1 -p tcp -j MESH_OUTBOUND
            -A MESH_OUTBOUND -m owner --gid-owner 16 -j RETURN
            -A MESH_OUTBOUND -m owner --uid-owner 0 -j RETURN
            -A MESH_OUTBOUND -m addrtype --dst-type LOCAL -j RETURN
            -A MESH_OUTBOUND -d fd00::/8 -j RETURN
            -A MESH_OUTBOUND -p tcp -m tcp --dport 53 -j RETURN
            -A MESH_OUTBOUND -p tcp -j REDIRECT --to-ports 15001",
        );
        let mut inbound = redirection();
        inbound.outbound_port = None;
        inbound.inbound_only = vec![9080, 9090];
        check(
            &inbound,
            Family::Ipv6,
            ":MESH_INBOUND - [0:0]
            :MESH_OUTBOUND - [0:0]
            -I PREROUTING 1 -p tcp -m addrtype --dst-type LOCAL -j MESH_INBOUND
            -A MESH_INBOUND -p tcp -m tcp --dport 22 -j RETURN
            -A MESH_INBOUND -p tcp -m tcp --dport 9080 -j REDIRECT --to-ports 15006
            -A MESH_INBOUND -p tcp -m tcp --dport 9090 -j REDIRECT --to-ports 15006",
        );
    }

    #[test]
    fn a_script_says_why() {
        let script = redirection().script(Family::Ipv6);
        assert!(script.starts_with("# ip6tables-restore --noflush\n*nat\n:MESH_INBOUND"));
        assert!(script.contains("# the proxy's own connections\n-A MESH_OUTBOUND -m owner"));
        assert!(script.ends_with("COMMIT\n"));
    }
}
