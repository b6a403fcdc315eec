//! What budgets leave, and what becomes of rounds that end, against requests that are sent on one after the other, with
//! budgets that count: no sums, products or powers of anything.

use std::collections::VecDeque;

use mesh_bundle::slice::RetryCause;
use proptest::prelude::*;

use super::{Amplification, Failure, rounds};
use crate::analysis::call_graph::tests::{edge as edge_between, policy};
use crate::analysis::call_graph::{
    Budget, BudgetOf, CallGraph, Edge, EdgeId, Node, NodeId, Policy,
};

/// Services of a generated graph.
const NODES: usize = 5;

/// One edge as it is drawn: where from, how far, attempts, whether failures are tried again, calls for each request,
/// what share of requests makes them, and the budget.
type Drawn = (usize, usize, u32, bool, u32, f64, Option<Budget>);

fn any_budget() -> impl Strategy<Value = Option<Budget>> {
    let of = prop::sample::select(vec![
        BudgetOf::Requests {
            min_per_second: 0.0,
        },
        BudgetOf::Active {
            min_concurrent: 0.0,
        },
    ]);
    let share = prop::sample::select(vec![0.0, 0.1, 0.2, 0.5, 0.75, 1.5]);
    prop::option::of((share, of).prop_map(|(share, of)| Budget { share, of }))
}

fn any_edges(shares: Vec<f64>) -> impl Strategy<Value = Vec<Drawn>> {
    let edge = (
        0..NODES,
        1..NODES,
        1..4_u32,
        any::<bool>(),
        1..3_u32,
        prop::sample::select(shares),
        any_budget(),
    );
    prop::collection::vec(edge, 1..8)
}

fn graph_of(edges: Vec<Drawn>, to: impl Fn(usize, usize) -> Option<usize>) -> CallGraph {
    let mut graph = CallGraph::new();
    for index in 0..NODES {
        graph.add_node(Node {
            name: format!("s{index}"),
            ..Node::default()
        });
    }
    for (from, step, attempts, is_retried, per_request, share, budget) in edges {
        let Some(to) = to(from, step) else { continue };
        let mut policy = policy(attempts, 1.0, 9.0);
        if !is_retried {
            policy.causes = vec![RetryCause::ConnectFailure];
        }
        policy.budget = budget;
        let mut edge = edge_between(NodeId(from), NodeId(to), policy);
        edge.per_request = f64::from(per_request);
        edge.share = share;
        graph.add_edge(edge);
    }
    graph
}

#[expect(clippy::cast_precision_loss, reason = "tests count far below 2^52")]
fn as_number(count: usize) -> f64 {
    count as f64
}

/// The budget of one edge, as a proxy keeps it.
#[derive(Clone, Copy, Default)]
struct Kept {
    originals: f64,
    retries: f64,
}

impl Kept {
    /// Whether one more retry is within the budget; it is counted if so.
    fn lets(&mut self, budget: Option<&Budget>) -> bool {
        let next = self.retries + 1.0;
        let is_within = budget.is_none_or(|budget| {
            let of = match budget.of {
                BudgetOf::Requests { .. } => self.originals,
                BudgetOf::Active { .. } => self.originals + next,
            };
            // Sums of shares are not exact.
            next <= budget.share * of + 1e-9
        });
        if is_within {
            self.retries = next;
        }
        is_within
    }
}

/// The tries of one call that always fails.
fn tries(policy: &Policy, most: u32, kept: &mut Kept) -> u32 {
    kept.originals += 1.0;
    let mut tries = 1;
    while tries < most && kept.lets(policy.budget.as_ref()) {
        tries += 1;
    }
    tries
}

/// Calls to a service that always fails, for one request at the first service after the other.
struct Storm<'g> {
    graph: &'g CallGraph,
    target: NodeId,
    class: Failure,
    kept: Vec<Kept>,
    calls: usize,
}

impl Storm<'_> {
    /// A request at a service; whether it fails.
    fn handle(&mut self, node: NodeId) -> bool {
        if node == self.target {
            self.calls += 1;
            return true;
        }
        let graph = self.graph;
        let mut fails = false;
        for (id, edge) in graph.leaving_ids(node) {
            let mut left = edge.per_request;
            while left > 0.0 {
                left -= 1.0;
                fails |= self.call(id, edge);
            }
        }
        fails
    }

    /// One call with all of its tries; whether the last one fails.
    fn call(&mut self, id: EdgeId, edge: &Edge) -> bool {
        let class = if edge.to == self.target {
            self.class
        } else {
            self.class.upstream()
        };
        let policy = &edge.policies[0];
        let most = class.tries(policy);
        self.kept[id.0].originals += 1.0;
        let mut tries = 1;
        while self.handle(edge.to) {
            if tries >= most || !self.kept[id.0].lets(policy.budget.as_ref()) {
                return true;
            }
            tries += 1;
        }
        false
    }
}

