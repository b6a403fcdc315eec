//! `retries/few-endpoints`

use std::collections::BTreeMap;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::exchanges::retried;

declare_rule! {
    /// ## What it flags
    /// More attempts than the service has endpoints, as policy declares them or `facts replicas=` says. Names
    /// that DNS resolves may be many and are not counted; services whose endpoints are discovered count by
    /// `facts replicas=` alone.
    ///
    /// ## Why it matters
    /// A retry helps most on another instance. With fewer instances than attempts the last tries go where
    /// the first ones failed.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" "10.0.0.2:80" }
    ///     retry connect-failure attempts=3
    ///     retry-budget "20%"
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" "10.0.0.2:80" "10.0.0.3:80" }
    ///     retry connect-failure attempts=3
    ///     retry-budget "20%"
    /// }
    /// ```
    pub(crate) static FEW_ENDPOINTS = {
        code: "MSH0414", name: "retries/few-endpoints",
        summary: "more attempts than there are endpoints to try",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let mut reported = BTreeMap::new();
    for at in retried(cx.facts()) {
        let Some(endpoints) = crate::rules::pools::endpoints(at.callee) else {
            continue;
        };
        let attempts = &at.exchange.attempts;
        // A single instance is tried again on purpose, or not at all.
        let few = endpoints > 1 && u64::from(attempts.value) > endpoints;
        let Some(span) = attempts.source.span().filter(|_| few) else {
            continue;
        };

        cx.report_once(
            &mut reported,
            (span, at.callee.id),
            &at.callee.name.value,
            || {
                FEW_ENDPOINTS
                    .at(
                        span,
                        format!(
                            "{} attempts, but `{}` has {endpoints} endpoints ({})",
                            attempts.value,
                            at.callee.name.value,
                            at.words(),
                        ),
                    )
                    .at("the last of them meet an endpoint that has failed already")
                    .help("ask for no more attempts than there are endpoints")
                    .number(
                        "endpoints",
                        f64::from(u32::try_from(endpoints).unwrap_or(u32::MAX)),
                    )
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_third_of_two() {
        insta::assert_snapshot!(findings(
            "MSH0414",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; retry reset attempts=3 }"#
        ));
    }

    #[test]
    fn whoever_is_discovered_is_not_counted() {
        none(
            "MSH0414",
            r#"service a { port 80; endpoints { kubernetes namespace=x }; retry reset attempts=3 }"#,
        );
    }
}
