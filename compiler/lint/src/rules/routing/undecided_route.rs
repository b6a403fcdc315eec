//! `routing/undecided-route`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// A route of which the compiler could not decide whether it is ever taken or fights with another
    /// one: its conditions, or a regular expression in them, are larger than what it compares.
    ///
    /// ## Why it matters
    /// The checks on unreachable and overlapping routes said nothing about it. They never guess. The
    /// proxy is not affected: it decides each single request, which is always possible.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path regex="/(a|b)*a(a|b){18}" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route odd { match { path "/a/**" "/b/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    pub(crate) static UNDECIDED_ROUTE = {
        code: "MSH0221", name: "routing/undecided-route",
        summary: "route is too complex to compare with others",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    for (service, routes) in cx.facts().routes() {
        let mut reported: Vec<usize> = Vec::new();
        for unknown in &routes.unknown {
            if reported.contains(&unknown.route) {
                continue;
            }
            reported.push(unknown.route);
            let route = &service.routes[unknown.route];
            let message = format!(
                "whether route `{}` of `{}` is shadowed or overlaps with others is not known: {}",
                route.name.value, service.name.value, unknown.why
            );
            cx.report(
                UNDECIDED_ROUTE
                    .at(route.name.span, message)
                    .at("not compared")
                    .help("path templates and shorter regular expressions can be compared"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::findings;

    #[test]
    fn an_automaton_past_the_bound_is_said_aloud() {
        insta::assert_snapshot!(findings(
            "MSH0221",
            r#"
            service a {
                port 80
                endpoints { static "10.0.0.1:80" }
                route odd { match { path regex="/(a|b)*a(a|b){18}" } }
                route rest
            }"#
        ));
    }
}
