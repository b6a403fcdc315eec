//! `timeouts/fix-amplifies`

use mesh_bundle::slice::RetryCause;
use mesh_compiler::analysis::call_graph::{CallGraph, Edge, Policy};
use mesh_compiler::analysis::retry::ResponseBounds;

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A caller that gives up too early (MSH0503) and by that keeps its callee's retries from happening: once
    /// the timeout is lengthened, as it should be, one request causes more calls when the service behind
    /// hangs. Counted over the two hops, while deadlines are passed on.
    ///
    /// ## Why it matters
    /// Mending the one uncovers the other. Change the attempts in the same commit.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "3s" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry per-try-timeout attempts=3 per-try="1s" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s"; retry per-try-timeout attempts=3 per-try="1s" }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { timeout "4s" } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s"; retry per-try-timeout attempts=3 per-try="1s" }
    /// ```
    pub(crate) static FIX_AMPLIFIES = {
        code: "MSH0510", name: "timeouts/fix-amplifies",
        summary: "a longer timeout would let more retries happen",
        level: Note, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let graph = cx.facts().declared();
    let bounds = ResponseBounds::of(graph);
    for id in graph.edges() {
        let edge = graph.edge(id);
        for policy in &edge.policies {
            let inverted = bounds
                .slack(edge, policy)
                .is_some_and(|slack| slack < -1e-6);
            if !inverted || !hangs_again(policy) {
                continue;
            }
            let Some((below, now, then)) = uncovered(graph, edge, policy) else {
                continue;
            };
            let Some(span) = policy.limit_span.or(edge.span) else {
                continue;
            };
            let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
            let hung = &graph.node(below.to).name;
            let mut finding = FIX_AMPLIFIES
                .at(
                    span,
                    format!(
                        "while `{hung}` hangs, a request of `{from}` to `{to}` makes {} calls to it; with a timeout that \
                         is long enough it makes {}",
                        number(now),
                        number(then),
                    ),
                )
                .at("cuts the retries below it short")
                .help(format!("when you lengthen it, let `{from}` or `{to}` make fewer attempts"))
                .number("calls_now", now)
                .number("calls_then", then);
            if let Some(below) = below.span {
                finding = finding.label(below, "these retries would happen");
            }
            cx.report(finding);
            break;
        }
    }
}

fn hangs_again(policy: &Policy) -> bool {
    policy.tries() > 1 && policy.causes.contains(&RetryCause::PerTryTimeout)
}

/// The call of the callee that a longer timeout would let happen most often, with its calls now and
/// then.
fn uncovered<'g>(
    graph: &'g CallGraph,
    edge: &Edge,
    policy: &Policy,
) -> Option<(&'g Edge, f64, f64)> {
    let window = policy.try_limit()?;
    let above = policy.usable_attempts();
    let mut worst: Option<(&Edge, f64, f64)> = None;
    for below in graph.leaving(edge.to) {
        for inner in below.policies.iter().filter(|inner| hangs_again(inner)) {
            let mut cut = inner.clone();
            cut.timeout = Some(inner.timeout.map_or(window, |timeout| timeout.min(window)));
            let calls = |policy: &Policy| {
                f64::from(above) * f64::from(policy.usable_attempts()) * below.per_request
            };
            let (now, then) = (calls(&cut), calls(inner));
            if then > now && worst.is_none_or(|worst| then > worst.2) {
                worst = Some((below, now, then));
            }
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn equal_timeouts_hide_a_storm() {
        insta::assert_snapshot!(findings(
            "MSH0510",
            r#"
    mesh m { trust-domain "m.example"; defaults { timeout "3s"; retry per-try-timeout attempts=3 per-try="1s" } }
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#
        ));
    }

    #[test]
    fn nothing_is_cut_short() {
        none(
            "MSH0510",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; timeout "3s"; retry per-try-timeout attempts=3 per-try="1s" }"#,
        );
    }
}
