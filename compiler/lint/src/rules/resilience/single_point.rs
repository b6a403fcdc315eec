//! `resilience/single-point`

use mesh_compiler::analysis::call_graph::Purpose;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::list;

declare_rule! {
    /// ## What it flags
    /// A service with a single endpoint that two or more services call for every request of theirs, without
    /// anything to fall back on (`else` in a route).
    ///
    /// ## Why it matters
    /// All of them are down while this one instance restarts.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; calls c }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; calls c }
    /// service c { port 80; endpoints { static "10.0.0.3:80" }; allow a b }
    /// ```
    /// ```kdl good
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; calls c }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; calls c }
    /// service c { port 80; endpoints { static "10.0.0.3:80" "10.0.0.4:80" }; allow a b }
    /// ```
    pub(crate) static SINGLE_POINT = {
        code: "MSH0612", name: "resilience/single-point",
        summary: "one instance that several services cannot do without",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let graph = facts.declared();
    for (service, node) in facts.mesh().services.iter().zip(graph.nodes()) {
        let falls_back = service
            .routes
            .iter()
            .flat_map(|route| &route.destinations)
            .any(|to| !to.otherwise.is_empty());
        if falls_back || crate::rules::pools::endpoints(service) != Some(1) {
            continue;
        }
        let always = graph
            .entering(node)
            .filter(|(_, edge)| edge.share >= 1.0 && edge.purpose == Purpose::Call);
        let mut callers: Vec<&str> = always
            .map(|(_, edge)| graph.node(edge.from).name.as_str())
            .collect();
        callers.sort_unstable();
        callers.dedup();
        if callers.len() < 2 {
            continue;
        }
        cx.report(
            SINGLE_POINT
                .at(
                    service.name.span,
                    format!("{} cannot do without the one instance of `{}`", list(callers), service.name.value),
                )
                .help("give it a second instance, or say `share=` in the calls that can do without it"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn two_hang_on_one() {
        insta::assert_snapshot!(findings(
            "MSH0612",
            r#"
    service a { port 80; endpoints { static "10.0.0.1:80" }; calls c }
    service b { port 80; endpoints { static "10.0.0.2:80" }; calls c }
    service c { port 80; endpoints { static "10.0.0.3:80" }; allow a b }"#
        ));
    }

    #[test]
    fn half_of_the_requests_do_without() {
        none(
            "MSH0612",
            r#"
    service a { port 80; endpoints { static "10.0.0.1:80" }; calls c share="50%" }
    service b { port 80; endpoints { static "10.0.0.2:80" }; calls c }
    service c { port 80; endpoints { static "10.0.0.3:80" }; allow a b }"#,
        );
    }
}
