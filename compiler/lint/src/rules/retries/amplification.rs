//! `retries/amplification`

use mesh_compiler::analysis::call_graph::{CallGraph, NodeId, NodeKind, Origin, Purpose};
use mesh_compiler::analysis::retry::{
    Amplification, Change, Hop, Mode, Paths, Proposal, SlowCalls, Worst, WorstPath, smallest_change,
};
use mesh_compiler::linked::LinkedMesh;
use mesh_syntax::{Diagnostic, Span};

use crate::rule::{RuleContext, declare_rule};
use crate::rules::words::{self, calls, number, times};

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
    let declared = facts.declared();
    let storms = storms(declared, limit);
    let mut findings: Vec<Diagnostic> = (storms.iter())
        .map(|storm| finding(facts.mesh(), declared, storm, limit))
        .collect();
    // What is only permitted may happen too, but nobody says that it does.
    let graph = facts.graph();
    let all_declared = (graph.edges()).all(|edge| graph.edge(edge).origin() == Origin::Declared);
    if !all_declared {
        for storm in self::storms(graph, limit) {
            let mut hops = storm.path.hops.iter();
            let is_possible = hops.any(|hop| graph.edge(hop.edge).origin() == Origin::Permitted);
            let is_known = storms.iter().any(|known| known.service == storm.service);
            if is_possible && !is_known {
                findings.push(finding(facts.mesh(), graph, &storm, limit).possible());
            }
        }
    }
    for finding in findings {
        cx.report(finding);
    }
}

/// Storms that are told of at once; each of them is an error, and the next ones come up once these
/// are dealt with.
const STORMS_MAX: usize = 32;

/// A service that one request can hit more often than the limit allows.
struct Storm {
    service: NodeId,
    path: WorstPath,
    worst: Worst,
    slow: Option<Slow>,
    proposal: Option<Proposal>,
}

/// Calls while the service hangs.
#[derive(Clone, Copy)]
struct Slow {
    propagated: f64,
    abandoned: f64,
}

/// Each service over the limit with the path that does it, without those that the changes proposed for
/// others bring below it too: callees first, since their paths hold those of their callers.
fn storms(graph: &CallGraph, limit: f64) -> Vec<Storm> {
    let mut paths = Paths::of(graph);
    let mut limits: Vec<Option<u32>> = vec![None; graph.edges().len()];
    let mut made: Vec<Change> = Vec::new();
    let mut hopeless = vec![false; graph.nodes().len()];
    let mut storms = Vec::new();
    for service in graph.components().iter().flatten().copied() {
        let (fast, class) = paths.fast(service);
        // What is only asked or copied to on the way is another finding, MSH0412.
        let mut entering = graph.entering(service).peekable();
        let aside =
            entering.peek().is_some() && entering.all(|(_, edge)| edge.purpose != Purpose::Call);
        if aside || fast.max(paths.slow(service)) <= limit || hopeless[service.0] {
            continue;
        }
        let mode = if fast > limit {
            Mode::Fast(class)
        } else {
            Mode::Slow
        };
        let path = paths.worst(service, mode);
        let Some(worst) = on(graph, &path).worst(service) else {
            continue;
        };
        let slow = SlowCalls::to(graph, service).map(|mut calls| Slow {
            propagated: calls.propagated(path.entry),
            abandoned: calls.abandoned(path.entry),
        });
        let is_slow = slow.is_some_and(|slow| slow.abandoned / worst.healthy > limit);
        if mode == Mode::Slow && !is_slow {
            continue;
        }
        let proposal = smallest_change(graph, service, limit, &made);
        match &proposal {
            Some(proposal) => made.extend(&proposal.changes),
            // Whatever is done about it changes what is before it on the path.
            None => {
                for hop in &path.hops {
                    hopeless[graph.edge(hop.edge).from.0] = true;
                }
            }
        }
        for change in &made {
            limits[change.edge.0] = Some(change.to);
        }
        paths.limit(&limits);
        storms.push(Storm {
            service,
            path,
            worst,
            slow,
            proposal,
        });
        if storms.len() == STORMS_MAX {
            break;
        }
    }
    storms
}

/// What the request that takes a path can cause: one to a gateway takes one of its ways.
fn on<'g>(graph: &'g CallGraph, path: &WorstPath) -> Amplification<'g> {
    let is_gateway = graph.node(path.entry).kind == NodeKind::Gateway;
    let first = path.hops.first().map(|hop| hop.edge);
    Amplification::through(graph, path.entry, first.filter(|_| is_gateway))
}

