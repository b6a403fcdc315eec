//! `routing/impossible-match`

use mesh_bundle::slice::Condition;
use mesh_compiler::code;
use mesh_compiler::model::Spanned;
use mesh_syntax::Diagnostic;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::gateways::host_not_served::unserved_host;

declare_rule! {
    /// ## What it flags
    /// A `match` whose conditions no request can meet together: two methods, two paths without a
    /// common one, a port that the service does not have, a header both present and absent. Conditions
    /// inside one `match` are *and*; values of one condition are *or*.
    ///
    /// ## Why it matters
    /// The route looks like a policy and is none. Often an *or* was meant: two `match` blocks, or two
    /// values of one condition.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route old { match { path "/v1/**"; path "/v2/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route old { match { path "/v1/**" "/v2/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    pub(crate) static IMPOSSIBLE_MATCH = {
        code: "MSH0217", name: "routing/impossible-match",
        summary: "no request can meet the conditions of a match",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        for impossible in &routes.impossible {
            // A host that the gateway does not serve has a finding of its own.
            if unserved_host(service, impossible).is_some() {
                continue;
            }
            let route = &service.routes[impossible.route];
            let Some(each) = route.matches.get(impossible.position) else {
                continue;
            };
            // Such a route's requests have more paths than those that are chosen from.
            let by_path = |condition: &usize| {
                let condition = each.conditions.get(*condition).map(|each| &each.value);
                matches!(condition, Some(Condition::Path(_)))
            };
            let only_path = impossible.conditions.iter().all(by_path);
            if only_path && !route.actions.path_accepts.is_empty() {
                continue;
            }
            if let ([only], true) = (impossible.conditions.as_slice(), only_path) {
                cx.report_some(each.conditions.get(*only).map(not_normalised));
                continue;
            }
            let spans: Vec<_> = impossible
                .conditions
                .iter()
                .filter_map(|condition| Some(each.conditions.get(*condition)?.span))
                .collect();
            let (last, before) = spans
                .split_last()
                .map_or((each.span, &[][..]), |(last, before)| (*last, before));
            let message = format!(
                "no request can meet this `match` of route `{}` of `{}`",
                route.name.value, service.name.value
            );
            let mut finding = IMPOSSIBLE_MATCH.at(last, message);
            finding = if before.is_empty() {
                finding
                    .at("takes no request that reaches the service")
                    .help("remove it, or let it ask for something that a request can have")
            } else {
                finding
                    .at("excludes the other condition")
                    .help("conditions of one `match` are all needed; for *or*, give one condition several values or write a second `match`")
            };
            for span in before {
                finding = finding.label(*span, "excluded by it");
            }
            cx.report(finding);
        }
    }
}

/// A regular expression none of whose paths is a normalised one. Templates of that kind were refused long before.
fn not_normalised(condition: &Spanned<Condition>) -> Diagnostic {
    Diagnostic::error(
        code::NOT_NORMALISED,
        condition.span,
        "no normalised path matches this regular expression",
    )
    .at("takes no request that reaches the service")
    .help(
        "match the path as it is once dots are resolved, slashes merged and escapes canonical; where the application \
         needs `%2f` or `;`, say `path-accepts` in the route",
    )
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const START: &str = "service a {\n port 80\n endpoints { static \"10.0.0.1:80\" }\n";

    #[test]
    fn only_the_conditions_that_exclude_each_other_are_shown() {
        insta::assert_snapshot!(findings(
            "MSH0217",
            &format!(
                "{START}
            route one {{ match {{ method GET; header x \"1\"; method POST }} }}
            route two {{ match {{ path \"/a/*\"; path regex=\"/b/.*\" }} }}
            route three {{ match {{ header x; not {{ header x }} }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn a_header_sent_twice_meets_both() {
        none(
            "MSH0217",
            &format!(
                "{START}
            route one {{ match {{ header x \"1\"; header x \"2\" }} }}
            route rest
        }}"
            ),
        );
    }

    #[test]
    fn a_path_that_is_never_normalised_has_its_own_code() {
        let route = |rest: &str| {
            format!(
                "{START}\n route one {{ match {{ path regex=\"/a(//|%2F).*\" }}; {rest} }}\n route rest\n}}"
            )
        };
        insta::assert_snapshot!(findings("MSH0212", &route("timeout \"2s\"")));
        none("MSH0217", &route("timeout \"2s\""));
        none("MSH0212", &route("path-accepts encoded-slash"));
    }
}
