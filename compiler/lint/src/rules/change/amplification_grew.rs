//! `retries/amplification-grew`

use mesh_compiler::analysis::call_graph::{CallGraph, Edge, NodeId, Policy};
use mesh_compiler::analysis::retry::{Paths, Report};
use mesh_compiler::diff::Change;
use mesh_compiler::linked::ServiceId;
use mesh_syntax::{Diagnostic, Span};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::{number, times};

declare_rule! {
    /// ## What it flags
    /// A service that one request from outside can hit more often than before the change, by retries
    /// along declared calls, when it fails or hangs; the calls that are made without any failure (`per-request=`) are
    /// counted, as in `meshc graph`. It points at the hop that grew most. A limit of `refuse amplification=` that is
    /// raised over what is above it is found too. Found with `meshc check --base REF`; above the limit it is MSH0401
    /// as well.
    ///
    /// ## Why it matters
    /// Amplification grows hop by hop, in files of different teams. Each change looks harmless.
    ///
    /// ## Examples
    /// ```kdl base
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }
    /// ```
    /// ```kdl bad
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; retry "5xx" attempts=3; retry-budget "20%" }
    /// ```
    /// ```kdl good
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a { retry none } }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b; retry "5xx" attempts=2; retry-budget "20%" }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; retry "5xx" attempts=2; retry-budget "20%" }
    /// ```
    pub(crate) static AMPLIFICATION_GREW = {
        code: "MSH0416", name: "retries/amplification-grew",
        summary: "one request can become more calls than before",
        level: Warning, since: "0.1.0", check: check,
    }
}

/// Services that one finding each is worth.
const SHOWN_MAX: usize = 20;
/// Products of whole numbers; less than this is rounding.
const ROUNDING: f64 = 1e-6;

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let Some(change) = facts.change() else { return };
    let meshes = change.meshes();
    let (before, after) = (
        CallGraph::of(meshes.base).declared(),
        CallGraph::of(meshes.head).declared(),
    );
    let (old, new) = (Report::worst_calls(&before), Report::worst_calls(&after));
    let calls = |graph: &CallGraph, calls: &[Option<f64>], name: &str| {
        graph
            .named(name)
            .map(|node| calls.get(node.0).copied().flatten().unwrap_or(1.0))
    };
    let mut grown: Vec<(ServiceId, f64, f64)> = meshes
        .kept()
        .filter_map(|kept| {
            let name = &meshes.head.service(kept.head).name.value;
            let was = calls(&before, &old, name)?;
            let is = calls(&after, &new, name)?;
            (is > was + ROUNDING).then_some((kept.head, was, is))
        })
        .collect();
    // The worst first; the rest is on the way to them.
    grown.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    for (service, was, is) in grown.into_iter().take(SHOWN_MAX) {
        let name = &meshes.head.service(service).name;
        let hop = after
            .named(&name.value)
            .and_then(|node| grown_hop(&before, &after, node));
        let mut finding = AMPLIFICATION_GREW.at(
            hop.as_ref().map_or(name.span, |(span, _)| *span),
            format!(
                "one request from outside can become {} calls to `{}`, where it was {}",
                number(is),
                name.value,
                number(was)
            ),
        );
        finding = match &hop {
            Some((_, what)) => finding
                .at(what.clone())
                .label(name.span, "is called more often when something fails"),
            None => finding.at("is called more often when something fails"),
        };
        cx.report(
            finding
                .about(&name.value)
                .help(format!(
                    "`meshc graph` shows the path to `{}` with the factor of each hop; retry at one of them only",
                    name.value
                ))
                .number("before", was)
                .number("after", is),
        );
    }
    cx.report_some(raised_limit(meshes, &after));
}

