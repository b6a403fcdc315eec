//! `retries/retry-cycle`

use mesh_compiler::analysis::call_graph::{CallGraph, Edge, Origin};
use mesh_compiler::analysis::retry::{Round, rounds};
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::calls;

declare_rule! {
    /// ## What it flags
    /// Services that call each other in a round while somebody on the way retries. It is an error
    /// where the calls do not come to an end even on average, with budgets and declared shares taken
    /// into account, and a warning where they do or where part of the round is only permitted.
    ///
    /// ## Why it matters
    /// Every retry starts the rest of the round again, and the round ends in the same retry: one
    /// failure keeps the whole group busy without any further request from outside.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh shop { trust-domain "shop.example"; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; allow b; calls b }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; allow a; calls a }
    /// ```
    /// ```kdl good
    /// mesh shop { trust-domain "shop.example"; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
    /// service a { port 80; endpoints { static "10.0.0.1:80" }; calls b }
    /// service b { port 80; endpoints { static "10.0.0.2:80" }; allow a }
    /// ```
    pub(crate) static RETRY_CYCLE = {
        code: "MSH0402", name: "retries/retry-cycle", summary: "retries in a round of calls",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let declared = facts.declared();
    let certain = rounds(declared);
    for round in certain.iter().filter(|round| round.retried) {
        report(cx, declared, round);
    }
    let graph = facts.graph();
    for round in rounds(graph) {
        let known = certain.iter().any(|known| {
            known
                .services
                .iter()
                .any(|node| round.services.contains(node))
        });
        if round.retried && !round.declared && !known {
            report(cx, graph, &round);
        }
    }
}

fn report(cx: &mut RuleContext<'_>, graph: &CallGraph, round: &Round) {
    let names: Vec<&str> = round
        .services
        .iter()
        .map(|node| graph.node(*node).name.as_str())
        .collect();
    let inside = |edge: &&Edge| round.services.contains(&edge.to);
    let edges: Vec<&Edge> = round
        .services
        .iter()
        .flat_map(|node| graph.leaving(*node).filter(inside))
        .collect();
    let retried = |edge: &&&Edge| edge.policies.iter().any(|policy| policy.tries() > 1);
    let Some(first) = edges.iter().find(retried) else {
        return;
    };
    let Some(span) = first.span.or(graph.node(first.from).span) else {
        return;
    };
    // Of some of these calls policy says only that they are let in.
    let (call, brings, end) = match (round.declared, round.is_bounded()) {
        (true, true) => (
            "call",
            "brings",
            "they come to an end only while budgets and shares hold",
        ),
        (true, false) => ("call", "brings", "they never come to an end"),
        (false, true) => (
            "may call",
            "would bring",
            "they would come to an end only while budgets and shares hold",
        ),
        (false, false) => ("may call", "would bring", "they would never come to an end"),
    };
    let message = format!(
        "{} {call} each other in a round and retry: each call {brings} {} back, and {end}",
        crate::rules::words::list(names),
        calls(round.gain),
    );
    let mut finding = RETRY_CYCLE
        .at(span, message)
        .at(format!(
            "`{}` retries a call that comes back to it",
            graph.node(first.from).name
        ))
        .help("take one call out of the round, or let it make a single attempt")
        .number("gain", round.gain)
        .number("spectral_radius", round.spectral_radius);
    for edge in edges
        .iter()
        .filter(|edge| edge.span.is_some_and(|other| other != span))
    {
        if let Some(span) = edge.span {
            let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
            finding = finding.label(
                span,
                if edge.origin() == Origin::Declared {
                    format!("`{from}` calls `{to}`")
                } else {
                    format!("`{from}` may call `{to}`, and does not declare it")
                },
            );
        }
    }
    for node in &round.services {
        finding.add_subject(&graph.node(*node).name);
    }
    if round.is_bounded() {
        finding.level = Level::Warning;
    }
    cx.report(if round.declared {
        finding
    } else {
        finding.possible()
    });
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    fn mesh(defaults: &str, back: &str) -> String {
        format!(
            r#"
            mesh m {{ trust-domain "m.example"; defaults {{ {defaults} }} }}
            service a {{ port 80; endpoints {{ static "10.0.0.1:80" }}; allow b; calls b }}
            service b {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow a; {back} }}"#
        )
    }

    #[test]
    fn a_round_that_never_ends_is_an_error() {
        insta::assert_snapshot!(findings(
            "MSH0402",
            &mesh("retry \"5xx\" attempts=3", "calls a share=\"50%\"")
        ));
    }

    #[test]
    fn a_round_that_ends_is_a_warning() {
        insta::assert_snapshot!(findings(
            "MSH0402",
            &mesh(
                "retry \"5xx\" attempts=3; retry-budget \"20%\"",
                "calls a share=\"50%\""
            )
        ));
    }

    #[test]
    fn a_round_that_is_only_permitted_is_possible() {
        insta::assert_snapshot!(findings("MSH0402", &mesh("retry \"5xx\" attempts=3", "")));
    }

    #[test]
    fn of_calls_that_are_only_let_in_it_says_that_they_may_be() {
        let policy =
            mesh("retry \"5xx\" attempts=3", "").replace("allow b; calls b", "allow any; calls b");
        insta::assert_snapshot!(findings("MSH0402", &policy));
    }

    #[test]
    fn a_round_without_retries_is_none_of_this_rules() {
        none("MSH0402", &mesh("retry none", "calls a"));
    }
}
