//! What to expect when calls fail now and then, and how much load a service should carry (D3, D10).

use super::amplification::worst_policy;
use super::failure::Failure;
use crate::analysis::call_graph::{CallGraph, Edge, EdgeId, NodeId};

/// What to expect of one request while one service fails now and then, each call on its own (Wald).
/// Every declared call is made, also after another one has failed.
#[derive(Clone, Debug)]
pub struct Expectation {
    calls: Vec<Option<f64>>,
    client_failure: f64,
}

impl Expectation {
    /// One request at `entry` while each call to a service fails in a class, with this probability.
    pub fn of(
        graph: &CallGraph,
        entry: NodeId,
        (failing, class): (NodeId, Failure),
        rate: f64,
    ) -> Self {
        let topology = graph.topology();
        let mut reached = vec![false; graph.nodes().len()];
        let mut order = Vec::new();
        let mut waiting = vec![entry];
        while let Some(node) = waiting.pop() {
            if !topology.in_round[node.0] && !std::mem::replace(&mut reached[node.0], true) {
                order.push(node);
                waiting.extend(graph.leaving(node).map(|edge| edge.to));
            }
        }
        order.sort_unstable_by_key(|node| topology.position[node.0]);
        let mut fails = vec![0.0; graph.nodes().len()];
        let tries = |id: EdgeId, edge: &Edge| {
            let class = if edge.to == failing {
                class
            } else {
                class.upstream()
            };
            f64::from(worst_policy(graph.edge(id), class).0)
        };
        for node in &order {
            fails[node.0] = if *node == failing {
                rate
            } else {
                let succeeds = graph.leaving_ids(*node).map(|(id, edge)| {
                    let ends = client_failure(tries(id, edge), fails[edge.to.0]);
                    if edge.is_awaited() {
                        (1.0 - edge.share * ends).powf(edge.per_request)
                    } else {
                        1.0
                    }
                });
                1.0 - succeeds.product::<f64>()
            };
        }
        let mut calls = vec![None; graph.nodes().len()];
        calls[entry.0] = Some(1.0);
        for node in order.iter().rev().filter(|node| **node != entry) {
            let sum = graph.entering(*node).filter_map(|(id, edge)| {
                let made = calls[edge.from.0]? * edge.per_request * edge.share;
                Some(made * expected_calls(tries(id, edge), fails[node.0]))
            });
            calls[node.0] = Some(sum.sum());
        }
        Self {
            calls,
            client_failure: fails[entry.0],
        }
    }

    /// Expected calls at a service; none where the request never gets, or in or behind a round.
    pub fn calls(&self, node: NodeId) -> Option<f64> {
        self.calls.get(node.0).copied().flatten()
    }

    /// Requests from outside that fail.
    pub fn client_failure(&self) -> f64 {
        self.client_failure
    }
}

/// Calls to the last service for each request, when each fails with probability `failing` on its own
/// and `attempts` is the product over all hops.
pub fn expected_calls(attempts: f64, failing: f64) -> f64 {
    if failing >= 1.0 {
        attempts
    } else {
        (1.0 - failing.powf(attempts)) / (1.0 - failing)
    }
}

/// Requests that still fail after all attempts.
pub fn client_failure(attempts: f64, failing: f64) -> f64 {
    failing.powf(attempts)
}

/// How a service stands when retries set in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It carries all the retries.
    Stable,
    /// It carries its load, but a failure can leave it stuck under its retries.
    Vulnerable,
    /// It does not carry its load.
    Overloaded,
}

impl Load {
    /// The name used in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Vulnerable => "vulnerable",
            Self::Overloaded => "overloaded",
        }
    }
}

/// How a service with this load, capacity (both per second) and amplification stands.
pub fn load_state(load: f64, capacity: f64, amplification: f64) -> Load {
    if load >= capacity {
        Load::Overloaded
    } else if load * amplification > capacity {
        Load::Vulnerable
    } else {
        Load::Stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tc_e1_to_e7_expected_calls_of_a_chain_of_27() {
        for (failing, expected) in [
            (0.01, 1.010_101),
            (0.1, 1.111_111),
            (0.3, 1.428_571),
            (0.5, 2.0),
            (0.9, 9.418_503),
            (0.99, 23.765_729),
            (1.0, 27.0),
        ] {
            assert!(
                (expected_calls(27.0, failing) - expected).abs() < 1e-5,
                "{failing}"
            );
        }
    }

    #[test]
    fn the_product_telescopes() {
        // Hop by hop, as D3 writes it before it telescopes.
        let (mut calls, mut failing) = (1.0, 0.3_f64);
        for _ in 0..3 {
            calls *= (1.0 - failing.powi(3)) / (1.0 - failing);
            failing = failing.powi(3);
        }
        assert!((expected_calls(27.0, 0.3) - calls).abs() < 1e-9);
    }

    #[test]
    fn tc_e8_what_the_client_still_sees() {
        assert!((client_failure(27.0, 0.9) - 0.058_150).abs() < 1e-6);
    }

    #[test]
    fn tc_f10_a_split_divides_what_is_expected() {
        let worst = 27.0;
        let expected = [0.9, 0.1].map(|share: f64| share * worst);
        assert!((expected[0] - 24.3).abs() < 1e-9 && (expected[1] - 2.7).abs() < 1e-9);
    }

    #[test]
    fn tc_m1_a_service_that_retries_can_hold_down() {
        assert_eq!(load_state(300.0, 1000.0, 27.0), Load::Vulnerable);
        assert_eq!(load_state(37.03, 1000.0, 27.0), Load::Stable);
        assert_eq!(load_state(37.04, 1000.0, 27.0), Load::Vulnerable);
        assert_eq!(load_state(1000.0, 1000.0, 1.0), Load::Overloaded);
    }
}