/// The hop on a way to a service that has grown most since before, with what grew: where that is written.
fn grown_hop(before: &CallGraph, after: &CallGraph, service: NodeId) -> Option<(Span, String)> {
    let mut leads = vec![false; after.nodes().len()];
    let mut waiting = vec![service];
    let mut most: Option<(f64, Span, String)> = None;
    while let Some(node) = waiting.pop() {
        if std::mem::replace(&mut leads[node.0], true) {
            continue;
        }
        for (_, edge) in after.entering(node) {
            waiting.push(edge.from);
            let name = |node: NodeId| after.node(node).name.as_str();
            let (from, to) = (name(edge.from), name(edge.to));
            let was = before.named(to).and_then(|to| {
                let mut entering = before.entering(to);
                let was = entering.find(|(_, was)| before.node(was.from).name == from);
                was.map(|(_, was)| was)
            });
            let (tries, policy) = tries(edge);
            let (was_tries, was_calls) =
                was.map_or((0, 0.0), |was| (tries_of(was), was.per_request));
            let place = if tries > was_tries && was.is_some() {
                policy.and_then(|policy| policy.attempts_span)
            } else {
                None
            };
            let Some(span) = place.or(edge.span) else {
                continue;
            };
            let now = f64::from(tries) * edge.per_request;
            let growth = now / (f64::from(was_tries) * was_calls).max(f64::MIN_POSITIVE);
            if growth <= 1.0 + ROUNDING || most.as_ref().is_some_and(|most| growth <= most.0) {
                continue;
            }
            let what = if was.is_none() {
                format!("`{from}` did not call `{to}` before")
            } else if tries > was_tries {
                format!(
                    "`{from}` tries `{to}` {}, where it was {was_tries}",
                    times(tries)
                )
            } else {
                let (is, was) = (number(edge.per_request), number(was_calls));
                format!("`{from}` calls `{to}` {is} times for each request, where it was {was}")
            };
            most = Some((growth, span, what));
        }
    }
    most.map(|(_, span, what)| (span, what))
}

fn tries(edge: &Edge) -> (u32, Option<&Policy>) {
    let policy = edge.policies.iter().max_by_key(|policy| policy.tries());
    (policy.map_or(1, Policy::tries), policy)
}

fn tries_of(edge: &Edge) -> u32 {
    tries(edge).0
}

/// A limit that was raised, where something is above what it was: it would have been MSH0401.
fn raised_limit(meshes: Change<'_>, graph: &CallGraph) -> Option<Diagnostic> {
    let (was, is) = (
        &meshes.base.refuse.amplification,
        &meshes.head.refuse.amplification,
    );
    let span = is.source.span().filter(|_| is.value > was.value)?;
    let paths = Paths::of(graph);
    let product = |node: NodeId| paths.fast(node).0.max(paths.slow(node));
    let (node, most) = graph
        .nodes()
        .map(|node| (node, product(node)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    if most <= f64::from(was.value) {
        return None;
    }
    let service = &graph.node(node).name;
    let finding = AMPLIFICATION_GREW.at(
        span,
        format!(
            "the limit of amplification is raised from {} to {}, and retries on the way to `{service}` multiply by {}",
            was.value,
            is.value,
            number(most)
        ),
    );
    let finding = finding.at("what it was would refuse that (MSH0401)").help(format!(
        "retry at fewer hops on the way to `{service}` and leave the limit as it is; `meshc graph` shows them"
    ));
    Some(
        finding
            .number("before", f64::from(was.value))
            .number("after", f64::from(is.value))
            .number("amplification", most),
    )
}

#[cfg(test)]
mod tests {
    use crate::tester::changes;

    fn with(at_a: u32, at_b: u32) -> String {
        format!(
            r#"mesh m {{ trust-domain "m.example"; defaults {{ retry-budget "20%" }} }}
            service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
            service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow web; calls b; retry "5xx" attempts={at_a} }}
            service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow a; retry "5xx" attempts={at_b} }}"#
        )
    }

    #[test]
    fn growth_at_the_end_of_a_path_is_found() {
        insta::assert_snapshot!(changes("MSH0416", &with(2, 1), &with(2, 3)));
    }

    #[test]
    fn less_is_no_finding() {
        assert_eq!(changes("MSH0416", &with(3, 2), &with(2, 2)), "");
    }

    #[test]
    fn calls_that_are_made_anyway_count() {
        let once = with(2, 2);
        insta::assert_snapshot!(changes(
            "MSH0416",
            &once,
            &once.replace("calls b;", "calls b per-request=3;")
        ));
    }

    #[test]
    fn a_limit_that_is_raised_over_a_storm_is_found() {
        let with = |limit: u32, attempts: u32| {
            with(4, attempts).replace(
                "defaults",
                &format!("refuse amplification={limit}; defaults"),
            )
        };
        let found = changes("MSH0416", &with(10, 2), &with(20, 4));
        assert!(found.contains("raised from 10 to 20"), "{found}");
        let found = changes("MSH0416", &with(10, 2), &with(20, 2));
        assert_eq!(found, "");
    }
}
