//! `access/overruled-allow`

use super::shared::idle_everywhere;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` each request of which a `deny`, or several together, refuse again; with one of
    /// them. A rule of `defaults` or of a policy is only flagged if it is so in every service.
    ///
    /// ## Why it matters
    /// `deny` always wins, so the rule has no effect. Whoever wrote it believes that somebody gets in.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage
    ///     allow productpage { path "/admin/stats" }
    ///     deny { path "/admin/**" }
    /// }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow productpage
    ///     deny { path "/admin/**"; not { path "/admin/stats" } }
    /// }
    /// ```
    pub(crate) static OVERRULED_ALLOW = {
        code: "MSH0805", name: "access/overruled-allow",
        summary: "a deny refuses all that a rule admits",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let access: Vec<_> = facts.access().map(|(_, access)| access).collect();
    let overruled = |service: &mesh_compiler::linked::Service, rule: usize| {
        access
            .get(service.id.index())?
            .overruled
            .iter()
            .find(|overruled| overruled.rule == rule)
    };
    for idle in idle_everywhere(facts, overruled) {
        // What a health check implies is told as that: MSH0611.
        if idle.rule.implied {
            continue;
        }
        let mut finding = OVERRULED_ALLOW
            .at(
                idle.span,
                format!(
                    "`{}` of `{}` lets nothing in: all of it is denied",
                    idle.rule.name, idle.service.name.value
                ),
            )
            .at("has no effect")
            .help("leave out of the `deny` what this admits, with `not`, or remove this rule");
        for deny in idle
            .fact
            .by
            .iter()
            .filter_map(|deny| idle.service.access.get(*deny))
        {
            if let Some(span) = deny.source.span() {
                finding = finding.label(span, "refuses its requests");
            }
        }
        cx.report(facts.witnessed(finding, idle.fact.witness.as_ref(), idle.service.id));
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn denies_that_together_overrule_are_found() {
        insta::assert_snapshot!(findings(
            "MSH0805",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web
                allow web { path "/x/*" }
                deny { path "/x/**"; method GET }
                deny { path "/x/**"; not { method GET } }
                deny { path "/y" }
            }"#
        ));
    }

    #[test]
    fn a_rest_is_enough() {
        none(
            "MSH0805",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { path "/x/**" }
                deny { path "/x/*" }
            }"#,
        );
    }
}
