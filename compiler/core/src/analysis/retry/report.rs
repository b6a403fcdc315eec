//! All numbers about a call graph together: what `meshc graph` prints. What is unknown is none.

use std::time::Duration;

use super::amplification::{Amplification, Way, Worst, ways};
use super::budget::{Sustained, Traffic, sustained};
use super::expectation::{Expectation, Load, load_state};
use super::failure::Failure;
use super::response::ResponseBounds;
use super::rounds::{Round, rounds};
use super::windows::{SlowCalls, overlap};
use crate::analysis::call_graph::{CallGraph, Edge, EdgeId, NodeId, Policy};

/// Paths that are told of for each service.
const PATHS_MAX: usize = 3;

/// Windows that all services of a report tell apart together; past that, every try is counted.
const WINDOWS_MAX: usize = 2_000_000;

/// What is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Question {
    /// The one service that a request comes in at; none: every entry and gateway.
    pub entry: Option<NodeId>,
    /// How often a call to the failing service fails.
    pub failure_rate: Option<f64>,
    /// The service that fails; none: each in turn.
    pub failing: Option<NodeId>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where requests come in.
    pub entries: Vec<NodeId>,
    /// One for each service, as the nodes of the graph.
    pub services: Vec<ServiceReport>,
    /// One for each edge and route that it may take.
    pub edges: Vec<EdgeReport>,
    /// Services that call each other in a round.
    pub cycles: Vec<Round>,
}

/// The numbers of one service.
#[derive(Clone, Debug, Default)]
pub struct ServiceReport {
    /// The worst when it fails at once; none in or behind a round.
    pub worst: Option<Worst>,
    /// Services on the worst path, the entry first.
    pub path: Vec<NodeId>,
    /// The paths that contribute most, each with its calls.
    pub paths: Vec<(Vec<NodeId>, f64)>,
    /// Calls when it hangs and abandoned work goes on.
    pub slow: Option<f64>,
    /// Calls when it hangs and deadlines are passed on.
    pub slow_propagated: Option<f64>,
    /// Its subsets, ascending.
    pub subsets: Vec<SubsetReport>,
    /// Expected calls at the asked failure rate.
    pub expected_calls: Option<f64>,
    /// Requests from outside that fail at the asked failure rate of this service.
    pub client_failure: Option<f64>,
    /// Longest time until it answers; none: unbounded or unknown.
    pub response_bound: Option<Duration>,
    /// How it stands under its declared load.
    pub state: Option<Load>,
}

/// The numbers of one subset.
#[derive(Clone, Debug, PartialEq)]
pub struct SubsetReport {
    /// Its name.
    pub name: String,
    /// Calls if all go there.
    pub worst_fast: Option<f64>,
    /// Calls by its share; none where routes differ in it.
    pub expected_share: Option<f64>,
}

/// The numbers of one route of one edge.
#[derive(Clone, Debug)]
pub struct EdgeReport {
    /// The edge.
    pub edge: EdgeId,
    /// Which of its policies, as an index.
    pub policy: usize,
    /// By how many seconds the caller is more patient than its callee is slow.
    pub slack: Option<f64>,
    /// Tries that never begin when each takes its time.
    pub dead_attempts: u32,
    /// What budget and cap leave of the tries.
    pub sustained: Sustained,
    /// Calls of one request that can be in flight at once.
    pub overlap: u32,
    /// Longest time of one call with all its tries.
    pub bound: Option<Duration>,
}

/// Where requests come in, and the gateways that they may come by.
fn starts(declared: &CallGraph, entry: Option<NodeId>) -> (Vec<NodeId>, Vec<NodeId>) {
    let entries = entry.map_or_else(|| declared.entries(), |entry| vec![entry]);
    let mut sources = entries.clone();
    if entry.is_none() {
        sources.extend(declared.sources());
        sources.sort_unstable();
        sources.dedup();
    }
    (entries, sources)
}

impl Report {
    /// Answers. The numbers walk what policy says happens; edges that are only permitted are listed.
    pub fn of(graph: &CallGraph, question: Question) -> Self {
        let declared = graph.declared();
        let bounds = ResponseBounds::of(&declared);
        let (entries, sources) = starts(&declared, question.entry);
        let ways: Vec<Way> = sources
            .iter()
            .flat_map(|source| ways(&declared, *source))
            .collect();
        let mut this = Self {
            entries,
            services: declared
                .nodes()
                .map(|node| service(&declared, &bounds, node))
                .collect(),
            edges: edges(graph, &bounds),
            cycles: rounds(&declared),
        };
        let worst_source = this.fast(&declared, &ways);
        this.slow(&declared, &sources);
        if let Some(rate) = question.failure_rate {
            this.expect(&declared, &worst_source, rate, question.failing);
        }
        this
    }

