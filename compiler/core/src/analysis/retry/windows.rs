//! Calls that one request causes when a service hangs (D6, D7): then time limits bind, and every try
//! owns only what is left of the windows above it.

use std::collections::HashMap;
use std::time::Duration;

use super::failure::Failure;
use super::response::ResponseBounds;
use crate::analysis::call_graph::{CallGraph, Edge, NodeId, Policy};

/// Hops that are followed window by window; below that, every try is counted.
const DEPTH_MAX: usize = 64;

/// Tries of one call that are followed one by one; further ones are counted like the last of these.
const TRIES_MAX: u32 = 1_000;

/// Calls to `target` for one request at `entry` when it hangs and whoever gives up takes its work
/// along (deadlines are passed on). Jitter only delays, so this is an upper bound. None in or behind a
/// round.
pub fn slow_calls(graph: &CallGraph, entry: NodeId, target: NodeId) -> Option<f64> {
    let mut slow = Slow::new(graph, target)?;
    Some(if entry == target {
        1.0
    } else {
        slow.calls(entry, None, 0)
    })
}

/// The same when abandoned work goes on.
pub fn slow_calls_abandoned(graph: &CallGraph, entry: NodeId, target: NodeId) -> Option<f64> {
    let slow = Slow::new(graph, target)?;
    Some(if entry == target {
        1.0
    } else {
        slow.abandoned(entry)
    })
}

/// Calls of one caller that can be in flight at once when a callee that needs `response` is given up
/// after the time of a try and tried again.
pub fn overlap(policy: &Policy, response: Duration) -> u32 {
    let Some(limit) = policy.try_limit() else {
        return 1;
    };
    let running = response.as_nanos().div_ceil(limit.as_nanos().max(1));
    u32::try_from(running)
        .unwrap_or(u32::MAX)
        .clamp(1, policy.attempts)
}

struct Slow<'g> {
    graph: &'g CallGraph,
    target: NodeId,
    bounds: ResponseBounds,
    /// Services from which the target is reached, ascending; none of them is in a round.
    leads: Vec<bool>,
    /// Services that lead to the target, callees first.
    order: Vec<NodeId>,
    known: HashMap<(NodeId, Option<u128>), f64>,
}

impl<'g> Slow<'g> {
    fn new(graph: &'g CallGraph, target: NodeId) -> Option<Self> {
        let mut leads = vec![false; graph.nodes().len()];
        leads[target.0] = true;
        let mut order = Vec::new();
        for node in graph.components().into_iter().flatten() {
            if leads[node.0] || graph.leaving(node).any(|edge| leads[edge.to.0]) {
                leads[node.0] = true;
                order.push(node);
            }
        }
        if graph.rounds().iter().flatten().any(|node| leads[node.0]) {
            return None;
        }
        Some(Self {
            graph,
            target,
            bounds: ResponseBounds::of(graph),
            leads,
            order,
            known: HashMap::new(),
        })
    }

    /// Attempts when the callee hangs or stands above what hangs.
    fn attempts(&self, edge: &Edge, policy: &Policy) -> u32 {
        // A callee that gives up in time answers 504 itself; otherwise the try times out.
        let answers_in_time = edge.to != self.target
            && self
                .bounds
                .slack(edge, policy)
                .is_some_and(|slack| slack >= 0.0);
        let retried = Failure::PerTryTimeout.is_retried_by(policy)
            || answers_in_time && Failure::Status(504).is_retried_by(policy);
        if retried { policy.attempts } else { 1 }
    }

    /// Calls to the target for one request at `node` that has this much time left.
    fn calls(&mut self, node: NodeId, window: Option<Duration>, depth: usize) -> f64 {
        if depth >= DEPTH_MAX {
            return self.abandoned(node);
        }
        let key = (node, window.map(|window| window.as_millis()));
        if let Some(calls) = self.known.get(&key) {
            return *calls;
        }
        let graph = self.graph;
        let mut sum = 0.0;
        for edge in graph.leaving(node) {
            if !self.leads[edge.to.0] {
                continue;
            }
            let mut worst = 0.0_f64;
            for policy in &edge.policies {
                worst = worst.max(self.tries(edge, policy, window, depth));
            }
            sum += edge.per_request * worst;
        }
        self.known.insert(key, sum);
        sum
    }

