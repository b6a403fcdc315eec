//! `resilience/cannot-eject`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// An `outlier` for a service with a single endpoint, as policy declares it or `facts replicas=` says.
    /// Names that DNS resolves may be many and are not counted.
    ///
    /// ## Why it matters
    /// There is no other endpoint to send the requests to. What reads like a protection does nothing, or
    /// turns a few failures into an outage.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; outlier consecutive-5xx=5 }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" "10.0.0.2:80" }; outlier consecutive-5xx=5 }
    /// ```
    pub(crate) static CANNOT_EJECT = {
        code: "MSH0602", name: "resilience/cannot-eject",
        summary: "too few endpoints to leave one out",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for service in &cx.facts().mesh().services {
        let outlier = &service.pool.outlier;
        let sources = [
            &outlier.consecutive_5xx.source,
            &outlier.consecutive_gateway.source,
        ];
        let set_at = sources
            .into_iter()
            .find(|source| source.level() >= 3)
            .and_then(|source| source.span());
        let single = crate::rules::pools::endpoints(service) == Some(1);
        let Some(span) = set_at.filter(|_| outlier.counts() && single) else {
            continue;
        };
        cx.report(
            CANNOT_EJECT
                .at(
                    span,
                    format!(
                        "`{}` has a single endpoint, and none to take its place",
                        service.name.value
                    ),
                )
                .help("add endpoints, or take the `outlier` away"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn the_only_one_stays() {
        insta::assert_snapshot!(findings(
            "MSH0602",
            r#"service a { port 80; endpoints { static "10.0.0.1:80" }; outlier consecutive-5xx=5 }"#
        ));
    }

    #[test]
    fn who_is_discovered_is_not_counted() {
        none(
            "MSH0602",
            r#"service a { port 80; endpoints { kubernetes namespace=x }; outlier consecutive-5xx=5 }"#,
        );
    }
}
