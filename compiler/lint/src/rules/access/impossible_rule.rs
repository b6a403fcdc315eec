//! `access/impossible-rule`

use mesh_bundle::slice::{Effect, Principal};
use mesh_compiler::linked::Kind;

use super::shared::{self, idle_everywhere};
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` or `deny` that no request can meet: its conditions exclude each other, or it asks
    /// for a port that the service does not have. Conditions are *and*; values of one condition are
    /// *or*. A header that is sent several times meets an `allow` only if every one of them fits.
    ///
    /// Also an `allow unauthenticated` where only mutual TLS is taken: nobody in plaintext comes so far.
    ///
    /// ## Why it matters
    /// A `deny` that never denies protects nothing; an `allow` that never allows locks somebody out.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage
    ///     deny { method DELETE; method PUT }
    /// }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage
    ///     deny { method DELETE PUT }
    /// }
    /// ```
    pub(crate) static IMPOSSIBLE_RULE = {
        code: "MSH0803", name: "access/impossible-rule", summary: "access rule can never match",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let access: Vec<_> = facts.access().map(|(_, access)| access).collect();
    let never = |service: &mesh_compiler::linked::Service, rule: usize| {
        access
            .get(service.id.index())?
            .never
            .contains(&rule)
            .then_some(())
    };
    for idle in idle_everywhere(facts, never) {
        let message = format!(
            "no request to `{}` can meet the rule `{}`",
            idle.service.name.value, idle.rule.name
        );
        cx.report(
            IMPOSSIBLE_RULE
                .at(idle.span, message)
                .at("never matches")
                .help("conditions are all needed; for *or*, give one condition several values or write a second rule"),
        );
    }
    let unmet = |service: &mesh_compiler::linked::Service, rule: usize| {
        let rule = service.access.get(rule)?;
        // Only the ports that the rule leaves in question count.
        let mut ports = shared::ports_of(service, rule).peekable();
        let strict = matches!(service.kind, Kind::Service)
            && ports.peek().is_some()
            && ports.all(|port| service.mtls_of(port).is_none())
            && service.reach.unmeshed.is_none();
        let nobody = rule
            .who
            .iter()
            .all(|who| *who == Principal::Unauthenticated);
        (strict && nobody && rule.effect == Effect::Allow).then_some(())
    };
    for idle in idle_everywhere(facts, unmet) {
        let message = format!(
            "`{}` takes only mutual TLS{}, so `{}` lets nobody in",
            idle.service.name.value,
            shared::there(idle.service, idle.rule),
            idle.rule.name
        );
        let mut finding = IMPOSSIBLE_RULE
            .at(idle.span, message)
            .at("nobody without an identity comes so far")
            .help("write `mtls permissive` for peers without a proxy, or `probe \"/path\"` for whoever looks whether the service lives");
        if let Some(mode) = shared::mode_of(idle.service, idle.rule) {
            finding = finding.label(mode, "only mutual TLS");
        }
        cx.report(finding);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn conditions_that_exclude_each_other_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0803",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web
                allow web { header x "1"; header x "2" }
                deny { path "/a"; path "/b" }
            }"#
        ));
    }

    #[test]
    fn plaintext_where_only_mutual_tls_is_taken_is_found() {
        let with = |mode: &str| {
            format!(
                r#"service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {mode}; allow unauthenticated {{ method GET }} }}"#
            )
        };
        insta::assert_snapshot!(findings("MSH0803", &with("mtls strict")));
        none("MSH0803", &with("mtls permissive"));
        none("MSH0803", &with("mtls off"));
    }

    #[test]
    fn a_rule_of_defaults_only_needs_one_service() {
        none(
            "MSH0803",
            r#"
            mesh m { trust-domain "m.example"; defaults { deny { port 81 } } }
            service a { port 80; endpoints { static "10.0.0.1:80" } }
            service b { port 81; endpoints { static "10.0.0.2:81" } }"#,
        );
    }
}
