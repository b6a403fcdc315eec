//! The numbers against a request that is really followed, call by call.

use std::cmp::Ordering;

use mesh_bundle::slice::RetryCause;
use proptest::prelude::*;

use super::{Amplification, Failure};
use crate::analysis::call_graph::tests::{edge as edge_between, policy};
use crate::analysis::call_graph::{CallGraph, Node, NodeId};

const CAUSES: [RetryCause; 6] = [
    RetryCause::ConnectFailure,
    RetryCause::Reset,
    RetryCause::Gateway,
    RetryCause::ServerError,
    RetryCause::Status(503),
    RetryCause::Status(429),
];

/// Calls go from lower to higher numbers, so there is no round.
fn any_graph() -> impl Strategy<Value = CallGraph> {
    let edge = (
        0..5_usize,
        1..5_usize,
        1..4_u32,
        prop::sample::subsequence(CAUSES.to_vec(), 0..4),
        1..3_u32,
    );
    prop::collection::vec(edge, 1..9).prop_map(|edges| {
        let mut graph = CallGraph::new();
        for index in 0..6 {
            graph.add_node(Node {
                name: format!("s{index}"),
                ..Node::default()
            });
        }
        for (from, step, attempts, causes, per_request) in edges {
            let mut policy = policy(attempts, 1.0, 10.0);
            policy.causes = causes;
            let mut edge = edge_between(NodeId(from), NodeId((from + step).min(5)), policy);
            edge.per_request = f64::from(per_request);
            graph.add_edge(edge);
        }
        graph
    })
}

/// Handles one request at `at`: makes all of its calls, tries again what fails, and says how it ends.
fn follow(
    graph: &CallGraph,
    at: NodeId,
    target: NodeId,
    class: Failure,
    calls: &mut u32,
) -> Option<Failure> {
    if at == target {
        *calls += 1;
        return Some(class);
    }
    let mut end = None;
    for edge in graph.leaving(at) {
        let policy = &edge.policies[0];
        let mut left = edge.per_request;
        while left > 0.0 {
            left -= 1.0;
            let mut tries = 0;
            while let Some(failure) = follow(graph, edge.to, target, class, calls) {
                tries += 1;
                end = Some(failure.upstream());
                if tries == policy.attempts || !failure.is_retried_by(policy) {
                    break;
                }
            }
        }
    }
    end
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn amplification_is_what_a_followed_request_does(graph in any_graph()) {
        let from = Amplification::from(&graph, NodeId(0));
        for target in graph.nodes().skip(1) {
            let counted = Failure::classes(&graph).into_iter().map(|class| {
                let mut calls = 0;
                follow(&graph, NodeId(0), target, class, &mut calls);
                calls
            });
            let counted = counted.max().unwrap_or(0);
            let known = from.worst(target).map_or(0.0, |worst| worst.calls);
            prop_assert_eq!(known.total_cmp(&f64::from(counted)), Ordering::Equal, "service {}", target.0);
        }
    }
}
