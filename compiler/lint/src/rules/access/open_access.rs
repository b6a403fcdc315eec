//! `access/open-access`

use mesh_compiler::linked::Kind;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service whose rules, alone or together, let in every request of every workload of the mesh,
    /// or of peers without an identity; with such a request. Gateways are meant to be open, and not
    /// looked at.
    ///
    /// ## Why it matters
    /// Whoever takes over any workload can send it anything. Access is denied by default so that
    /// somebody says who needs what.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow any }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage; allow any { method GET; path "/version" } }
    /// ```
    pub(crate) static OPEN_ACCESS = {
        code: "MSH0801", name: "access/open-access", summary: "everybody may send everything",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    // A rule of `defaults` opens many services at one place.
    let mut places: std::collections::BTreeMap<mesh_syntax::Span, Vec<_>> =
        std::collections::BTreeMap::new();
    for (service, access) in facts.access() {
        let Some(open) = access
            .open
            .as_ref()
            .filter(|_| matches!(service.kind, Kind::Service))
        else {
            continue;
        };
        let first = open
            .rules
            .first()
            .and_then(|rule| service.access.get(*rule));
        let span = first.and_then(|rule| rule.source.span());
        let place = places.entry(span.unwrap_or(service.name.span)).or_default();
        place.push((service, open));
    }
    for (span, opened) in places {
        let Some((service, open)) = opened.first().copied() else {
            continue;
        };
        let who = if open.unauthenticated {
            "every peer without an identity"
        } else {
            "every workload of the mesh"
        };
        let others = match opened.len() - 1 {
            0 => String::new(),
            1 => " and one other service".to_owned(),
            many => format!(" and {many} other services"),
        };
        let mut finding = OPEN_ACCESS
            .at(
                span,
                format!(
                    "{who} may send `{}`{others} whatever it likes",
                    service.name.value
                ),
            )
            .at("lets everything in")
            .help("name those who need it, with the methods and paths that they need");
        let rules = open.rules.iter().skip(1);
        for rule in rules.filter_map(|rule| service.access.get(*rule)) {
            if let Some(span) = rule.source.span() {
                finding = finding.label(span, "together with this rule");
            }
        }
        cx.report(facts.witnessed(finding, open.witness.as_ref(), service.id));
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn rules_that_together_let_everything_in_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0801",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                allow any { method GET }
                allow any { not { method GET } }
            }
            service b { port 80; mtls permissive; endpoints { static "10.0.0.2:80" }; allow unauthenticated }
            service c { port 80; endpoints { static "10.0.0.3:80" }; allow "spiffe://example.test/**" }"#
        ));
    }

    #[test]
    fn whom_a_service_never_meets_it_is_not_open_to() {
        none(
            "MSH0801",
            r#"service b { port 80; endpoints { static "10.0.0.2:80" }; allow unauthenticated }"#,
        );
    }

    #[test]
    fn a_deny_or_a_condition_is_enough_to_tell() {
        none(
            "MSH0801",
            r#"
            service a { port 80; endpoints { static "10.0.0.1:80" }; allow any; deny { path "/admin/**" } }
            service b { port 80; endpoints { static "10.0.0.2:80" }; allow any { method GET } }
            service c { port 80; endpoints { static "10.0.0.3:80" }; allow "spiffe://example.test/service/**" mode=audit }"#,
        );
    }
}
