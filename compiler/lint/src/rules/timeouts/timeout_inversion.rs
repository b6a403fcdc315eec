//! `timeouts/timeout-inversion`

use std::time::Duration;

use mesh_compiler::analysis::call_graph::{CallGraph, Edge, NodeKind, Origin, Policy};
use mesh_compiler::analysis::retry::ResponseBounds;
use mesh_syntax::{Diagnostic, Level, Span};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::seconds;

/// Less than this is rounding.
const SLACK_MIN_S: f64 = -1e-6;

declare_rule! {
    /// ## What it flags
    /// A caller that gives up on a try before its callee can be done with its own calls: the time that
    /// the callee may spend on them, all tries and waits included, is longer than the caller's
    /// `per-try` or `timeout`. Times that a service needs itself count where `facts handling=` says so.
    /// Where no file sets any of the times it is a note.
    ///
    /// ## Why it matters
    /// The callee goes on working for an answer that nobody waits for, and the caller's retry starts
    /// the same work again beside it. Timeouts should grow towards the entry.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "2s" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s" }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "4s" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s" }
    /// ```
    pub(crate) static TIMEOUT_INVERSION = {
        code: "MSH0503", name: "timeouts/timeout-inversion",
        summary: "caller gives up before its callee can answer",
        level: Warning, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let graph = cx.facts().declared();
    let bounds = ResponseBounds::of(graph);
    for id in graph.edges() {
        let edge = graph.edge(id);
        // The deadline of an entry is another finding, MSH0505; nobody waits for a copy.
        if graph.node(edge.from).kind == NodeKind::Gateway || !edge.is_awaited() {
            continue;
        }
        let slacks = edge
            .policies
            .iter()
            .filter_map(|policy| Some((policy, bounds.slack(edge, policy)?)));
        let worst = slacks.reduce(|worst, next| if next.1 < worst.1 { next } else { worst });
        let inverted = worst.filter(|(_, slack)| *slack < SLACK_MIN_S);
        if let Some(finding) =
            inverted.and_then(|(policy, slack)| finding(graph, &bounds, edge, policy, slack))
        {
            cx.report(finding);
        }
    }
}

fn finding(
    graph: &CallGraph,
    bounds: &ResponseBounds,
    edge: &Edge,
    policy: &Policy,
    slack: f64,
) -> Option<Diagnostic> {
    let (caller, callee) = (graph.node(edge.from), graph.node(edge.to));
    let needed = bounds.bound(edge.to)?;
    let patience = policy.try_limit()?;
    let below: Vec<(&Edge, Duration)> = graph
        .leaving(edge.to)
        .filter(|edge| edge.origin() == Origin::Declared)
        .filter_map(|edge| Some((edge, bounds.exchange(edge)?)))
        .collect();
    let written =
        |edge: &Edge| -> Option<Span> { edge.policies.iter().find_map(|policy| policy.limit_span) };
    let nobody_wrote =
        policy.limit_span.is_none() && below.iter().all(|(edge, _)| written(edge).is_none());
    let message = format!(
        "`{}` waits {} for `{}`, which may need {} for its own calls (route `{}`)",
        caller.name,
        seconds(patience),
        callee.name,
        seconds(needed),
        policy.route,
    );
    let span = policy.limit_span.or(edge.span).or(caller.span)?;
    let mut finding = TIMEOUT_INVERSION
        .at(span, message)
        .at(format!(
            "{} too short",
            seconds(Duration::try_from_secs_f64(-slack).ok()?)
        ))
        .about(&caller.name)
        .help("let timeouts grow towards the entry: lengthen this one, or shorten those below it")
        .number("slack_ms", (slack * 1e6).round() / 1e3);
    for (edge, needed) in below {
        let to = &graph.node(edge.to).name;
        if let Some(span) = edge.span {
            finding = finding.label(span, format!("may spend {} on `{to}`", seconds(needed)));
        }
    }
    if nobody_wrote {
        finding.level = Level::Note;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn equal_timeouts_with_retries_below_are_inverted() {
        insta::assert_snapshot!(findings(
            "MSH0503",
            r#"
            mesh m { trust-domain "m.example"; defaults { timeout "3s"; retry "5xx" attempts=3 per-try="1s" } }
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
            service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#
        ));
    }

    #[test]
    fn several_calls_in_turn_add_up_even_with_nothing_but_built_in_times() {
        insta::assert_snapshot!(findings(
            "MSH0503",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b per-request=2 }
            service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#
        ));
    }

    #[test]
    fn enough_is_enough() {
        none(
            "MSH0503",
            r#"
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
            service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#,
        );
    }
}
