//! `routing/overlapping-routes`

use mesh_bundle::slice::Condition;
use mesh_compiler::linked::{Match, condition_text};
use mesh_compiler::model::Spanned;
use mesh_syntax::{Edit, Span};

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
    /// As an error it can't be suppressed: which route would take the request nobody could say, not even `meshc explain`.
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
            let finding = OVERLAPPING_ROUTES
                .at(second.name.span, message)
                .at(format!("takes it as much as `{one}` does"))
                .label(first.name.span, format!("takes it as much as `{two}` does"));
            let [of_first, of_second] = tie.matches;
            let (first_match, second_match) =
                (first.matches.get(of_first), second.matches.get(of_second));
            let apart = left_out(first_match, second_match).map(|found| (one, two, found));
            let apart = apart
                .or_else(|| left_out(second_match, first_match).map(|found| (two, one, found)));
            let finding = match apart {
                _ if tie.same => {
                    finding.help("they ask the same: join them, or let one of them ask for more")
                }
                Some((from, to, (condition, after))) => finding
                    .help(format!(
                        "leave out of `{to}` what `{from}` asks for, with `not {{ {condition} }}`; or let one of \
                         them ask for more (a longer path, a method, another header)"
                    ))
                    .unsafe_fix(
                        format!("add `not {{ {condition} }}` to `{to}`"),
                        vec![Edit::new(after, format!("; not {{ {condition} }}"))],
                    ),
                None if has_not(first_match) || has_not(second_match) => finding.help(
                    "let one of them ask for more (a longer path, a method, another header); a header that comes twice \
                     may be what one asks for and what the other leaves out",
                ),
                None => finding.help(
                    "let one of them ask for more (a longer path, a method, another header), or leave out \
                     with `not` what the other one asks for",
                ),
            };
            cx.report(facts.witnessed(finding, tie.witness.as_ref(), service.id));
        }
    }
}

fn has_not(written: Option<&Match>) -> bool {
    let conditions = written.map_or(&[][..], |written| &written.conditions);
    conditions
        .iter()
        .any(|condition| matches!(condition.value, Condition::Not(_)))
}

/// What one match asks for and another does not, as a condition to write, and the place behind the other's last one.
fn left_out(one: Option<&Match>, other: Option<&Match>) -> Option<(String, Span)> {
    let (one, other) = (one?, other?);
    let asks = |wanted: &&Spanned<Condition>| {
        let mut own = other.conditions.iter();
        // A header may come twice, and then `not` sets nothing apart.
        let not = Condition::Not(Box::new(wanted.value.clone()));
        let is_negated = matches!(wanted.value, Condition::Not(_));
        !is_negated && !own.any(|own| own.value == wanted.value || own.value == not)
    };
    let mut more = one.conditions.iter().filter(asks);
    let condition = more.find_map(|condition| condition_text(&condition.value))?;
    let last = other
        .conditions
        .iter()
        .map(|condition| condition.span)
        .max()?;
    let end = Span {
        start: last.end,
        ..last
    };
    Some((condition, end))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, fixed, judged, none};

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
    fn what_is_left_out_already_is_not_proposed() {
        let found = findings(
            "MSH0204",
            &format!(
                "{START}
            route one {{ match {{ header x \"1\" }} }}
            route two {{ match {{ not {{ header x \"1\" }} }} }}
        }}"
            ),
        );
        assert!(!found.contains("leave out of"), "{found}");
        assert!(found.contains("a header that comes twice"), "{found}");
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

    #[test]
    fn the_fix_leaves_nothing_to_both() {
        for [one, two] in [
            [r#"header user "x""#, r#"header user "y""#],
            [r#"query page "1""#, r#"query sort prefix="a""#],
            [
                r#"cookie a; path "/x/**""#,
                r#"path "/x/**"; cookie b "1" "2""#,
            ],
        ] {
            let policy = format!(
                "{START} route one {{ match {{ {one} }} }}\n route two {{ match {{ {two} }} }}\n route rest }}"
            );
            none("MSH0204", &fixed("MSH0204", &policy));
        }
    }

    #[test]
    fn a_request_that_is_let_in_is_shown_where_there_is_one() {
        insta::assert_snapshot!(findings(
            "MSH0204",
            r#"service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a {
                port 80
                endpoints { static "10.0.0.2:80" }
                allow web { method POST; path "/reviews/**" }
                route one { match { header user "x" } }
                route two { match { header user "y" } }
                route rest
            }"#
        ));
    }

    #[test]
    fn nobody_can_suppress_it() {
        let policy = format!(
            "{START} route one {{ match {{ header a }} }}; route two {{ match {{ header b }} }}; route rest }}
mesh example {{ trust-domain \"example.test\"; team shop {{ service a }} }}
suppress MSH0204 at=a reason=\"so\" owner=shop until=\"2099-01-01\""
        );
        let (findings, suppressed) = judged(&policy);
        assert_eq!(suppressed, 0);
        let all: Vec<&str> = findings.split("\n\n").collect();
        let stays = all.iter().filter(|one| one.contains("MSH0204"));
        insta::assert_snapshot!(stays.copied().collect::<Vec<_>>().join("\n\n"));
    }
}