/// Calls to each service for many requests at one that all calls of a round fail for.
fn go_around(graph: &CallGraph, entry: NodeId, requests: usize) -> Vec<usize> {
    let edges = graph.edges().len();
    let (mut kept, mut shares) = (vec![Kept::default(); edges], vec![0.0_f64; edges]);
    let mut calls = vec![0; NODES];
    let mut waiting: VecDeque<NodeId> = std::iter::repeat_n(entry, requests).collect();
    while let Some(node) = waiting.pop_front() {
        calls[node.0] += 1;
        for (id, edge) in graph.leaving_ids(node) {
            shares[id.0] += edge.per_request * edge.share;
            while shares[id.0] >= 1.0 - 1e-9 {
                shares[id.0] -= 1.0;
                let policy = &edge.policies[0];
                let tries = tries(policy, policy.tries(), &mut kept[id.0]);
                waiting.extend((0..tries).map(|_| edge.to));
            }
        }
    }
    calls
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn budgets_leave_the_calls_that_a_storm_makes(edges in any_edges(vec![1.0])) {
        const REQUESTS: usize = 2_000;
        // Towards higher numbers only, so that there is no round.
        let ahead = |from: usize, step: usize| Some((from + step).min(NODES - 1)).filter(|to| *to > from);
        let graph = graph_of(edges, ahead);
        let amplification = Amplification::from(&graph, NodeId(0));
        for target in graph.nodes().skip(1) {
            let Some(worst) = amplification.worst(target).filter(|worst| worst.calls < 100.0) else {
                continue;
            };
            let mut storm = Storm {
                graph: &graph,
                target,
                class: worst.class,
                kept: vec![Kept::default(); graph.edges().len()],
                calls: 0,
            };
            for _ in 0..REQUESTS {
                storm.handle(NodeId(0));
            }
            let really = as_number(storm.calls) / as_number(REQUESTS);
            let said = worst.budgeted * worst.healthy;
            // Each edge may be a call's tries away from what its budget comes to, and each of them brings what it brings.
            let rounding = as_number(graph.edges().len()) * 3.0 * worst.calls / as_number(REQUESTS);
            prop_assert!(
                (said - really).abs() <= rounding + 1e-9,
                "service {}: {said} and really {really} ± {rounding}", target.0
            );
            prop_assert!(said <= worst.calls + 1e-9);
        }
    }

    #[test]
    fn rounds_that_end_bring_the_calls_that_they_do(edges in any_edges(vec![0.5, 0.25, 0.125])) {
        const REQUESTS: usize = 4_000;
        let graph = graph_of(edges, |from, step| Some((from + step) % NODES));
        for round in rounds(&graph) {
            let within = |edge: &Edge| round.services.contains(&edge.from) && round.services.contains(&edge.to);
            if round.spectral_radius > 0.9 {
                continue;
            }
            prop_assert!(!round.calls.is_empty());
            // What one call too many may bring, at most: the most that a request brings anywhere.
            let most = round.calls.iter().flat_map(|(_, calls)| calls.iter().copied()).fold(1.0, f64::max);
            let mut alone = CallGraph::new();
            for node in graph.nodes() {
                alone.add_node(graph.node(node).clone());
            }
            for edge in graph.edges().map(|id| graph.edge(id)).filter(|edge| within(edge)) {
                alone.add_edge(edge.clone());
            }
            for (entry, said) in &round.calls {
                let really = go_around(&alone, *entry, REQUESTS);
                for (node, said) in round.services.iter().zip(said) {
                    let really = as_number(really[node.0]) / as_number(REQUESTS);
                    let rounding = 12.0 * as_number(alone.edges().len()) * most / as_number(REQUESTS);
                    prop_assert!(
                        (said - really).abs() <= rounding + 1e-9,
                        "from {} to {}: {said} and really {really} ± {rounding}", entry.0, node.0
                    );
                }
            }
        }
    }
}
