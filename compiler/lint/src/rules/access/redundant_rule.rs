//! `access/redundant-rule`

use super::shared::idle_everywhere;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` all of whose requests other `allow`s of the service admit too, or a `deny` all of
    /// whose requests other `deny`s refuse too. Of two equal rules the later one is flagged. A rule of
    /// `defaults` or of a policy is only flagged if it does nothing in any service.
    ///
    /// ## Why it matters
    /// Whoever narrows or removes such a rule believes to have taken a right away, and has not.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage { method GET }
    ///     allow productpage { method GET; path "/reviews/**" }
    /// }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage { method GET; path "/reviews/**" }
    /// }
    /// ```
    pub(crate) static REDUNDANT_RULE = {
        code: "MSH0804", name: "access/redundant-rule",
        summary: "access rule is covered by others",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let access: Vec<_> = facts.access().map(|(_, access)| access).collect();
    let redundant = |service: &mesh_compiler::linked::Service, rule: usize| {
        access
            .get(service.id.index())?
            .redundant
            .iter()
            .find(|redundant| redundant.rule == rule)
    };
    for idle in idle_everywhere(facts, redundant) {
        let message = format!(
            "the rule `{}` of `{}` changes nothing: others cover it",
            idle.rule.name, idle.service.name.value
        );
        let mut finding = REDUNDANT_RULE
            .at(idle.span, message)
            .at("covered")
            .help("remove it, or narrow the rules that cover it");
        for other in &idle.fact.covered_by {
            let span = idle
                .service
                .access
                .get(*other)
                .and_then(|other| other.source.span());
            if let Some(span) = span.filter(|span| *span != idle.span) {
                finding = finding.label(span, "takes its requests too");
            }
        }
        cx.report(facts.witnessed(finding, idle.fact.witness.as_ref(), idle.service.id));
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn rules_that_others_cover_together_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0804",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { path "/a" }
                allow web { path "/a/**" }
                allow any { path "/b/*" }
                deny web { method PUT }
                deny { not { method GET } }
            }"#
        ));
    }

    #[test]
    fn of_two_equal_rules_only_the_later_goes() {
        insta::assert_snapshot!(findings(
            "MSH0804",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; allow web }"#
        ));
    }

    #[test]
    fn audit_and_enforced_rules_are_different_things() {
        none(
            "MSH0804",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web
                allow web mode=audit { method GET }
                deny { method PUT }
            }"#,
        );
    }
}
