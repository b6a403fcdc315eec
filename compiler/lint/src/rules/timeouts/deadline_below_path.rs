//! `timeouts/deadline-below-path`

use mesh_compiler::analysis::call_graph::{CallGraph, NodeId, NodeKind};
use mesh_compiler::analysis::retry::ResponseBounds;
use mesh_syntax::Level;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::seconds;

declare_rule! {
    /// ## What it flags
    /// A gateway that gives up on a request before the services behind it can be done: its deadline is
    /// shorter than the longest path of calls, with all tries and waits, that the request may take. Where no
    /// file sets the deadline it is a note.
    ///
    /// ## Why it matters
    /// People see an error while the mesh still works on their answer, and try again.
    ///
    /// ## Examples
    /// ```kdl bad
    /// gateway public { listen 80 { host "shop.example" }; allow unauthenticated; route all { to web; timeout "2s" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; allow public; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; timeout "5s" }
    /// ```
    /// ```kdl good
    /// gateway public { listen 80 { host "shop.example" }; allow unauthenticated; route all { to web; timeout "8s" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; allow public; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; timeout "5s" }
    /// ```
    pub(crate) static DEADLINE_BELOW_PATH = {
        code: "MSH0505", name: "timeouts/deadline-below-path",
        summary: "the deadline of an entry is shorter than its critical path",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let graph = cx.facts().declared();
    let bounds = ResponseBounds::of(graph);
    for id in graph.edges() {
        let edge = graph.edge(id);
        if graph.node(edge.from).kind != NodeKind::Gateway || !edge.is_awaited() {
            continue;
        }
        let slacks = edge
            .policies
            .iter()
            .filter_map(|policy| Some((policy, bounds.slack(edge, policy)?)));
        let worst = slacks.reduce(|worst, next| if next.1 < worst.1 { next } else { worst });
        let Some((policy, slack)) = worst.filter(|(_, slack)| *slack < -1e-6) else {
            continue;
        };
        let (Some(deadline), Some(needed)) = (policy.try_limit(), bounds.bound(edge.to)) else {
            continue;
        };
        let Some(span) = policy.limit_span.or(edge.span) else {
            continue;
        };
        let (path, spans) = critical(graph, &bounds, edge.to);
        let mut finding = DEADLINE_BELOW_PATH
            .at(
                span,
                format!(
                    "`{}` gives up on `{}` after {}, but an answer may take {} along {}",
                    graph.node(edge.from).name,
                    graph.node(edge.to).name,
                    seconds(deadline),
                    seconds(needed),
                    path.join(" → "),
                ),
            )
            .about(&graph.node(edge.from).name)
            .help("give the entry more time, or the calls behind it less")
            .number("slack_ms", (slack * 1e6).round() / 1e3);
        for (span, text) in spans {
            finding = finding.label(span, text);
        }
        if policy.limit_span.is_none() {
            finding.level = Level::Note;
        }
        cx.report(finding);
    }
}

/// The path that takes longest, with what each hop may spend.
fn critical(
    graph: &CallGraph,
    bounds: &ResponseBounds,
    from: NodeId,
) -> (Vec<String>, Vec<(mesh_syntax::Span, String)>) {
    let mut path = vec![graph.node(from).name.clone()];
    let mut spans = Vec::new();
    let mut at = from;
    while path.len() <= graph.nodes().len() {
        let longest = graph
            .leaving(at)
            .filter(|edge| edge.is_awaited())
            .filter_map(|edge| Some((bounds.exchange(edge)?, edge)))
            .reduce(|longest, next| if next.0 > longest.0 { next } else { longest });
        let Some((time, edge)) = longest else { break };
        let name = &graph.node(edge.to).name;
        path.push(name.clone());
        spans.extend(
            edge.span
                .map(|span| (span, format!("may spend {} on `{name}`", seconds(time)))),
        );
        at = edge.to;
    }
    (path, spans)
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn people_wait_less_long_than_services() {
        insta::assert_snapshot!(findings(
            "MSH0505",
            r#"
    gateway public { listen 80 { host "shop.example" }; allow unauthenticated; route all { to web; timeout "2s" } }
    service web { port 80; endpoints { static "10.0.0.1:80" }; allow public; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s" }"#
        ));
    }

    #[test]
    fn a_service_that_nobody_calls_has_no_deadline() {
        none(
            "MSH0505",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; timeout "5s" }"#,
        );
    }
}
