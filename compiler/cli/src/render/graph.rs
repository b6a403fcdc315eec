//! The call graph with its numbers, as JSON and as tables. What is unknown is null, and `–` in tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use mesh_compiler::analysis::call_graph::{BudgetOf, CallGraph, Edge, NodeId, Origin, Policy};
use mesh_compiler::analysis::retry::{EdgeReport, Load, Report, Round, ServiceReport};
use mesh_syntax::{SourceSet, Span};
use serde::Serialize;
use serde_json::Value;

use super::json::{line, number};

#[derive(Serialize)]
struct GraphOut<'a> {
    entries: Vec<&'a str>,
    services: Vec<ServiceOut<'a>>,
    edges: Vec<EdgeOut<'a>>,
    cycles: Vec<CycleOut<'a>>,
}

#[derive(Serialize)]
struct ServiceOut<'a> {
    name: &'a str,
    worst_calls: WorstCalls,
    worst_class: Option<String>,
    worst_path: Vec<&'a str>,
    paths: Vec<PathOut<'a>>,
    subsets: Vec<SubsetOut<'a>>,
    expected_calls: Value,
    client_failure: Value,
    amplification: Value,
    budgeted: Value,
    safe_utilisation: Value,
    safe_utilisation_budgeted: Value,
    response_bound_ms: Value,
    state: Option<&'static str>,
}

#[derive(Serialize)]
struct WorstCalls {
    fast: Value,
    slow: Value,
    slow_propagated: Value,
}

#[derive(Serialize)]
struct PathOut<'a> {
    path: Vec<&'a str>,
    calls: Value,
}

#[derive(Serialize)]
struct SubsetOut<'a> {
    name: &'a str,
    worst_fast: Value,
    expected_share: Value,
}

#[derive(Serialize)]
struct EdgeOut<'a> {
    from: &'a str,
    to: &'a str,
    route: &'a str,
    purpose: &'static str,
    provenance: Vec<&'static str>,
    source: Option<String>,
    attempts: u32,
    attempts_source: Option<String>,
    per_try_ms: Value,
    timeout_ms: Value,
    per_request: Value,
    share: Value,
    mode: &'static str,
    budget: Option<BudgetOut>,
    slack_ms: Value,
    dead_attempts: u32,
    alpha: Value,
    overlap: u32,
    bound_ms: Value,
}

#[derive(Serialize)]
struct BudgetOut {
    kind: &'static str,
    share: Value,
    min_per_second: Value,
    min_concurrent: Value,
    /// What all clients together may always retry per second.
    minimum_rate: Value,
    minimum_dominates_below: Value,
}

#[derive(Serialize)]
struct CycleOut<'a> {
    services: Vec<&'a str>,
    gain: Value,
    spectral_radius: Value,
    bounded: bool,
    declared: bool,
    /// What one request becomes that comes in at an entry, on average; empty where that has no end.
    calls: Vec<RoundCalls<'a>>,
}

#[derive(Serialize)]
struct RoundCalls<'a> {
    entry: &'a str,
    services: Vec<(&'a str, Value)>,
}

/// `meshc graph --format json`
pub(crate) fn json(
    sources: &SourceSet,
    graph: &CallGraph,
    report: &Report,
) -> serde_json::Result<String> {
    line(&GraphOut {
        entries: names(graph, &report.entries),
        services: (graph.nodes().zip(&report.services))
            .map(|(node, service)| service_out(graph, node, service))
            .collect(),
        edges: (report.edges.iter())
            .map(|edge| edge_out(sources, graph, edge))
            .collect(),
        cycles: (report.cycles.iter())
            .map(|round| cycle_out(graph, round))
            .collect(),
    })
}

fn names<'a>(graph: &'a CallGraph, nodes: &[NodeId]) -> Vec<&'a str> {
    let names = nodes.iter().map(|node| graph.node(*node).name.as_str());
    names.collect()
}

