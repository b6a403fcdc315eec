//! `routing/overlapping-routes`

use crate::rule::{RuleContext, declare_rule};

declare_rule! {
    /// ## What it flags
    /// Two routes that both would take some request, while neither is more specific: they ask the
    /// same, or each asks something that the other does not and that ranks the same. The request is
    /// shown. Requests that a third, more specific route takes do not count.
    ///
    /// ## Why it matters
    /// Nothing in this mesh is decided by the order of files or routes, so there is no winner. Routes
    /// rank by port, then host, then path segment by segment, then method, then caller, then the
    /// number of header, cookie, claim and address conditions, then of query conditions.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route testers { match { header user "tester" } }
    ///     route phones { match { header device "phone" } }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route testers { match { header user "tester" } }
    ///     route phones { match { header device "phone"; not { header user "tester" } } }
    ///     route rest
    /// }
    /// ```
    pub(crate) static OVERLAPPING_ROUTES = {
        code: "MSH0204", name: "routing/overlapping-routes",
        summary: "two routes take one request and neither is more specific",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        for tie in &routes.ties {
            // By name: which of them is written first decides nothing.
            let [first, second] = [tie.first, tie.second].map(|route| &service.routes[route]);
            let (one, two) = (&first.name.value, &second.name.value);
            let message = format!(
                "routes `{one}` and `{two}` of `{}` both take some request, and neither is more specific",
                service.name.value
            );
            let help = if tie.same {
                "they ask the same: join them, or let one of them ask for more"
            } else {
                "let one of them ask for more (a longer path, a method, another header), or leave out \
                 with `not` what the other one asks for"
            };
            let finding = OVERLAPPING_ROUTES
                .at(second.name.span, message)
                .at(format!("takes it as much as `{one}` does"))
                .label(first.name.span, format!("takes it as much as `{two}` does"))
                .help(help);
            cx.report(facts.witnessed(finding, tie.witness.as_ref(), service.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const START: &str = "service a {\n port 80\n endpoints { static \"10.0.0.1:80\" }\n";

    #[test]
    fn two_headers_tie() {
        insta::assert_snapshot!(findings(
            "MSH0204",
            &format!(
                "{START}
            route testers {{ match {{ header user \"tester\" }} }}
            route phones {{ match {{ header device \"phone\" }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn two_that_ask_the_same_tie() {
        insta::assert_snapshot!(findings(
            "MSH0204",
            &format!(
                "{START}
            route one {{ match {{ path \"/a/{{id}}\" }} }}
            route two {{ match {{ path \"/a/*\" }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn a_third_route_that_takes_the_overlap_settles_it() {
        none(
            "MSH0204",
            &format!(
                "{START}
            route testers {{ match {{ header user \"tester\" }} }}
            route phones {{ match {{ header device \"phone\" }} }}
            route both {{ match {{ header user \"tester\"; header device \"phone\" }} }}
            route rest
        }}"
            ),
        );
    }

    #[test]
    fn disjoint_values_do_not_overlap_but_repeated_headers_do() {
        // A request may carry the header twice, and a match needs one line.
        insta::assert_snapshot!(findings(
            "MSH0204",
            &format!(
                "{START}
            route one {{ match {{ header v \"1\" }} }}
            route two {{ match {{ header v \"2\" }} }}
            route rest
        }}"
            )
        ));
        none(
            "MSH0204",
            &format!(
                "{START}
            route one {{ match {{ path \"/1/**\" }} }}
            route two {{ match {{ path \"/2/**\" }} }}
            route three {{ match {{ path regex=\"/3.*\" }} }}
            route rest
        }}"
            ),
        );
    }
}