fn finding(mesh: &LinkedMesh, graph: &CallGraph, storm: &Storm, limit: f64) -> Diagnostic {
    let (worst, path) = (&storm.worst, &storm.path);
    let name = |node: NodeId| graph.node(node).name.as_str();
    let (entry, service) = (name(path.entry), name(storm.service));
    let way: Vec<&str> = std::iter::once(entry)
        .chain(path.hops.iter().map(|hop| name(graph.edge(hop.edge).to)))
        .collect();
    let factors: Vec<String> = (path.hops.iter())
        .map(|hop| hop.factor.to_string())
        .collect();
    let (count, how) = match (path.mode, storm.slow) {
        (Mode::Fast(class), _) => (worst.calls, format!("fails with {class}")),
        (Mode::Slow | Mode::SlowBehind, slow) => (
            slow.map_or(path.product, |slow| slow.abandoned),
            "hangs".to_owned(),
        ),
    };
    // Calls that are made anyway are no amplification, and the limit is none of calls.
    let anyway = if is_one(worst.healthy) {
        String::new()
    } else {
        format!(", which is {} when nothing fails", calls(worst.healthy))
    };
    let message = format!(
        "one request to `{entry}` can become {} to `{service}` when it {how}{anyway}: retries multiply by {} ({} along {}), \
         and the limit is {}",
        calls(count),
        number(path.product),
        factors.join("×"),
        way.join(" → "),
        number(limit),
    );
    let mut finding = AMPLIFICATION
        .at(span(mesh, graph, storm), message)
        .about(service);
    let changes = storm
        .proposal
        .as_ref()
        .map_or(&[][..], |proposal| &proposal.changes);
    if let [only] = changes {
        let change = format!("with `attempts={}` here it is within the limit", only.to);
        finding = finding.at(change);
    }
    for (index, hop) in path.hops.iter().enumerate() {
        finding = label(graph, finding, (index + 1, path.hops.len()), hop);
    }
    let (propagated, abandoned) = storm.slow.map_or((f64::NAN, f64::NAN), |slow| {
        (slow.propagated, slow.abandoned)
    });
    let certain = matches!(path.mode, Mode::Fast(_)) || propagated / worst.healthy > limit;
    finding = finding
        .help(format!(
            "{}\n{}; or raise `refuse amplification=`",
            modes(service, storm),
            proposal(graph, storm),
        ))
        .number("amplification", path.product)
        .number("limit", limit)
        .number("calls", count)
        .number("fast", worst.calls)
        .number("calls_without_failure", worst.healthy)
        .number("slow", abandoned)
        .number("slow_propagated", propagated)
        .number("budgeted", worst.budgeted)
        .number("safe_utilisation", 1.0 / path.product);
    if certain { finding } else { finding.possible() }
}

/// What happens in either mode of failure.
fn modes(service: &str, storm: &Storm) -> String {
    let fast = calls(storm.worst.calls);
    match storm.slow {
        Some(slow) => format!(
            "when `{service}` fails at once: {fast}; when it hangs: {} if whoever gives up takes its work \
             along, {} if abandoned work goes on",
            calls(slow.propagated),
            calls(slow.abandoned),
        ),
        None => format!("when `{service}` fails at once: {fast}"),
    }
}

/// Where the first proposed change is to be made.
fn span(mesh: &LinkedMesh, graph: &CallGraph, storm: &Storm) -> Span {
    let changes = storm
        .proposal
        .as_ref()
        .and_then(|proposal| proposal.changes.first());
    let edge = changes.map(|change| graph.edge(change.edge));
    edge.and_then(|edge| edge.span)
        .or(graph.node(storm.service).span)
        .unwrap_or(mesh.name.span)
}

fn label(
    graph: &CallGraph,
    finding: Diagnostic,
    (number, of): (usize, usize),
    hop: &Hop,
) -> Diagnostic {
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
    let each = if is_one(edge.per_request) {
        String::new()
    } else {
        format!(
            "calls `{to}` {} times for each request and ",
            words::number(edge.per_request)
        )
    };
    let what = if each.is_empty() {
        format!("tries `{to}` {often}")
    } else {
        format!("{each}tries each {often}")
    };
    finding.label(
        span,
        format!(
            "hop {number} of {of}: `{from}` {what} (route `{route}`): ×{}",
            hop.factor
        ),
    )
}

/// Whether a count of calls is one, but for rounding.
fn is_one(calls: f64) -> bool {
    (calls - 1.0).abs() < 1e-9
}

fn proposal(graph: &CallGraph, storm: &Storm) -> String {
    let Some(proposal) = &storm.proposal else {
        return "no change of a few hops brings it below the limit: retry at one or two hops only"
            .to_owned();
    };
    let change = |change: &Change| {
        let edge = graph.edge(change.edge);
        let (from, to) = (graph.node(edge.from), &graph.node(edge.to).name);
        let place = match from.kind {
            NodeKind::Gateway => format!(
                "`retry attempts={}` in the route of `{}` to `{to}`",
                change.to, from.name
            ),
            _ => format!(
                "`calls {to} {{ retry attempts={} }}` in `{}`",
                change.to, from.name
            ),
        };
        format!("{place} ({} instead of {})", change.to, change.from)
    };
    let changes: Vec<String> = proposal.changes.iter().map(change).collect();
    format!(
        "smallest change: {}, which leaves ×{}",
        changes.join(" and "),
        number(proposal.leaves)
    )
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
    fn a_hop_of_bytes_tries_only_connections_again() {
        let policy = mesh("defaults { retry \"5xx\" attempts=3 }; refuse amplification=10");
        assert!(findings("MSH0401", &policy).contains("amplification=27"));
        let bytes = policy.replace("service b { port 80;", "service b { port 80 protocol=tcp;");
        none("MSH0401", &bytes);
    }

    #[test]
    fn a_storm_of_hangs_is_certain_only_if_abandoned_work_need_not_go_on() {
        insta::assert_snapshot!(findings(
            "MSH0401",
            &mesh(
                "defaults { timeout \"3s\"; retry per-try-timeout attempts=3 per-try=\"1s\"; retry-budget \"20%\" }"
            )
        ));
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

    #[test]
    fn calls_that_are_made_anyway_are_told_apart() {
        insta::assert_snapshot!(findings(
            "MSH0401",
            r#"mesh m { trust-domain "m.example"; refuse amplification=8; defaults { retry "5xx" attempts=3; retry-budget "20%" } }
            service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
            service a { port 80; endpoints { static "10.0.0.2:80" }; allow web; calls b per-request=2 }
            service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }"#
        ));
    }
}
