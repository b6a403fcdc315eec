//! `routing/canary-step`

use mesh_compiler::diff::split::steps;

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A branch of a route whose share grows by more than `refuse canary-step=` permits. Without that
    /// setting there is no limit. Found with `meshc check --base REF`.
    ///
    /// ## Why it matters
    /// Traffic is moved in steps so that what is wrong with the new version hurts few, and so that
    /// what takes the traffic has time to scale.
    ///
    /// ## Examples
    /// ```kdl base
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=95; to v2 weight=5 }
    /// }
    /// ```
    /// ```kdl bad
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=50; to v2 weight=50 }
    /// }
    /// ```
    /// ```kdl good
    /// mesh bookshop { trust-domain "bookshop.example"; refuse canary-step="20%" }
    /// service reviews {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }
    ///     subset v1 { labels version=v1 }
    ///     subset v2 { labels version=v2 }
    ///     route all { to v1 weight=75; to v2 weight=25 }
    /// }
    /// ```
    pub(crate) static CANARY_STEP = {
        code: "MSH0311", name: "routing/canary-step",
        summary: "a split moves more traffic at once than is allowed",
        level: Error, since: "0.1.0", check: check,
    }
}

/// Shares are quotients of whole numbers; this is far less than any of them can differ by.
const ROUNDING: f64 = 1e-9;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let Some(limit) = facts.mesh().refuse.canary_step else {
        return;
    };
    let most = f64::from(limit.value) / 10_000.0;
    for step in steps(change.meshes()) {
        if step.after - step.before <= most + ROUNDING {
            continue;
        }
        let service = facts.mesh().service(step.service.head);
        let Some(route) = service.routes.get(step.route) else {
            continue;
        };
        let Some(branch) = route.destinations.get(step.branch) else {
            continue;
        };
        let percent = |share: f64| format!("{}%", crate::rules::words::number(share * 100.0));
        cx.report(
            CANARY_STEP
                .at(
                    branch.span,
                    format!(
                        "route `{}` of `{}` moves {} of its requests at once, and at most {} are allowed",
                        route.name.value,
                        service.name.value,
                        percent(step.after - step.before),
                        percent(most),
                    ),
                )
                .at(format!("{} before, {} now", percent(step.before), percent(step.after)))
                .label(limit.span, "the limit")
                .help(format!(
                    "go to {} first",
                    percent(step.before + most)
                ))
                .number("before", step.before)
                .number("after", step.after)
                .number("limit", most),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(limit: &str, one: u32, two: u32) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; {limit} }}
            service a {{
                port 80
                endpoints {{ static "10.0.0.1:80" version=v1; static "10.0.0.2:80" version=v2 }}
                subset v1 {{ labels version=v1 }}
                subset v2 {{ labels version=v2 }}
                route all {{ to v1 weight={one}; to v2 weight={two} }}
            }}"#
        )
    }

    const LIMIT: &str = r#"refuse canary-step="20%""#;

    #[test]
    fn a_step_above_the_limit_is_found() {
        insta::assert_snapshot!(changes(
            "MSH0311",
            &with(LIMIT, 90, 10),
            &with(LIMIT, 60, 40)
        ));
    }

    #[test]
    fn the_limit_itself_is_allowed_and_no_limit_allows_all() {
        assert_eq!(
            changes("MSH0311", &with(LIMIT, 90, 10), &with(LIMIT, 70, 30)),
            ""
        );
        assert_eq!(changes("MSH0311", &with("", 100, 0), &with("", 0, 100)), "");
    }
}
