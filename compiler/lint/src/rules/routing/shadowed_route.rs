//! `routing/shadowed-route`

use mesh_bundle::slice::{Condition, PathPatternKind};
use mesh_compiler::linked::Route;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A route that never takes a request, because more specific routes, alone or together, take all
    /// of its requests. The finding names them and shows a request that goes elsewhere.
    ///
    /// ## Why it matters
    /// Its author believes that a policy is in force when it is not.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route debug { match { path "/reviews/**"; header debug } }
    ///     route users { match { path "/reviews/**"; not { header debug } } }
    ///     route canary { match { path "/reviews/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route debug { match { path "/reviews/**"; header debug } }
    ///     route canary { match { path "/reviews/**" }; timeout "2s" }
    ///     route rest
    /// }
    /// ```
    pub(crate) static SHADOWED_ROUTE = {
        code: "MSH0201", name: "routing/shadowed-route", summary: "route can never match",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        let name = |route: usize| service.routes[route].name.value.as_str();
        for shadowed in &routes.unreachable {
            let route = &service.routes[shadowed.route];
            let others = list(shadowed.covered_by.iter().map(|other| name(*other)));
            let message = format!(
                "route `{}` of `{}` never takes a request: {others} {} all of them",
                route.name.value,
                service.name.value,
                if shadowed.covered_by.len() == 1 {
                    "takes"
                } else {
                    "together take"
                },
            );
            let mut finding = SHADOWED_ROUTE
                .at(route.name.span, message)
                .at("can never match")
                .help(format!("narrow {others}, or remove `{}`", route.name.value));
            let share = if shadowed.covered_by.len() == 1 {
                "every"
            } else {
                "part"
            };
            for other in &shadowed.covered_by {
                let label = match share {
                    "every" => "takes every such request",
                    _ => "takes part of its requests",
                };
                finding = finding.label(service.routes[*other].name.span, label);
            }
            finding = facts.witnessed(finding, shadowed.witness.as_ref(), service.id);
            // Its requests have more paths than those that are chosen from, which a regular expression tells apart.
            if !route.actions.path_accepts.is_empty() && by_regex(route) {
                finding = finding.possible();
            }
            cx.report(finding);
        }
    }
}

/// Whether a route asks for paths by a regular expression.
fn by_regex(route: &Route) -> bool {
    let conditions = route.matches.iter().flat_map(|each| &each.conditions);
    conditions
        .into_iter()
        .any(|condition| match &condition.value {
            Condition::Path(patterns) => patterns
                .iter()
                .any(|pattern| matches!(pattern.kind, PathPatternKind::Regex(_))),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const START: &str = "service a {\n port 80\n endpoints { static \"10.0.0.1:80\" }\n";

    #[test]
    fn a_union_that_covers_a_route_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0201",
            &format!(
                "{START}
            route debug {{ match {{ path \"/a/**\"; header debug }} }}
            route users {{ match {{ path \"/a/**\"; not {{ header debug }} }} }}
            route never {{ match {{ path \"/a/**\" }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn a_template_covers_a_regex() {
        insta::assert_snapshot!(findings(
            "MSH0201",
            &format!(
                "{START}
            route users {{ match {{ path \"/users/{{id}}\" }} }}
            route numbers {{ match {{ path regex=\"/users/[0-9]+\" }}; timeout \"1s\" }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn what_is_left_over_is_reachable() {
        none(
            "MSH0201",
            &format!(
                "{START}
            route one {{ match {{ path \"/a/*\" }} }}
            route two {{ match {{ path \"/a\" }} }}
            route all {{ match {{ path \"/a/**\" }} }}
        }}"
            ),
        );
    }

    #[test]
    fn a_route_that_accepts_more_paths_may_have_some_for_itself() {
        let route = |accepts: &str| {
            findings(
                "MSH0201",
                &format!(
                    r#"
        service a {{
            port 80
            endpoints {{ static "10.0.0.1:80" }}
            route x {{ match {{ path "/a/x" }} }}
            route more {{ match {{ path regex="/a/x|/a/x%2Fy" }}; {accepts} }}
            route rest
        }}"#
                ),
            )
        };
        assert!(route("timeout \"2s\"").contains("(certain)"));
        let possible = route("path-accepts encoded-slash");
        assert!(
            possible.starts_with("warning MSH0201 routing/shadowed-route (possible)"),
            "{possible}"
        );
    }
}