fn service_out<'a>(
    graph: &'a CallGraph,
    node: NodeId,
    report: &'a ServiceReport,
) -> ServiceOut<'a> {
    let worst = report.worst.as_ref();
    let amplification = worst.map(|worst| worst.amplification);
    let budgeted = worst.map(|worst| worst.budgeted);
    ServiceOut {
        name: &graph.node(node).name,
        worst_calls: WorstCalls {
            fast: known(fast(report)),
            slow: known(report.slow),
            slow_propagated: known(report.slow_propagated),
        },
        worst_class: worst.map(|worst| worst.class.to_string()),
        worst_path: names(graph, &report.path),
        paths: (report.paths.iter())
            .map(|(path, calls)| PathOut {
                path: names(graph, path),
                calls: number(*calls),
            })
            .collect(),
        subsets: (report.subsets.iter())
            .map(|subset| SubsetOut {
                name: &subset.name,
                worst_fast: known(subset.worst_fast),
                expected_share: known(subset.expected_share),
            })
            .collect(),
        expected_calls: known(report.expected_calls),
        client_failure: known(report.client_failure),
        amplification: known(amplification),
        budgeted: known(budgeted),
        safe_utilisation: known(amplification.map(f64::recip)),
        safe_utilisation_budgeted: known(budgeted.map(f64::recip)),
        response_bound_ms: milliseconds(report.response_bound),
        state: report.state.map(Load::as_str),
    }
}

/// Calls when it fails at once; none at all where the request never gets.
fn fast(report: &ServiceReport) -> Option<f64> {
    let never = report.slow.filter(|calls| *calls <= 0.0);
    report.worst.as_ref().map(|worst| worst.calls).or(never)
}

fn edge_out<'a>(sources: &SourceSet, graph: &'a CallGraph, report: &EdgeReport) -> EdgeOut<'a> {
    let edge = graph.edge(report.edge);
    let policy = &edge.policies[report.policy];
    EdgeOut {
        from: &graph.node(edge.from).name,
        to: &graph.node(edge.to).name,
        route: &policy.route,
        purpose: edge.purpose.as_str(),
        provenance: edge.provenance.names().collect(),
        source: edge.span.map(|span| place(sources, span)),
        attempts: policy.tries(),
        attempts_source: policy.attempts_span.map(|span| place(sources, span)),
        per_try_ms: milliseconds(policy.per_try),
        timeout_ms: milliseconds(policy.timeout),
        per_request: number(edge.per_request),
        share: number(edge.share),
        mode: if edge.parallel {
            "parallel"
        } else {
            "sequential"
        },
        budget: policy.budget.as_ref().map(|budget| {
            let (kind, per_second, at_once) = match budget.of {
                BudgetOf::Requests { min_per_second } => ("requests", Some(min_per_second), None),
                BudgetOf::Active { min_concurrent } => ("active", None, Some(min_concurrent)),
            };
            BudgetOut {
                kind,
                share: number(budget.share),
                min_per_second: known(per_second),
                min_concurrent: known(at_once),
                minimum_rate: known(report.sustained.minimum_rate),
                minimum_dominates_below: known(report.sustained.minimum_dominates_below),
            }
        }),
        slack_ms: known(report.slack.map(|slack| (slack * 1e6).round() / 1e3)),
        dead_attempts: report.dead_attempts,
        alpha: number(report.sustained.alpha),
        overlap: report.overlap,
        bound_ms: milliseconds(report.bound),
    }
}

fn cycle_out<'a>(graph: &'a CallGraph, round: &Round) -> CycleOut<'a> {
    CycleOut {
        services: names(graph, &round.services),
        gain: number(round.gain),
        spectral_radius: number(round.spectral_radius),
        bounded: round.is_bounded(),
        declared: round.declared,
        calls: round
            .calls
            .iter()
            .map(|(entry, calls)| RoundCalls {
                entry: &graph.node(*entry).name,
                services: names(graph, &round.services)
                    .into_iter()
                    .zip(calls.iter().map(|calls| number(*calls)))
                    .collect(),
            })
            .collect(),
    }
}

