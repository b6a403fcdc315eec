//! `routing/undecided-route`

use mesh_compiler::analysis::request_space::CapExceeded;

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
        let mut reported = vec![false; service.routes.len()];
        let mut of_all: Vec<CapExceeded> = Vec::new();
        for unknown in &routes.unknown {
            let is_of_all = is_of_all(unknown.why);
            if reported[unknown.route] || is_of_all && of_all.contains(&unknown.why) {
                continue;
            }
            reported[unknown.route] = true;
            let route = &service.routes[unknown.route];
            let mut others = 0;
            if is_of_all {
                of_all.push(unknown.why);
                let same = routes.unknown.iter().filter(|each| each.why == unknown.why);
                let mut routes: Vec<usize> = same.map(|each| each.route).collect();
                routes.sort_unstable();
                routes.dedup();
                others = routes.len() - 1;
            }
            let others = match others {
                0 => String::new(),
                1 => ", or one more,".to_owned(),
                others => format!(", or one of {others} more,"),
            };
            let message = format!(
                "whether route `{}` of `{}`{others} is shadowed or overlaps with others is not known: {}",
                route.name.value, service.name.value, unknown.why
            );
            cx.report(
                UNDECIDED_ROUTE
                    .at(route.name.span, message)
                    .at("not compared")
                    .help(help(unknown.why)),
            );
        }
    }
}

/// Whether the reason is one of all routes of the service together.
fn is_of_all(why: CapExceeded) -> bool {
    matches!(why, CapExceeded::Effort | CapExceeded::Findings)
}

fn help(why: CapExceeded) -> &'static str {
    match why {
        CapExceeded::Findings => "mend the overlaps that are shown (MSH0204), and check again",
        _ => "path templates and shorter regular expressions can be compared",
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

    #[test]
    fn what_is_true_of_many_routes_is_said_once() {
        let route = |number| format!("route r{number} {{ match {{ header v \"{number}\" }} }}\n");
        let routes = (0..30).map(route).collect::<Vec<_>>().concat();
        insta::assert_snapshot!(findings(
            "MSH0221",
            &format!(
                "service a {{\n port 80\n endpoints {{ static \"10.0.0.1:80\" }}\n{routes} route rest\n}}"
            )
        ));
    }
}
