//! `routing/split-breaks-sticky`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A service that keeps callers to one endpoint by a hash (`balance ring-hash` or `maglev`) and has a
    /// route that splits requests between subsets by weight.
    ///
    /// ## Why it matters
    /// The split is drawn anew for each request, and the hash only picks within the subset that was drawn:
    /// the same user meets both versions in turn, and sessions break.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" v=v1; static "10.0.0.2:80" v=v2 }
    ///     subset v1 { labels v=v1 }
    ///     subset v2 { labels v=v2 }
    ///     balance ring-hash { per header user }
    ///     route all { to v1 weight=90; to v2 weight=10 }
    /// }
    /// ```
    /// ```kdl good
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.1:80" v=v1; static "10.0.0.2:80" v=v2 }
    ///     subset v1 { labels v=v1 }
    ///     subset v2 { labels v=v2 }
    ///     balance ring-hash { per header user }
    ///     route testers { match { header user prefix="test-" }; to v2 }
    ///     route all { to v1 }
    /// }
    /// ```
    pub(crate) static SPLIT_BREAKS_STICKY = {
        code: "MSH0308", name: "routing/split-breaks-sticky",
        summary: "a split sends the same user to both versions",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for service in &cx.facts().mesh().services {
        let method = &service.pool.balance.method;
        let Some(balance) = method
            .source
            .span()
            .filter(|_| !method.value.keys.is_empty())
        else {
            continue;
        };
        for route in &service.routes {
            let drawn = route.destinations.iter().filter(|to| to.weight > 0).count();
            if drawn > 1 {
                cx.report(
                    SPLIT_BREAKS_STICKY
                        .at(
                            route.name.span,
                            format!(
                                "route `{}` of `{}` draws a version for each request, whatever the hash says",
                                route.name.value, service.name.value
                            ),
                        )
                        .at("splits by weight")
                        .label(balance, "keeps requests of one key together, within a version")
                        .help("choose who gets the new version by a `match`, or give up the hash while you split"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn one_user_meets_both() {
        insta::assert_snapshot!(findings(
            "MSH0308",
            r#"
    service a {
        port 80
        endpoints { static "10.0.0.1:80" v=v1; static "10.0.0.2:80" v=v2 }
        subset v1 { labels v=v1 }
        subset v2 { labels v=v2 }
        balance maglev { per header user }
        route all { to v1 weight=90; to v2 weight=10 }
    }"#
        ));
    }

    #[test]
    fn nobody_is_kept() {
        none(
            "MSH0308",
            r#"
    service a {
        port 80
        endpoints { static "10.0.0.1:80" v=v1; static "10.0.0.2:80" v=v2 }
        subset v1 { labels v=v1 }
        subset v2 { labels v=v2 }
        route all { to v1 weight=90; to v2 weight=10 }
    }"#,
        );
    }
}
