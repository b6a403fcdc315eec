//! `retries/amplification`

use mesh_compiler::analysis::call_graph::{CallGraph, NodeId, Origin};
use mesh_compiler::analysis::retry::{
    Amplification, Change, Hop, Worst, slow_calls, slow_calls_abandoned, smallest_change,
};
use mesh_compiler::linked::LinkedMesh;
use mesh_syntax::{Diagnostic, Span};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::{calls, number, times};

declare_rule! {
    /// ## What it flags
    /// A path on which retries multiply a request from outside by more than the mesh's limit
    /// (`refuse amplification=`, 10 if not given), for the failing service at its end. `attempts` counts
    /// all calls, the first included, and attempts of several hops multiply: three hops of three are
    /// 27. Only hops that retry the failure in question count; a failure without a status is a 503 or
    /// 504 one hop up. Calls that happen without any failure (`per-request=`) are not amplification.
    ///
    /// Two failures are told apart. When the service fails at once, timeouts do not bind and every
    /// attempt happens. When it hangs, they do; how much depends on whether work that was given up
    /// goes on. Retry budgets bound what happens in the long run, not what one request can do; the
    /// number with budgets is reported beside. Circuit breakers and ejection never lower these
    /// numbers: they act after the fact.
    ///
    /// ## Why it matters
    /// A service that is a little too slow gets several times its load at once and cannot recover: a
    /// retry storm. With 27 calls for each request it is safe only below 3.7 % of its capacity.
    /// Retry next to the entry or next to the failing service, and let budgets bound the rest.
    ///
    /// ## Examples
    /// ```kdl bad
    /// mesh shop { trust-domain "shop.example"; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
    /// service c { port 80; endpoints { static "10.0.0.4:80" }; allow b }
    /// ```
    /// ```kdl good
    /// mesh shop { trust-domain "shop.example"; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
    /// service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
    /// service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b { retry attempts=1 } }
    /// service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
    /// service c { port 80; endpoints { static "10.0.0.4:80" }; allow b }
    /// ```
    pub(crate) static AMPLIFICATION = {
        code: "MSH0401", name: "retries/amplification",
        summary: "retries multiply over several hops",
        level: Error, since: "0.1.0", check: check,
    }
}

fn check(cx: &mut RuleContext<'_>) {
    let facts = cx.facts();
    let limit = f64::from(facts.mesh().refuse.amplification.value);
    let declared = facts.graph().declared();
    let storms = storms(&declared, limit);
    for storm in &storms {
        cx.report(finding(facts.mesh(), &declared, storm, limit));
    }
    // What is only permitted may happen too, but nobody says that it does.
    let graph = facts.graph();
    if graph
        .edges()
        .all(|edge| graph.edge(edge).origin == Origin::Declared)
    {
        return;
    }
    for storm in self::storms(graph, limit) {
        let is_possible = storm
            .worst
            .path
            .iter()
            .any(|hop| graph.edge(hop.edge).origin == Origin::Permitted);
        let is_known = storms.iter().any(|known| known.service == storm.service);
        if is_possible && !is_known {
            cx.report(finding(facts.mesh(), graph, &storm, limit).possible());
        }
    }
}

/// Storms that are told of at once; each of them is an error, and the next ones come up once these
/// are dealt with.
const STORMS_MAX: usize = 32;

/// A service that one request can hit more often than the limit allows.
struct Storm {
    entry: NodeId,
    service: NodeId,
    worst: Worst,
    changes: Vec<Change>,
}

/// For each service over the limit its worst entry, without those that the changes proposed for
/// others bring below it too: callees first, since their paths hold those of their callers.
fn storms(graph: &CallGraph, limit: f64) -> Vec<Storm> {
    let mut worst: Vec<Option<(f64, NodeId)>> = vec![None; graph.nodes().len()];
    let mut order: Vec<NodeId> = Vec::new();
    for entry in graph.entries() {
        let from = Amplification::from(graph, entry);
        for node in from.reached() {
            let Some(calls) = from.of(*node).filter(|calls| *calls > limit) else {
                continue;
            };
            let known = &mut worst[node.0];
            if known.is_none() {
                order.push(*node);
            }
            if known.is_none_or(|known| calls > known.0) {
                *known = Some((calls, entry));
            }
        }
    }
    let mut position = vec![0; graph.nodes().len()];
    for (index, node) in graph.components().into_iter().flatten().enumerate() {
        position[node.0] = index;
    }
    order.sort_unstable_by_key(|node| (position[node.0], *node));
    let mut made: Vec<Change> = Vec::new();
    let mut hopeless = vec![false; graph.nodes().len()];
    let mut storms = Vec::new();
    for service in order {
        let Some((_, entry)) = worst[service.0].filter(|_| !hopeless[service.0]) else {
            continue;
        };
        let changes = smallest_change(graph, entry, service, limit, &made);
        if changes.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let Some(worst) = Amplification::from(graph, entry).worst(service) else {
            continue;
        };
        if changes.is_none() {
            // Whatever is done about it changes what is before it on the path.
            for hop in &worst.path {
                hopeless[graph.edge(hop.edge).from.0] = true;
            }
        }
        let changes = changes.unwrap_or_default();
        made.extend(&changes);
        storms.push(Storm {
            entry,
            service,
            worst,
            changes,
        });
        if storms.len() == STORMS_MAX {
            break;
        }
    }
    storms
}

