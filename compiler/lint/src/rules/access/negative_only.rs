//! `access/negative-only`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, Effect};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` whose conditions all begin with `not`.
    ///
    /// ## Why it matters
    /// It lets in everything that nobody thought of. What is added to the service later is reachable
    /// the moment it exists.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { not { path "/admin/**" } } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { path "/reviews/**"; not { method DELETE } } }
    /// ```
    pub(crate) static NEGATIVE_ONLY = {
        code: "MSH0814", name: "access/negative-only",
        summary: "a rule admits all but what it names",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut seen = BTreeSet::new();
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        for rule in &service.access {
            let negative = |condition: &Condition| matches!(condition, Condition::Not(_));
            let only = !rule.conditions.is_empty()
                && rule.conditions.iter().all(|each| negative(&each.value));
            let Some(span) = rule.source.span() else {
                continue;
            };
            if rule.effect != Effect::Allow || !only || !seen.insert(span) {
                continue;
            }
            cx.report(
                NEGATIVE_ONLY
                    .at(
                        span,
                        format!(
                            "`{}` lets everything into `{}` but what it names",
                            rule.name, service.name.value
                        ),
                    )
                    .at("says only what is left out")
                    .help("say what is let in; what is refused to everybody is a `deny`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_rule_of_exceptions_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0814",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web { not { method DELETE }; not { path "/x" } } }"#
        ));
    }

    #[test]
    fn a_deny_may_be_so() {
        none(
            "MSH0814",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web { method GET; not { path "/x" } }; deny { not { method GET } } }"#,
        );
    }
}
