//! `access/wildcard`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, Effect, Principal};
use mesh_syntax::Span;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` for a whole trust domain that is not the mesh's own, and a condition on addresses
    /// that every address meets.
    ///
    /// ## Why it matters
    /// Who has identities in another trust domain is decided elsewhere, so the rule lets in whoever
    /// is added there. A range of all addresses restricts nothing and reads as if it did.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage { peer-ip "0.0.0.0/0" }
    /// }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage { peer-ip "10.0.0.0/8" }
    /// }
    /// ```
    pub(crate) static WILDCARD = {
        code: "MSH0809", name: "access/wildcard",
        summary: "a rule for everybody of elsewhere, or for every address",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mesh = cx.facts().mesh();
    let own = format!("spiffe://{}/", mesh.trust_domain.value);
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    for service in &mesh.services {
        for rule in &service.access {
            let foreign = rule.who.iter().find_map(|who| match who {
                Principal::SpiffePrefix(prefix) if *prefix != own => whole_domain(prefix),
                _ => None,
            });
            if let (Some(domain), Effect::Allow, Some(span)) =
                (foreign, rule.effect, rule.source.span())
                && seen.insert(span)
            {
                let message = format!(
                    "`{}` lets every workload of the trust domain `{domain}` into `{}`",
                    rule.name, service.name.value
                );
                cx.report(
                    WILDCARD
                        .at(span, message)
                        .at("whoever gets an identity there gets in")
                        .help(format!(
                            "name a part of it, such as \"spiffe://{domain}/service/shop\""
                        )),
                );
            }
            for condition in &rule.conditions {
                let (Condition::ClientIp(ranges) | Condition::PeerIp(ranges)) = &condition.value
                else {
                    continue;
                };
                let Some(range) = ranges.iter().find(|range| range.prefix_len() == 0) else {
                    continue;
                };
                if seen.insert(condition.span) {
                    cx.report(
                        WILDCARD
                            .at(
                                condition.span,
                                format!("`{range}` is every address of its family"),
                            )
                            .at("restricts nothing")
                            .help("name the ranges that are meant, or remove the condition"),
                    );
                }
            }
        }
    }
}

/// The trust domain of which the prefix takes everything.
fn whole_domain(prefix: &str) -> Option<&str> {
    let rest = prefix.strip_prefix("spiffe://")?.strip_suffix('/')?;
    (!rest.contains('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn ranges_of_everything_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0809",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { peer-ip "0.0.0.0/0" "fd00::/8" }
                deny { client-ip "::/0" }
            }"#
        ));
    }

    #[test]
    fn parts_are_not() {
        none(
            "MSH0809",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { peer-ip "10.0.0.0/8" }
                allow "spiffe://example.test/**" { path "/x" }
            }"#,
        );
    }
}