fn finding(mesh: &LinkedMesh, graph: &CallGraph, storm: &Storm, limit: f64) -> Diagnostic {
    let worst = &storm.worst;
    let name = |node: NodeId| graph.node(node).name.as_str();
    let slow = slow_calls(graph, storm.entry, storm.service).unwrap_or(f64::NAN);
    let abandoned = slow_calls_abandoned(graph, storm.entry, storm.service).unwrap_or(f64::NAN);
    let path: Vec<&str> = std::iter::once(name(storm.entry))
        .chain(worst.path.iter().map(|hop| name(graph.edge(hop.edge).to)))
        .collect();
    let factors: Vec<String> = worst
        .path
        .iter()
        .map(|hop| hop.factor.to_string())
        .collect();
    let message = format!(
        "one request to `{}` can become {} to `{}` when it fails with {} ({} along {}, limit {})",
        name(storm.entry),
        calls(worst.calls),
        name(storm.service),
        worst.class,
        factors.join("×"),
        path.join(" → "),
        number(limit),
    );
    let mut finding = AMPLIFICATION.at(span(mesh, graph, storm), message);
    if let [only] = storm.changes.as_slice() {
        finding = finding.at(format!(
            "with `attempts={}` here it is within the limit",
            only.to
        ));
    }
    for hop in &worst.path {
        finding = label(graph, finding, hop);
    }
    finding
        .help(format!(
            "{}; or raise `refuse amplification=`. When `{}` hangs instead: {} if whoever gives up takes \
             its work along, {} if abandoned work goes on",
            proposal(graph, storm),
            name(storm.service),
            calls(slow),
            calls(abandoned),
        ))
        .number("amplification", worst.amplification)
        .number("limit", limit)
        .number("calls", worst.calls)
        .number("calls_without_failure", worst.healthy)
        .number("slow", abandoned)
        .number("slow_propagated", slow)
        .number("budgeted", worst.budgeted)
        .number("safe_utilisation", 1.0 / worst.amplification)
}

/// Where the first proposed change is to be made.
fn span(mesh: &LinkedMesh, graph: &CallGraph, storm: &Storm) -> Span {
    let edge = storm.changes.first().map(|change| graph.edge(change.edge));
    edge.and_then(|edge| edge.span)
        .or(graph.node(storm.service).span)
        .unwrap_or(mesh.name.span)
}

fn label(graph: &CallGraph, finding: Diagnostic, hop: &Hop) -> Diagnostic {
    let edge = graph.edge(hop.edge);
    let policy = edge.policies.get(hop.policy);
    let set_at = policy
        .filter(|_| hop.factor > 1)
        .and_then(|policy| policy.attempts_span);
    let Some(span) = set_at.or(edge.span) else {
        return finding;
    };
    let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
    let route = policy.map_or("", |policy| policy.route.as_str());
    let often = times(hop.factor);
    finding.label(
        span,
        format!(
            "`{from}` tries `{to}` {often} (route `{route}`): ×{}",
            hop.factor
        ),
    )
}

fn proposal(graph: &CallGraph, storm: &Storm) -> String {
    let change = |change: &Change| {
        let edge = graph.edge(change.edge);
        let (from, to) = (&graph.node(edge.from).name, &graph.node(edge.to).name);
        format!(
            "`calls {to} {{ retry attempts={} }}` in `{from}` ({} instead of {})",
            change.to, change.to, change.from
        )
    };
    let changes: Vec<String> = storm.changes.iter().map(change).collect();
    match changes.len() {
        0 => "no change of a few hops brings it below the limit: retry at one or two hops only"
            .to_owned(),
        _ => format!("smallest change: {}", changes.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::tester::{findings, none};

    const CHAIN: &str = r#"
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
        service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b }
        service b { port 80; endpoints { static "10.0.0.3:80" }; allow a; calls c }
        service c { port 80; endpoints { static "10.0.0.4:80" }; allow b }"#;

    fn mesh(settings: &str) -> String {
        format!("mesh m {{ trust-domain \"m.example\"; {settings} }}\n{CHAIN}")
    }

    #[test]
    fn three_hops_of_three() {
        insta::assert_snapshot!(findings(
            "MSH0401",
            &mesh(
                "defaults { timeout \"3s\"; retry \"5xx\" per-try-timeout attempts=3 per-try=\"1s\"; retry-budget \"20%\" }"
            )
        ));
    }

    #[test]
    fn the_limit_is_the_meshs() {
        none(
            "MSH0401",
            &mesh("refuse amplification=27; defaults { retry \"5xx\" attempts=3 }"),
        );
        none("MSH0401", &mesh("defaults { retry \"5xx\" attempts=2 }"));
        insta::assert_snapshot!(findings(
            "MSH0401",
            &mesh("refuse amplification=3; defaults { retry \"5xx\" attempts=3 }")
        ));
    }

    #[test]
    fn a_class_that_a_hop_does_not_retry_does_not_multiply() {
        none(
            "MSH0401",
            &mesh("defaults { retry connect-failure attempts=3 }"),
        );
    }

    #[test]
    fn a_storm_over_calls_that_are_only_permitted_is_possible() {
        insta::assert_snapshot!(findings(
            "MSH0401",
            r#"
            mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=4 } }
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web }
            service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#
        ));
    }
}
