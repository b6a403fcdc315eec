//! `rollout/no-effect`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A change of policy files after which every slice is the same, byte for byte. Found with
    /// `meshc check --base REF`, if the policy files differ at all.
    ///
    /// ## Why it matters
    /// For a comment or a new order of lines that is how it should be, and nobody need fear the
    /// deployment. Whoever meant to change something has not.
    ///
    /// ## Examples
    /// ```kdl base
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" }; timeout "15s" }
    /// ```
    /// ```kdl bad
    /// // Fifteen seconds are built in.
    /// service reviews { port 80; endpoints { static "10.0.0.1:80" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 81; endpoints { static "10.0.0.1:81" } }
    /// ```
    pub(crate) static NO_EFFECT = {
        code: "MSH1109", name: "rollout/no-effect", summary: "the change changes nothing for any proxy",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let Some(slices) = change.slices() else {
        return;
    };
    // Who has no proxy any more lets in what no slice speaks of.
    if slices.is_nothing() && change.access().is_empty() {
        let message = format!(
            "nothing changes for any of the {} workloads: their slices are the same, byte for byte",
            slices.after
        );
        cx.report(
            NO_EFFECT
                .at(facts.mesh().name.span, message)
                .at("means what it meant"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    #[test]
    fn another_order_is_no_change() {
        let (a, b) = (
            r#"service a { port 80; endpoints { static "10.0.0.1:80" } }"#,
            r#"service b { port 80; endpoints { static "10.0.0.2:80" } }"#,
        );
        insta::assert_snapshot!(changes(
            "MSH1109",
            &format!("{a}\n{b}"),
            &format!("{b}\n{a}")
        ));
    }

    #[test]
    fn whoever_has_no_proxy_any_more_lets_others_in() {
        let with = |reach: &str| {
            format!(
                r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }} }}
                service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {reach} }}"#
            )
        };
        let (before, after) = (with("mtls permissive"), with("mtls permissive; unmeshed"));
        let codes = crate::tester::compared(&before, &after);
        let codes: Vec<_> = codes.iter().map(|found| found.code).collect();
        assert!(codes.contains(&"MSH0810"), "{codes:?}");
        assert!(!codes.contains(&"MSH1109"), "{codes:?}");
    }
}
