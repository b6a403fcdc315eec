//! How long answers can take, and who waits less long than its callee may need (D8).

use std::time::Duration;

use crate::analysis::call_graph::{CallGraph, Edge, NodeId, Policy};

/// For each service the longest time until it answers, as far as its own calls bound it.
#[derive(Clone, Debug)]
pub struct ResponseBounds {
    /// None: no timeout bounds it.
    bounds: Vec<Option<Duration>>,
}

impl ResponseBounds {
    /// Computes the bounds. Handling times that nobody declares count as nothing, so a bound is the
    /// least that the worst case can be. Services in or before a round have no bound.
    pub fn of(graph: &CallGraph) -> Self {
        let mut this = Self {
            bounds: vec![None; graph.nodes().len()],
        };
        let in_round = &graph.topology().in_round;
        // Callees come before their callers.
        for component in graph.components() {
            for node in component {
                if !in_round[node.0] {
                    this.bounds[node.0] = this.response(graph, *node);
                }
            }
        }
        this
    }

    fn response(&self, graph: &CallGraph, node: NodeId) -> Option<Duration> {
        let handling = graph.node(node).handling.unwrap_or_default();
        let (mut in_turn, mut at_once) = (Duration::ZERO, Duration::ZERO);
        for edge in graph.leaving(node).filter(|edge| edge.is_awaited()) {
            let exchange = self.exchange(edge)?;
            if edge.parallel {
                at_once = at_once.max(exchange);
            } else {
                // A mean of half a call for each request is one call for some, and those wait for all of it.
                let all = exchange.as_secs_f64() * edge.per_request.ceil();
                in_turn = in_turn
                    .saturating_add(Duration::try_from_secs_f64(all).unwrap_or(Duration::MAX));
            }
        }
        Some(handling.saturating_add(in_turn).saturating_add(at_once))
    }

    /// The longest time of one call with all its tries; none: unbounded.
    pub fn exchange(&self, edge: &Edge) -> Option<Duration> {
        let longest = edge
            .policies
            .iter()
            .map(|policy| self.exchange_of(edge, policy));
        longest.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The longest time of one call by one route.
    pub fn exchange_of(&self, edge: &Edge, policy: &Policy) -> Option<Duration> {
        let tries = policy.try_limit().map(|limit| {
            limit
                .saturating_mul(policy.attempts)
                .saturating_add(policy.backoff_total())
        });
        match (tries, policy.timeout) {
            (Some(tries), Some(timeout)) => Some(tries.min(timeout)),
            (Some(tries), None) => Some(tries),
            (None, Some(timeout)) => Some(timeout),
            // Nothing but the callee itself ends the call.
            (None, None) => self.bounds[edge.to.0].filter(|bound| !bound.is_zero()),
        }
    }

    /// The longest time until a service answers; none: unbounded.
    pub fn bound(&self, node: NodeId) -> Option<Duration> {
        self.bounds[node.0]
    }

    /// By how many seconds a caller's patience exceeds what its callee may need; negative: it gives up
    /// while the callee still works. None where one of them is unbounded.
    pub fn slack(&self, edge: &Edge, policy: &Policy) -> Option<f64> {
        let patience = policy.try_limit()?;
        let needed = self.bounds[edge.to.0]?;
        Some(patience.as_secs_f64() - needed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::EdgeId;
    use crate::analysis::call_graph::tests::{chain, policy};

    #[track_caller]
    fn check_slack(policies: [(u32, f64, f64); 3], expected: [Option<f64>; 2]) {
        let graph = chain(policies.map(|(a, p, t)| policy(a, p, t)).to_vec());
        let bounds = ResponseBounds::of(&graph);
        for (index, expected) in expected.into_iter().enumerate() {
            let edge = graph.edge(EdgeId(index));
            let slack = bounds.slack(edge, &edge.policies[0]);
            assert_eq!(
                slack.map(|slack| (slack * 1e6).round() / 1e6),
                expected,
                "hop {}",
                index + 1
            );
        }
    }

    #[test]
    fn tc_s2_equal_timeouts_are_inverted() {
        check_slack([(3, 1.0, 3.0); 3], [Some(-2.0), Some(-2.0)]);
    }

    #[test]
    fn tc_s3_timeouts_that_grow_towards_the_entry_are_not() {
        check_slack(
            [(3, 1.0, 3.0), (3, 0.3, 0.9), (3, 0.1, 0.3)],
            [Some(0.1), Some(0.0)],
        );
    }

    #[test]
    fn tc_t1_tries_and_waits_add_up() {
        let mut one = policy(3, 1.0, 10.0);
        one.backoff_base = Duration::from_millis(25);
        one.backoff_max = Duration::from_millis(250);
        let graph = chain(vec![one]);
        let bounds = ResponseBounds::of(&graph);
        assert_eq!(
            bounds.exchange(graph.edge(EdgeId(0))),
            Some(Duration::from_millis(3100))
        );
        assert_eq!(bounds.bound(NodeId(0)), Some(Duration::from_millis(3100)));
    }

    #[test]
    fn without_any_timeout_there_is_no_bound() {
        let mut open = policy(2, 1.0, 1.0);
        open.per_try = None;
        open.timeout = None;
        let graph = chain(vec![open]);
        let bounds = ResponseBounds::of(&graph);
        assert_eq!(bounds.bound(NodeId(0)), None);
        assert_eq!(bounds.bound(NodeId(1)), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_few_requests_make_is_whole_for_those() {
        for (per_request, seconds) in [(0.1, 2), (1.0, 2), (1.5, 4)] {
            let mut graph = chain(vec![]);
            let callee = graph.add_node(crate::analysis::call_graph::Node::default());
            let mut edge =
                crate::analysis::call_graph::tests::edge(NodeId(0), callee, policy(1, 2.0, 2.0));
            edge.per_request = per_request;
            graph.add_edge(edge);
            let bound = ResponseBounds::of(&graph).bound(NodeId(0));
            assert_eq!(bound, Some(Duration::from_secs(seconds)), "{per_request}");
        }
    }

    #[test]
    fn calls_at_once_take_as_long_as_the_longest() {
        let mut graph = chain(vec![policy(1, 1.0, 1.0)]);
        let callee = graph.add_node(crate::analysis::call_graph::Node::default());
        for seconds in [2.0, 3.0] {
            let mut edge = crate::analysis::call_graph::tests::edge(
                NodeId(0),
                callee,
                policy(1, seconds, seconds),
            );
            edge.parallel = true;
            edge.per_request = 5.0;
            graph.add_edge(edge);
        }
        assert_eq!(
            ResponseBounds::of(&graph).bound(NodeId(0)),
            Some(Duration::from_secs(4))
        );
    }
}
