//! `rollout/unsafe-transition`

use super::other_scope::is_other_mesh;
use super::transition::show;
use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A call that works before and after the change, and for which no order of roll-out will do: it
    /// fails with an old caller and a new callee *and* the other way round, or several pairs want each
    /// other to be first. Moved identities and ports are the usual reasons. Found with
    /// `meshc check --base REF`; MSH1108 shows an intermediate commit, where one works.
    ///
    /// ## Why it matters
    /// However the change is delivered, some requests fail until the last proxy has it.
    ///
    /// ## Examples
    /// ```kdl base
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9080; endpoints { static "10.0.0.2:9080" }; allow productpage }
    /// ```
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9081; endpoints { static "10.0.0.2:9081" }; allow productpage }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// service reviews { port 9080; port 9081; endpoints { static "10.0.0.2:9080" "10.0.0.2:9081" }; allow productpage }
    /// ```
    pub(crate) static UNSAFE_TRANSITION = {
        code: "MSH0704", name: "rollout/unsafe-transition",
        summary: "no order of roll-out keeps a call working",
        level: Error, since: "0.1.0", check: check,
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
    let skews = staging
        .orderless
        .iter()
        .filter_map(|position| staging.skews.get(*position));
    for skew in skews {
        let mesh = facts.mesh();
        let (caller, callee) = (
            &mesh.service(skew.edge.caller.head).name,
            &mesh.service(skew.edge.callee.head).name,
        );
        let help = if staging.kept_beside.is_some() {
            "make before break: deliver an intermediate commit first that has both; MSH1108 says what is in it"
        } else {
            "no intermediate commit that only keeps the old beside the new works here: change less at once"
        };
        let finding = UNSAFE_TRANSITION
            .at(
                callee.span,
                format!(
                    "`{}` calls `{}`, which works before and after this change, and no order of roll-out keeps it working in between",
                    caller.value, callee.value
                ),
            )
            .help(help);
        cx.report(show(facts, finding, skew));
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    const WEB: &str = r#"service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }"#;

    #[test]
    fn a_moved_port_has_no_order() {
        insta::assert_snapshot!(changes(
            "MSH0704",
            &format!(
                "{WEB}\nservice a {{ port 81; endpoints {{ static \"10.0.0.2:81\" }}; allow web }}"
            ),
            &format!(
                "{WEB}\nservice a {{ port 82; endpoints {{ static \"10.0.0.2:82\" }}; allow web }}"
            ),
        ));
    }

    #[test]
    fn pairs_that_want_each_other_first_have_no_order() {
        // Each of the two moves, and each forgets where the other was: both callers want to go first.
        let with = |now: &str, known: &str| {
            let all = |service: &str| -> String {
                let names = known.split(' ');
                let quoted = names.map(|name| format!("\"spiffe://example.test/{service}{name}\""));
                quoted.collect::<Vec<_>>().join(" ")
            };
            format!(
                r#"service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; identity {0}; calls b; allow {2} }}
                service b {{ port 80; endpoints {{ static "10.0.0.2:80" }}; identity {1}; calls a; allow {3} }}"#,
                now.replace("NAME", "a"),
                now.replace("NAME", "b"),
                all("b"),
                all("a"),
            )
        };
        let one = "\"spiffe://example.test/NAME1\" \"spiffe://example.test/NAME3\"";
        let two = "\"spiffe://example.test/NAME2\" \"spiffe://example.test/NAME3\"";
        insta::assert_snapshot!(changes("MSH0704", &with(one, "1 2"), &with(two, "2")));
    }

    #[test]
    fn a_port_beside_the_old_one_is_safe() {
        let before = format!(
            "{WEB}\nservice a {{ port 81; endpoints {{ static \"10.0.0.2:81\" }}; allow web }}"
        );
        let after = format!(
            "{WEB}\nservice a {{ port 81; port 82; endpoints {{ static \"10.0.0.2:81\" \"10.0.0.2:82\" }}; allow web }}"
        );
        assert_eq!(changes("MSH0704", &before, &after), "");
    }
}
