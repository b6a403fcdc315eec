//! `routing/overlapping-hosts`

use std::collections::BTreeMap;

use mesh_engine::host::HostPattern;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A host with a star that takes in a host which another service names exactly.
    ///
    /// ## Why it matters
    /// The more specific host wins: those requests go to the other service, whatever the star seems to
    /// say. That is well defined and often meant; whoever wrote the star may not know of the other.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service catalog { port 80; endpoints { static "10.0.0.1:80" }; host "*.shop.example" }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; host "reviews.shop.example" }
    /// ```
    /// ```kdl good
    /// service catalog { port 80; endpoints { static "10.0.0.1:80" }; host "*.catalog.shop.example" }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; host "reviews.shop.example" }
    /// ```
    pub(crate) static OVERLAPPING_HOSTS = {
        code: "MSH0216", name: "routing/overlapping-hosts",
        summary: "a host with a star takes in another service's host",
        level: Note, since: "0.1.0", check: check,
    }
}

/// Others that one finding shows.
const SHOWN_MAX: usize = 3;

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let mut exact: BTreeMap<&str, usize> = BTreeMap::new();
    let mut stars = Vec::new();
    for (index, service) in mesh.services.iter().enumerate() {
        for host in &service.hosts {
            if host.contains('*') {
                stars.push((index, host));
            } else {
                exact.insert(host, index);
            }
        }
    }
    for (index, host) in stars {
        let Ok(pattern) = HostPattern::parse(host) else {
            continue;
        };
        let taken: Vec<(&str, usize)> = exact
            .iter()
            .filter(|(other, owner)| **owner != index && pattern.matches(other))
            .map(|(other, owner)| (*other, *owner))
            .collect();
        let (Some(service), Some((first, _))) = (mesh.services.get(index), taken.first()) else {
            continue;
        };
        let others = match taken.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let mut finding = OVERLAPPING_HOSTS
            .at(
                service.name.span,
                format!(
                    "`{}` has the host \"{host}\", but requests to \"{first}\"{others} go to another service",
                    service.name.value
                ),
            )
            .at("gets what no more specific host takes")
            .help("the exact host wins; nothing is to be done if that is meant");
        for (other, owner) in taken.iter().take(SHOWN_MAX) {
            if let Some(owner) = mesh.services.get(*owner) {
                finding = finding.label(owner.name.span, format!("takes \"{other}\""));
            }
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_star_above_an_exact_host_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0216",
            r#"
            service a { port 80; endpoints { static "10.0.0.1:80" }; host "**.shop.example" }
            service b { port 80; endpoints { static "10.0.0.2:80" }; host "b.shop.example" }
            service c { port 80; endpoints { static "10.0.0.3:80" }; host "x.c.shop.example" "other.example" }"#
        ));
    }

    #[test]
    fn own_hosts_and_other_depths_are_not() {
        none(
            "MSH0216",
            r#"
            service a { port 80; endpoints { static "10.0.0.1:80" }; host "*.shop.example" "a.shop.example" }
            service b { port 80; endpoints { static "10.0.0.2:80" }; host "b.eu.shop.example" }"#,
        );
    }
}
