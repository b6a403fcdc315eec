//! `retries/minimum-dominates`

use std::collections::BTreeSet;

use mesh_compiler::analysis::retry::{Traffic, sustained};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::number;

declare_rule! {
    /// ## What it flags
    /// A `retry-budget` whose `min` decides, and not its share: `min` holds for each calling proxy, and all
    /// of them together may always make more retries than the share of the declared traffic would allow.
    /// Needs `facts replicas=` of the caller, `facts load=` and, for `of=active`, `facts handling=` of the
    /// callee.
    ///
    /// ## Why it matters
    /// The budget is believed to keep retries below its share. With a hundred callers of which each may
    /// always make a few, it bounds nothing.
    ///
    /// ## Examples
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=100 load="1000/s" }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     retry "5xx" attempts=3
    ///     retry-budget "20%" of=requests min="10/s"
    /// }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=100 load="1000/s" }
    /// service a {
    ///     port 80
    ///     endpoints { static "10.0.0.2:80" }
    ///     allow web
    ///     retry "5xx" attempts=3
    ///     retry-budget "20%" of=requests min="1/s"
    /// }
    /// ```
    pub(crate) static MINIMUM_DOMINATES = {
        code: "MSH0406", name: "retries/minimum-dominates",
        summary: "the minimum of a retry budget makes its share meaningless",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// More calls per request than the share allows, by less than which nothing is said.
const ROUNDING: f64 = 1e-6;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let graph = facts.declared();
    let mut reported = BTreeSet::new();
    for id in graph.edges() {
        let edge = graph.edge(id);
        let traffic = Traffic::of(graph, edge);
        for policy in &edge.policies {
            let unlimited = Traffic::default();
            let share = sustained(policy.tries(), policy, &unlimited).alpha;
            let found = sustained(policy.tries(), policy, &traffic);
            let (Some(minimum), Some(rate)) = (found.minimum_rate, traffic.rate) else {
                continue;
            };
            let callee = facts.mesh().services.get(edge.to.0);
            let set_at = callee.and_then(|callee| callee.retry_budget.source.span());
            let Some(span) = set_at.filter(|_| found.alpha > share + ROUNDING) else {
                continue;
            };
            if !reported.insert((span, edge.from)) {
                continue;
            }
            let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
            let mut finding = MINIMUM_DOMINATES
                .at(
                    span,
                    format!(
                        "all instances of `{from}` together may always retry {} times a second, and call `{to}` {} \
                         times: ×{} instead of the ×{} of the share",
                        number(minimum),
                        number(rate),
                        number(found.alpha),
                        number(share),
                    ),
                )
                .at("`min` holds for each calling proxy")
                .about(to)
                .help("lower `min`, so that all callers together stay below the share")
                .number("minimum_rate", minimum)
                .number("rate", rate)
                .number("alpha", found.alpha)
                .number("share_alpha", share);
            if let Some(below) = found.minimum_dominates_below {
                finding = finding.number("minimum_dominates_below", below);
            }
            cx.report(finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    #[test]
    fn tc_b5_a_hundred_clients() {
        insta::assert_snapshot!(findings(
            "MSH0406",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a; facts replicas=100 load="1000/s" }
    service a {
        port 80
        endpoints { static "10.0.0.2:80" }
        allow web
        retry "5xx" attempts=3
        retry-budget "20%" of=active min=3
        facts handling="25ms"
    }"#
        ));
    }

    #[test]
    fn without_facts_nothing_is_known() {
        none(
            "MSH0406",
            r#"
    service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    service a {
        port 80
        endpoints { static "10.0.0.2:80" }
        allow web
        retry "5xx" attempts=3
        retry-budget "20%" of=active min=3
    }"#,
        );
    }
}
