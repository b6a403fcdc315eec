//! `resilience/blind-failover`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A `locality` whose endpoints are neither asked whether they live (`health-check`) nor left out for
    /// their answers (`outlier`).
    ///
    /// ## Why it matters
    /// Requests leave the caller's zone when too few of its endpoints are healthy. Without either, every
    /// endpoint counts as healthy for ever, and nothing fails over.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" zone=a; static "10.0.0.2:80" zone=b }; locality zone }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" zone=a; static "10.0.0.2:80" zone=b }
    ///     locality zone
    ///     outlier consecutive-5xx=5
    /// }
    /// ```
    pub(crate) static BLIND_FAILOVER = {
        code: "MSH0603", name: "resilience/blind-failover",
        summary: "failover that nothing sets off",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = std::collections::BTreeMap::new();
    for (service, pool) in crate::rules::pools::pools(cx.facts().mesh()) {
        let nearness = &pool.locality.nearness;
        let blind = !pool.outlier.counts() && pool.health_check.probe.value.is_none();
        let Some(span) = nearness
            .source
            .span()
            .filter(|_| blind && nearness.value.is_some())
        else {
            continue;
        };

        cx.report_once(&mut reported, span, &service.name.value, || {
            BLIND_FAILOVER
                .at(
                    span,
                    format!(
                        "no endpoint of `{}` ever counts as unhealthy",
                        service.name.value
                    ),
                )
                .at("nothing sets this off")
                .help("add `outlier consecutive-5xx=5`, or a `health-check`")
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn nobody_is_ever_unhealthy() {
        insta::assert_snapshot!(findings(
            "MSH0603",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" zone=a; static "10.0.0.2:80" zone=b }; locality zone }"#
        ));
    }

    #[test]
    fn answers_are_counted() {
        none(
            "MSH0603",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" zone=a }; locality zone; outlier consecutive-gateway=3 }"#,
        );
    }
}
