//! `access/undecided-access`

use std::collections::BTreeSet;

use mesh_compiler::analysis::access::Question;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::undecided::{self, Open};

declare_rule! {
    /// ## What it flags
    /// An access rule, a call or a service of which the compiler could not decide what the rules let in: their
    /// conditions, or a regular expression in them, are larger than what it compares.
    ///
    /// ## Why it matters
    /// The checks on rules that never match, are covered or overruled, on callers that are locked out and on services
    /// that are open to everybody said nothing about it. They never guess. The proxy is not affected: it decides each
    /// single request, which is always possible.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     allow web
    ///     deny { path regex="/(a|b)*a(a|b){18}" }
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     allow web
    ///     deny { path "/a/**" "/b/**" case=ignore }
    /// }
    /// ```
    pub(crate) static UNDECIDED_ACCESS = {
        code: "MSH0821", name: "access/undecided-access",
        summary: "access rules are too complex to compare",
        level: Note, since: "0.2.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let mesh = facts.mesh();
    // A rule of `defaults` or a policy stands in many services.
    let mut said = BTreeSet::new();
    for (service, access) in facts.access() {
        let name = &service.name;
        let mut open = Vec::new();
        for each in &access.undecided {
            let (span, question) = match each.question {
                Question::Rule(rule) => {
                    let Some(rule) = service.access.get(rule) else {
                        continue;
                    };
                    let place = rule.source.span().unwrap_or(name.span);
                    if !said.insert(place) {
                        continue;
                    }
                    let question = format!(
                        "whether the rule `{}` of `{}` can be met, is covered by others or is overruled",
                        rule.name, name.value
                    );
                    (place, question)
                }
                Question::Call(caller) => {
                    let caller = &mesh.service(caller).name.value;
                    let question =
                        format!("whether `{}` lets any call of `{caller}` in", name.value);
                    (name.span, question)
                }
                Question::Service => {
                    let question = format!("whether `{}` lets in nobody, or everybody", name.value);
                    (name.span, question)
                }
            };
            open.push(Open {
                span,
                question,
                why: each.why,
            });
        }
        undecided::report(cx, &UNDECIDED_ACCESS, open);
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn with(rules: &str) -> String {
        format!(
            r#"
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{
                port 80
                endpoints {{ static "10.0.0.2:80" }}
                {rules}
            }}"#
        )
    }

    #[test]
    fn an_automaton_past_the_bound_is_said_aloud() {
        insta::assert_snapshot!(findings(
            "MSH0821",
            &with("allow web; deny { path regex=\"/(a|b)*a(a|b){18}\" }")
        ));
    }

    #[test]
    fn what_is_true_of_many_rules_is_not_said_of_each() {
        let rules = (0..20).map(|number| {
            format!("allow web {{ header x \"{number}\"; path regex=\"/(a|b)*a(a|b){{18}}\" }}\n")
        });
        let said = findings("MSH0821", &with(&rules.collect::<String>()));
        assert!(
            said.contains(", and 12 more like it, is not known"),
            "{said}"
        );
        assert_eq!(said.matches("`allow web` of `a`").count(), 9, "{said}");
    }

    #[test]
    fn a_bound_that_is_not_passed_is_not_told() {
        none(
            "MSH0821",
            &with("allow web { path regex=\"/[a-z]+/[0-9]+\" }; deny { path \"/a/**\"; header x }"),
        );
    }
}