    /// Of each service, as the nodes of the graph, the larger of its calls when it fails at once and when it hangs: a
    /// report's numbers without its paths, which cost most. None in or behind a round.
    pub fn worst_calls(graph: &CallGraph) -> Vec<Option<f64>> {
        let declared = graph.declared();
        let (_, sources) = starts(&declared, None);
        let mut calls: Vec<Option<f64>> = vec![None; declared.nodes().len()];
        for source in &sources {
            for (source, first) in ways(&declared, *source) {
                let from = Amplification::through(&declared, source, first);
                for node in from.reached() {
                    let is_counted = !declared.topology().in_round[node.0];
                    if let Some(of) = from.calls(*node).filter(|of| is_counted && *of > 0.0) {
                        let most = &mut calls[node.0];
                        *most = Some(most.map_or(of, |most| most.max(of)));
                    }
                }
            }
        }
        for node in declared.nodes() {
            if let Some(most) = &mut calls[node.0]
                && let Some(slow) = SlowCalls::to(&declared, node)
            {
                let all = sources.iter().map(|source| slow.abandoned(*source));
                *most = all.fold(*most, f64::max);
            }
        }
        calls
    }

    /// Fills in what failures at once do; says for each service which source is its worst.
    fn fast(&mut self, graph: &CallGraph, ways: &[Way]) -> Vec<Option<NodeId>> {
        let mut worst: Vec<Option<(f64, usize)>> = vec![None; graph.nodes().len()];
        for (index, (source, first)) in ways.iter().enumerate() {
            let from = Amplification::through(graph, *source, *first);
            for node in from.reached() {
                let calls = from.calls(*node).unwrap_or(0.0);
                let known = &mut worst[node.0];
                if known.is_none_or(|known| calls > known.0) {
                    *known = Some((calls, index));
                }
            }
        }
        for (index, (source, first)) in ways.iter().enumerate() {
            let mut from: Option<Amplification<'_>> = None;
            for node in graph.nodes() {
                // One in a round gets the request again and again.
                let in_round = graph.topology().in_round[node.0];
                if in_round || worst[node.0].is_none_or(|worst| worst.1 != index) {
                    continue;
                }
                let from =
                    from.get_or_insert_with(|| Amplification::through(graph, *source, *first));
                self.fast_at(graph, from, node);
            }
        }
        (worst.into_iter())
            .map(|worst| worst.map(|worst| ways[worst.1].0))
            .collect()
    }

    fn fast_at(&mut self, graph: &CallGraph, from: &Amplification<'_>, node: NodeId) {
        let report = &mut self.services[node.0];
        let Some(worst) = from.worst(node) else {
            return;
        };
        let way = |hops: &[super::Hop]| -> Vec<NodeId> {
            let callees = hops.iter().map(|hop| graph.edge(hop.edge).to);
            std::iter::once(from.entry()).chain(callees).collect()
        };
        report.path = way(&worst.path);
        report.paths = (from.top_paths(node, worst.class, PATHS_MAX).iter())
            .map(|(hops, calls)| (way(hops), *calls))
            .collect();
        report.subsets = subsets(graph, from, node, worst.class);
        let facts = graph.node(node);
        report.state = facts
            .load
            .zip(facts.capacity)
            .map(|(load, capacity)| load_state(load, capacity, worst.amplification));
        report.worst = Some(worst);
    }

    fn slow(&mut self, graph: &CallGraph, sources: &[NodeId]) {
        let mut windows = WINDOWS_MAX;
        for node in graph.nodes() {
            let Some(mut calls) = SlowCalls::to(graph, node) else {
                continue;
            };
            calls.bound_windows(windows);
            let report = &mut self.services[node.0];
            let most = |calls: &mut dyn FnMut(NodeId) -> f64| {
                let all = sources.iter().map(|source| calls(*source));
                all.fold(0.0, f64::max)
            };
            report.slow = Some(most(&mut |source| calls.abandoned(source)));
            report.slow_propagated = Some(most(&mut |source| calls.propagated(source)));
            windows -= calls.windows();
        }
    }

