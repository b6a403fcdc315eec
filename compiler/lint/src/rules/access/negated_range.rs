//! `access/negated-range`

use std::collections::BTreeSet;

use mesh_bundle::slice::{Condition, Effect};

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `allow` that leaves out a range of addresses with `not`.
    ///
    /// ## Why it matters
    /// It admits every other address there is, IPv6 and addresses behind translation included. Whoever
    /// is meant to be kept out comes from another one.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET; not { peer-ip "10.9.0.0/16" } } }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 80; endpoints { static "10.0.0.2:80" }; allow productpage { method GET; peer-ip "10.0.0.0/16" } }
    /// ```
    pub(crate) static NEGATED_RANGE = {
        code: "MSH0816", name: "access/negated-range",
        summary: "a rule admits all addresses but some",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut seen = BTreeSet::new();
    let mesh = cx.facts().mesh();
    for service in &mesh.services {
        for rule in service
            .access
            .iter()
            .filter(|rule| rule.effect == Effect::Allow)
        {
            for condition in &rule.conditions {
                if is_negated(&condition.value) && seen.insert(condition.span) {
                    cx.report(
                        NEGATED_RANGE
                            .at(
                                condition.span,
                                format!(
                                    "`{}` lets every other address into `{}`",
                                    rule.name, service.name.value
                                ),
                            )
                            .at("leaves out a range")
                            .help(
                                "name the ranges that are let in, or refuse this one with a `deny`",
                            ),
                    );
                }
            }
        }
    }
}

fn is_negated(condition: &Condition) -> bool {
    match condition {
        Condition::Not(inner) => matches!(**inner, Condition::ClientIp(_) | Condition::PeerIp(_)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn a_range_left_out_of_an_allow_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0816",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web { path "/x"; not { client-ip "10.0.0.0/8" } } }"#
        ));
    }

    #[test]
    fn a_deny_of_all_other_addresses_is_meant() {
        none(
            "MSH0816",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; deny { not { peer-ip "10.0.0.0/8" } } }"#,
        );
    }
}
