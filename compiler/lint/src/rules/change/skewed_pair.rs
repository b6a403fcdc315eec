//! `rollout/skewed-pair`

use super::other_scope::is_other_mesh;
use super::transition::show;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that works before and after the change, and not while one end has the new generation and
    /// the other still the old; with the direction that fails and a request. An order of two commits
    /// avoids it. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Generations roll out proxy by proxy, so that every mixture of old and new exists for a while,
    /// and again during a revert.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow "spiffe://example.test/service/productpage" "spiffe://example.test/service/shop"
    /// }
    /// ```
    /// ```kdl bad
    /// service productpage {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     identity "spiffe://example.test/service/shop"
    ///     calls reviews
    /// }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow "spiffe://example.test/service/shop"
    /// }
    /// ```
    /// ```kdl good
    /// service productpage {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" }
    ///     identity "spiffe://example.test/service/shop"
    ///     calls reviews
    /// }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow "spiffe://example.test/service/productpage" "spiffe://example.test/service/shop"
    /// }
    /// ```
    pub(crate) static SKEWED_PAIR = {
        code: "MSH1104", name: "rollout/skewed-pair",
        summary: "a call fails while the change rolls out",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    if is_other_mesh(change.meshes()) {
        // No proxy takes the change, so nothing is in between.
        return;
    }
    let staging = change.staging();
    for (position, skew) in staging.skews.iter().enumerate() {
        if staging.orderless.contains(&position) {
            continue;
        }
        let mesh = facts.mesh();
        let (caller, callee) = (
            &mesh.service(skew.edge.caller.head).name,
            &mesh.service(skew.edge.callee.head).name,
        );
        let (first, then) = if skew.old_caller.is_some() {
            (&caller.value, &callee.value)
        } else {
            (&callee.value, &caller.value)
        };
        let finding = SKEWED_PAIR
            .at(
                callee.span,
                format!(
                    "`{}` calls `{}`, which works before and after this change but not while it rolls out",
                    caller.value, callee.value
                ),
            )
            .help(format!(
                "change `{first}` in a commit of its own, and `{then}` in the next, once every proxy serves the first"
            ));
        cx.report(show(facts, finding, skew));
    }
    if staging.unknown > 0 {
        cx.report(
            SKEWED_PAIR
                .at(
                    mesh_name(facts),
                    format!(
                        "{} pairs of services have rules too large to compare between the two commits",
                        staging.unknown
                    ),
                )
                .help("whether they work while this rolls out is not known")
                .possible(),
        );
    }
}

fn mesh_name(facts: &crate::facts::Facts<'_>) -> mesh_syntax::Span {
    facts.mesh().name.span
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(identity: &str, rules: &str) -> String {
        format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; identity "spiffe://example.test/{identity}"; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; {rules} }}"#
        )
    }

    #[test]
    fn the_direction_that_fails_says_who_goes_first() {
        insta::assert_snapshot!(changes(
            "MSH1104",
            &with(
                "one",
                r#"allow "spiffe://example.test/one" "spiffe://example.test/two""#
            ),
            &with("two", r#"allow "spiffe://example.test/two""#),
        ));
        insta::assert_snapshot!(changes(
            "MSH1104",
            &with("one", r#"allow "spiffe://example.test/one""#),
            &with(
                "two",
                r#"allow "spiffe://example.test/one" "spiffe://example.test/two""#
            ),
        ));
    }

    #[test]
    fn a_request_that_is_new_breaks_nothing() {
        let (before, after) = (
            with("one", "allow web { method GET }"),
            with("one", "allow web"),
        );
        assert_eq!(changes("MSH1104", &before, &after), "");
        assert_eq!(changes("MSH1104", &after, &before), "");
    }
}