fn known(value: Option<f64>) -> Value {
    value.map_or(Value::Null, number)
}

fn milliseconds(duration: Option<Duration>) -> Value {
    known(duration.map(|duration| (duration.as_secs_f64() * 1e6).round() / 1e3))
}

fn place(sources: &SourceSet, span: Span) -> String {
    format!(
        "{}:{}",
        sources.path(span.file),
        sources.line_column(span).0
    )
}

/// `meshc graph`
pub(crate) fn human(graph: &CallGraph, report: &Report) -> String {
    let mut text = format!("Requests come in at {}.\n", listed(graph, &report.entries));
    text.push_str("\nCalls of one request from outside, when the service fails:\n\n");
    let mut services = Table::new(&[
        "service",
        "at once",
        "hangs",
        "with deadlines",
        "with budgets",
        "safe below",
        "answers in",
        "state",
        "worst path",
    ]);
    let expects = report
        .services
        .iter()
        .any(|service| service.expected_calls.is_some());
    for (node, service) in graph.nodes().zip(&report.services) {
        services.row(service_row(graph, node, service));
    }
    text.push_str(&services.text());
    let endless: Vec<NodeId> = uncounted(graph, report).into_iter().collect();
    if !endless.is_empty() {
        text.push_str(
            "\nIn a round of calls, or behind one, a request has no greatest number of calls: ",
        );
        text.push_str(&listed(graph, &endless));
        text.push_str(".\n");
    }
    subsets(graph, report, &mut text);
    if expects {
        expected(graph, report, &mut text);
    }
    text.push_str("\nCalls between services:\n\n");
    let mut edges = Table::new(&[
        "call",
        "route",
        "attempts",
        "per try",
        "timeout",
        "slack",
        "dead",
        "sustained",
        "known from",
    ]);
    for edge in &report.edges {
        edges.row(edge_row(graph, edge));
    }
    text.push_str(&edges.text());
    for round in &report.cycles {
        let end = if round.is_bounded() {
            "they come to an end on average"
        } else {
            "they never come to an end"
        };
        let (names, gain) = (listed(graph, &round.services), amount(round.gain));
        text.push('\n');
        text.push_str(&names);
        text.push_str(match round.services.as_slice() {
            [_] => " calls itself: each call brings ",
            _ => " call each other in a round: each call brings ",
        });
        text.push_str(&gain);
        text.push_str(" back, and ");
        text.push_str(end);
        text.push_str(".\n");
        for (entry, calls) in &round.calls {
            let services = self::names(graph, &round.services);
            let each = services
                .iter()
                .zip(calls)
                .map(|(name, calls)| format!("{} to {name}", amount(*calls)));
            let each: Vec<String> = each.collect();
            let entry = &graph.node(*entry).name;
            let line = format!(
                "  one request that comes in at {entry} becomes {}\n",
                each.join(", ")
            );
            text.push_str(&line);
        }
    }
    text
}

/// Services that a request can come to by way of a round, so that nobody can count how often.
pub(super) fn uncounted(graph: &CallGraph, report: &Report) -> BTreeSet<NodeId> {
    let rounds = report.cycles.iter().flat_map(|round| &round.services);
    let mut waiting: Vec<NodeId> = rounds.copied().collect();
    let mut found = BTreeSet::new();
    while let Some(node) = waiting.pop() {
        if found.insert(node) {
            let declared = |edge: &&Edge| edge.origin() == Origin::Declared;
            let edges = graph.leaving(node).filter(declared);
            waiting.extend(edges.map(|edge| edge.to));
        }
    }
    let services = &report.services;
    found.retain(|node| {
        let service = services.get(node.0);
        service.is_some_and(|service| service.worst.is_none() && service.slow.is_none())
    });
    found
}

