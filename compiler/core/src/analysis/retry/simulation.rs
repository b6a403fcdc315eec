//! The numbers against requests that are really followed, in time, try by try: an independent model
//! without windows, products or topological orders. Expected values against many seeded runs.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use proptest::prelude::*;

use super::{Expectation, Failure, SlowCalls};
use crate::analysis::call_graph::tests::{edge as edge_between, policy};
use crate::analysis::call_graph::{CallGraph, Edge, Hedge, Node, NodeId, Policy, Purpose};

/// Services of a generated graph.
const NODES: usize = 6;

/// What a generated policy tries again: nothing, hangs in whatever shape they come, only its own
/// time-outs, only what others answer.
const CAUSES: [&[RetryCause]; 4] = [
    &[],
    &[RetryCause::PerTryTimeout, RetryCause::ServerError],
    &[RetryCause::PerTryTimeout],
    &[RetryCause::ServerError],
];

/// Calls go from lower to higher numbers, so there is no round. Times are small and alike, so that
/// windows end in the middle of tries and at their ends.
fn any_graph(causes: std::ops::Range<usize>, hedges: bool) -> impl Strategy<Value = CallGraph> {
    let beside = (
        prop::option::of((1..5_u64, 2..4_u32)),
        prop::sample::select(vec![Purpose::Call, Purpose::Authorize, Purpose::Mirror]),
        prop::sample::select(vec![1.0, 0.5]),
    );
    let edge = (
        beside,
        0..NODES - 1,
        1..NODES,
        1..4_u32,
        causes,
        prop::option::of(1..5_u64),
        1..9_u64,
        1..3_u32,
    );
    prop::collection::vec(edge, 1..8).prop_map(move |edges| {
        let mut graph = CallGraph::new();
        for index in 0..NODES {
            graph.add_node(Node {
                name: format!("s{index}"),
                ..Node::default()
            });
        }
        for (beside, from, step, attempts, causes, per_try, timeout, per_request) in edges {
            let (hedge, purpose, share) = beside;
            let mut policy = policy(attempts, 1.0, 1.0);
            policy.causes = CAUSES[causes].to_vec();
            policy.per_try = per_try.map(|tenths| Duration::from_millis(tenths * 100));
            policy.timeout = Some(Duration::from_millis(timeout * 100));
            let to = NodeId((from + step).min(NODES - 1));
            let mut edge = edge_between(NodeId(from), to, policy);
            edge.per_request = f64::from(per_request);
            edge.share = share;
            edge.purpose = purpose;
            // A copy is sent once.
            if purpose == Purpose::Mirror {
                edge.policies[0].attempts = 1;
            } else {
                edge.policies[0].hedge = hedge.filter(|_| hedges).map(|(tenths, attempts)| Hedge {
                    delay: Duration::from_millis(tenths * 100),
                    attempts,
                });
            }
            graph.add_edge(edge);
        }
        graph
    })
}

/// How a request to a service ended, in milliseconds of the simulated clock.
#[derive(Clone, Copy)]
struct End {
    at: u64,
    failed: bool,
}

/// One request followed through a mesh of which one service never answers.
struct Run<'g> {
    graph: &'g CallGraph,
    hangs: NodeId,
    /// Whether whoever gives up takes its work along.
    propagates: bool,
    calls: u64,
}

