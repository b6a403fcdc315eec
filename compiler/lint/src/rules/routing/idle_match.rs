//! `routing/idle-match`

use mesh_bundle::slice::{Condition, PathPatternKind, RouteMatch};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A part of a route that never takes a request: one of several `match` blocks, or one of several
    /// hosts, paths or callers in a `match`, all of whose requests more specific routes take. The
    /// route as a whole does take requests.
    ///
    /// ## Why it matters
    /// For those requests, another route's policy is in force than the one that seems to be.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route testers { match { header user; path "/reviews/export" }; timeout "10s" }
    ///     route others { match { not { header user }; path "/reviews/export" }; timeout "5s" }
    ///     route quick { match { path "/reviews/{id}" "/reviews/export" }; timeout "1s" }
    ///     route rest
    /// }
    /// ```
    /// ```kdl good
    /// service reviews {
    ///     port 9080
    ///     endpoints { static "10.0.0.7:9080" }
    ///     route testers { match { header user; path "/reviews/export" }; timeout "10s" }
    ///     route others { match { not { header user }; path "/reviews/export" }; timeout "5s" }
    ///     route quick { match { path "/reviews/{id}" }; timeout "1s" }
    ///     route rest
    /// }
    /// ```
    pub(crate) static IDLE_MATCH = {
        code: "MSH0202", name: "routing/idle-match",
        summary: "part of a route never takes a request",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    for (service, routes) in facts.routes() {
        for idle in &routes.idle {
            let route = &service.routes[idle.route];
            let Some(each) = route.matches.get(idle.position) else {
                continue;
            };
            let name = |other: &usize| service.routes[*other].name.value.as_str();
            let others = list(idle.covered_by.iter().map(name));
            let part = idle.part.as_ref().and_then(described);
            let what = part.map_or("this `match`".to_owned(), |part| {
                format!("{part} of this `match`")
            });
            let message = format!(
                "{what} of route `{}` of `{}` never takes a request: {others} {} all of them",
                route.name.value,
                service.name.value,
                if idle.covered_by.len() == 1 {
                    "takes"
                } else {
                    "together take"
                },
            );
            let mut finding = IDLE_MATCH
                .at(each.span, message)
                .at("never takes a request")
                .help(format!("remove it here, or narrow {others}"));
            for other in &idle.covered_by {
                finding = finding.label(service.routes[*other].name.span, "more specific");
            }
            cx.report(facts.witnessed(finding, idle.witness.as_ref(), service.id));
        }
    }
}

/// What sets a part of a match apart: those of its conditions of which there can be several parts.
fn described(part: &RouteMatch) -> Option<String> {
    let text = |condition: &Condition| match condition {
        Condition::Path(patterns) => {
            let pattern = patterns.first()?;
            Some(match &pattern.kind {
                PathPatternKind::Template(text) => format!("path \"{text}\""),
                PathPatternKind::Regex(text) => format!("path regex=\"{text}\""),
            })
        }
        Condition::Host(hosts) => Some(format!("host \"{}\"", hosts.first()?)),
        _ => None,
    };
    let texts: Vec<String> = part.conditions.iter().filter_map(text).collect();
    (!texts.is_empty()).then(|| format!("the part `{}`", texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const START: &str = "service a {\n port 80\n endpoints { static \"10.0.0.1:80\" }\n";

    #[test]
    fn a_block_that_others_cover_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0202",
            &format!(
                "{START}
            route one {{ match {{ path \"/a/b\"; header x }} }}
            route two {{ match {{ path \"/a/b\"; not {{ header x }} }} }}
            route three {{ match {{ path \"/c\" }}; match {{ path regex=\"/a/b\" }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn one_of_several_paths_is_found() {
        insta::assert_snapshot!(findings(
            "MSH0202",
            &format!(
                "{START}
            route three {{ match {{ path \"/b\"; header x }} }}
            route four {{ match {{ path \"/b\"; not {{ header x }} }} }}
            route five {{ match {{ path \"/c/*\" \"/b\" }} }}
            route rest
        }}"
            )
        ));
    }

    #[test]
    fn parts_that_are_only_narrowed_are_not() {
        none(
            "MSH0202",
            &format!(
                "{START}
            route one {{ match {{ path \"/a\"; header x }} }}
            route two {{ match {{ path \"/a\" }}; match {{ path \"/b\" }} }}
            route rest
        }}"
            ),
        );
    }
}