    fn tries(
        &mut self,
        edge: &Edge,
        policy: &Policy,
        window: Option<Duration>,
        depth: usize,
    ) -> f64 {
        let attempts = self.attempts(edge, policy);
        let end = match (policy.timeout, window) {
            (Some(timeout), Some(window)) => Some(timeout.min(window)),
            (end, None) | (None, end) => end,
        };
        let each = policy.per_try.or(policy.timeout);
        let mut sum = 0.0;
        let mut start = Duration::ZERO;
        for number in 0..attempts {
            if end.is_some_and(|end| start >= end) {
                break;
            }
            let left = end.map(|end| end.saturating_sub(start));
            let own = match (each, left) {
                (Some(each), Some(left)) => Some(each.min(left)),
                (own, None) | (None, own) => own,
            };
            let calls = if edge.to == self.target {
                1.0
            } else {
                self.calls(edge.to, own, depth + 1)
            };
            if number == TRIES_MAX {
                return sum + calls * f64::from(attempts - number);
            }
            sum += calls;
            // A try without an end is the last one.
            let Some(own) = each else { break };
            start = start.saturating_add(own);
        }
        sum
    }

    fn abandoned(&self, entry: NodeId) -> f64 {
        let mut calls = vec![0.0; self.graph.nodes().len()];
        calls[self.target.0] = 1.0;
        for node in self.order.iter().filter(|node| **node != self.target) {
            calls[node.0] = self
                .graph
                .leaving(*node)
                .map(|edge| {
                    let tries =
                        |policy: &Policy| self.attempts(edge, policy).min(policy.usable_attempts());
                    let worst = edge.policies.iter().map(tries).max().unwrap_or(1);
                    calls[edge.to.0] * edge.per_request * f64::from(worst)
                })
                .sum();
        }
        calls[entry.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::tests::{chain, policy};

    #[track_caller]
    fn check(policies: &[(u32, f64, f64)], propagated: f64, abandoned: f64) {
        let graph = chain(
            policies
                .iter()
                .map(|(a, p, t)| policy(*a, *p, *t))
                .collect(),
        );
        let (entry, leaf) = (NodeId(0), NodeId(policies.len()));
        assert_eq!(slow_calls(&graph, entry, leaf), Some(propagated));
        assert_eq!(slow_calls_abandoned(&graph, entry, leaf), Some(abandoned));
    }

    #[test]
    fn tc_s1_the_third_try_does_not_fit() {
        check(&[(3, 1.0, 2.0)], 2.0, 2.0);
    }

    #[test]
    fn tc_s2_equal_timeouts_hide_a_storm_only_while_deadlines_travel() {
        check(&[(3, 1.0, 3.0); 3], 3.0, 27.0);
    }

    #[test]
    fn tc_s3_growing_timeouts_let_all_tries_happen() {
        check(&[(3, 1.0, 3.0), (3, 0.3, 0.9), (3, 0.1, 0.3)], 27.0, 27.0);
    }

    #[test]
    fn tc_s6_a_try_longer_than_the_timeout_is_the_only_one() {
        check(&[(6, 16.0, 15.0)], 1.0, 1.0);
        check(&[(6, 16.0, 15.0); 3], 1.0, 1.0);
    }

    #[test]
    fn hangs_are_tried_again_only_by_who_says_so() {
        let mut one = policy(3, 1.0, 3.0);
        one.causes
            .retain(|cause| *cause != mesh_bundle::slice::RetryCause::PerTryTimeout);
        let graph = chain(vec![one]);
        assert_eq!(slow_calls(&graph, NodeId(0), NodeId(1)), Some(1.0));
    }

    #[test]
    fn many_tries_take_no_time_to_count() {
        let graph = chain(vec![policy(u32::MAX, 0.001, 1e9), policy(1, 1.0, 1.0)]);
        let calls = slow_calls(&graph, NodeId(0), NodeId(2)).unwrap();
        assert!(calls >= 1e9);
    }

    #[test]
    fn work_given_up_goes_on_beside_the_next_try() {
        assert_eq!(
            overlap(&policy(3, 1.0, 3.0), Duration::from_millis(2500)),
            3
        );
        assert_eq!(overlap(&policy(3, 1.0, 3.0), Duration::from_millis(500)), 1);
    }
}