    fn expect(
        &mut self,
        graph: &CallGraph,
        sources: &[Option<NodeId>],
        rate: f64,
        failing: Option<NodeId>,
    ) {
        for node in graph.nodes() {
            let class = self.services[node.0]
                .worst
                .as_ref()
                .map(|worst| worst.class);
            let Some((source, class)) = sources[node.0].zip(class) else {
                continue;
            };
            if failing.is_some_and(|failing| failing != node) {
                continue;
            }
            let expected = Expectation::of(graph, source, (node, class), rate);
            self.services[node.0].client_failure = Some(expected.client_failure());
            if failing.is_none() {
                self.services[node.0].expected_calls = expected.calls(node);
                continue;
            }
            for other in graph.nodes() {
                self.services[other.0].expected_calls = expected.calls(other);
            }
        }
    }
}

fn service(graph: &CallGraph, bounds: &ResponseBounds, node: NodeId) -> ServiceReport {
    // Without calls of its own and without a declared time nothing is known about it.
    let is_known = graph.node(node).handling.is_some() || graph.leaving(node).next().is_some();
    ServiceReport {
        response_bound: bounds.bound(node).filter(|_| is_known),
        ..ServiceReport::default()
    }
}

fn edges(graph: &CallGraph, bounds: &ResponseBounds) -> Vec<EdgeReport> {
    let mut reports = Vec::new();
    for id in graph.edges() {
        let edge = graph.edge(id);
        for (index, policy) in edge.policies.iter().enumerate() {
            reports.push(edge_report(graph, bounds, (id, index), edge, policy));
        }
    }
    reports
}

fn edge_report(
    graph: &CallGraph,
    bounds: &ResponseBounds,
    (id, index): (EdgeId, usize),
    edge: &Edge,
    policy: &Policy,
) -> EdgeReport {
    let is_leaf = graph.leaving(edge.to).next().is_none();
    let is_known = !is_leaf || graph.node(edge.to).handling.is_some();
    EdgeReport {
        edge: id,
        policy: index,
        slack: bounds.slack(edge, policy).filter(|_| is_known),
        dead_attempts: policy.dead_attempts(),
        sustained: sustained(policy.tries(), policy, &Traffic::of(graph, edge)),
        // Who calls nobody hangs by itself; who calls others hangs as long as they let it.
        overlap: overlap(policy, bounds.bound(edge.to).filter(|_| !is_leaf)),
        bound: bounds.exchange_of(edge, policy),
    }
}

/// What each subset of a service gets of the worst.
fn subsets(
    graph: &CallGraph,
    from: &Amplification<'_>,
    node: NodeId,
    class: Failure,
) -> Vec<SubsetReport> {
    let mut names: Vec<&String> = graph
        .entering(node)
        .flat_map(|(_, edge)| &edge.policies)
        .flat_map(|policy| &policy.branches)
        .filter_map(|branch| branch.subset.as_ref())
        .collect();
    names.sort_unstable();
    names.dedup();
    let report = |name: &String| {
        let (mut worst_fast, mut expected) = (0.0, Some(0.0));
        for (id, edge) in graph.entering(node) {
            let before = from.calls_into(id, class);
            let shares = |policy: &Policy| share_of(policy, name);
            let reaching = edge
                .policies
                .iter()
                .filter(|policy| shares(policy) != Some(0.0));
            let tries = reaching.map(|policy| class.tries(policy)).max();
            worst_fast += before * tries.map_or(0.0, f64::from);
            let share = agreed(edge.policies.iter().map(shares));
            let (tries, _) = super::amplification::worst_policy(edge, class);
            expected = expected
                .zip(share)
                .map(|(sum, share): (f64, f64)| sum + before * f64::from(tries) * share);
        }
        SubsetReport {
            name: name.clone(),
            worst_fast: Some(worst_fast),
            expected_share: expected,
        }
    };
    names.into_iter().map(report).collect()
}

/// The share of a subset under one policy; none where endpoints of all subsets share.
fn share_of(policy: &Policy, subset: &str) -> Option<f64> {
    let branches = &policy.branches;
    if branches.is_empty() || branches.iter().any(|branch| branch.subset.is_none()) {
        return None;
    }
    let own = branches
        .iter()
        .filter(|branch| branch.subset.as_deref() == Some(subset));
    Some(own.map(|branch| branch.share).sum())
}

/// The one value that all agree on.
fn agreed(mut shares: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let first = shares.next()??;
    shares
        .all(|share| share.is_some_and(|share| (share - first).abs() < 1e-12))
        .then_some(first)
}
