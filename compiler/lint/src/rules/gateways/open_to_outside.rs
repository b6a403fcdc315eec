//! `gateways/open-to-outside`

use std::collections::BTreeSet;

use mesh_bundle::slice::Effect;
use mesh_compiler::linked::{Access, Edge, Service};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service to which a gateway leads that everybody may enter, and that lets the gateway send
    /// whatever it likes: neither of the two asks for anything.
    ///
    /// ## Why it matters
    /// Whoever reaches the gateway can send any method to any path of the service that a route leads
    /// to, those included that nobody meant to publish.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public { listen 8080; allow unauthenticated; route shop { to productpage } }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public }
    /// ```
    /// ```kdl good
    /// gateway public { listen 8080; allow unauthenticated; route shop { to productpage } }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; allow public { method GET; path "/shop/**" } }
    /// ```
    pub(crate) static OPEN_TO_OUTSIDE = {
        code: "MSH0819", name: "gateways/open-to-outside",
        summary: "everybody outside may send a service everything",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    let is_open = |service: &Service, access: &mesh_compiler::analysis::access::AccessFacts| {
        service.gateway().is_some()
            && access
                .open
                .as_ref()
                .is_some_and(|open| open.unauthenticated)
    };
    let open: BTreeSet<_> = facts
        .access()
        .filter(|(service, access)| is_open(service, access))
        .map(|(service, _)| service.id)
        .collect();
    let led = |edge: &&Edge| open.contains(&edge.caller) && !edge.routed.is_empty();
    for edge in mesh.edges.iter().filter(led) {
        let (gateway, callee) = (mesh.service(edge.caller), mesh.service(edge.callee));
        let denies = |rule: &Access| {
            rule.effect == Effect::Deny
                && gateway
                    .identities
                    .iter()
                    .any(|identity| rule.covers(identity))
        };
        if callee.access.iter().any(denies) {
            continue;
        }
        let rules = edge
            .permitted
            .iter()
            .filter_map(|rule| callee.access.get(*rule));
        let Some(rule) = rules.into_iter().find(|rule| rule.conditions.is_empty()) else {
            continue;
        };
        let Some(span) = rule.source.span() else {
            continue;
        };
        let mut finding = OPEN_TO_OUTSIDE
            .at(
                span,
                format!(
                    "whoever reaches the gateway `{}` may send `{}` anything that a route leads to it",
                    gateway.name.value, callee.name.value
                ),
            )
            .at("asks for nothing")
            .label(gateway.name.span, "lets everybody in")
            .help("say which methods and paths are meant to be public, here or at the gateway");
        if let Some(routed) = edge.routed.first() {
            finding = finding.label(routed.span, "leads there");
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(gateway: &str, service: &str) -> String {
        format!(
            r#"
            gateway public {{ listen 8080; {gateway}; route a {{ to a }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; {service} }}"#
        )
    }

    #[test]
    fn two_rules_that_ask_for_nothing_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0819",
            &with("allow unauthenticated", "allow public")
        ));
    }

    #[test]
    fn either_may_ask() {
        none(
            "MSH0819",
            &with("allow unauthenticated { method GET }", "allow public"),
        );
        none(
            "MSH0819",
            &with("allow unauthenticated", "allow public { method GET }"),
        );
        none(
            "MSH0819",
            &with(
                "allow unauthenticated",
                "allow public; deny { path \"/x\" }",
            ),
        );
    }
}