impl Run<'_> {
    /// A request at a service; none: it never ends by itself.
    fn handle(&mut self, node: NodeId, start: u64, deadline: u64) -> Option<End> {
        if node == self.hangs {
            self.calls += 1;
            return None;
        }
        let mut end = End {
            at: start,
            failed: false,
        };
        let graph = self.graph;
        for edge in graph.leaving(node) {
            let mut calls = edge.per_request;
            while calls > 0.0 {
                calls -= 1.0;
                let call = self.call(edge, start, deadline);
                if !edge.is_awaited() {
                    continue;
                }
                end.at = end.at.max(call.at);
                end.failed |= call.failed;
            }
        }
        Some(end)
    }

    /// One call with all of its tries.
    fn call(&mut self, edge: &Edge, start: u64, deadline: u64) -> End {
        let policy = &edge.policies[0];
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut until = start.saturating_add(policy.timeout.map_or(u64::MAX, millis));
        if self.propagates {
            until = until.min(deadline);
        }
        let each = policy.per_try.map_or(u64::MAX, millis);
        let (delay, hedged) = policy
            .hedge
            .map_or((u64::MAX, 1), |hedge| (millis(hedge.delay), hedge.attempts));
        let mut tries = 1;
        let mut last = start;
        let mut running = vec![self.attempt(edge, start, (each, until))];
        loop {
            let first = running.iter().enumerate().min_by_key(|(_, end)| end.0);
            let Some((index, (at, cause))) = first.map(|(index, end)| (index, *end)) else {
                return End {
                    at: last,
                    failed: true,
                };
            };
            let beside = last.saturating_add(delay);
            if tries < hedged && beside < at && beside < until {
                running.push(self.attempt(edge, beside, (each, until)));
                (tries, last) = (tries + 1, beside);
                continue;
            }
            running.remove(index);
            let Some(cause) = cause else {
                return End { at, failed: false };
            };
            let is_retried = policy.causes.contains(&cause);
            if is_retried && tries < policy.attempts && at < until {
                running.push(self.attempt(edge, at, (each, until)));
                (tries, last) = (tries + 1, at);
            } else if !is_retried || running.is_empty() {
                // What is not tried again is the answer, whatever runs beside it.
                return End { at, failed: true };
            }
        }
    }

    /// One try: when it ends, and as what failure; none: well.
    fn attempt(
        &mut self,
        edge: &Edge,
        at: u64,
        (each, until): (u64, u64),
    ) -> (u64, Option<RetryCause>) {
        let given_up = at.saturating_add(each).min(until);
        match self.handle(edge.to, at, given_up) {
            Some(end) if !end.failed && end.at <= given_up => (end.at, None),
            Some(end) if end.at < given_up => (end.at, Some(RetryCause::ServerError)),
            // At the same moment the caller gives up: its clock has started earlier.
            _ => (given_up, Some(RetryCause::PerTryTimeout)),
        }
    }
}

fn simulated(graph: &CallGraph, target: NodeId, propagates: bool) -> u64 {
    let mut run = Run {
        graph,
        hangs: target,
        propagates,
        calls: 0,
    };
    run.handle(NodeId(0), 0, u64::MAX);
    run.calls
}

#[expect(clippy::cast_precision_loss, reason = "tests count far below 2^52")]
fn as_number(count: u64) -> f64 {
    count as f64
}

/// Numbers from a seed, by splitmix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        as_number((bits ^ (bits >> 31)) >> 11) / as_number(1 << 53)
    }
}

/// By how much the mean of runs may be off but once in a billion times, when none is above `most` (Maurer and Pontil's
/// bound): where failures are rare, those seen say little about those not seen.
fn error(variance: f64, most: f64, runs: f64) -> f64 {
    let doubt = (2.0 / 1e-9_f64).ln();
    (2.0 * variance * doubt / runs).sqrt() + 7.0 * most * doubt / (3.0 * (runs - 1.0))
}

/// One request while each call to a service fails with some probability: its calls to each service.
fn draw(
    graph: &CallGraph,
    node: NodeId,
    (failing, class, rate): (NodeId, Failure, f64),
    numbers: &mut Numbers,
    calls: &mut [u64],
) -> bool {
    calls[node.0] += 1;
    if node == failing {
        // What it calls itself it calls all the same.
        let fails = numbers.next() < rate;
        for edge in graph.leaving(node) {
            draw_call(graph, edge, (failing, class, rate), numbers, calls);
        }
        return fails;
    }
    let mut fails = false;
    for edge in graph.leaving(node) {
        let failed = draw_call(graph, edge, (failing, class, rate), numbers, calls);
        fails |= failed && edge.is_awaited();
    }
    fails
}