fn service_row(graph: &CallGraph, node: NodeId, service: &ServiceReport) -> Vec<String> {
    let worst = service.worst.as_ref();
    vec![
        graph.node(node).name.clone(),
        shown(fast(service)),
        shown(service.slow),
        shown(service.slow_propagated),
        shown(worst.map(|worst| worst.budgeted * worst.healthy)),
        worst.map_or_else(unknown, |worst| {
            format!("{} %", amount(100.0 / worst.amplification))
        }),
        service.response_bound.map_or_else(unknown, time),
        service
            .state
            .map_or_else(unknown, |state| state.as_str().to_owned()),
        match worst {
            Some(worst) if service.path.len() > 1 => {
                format!(
                    "{} ({})",
                    names(graph, &service.path).join(" → "),
                    worst.class
                )
            }
            _ => unknown(),
        },
    ]
}

fn subsets(graph: &CallGraph, report: &Report, text: &mut String) {
    let mut table = Table::new(&["subset", "if all go there", "by its share"]);
    for (node, service) in graph.nodes().zip(&report.services) {
        for subset in &service.subsets {
            table.row(vec![
                format!("{} {}", graph.node(node).name, subset.name),
                shown(subset.worst_fast),
                shown(subset.expected_share),
            ]);
        }
    }
    if !table.is_empty() {
        text.push_str("\nOf these, by subset:\n\n");
        text.push_str(&table.text());
    }
}

fn expected(graph: &CallGraph, report: &Report, text: &mut String) {
    text.push_str("\nExpected at this failure rate:\n\n");
    let mut table = Table::new(&["service", "calls", "requests that fail"]);
    for (node, service) in graph.nodes().zip(&report.services) {
        table.row(vec![
            graph.node(node).name.clone(),
            shown(service.expected_calls),
            service
                .client_failure
                .map_or_else(unknown, |share| format!("{} %", amount(share * 100.0))),
        ]);
    }
    text.push_str(&table.text());
}

fn edge_row(graph: &CallGraph, report: &EdgeReport) -> Vec<String> {
    let edge: &Edge = graph.edge(report.edge);
    let policy: &Policy = &edge.policies[report.policy];
    let provenance: Vec<&str> = edge.provenance.names().collect();
    vec![
        format!(
            "{} → {}",
            graph.node(edge.from).name,
            graph.node(edge.to).name
        ),
        policy.route.clone(),
        policy.tries().to_string(),
        policy.per_try.map_or_else(unknown, time),
        policy.timeout.map_or_else(unknown, time),
        report
            .slack
            .map_or_else(unknown, |slack| format!("{} s", amount(slack))),
        report.dead_attempts.to_string(),
        amount(report.sustained.alpha),
        provenance.join(", "),
    ]
}

fn listed(graph: &CallGraph, nodes: &[NodeId]) -> String {
    match names(graph, nodes).as_slice() {
        [] => "no service".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn unknown() -> String {
    "–".to_owned()
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(unknown, amount)
}

/// At most two digits after the point, and none that are zero.
pub(super) fn amount(value: f64) -> String {
    if !value.is_finite() {
        return unknown();
    }
    let rounded = format!("{value:.2}");
    rounded
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn time(duration: Duration) -> String {
    format!("{} s", amount(duration.as_secs_f64()))
}

/// Columns as wide as they must be; the first is text, and so is the last.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(ToString::to_string).collect()],
        }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let wide = |cell: &String| cell.chars().count();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(wide).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let written = write!(line, "  {cell:<width$}");
                written.expect("a string takes everything that is written to it");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec!["long".to_owned(), unknown()]);
        assert_eq!(table.text(), "  a     b\n  long  –\n");
        assert_eq!([27.0, 1.728, f64::NAN].map(amount), ["27", "1.73", "–"]);
    }
}