fn draw_call(
    graph: &CallGraph,
    edge: &Edge,
    what: (NodeId, Failure, f64),
    numbers: &mut Numbers,
    calls: &mut [u64],
) -> bool {
    let class = if edge.to == what.0 {
        what.1
    } else {
        what.1.upstream()
    };
    let policy: &Policy = &edge.policies[0];
    let mut fails = false;
    let mut left = edge.per_request;
    while left > 0.0 {
        left -= 1.0;
        if numbers.next() >= edge.share {
            continue;
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = draw(graph, edge.to, what, numbers, calls);
            if !failed {
                break;
            }
            if tries == policy.attempts || !class.is_retried_by(policy) {
                fails = true;
                break;
            }
        }
    }
    fails
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hangs_cause_the_calls_that_a_followed_request_makes(graph in any_graph(0..2, false)) {
        for target in graph.nodes().skip(1) {
            let mut slow = SlowCalls::to(&graph, target).unwrap();
            let propagated = as_number(simulated(&graph, target, true));
            prop_assert!((slow.propagated(NodeId(0)) - propagated).abs() < 1e-9, "service {}: {} and really {propagated}", target.0, slow.propagated(NodeId(0)));
            let abandoned = as_number(simulated(&graph, target, false));
            prop_assert!((slow.abandoned(NodeId(0)) - abandoned).abs() < 1e-9, "service {}: {} and really {abandoned}", target.0, slow.abandoned(NodeId(0)));
        }
    }

    #[test]
    fn hangs_never_cause_more_calls_than_said(graph in any_graph(0..4, true)) {
        let paths = super::Paths::of(&graph);
        for target in graph.nodes().skip(1) {
            let mut slow = SlowCalls::to(&graph, target).unwrap();
            let propagated = as_number(simulated(&graph, target, true));
            prop_assert!(slow.propagated(NodeId(0)) >= propagated - 1e-9);
            let abandoned = as_number(simulated(&graph, target, false));
            prop_assert!(slow.abandoned(NodeId(0)) >= abandoned - 1e-9);
            prop_assert!(slow.abandoned(NodeId(0)) >= slow.propagated(NodeId(0)) - 1e-9);
            let healthy = super::Amplification::from(&graph, NodeId(0)).worst(target).map_or(1.0, |worst| worst.healthy);
            prop_assert!(paths.slow(target) >= slow.abandoned(NodeId(0)) / healthy - 1e-9);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn expected_calls_are_the_mean_of_many_requests(graph in any_graph(0..4, false), seed: u64, rate in 0.05..0.95_f64) {
        const RUNS: u64 = 4_000;
        for target in [NodeId(NODES - 1), NodeId(2)] {
            let class = Failure::Status(503);
            let expected = Expectation::of(&graph, NodeId(0), (target, class), rate);
            let mut numbers = Numbers(seed);
            let (mut sums, mut squares) = ([0.0_f64; NODES], [0.0_f64; NODES]);
            let mut failures = 0.0;
            for _ in 0..RUNS {
                let mut calls = [0; NODES];
                if draw(&graph, NodeId(0), (target, class, rate), &mut numbers, &mut calls) {
                    failures += 1.0;
                }
                for (index, calls) in calls.into_iter().map(as_number).enumerate() {
                    sums[index] += calls;
                    squares[index] += calls * calls;
                }
            }
            let runs = as_number(RUNS);
            for node in graph.nodes() {
                let mean = sums[node.0] / runs;
                let variance = (squares[node.0] / runs - mean * mean).max(0.0);
                let most = super::Amplification::from(&graph, NodeId(0)).calls(node).unwrap_or(0.0);
                let error = error(variance, most, runs);
                let said = expected.calls(node).unwrap_or(0.0);
                prop_assert!((said - mean).abs() <= error, "service {}: {said} and really {mean} ± {error}", node.0);
            }
            let share = failures / runs;
            let error = error(share * (1.0 - share), 1.0, runs);
            prop_assert!((expected.client_failure() - share).abs() <= error);
        }
    }
}
