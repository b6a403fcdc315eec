//! Services that call each other in a round: every retry on the way multiplies the next time around
//! (D9).

use super::budget::alpha;
use crate::analysis::call_graph::{CallGraph, Edge, NodeId, Origin, Policy};

/// Steps of the power iteration; it stops earlier once the result stands still.
const STEPS_MAX: usize = 1_000;

/// Powers that are summed up; they shrink by the spectral radius each.
const WAVES_MAX: usize = 10_000;

/// A group of services that call each other in a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The services, ascending.
    pub services: Vec<NodeId>,
    /// Calls that come back for one call once around.
    pub gain: f64,
    /// The largest eigenvalue of the calls from each to each; below 1 the calls die out.
    pub spectral_radius: f64,
    /// Where it is entered, and what one request that comes in there becomes: calls to each of the services, the
    /// request itself included, on average. Empty where they never end.
    pub calls: Vec<(NodeId, Vec<f64>)>,
    /// Whether somebody on the way tries again.
    pub retried: bool,
    /// Whether all of it is declared; otherwise it may be that nobody calls so.
    pub declared: bool,
}

impl Round {
    /// Whether the calls of one request come to an end, on average.
    pub fn is_bounded(&self) -> bool {
        self.spectral_radius < 1.0
    }
}

/// Every round of the graph, in ascending order of services.
pub fn rounds(graph: &CallGraph) -> Vec<Round> {
    graph
        .rounds()
        .iter()
        .map(|services| round(graph, services.clone()))
        .collect()
}

fn round(graph: &CallGraph, services: Vec<NodeId>) -> Round {
    let inside: Vec<&Edge> = services
        .iter()
        .flat_map(|node| graph.leaving(*node))
        .filter(|edge| services.contains(&edge.to))
        .collect();
    let spectral_radius = spectral_radius(graph, &services, &inside);
    let is_simple = inside.len() == services.len();
    let gain = if is_simple {
        inside.iter().map(|edge| calls(graph, edge)).product()
    } else {
        spectral_radius.powf(as_number(services.len()))
    };
    let calls = if spectral_radius < 1.0 {
        let entered = entered(graph, &services);
        let of = |entry: NodeId| Some((entry, sums(graph, &services, &inside, entry)?));
        entered.into_iter().filter_map(of).collect()
    } else {
        Vec::new()
    };
    Round {
        gain,
        calls,
        spectral_radius,
        retried: inside
            .iter()
            .any(|edge| edge.policies.iter().any(|policy| policy.tries() > 1)),
        declared: inside.iter().all(|edge| edge.origin() == Origin::Declared),
        services,
    }
}

/// The services of a round that somebody outside of it calls; all of them where nobody does.
fn entered(graph: &CallGraph, services: &[NodeId]) -> Vec<NodeId> {
    let from_outside = |node: &NodeId| {
        let mut entering = graph.entering(*node);
        entering.any(|(_, edge)| !services.contains(&edge.from))
    };
    let entered: Vec<NodeId> = services.iter().copied().filter(from_outside).collect();
    if entered.is_empty() {
        services.to_vec()
    } else {
        entered
    }
}

/// `W = (I - M)^-1 e_s` as the sum of the powers of M, which the spectral radius below 1 makes settle; none
/// where it is so near to 1 that they do not within the bound.
fn sums(
    graph: &CallGraph,
    services: &[NodeId],
    inside: &[&Edge],
    entry: NodeId,
) -> Option<Vec<f64>> {
    let position = |node: NodeId| services.binary_search(&node).ok();
    let mut wave = vec![0.0_f64; services.len()];
    *wave.get_mut(position(entry)?)? = 1.0;
    let mut sums = wave.clone();
    for _ in 0..WAVES_MAX {
        let mut next = vec![0.0_f64; services.len()];
        for edge in inside {
            let (from, to) = (position(edge.from)?, position(edge.to)?);
            next[to] += wave[from] * calls(graph, edge);
        }
        for (sum, calls) in sums.iter_mut().zip(&next) {
            *sum += calls;
        }
        let left = next.iter().copied().fold(0.0, f64::max);
        wave = next;
        if left < 1e-12 {
            return Some(sums);
        }
    }
    None
}

/// Calls for each request handled, tries included, as far as budgets let them.
fn calls(graph: &CallGraph, edge: &Edge) -> f64 {
    edge.per_request * edge.share * alpha(graph, edge, Policy::tries)
}

/// By power iteration on M + I, which has the same vectors, and no period that could keep it from
/// settling.
fn spectral_radius(graph: &CallGraph, services: &[NodeId], edges: &[&Edge]) -> f64 {
    let position = |node: NodeId| services.binary_search(&node).ok();
    let entries: Vec<(usize, usize, f64)> = edges
        .iter()
        .filter_map(|edge| Some((position(edge.from)?, position(edge.to)?, calls(graph, edge))))
        .collect();
    let mut vector = vec![1.0_f64; services.len()];
    let mut radius = 0.0;
    for _ in 0..STEPS_MAX {
        let mut next = vector.clone();
        for (from, to, calls) in &entries {
            next[*to] += vector[*from] * calls;
        }
        let norm = next.iter().copied().fold(0.0, f64::max);
        if !norm.is_finite() || norm <= 0.0 {
            return f64::INFINITY;
        }
        let settled = (norm - 1.0 - radius).abs() < 1e-12 * norm;
        radius = norm - 1.0;
        vector = next.into_iter().map(|value| value / norm).collect();
        if settled {
            break;
        }
    }
    radius
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mesh has far fewer services than 2^52"
)]
fn as_number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::tests::{chain, edge, policy};
    use crate::analysis::call_graph::{Budget, BudgetOf};

    fn there_and_back(attempts: u32, share: f64, budget: Option<f64>) -> Round {
        let with_budget = || {
            let mut policy = policy(attempts, 1.0, 3.0);
            let of = BudgetOf::Requests {
                min_per_second: 0.0,
            };
            policy.budget = budget.map(|share| Budget { share, of });
            policy
        };
        let mut graph = chain(vec![with_budget()]);
        let mut back = edge(NodeId(1), NodeId(0), with_budget());
        back.share = share;
        graph.add_edge(back);
        rounds(&graph).remove(0)
    }

    #[test]
    fn tc_c2_retries_both_ways_never_end() {
        let round = there_and_back(3, 0.5, None);
        assert!((round.gain - 4.5).abs() < 1e-9);
        assert!((round.spectral_radius - 4.5_f64.sqrt()).abs() < 1e-6);
        assert!(!round.is_bounded() && round.retried && round.declared);
        assert!(round.calls.is_empty(), "there is no end to count to");
    }

    #[test]
    fn budgets_and_a_small_share_end_it() {
        let round = there_and_back(3, 0.5, Some(0.2));
        assert!((round.gain - 0.72).abs() < 1e-9);
        assert!((round.spectral_radius - 0.8485).abs() < 1e-4);
        assert!(round.is_bounded());
        // Nobody calls in from outside, so either may be the entry: 1/(1-0.72), and 1.2 or 0.6 times that.
        let [(NodeId(0), first), (NodeId(1), second)] = round.calls.as_slice() else {
            panic!("{:?}", round.calls);
        };
        let near = |calls: &[f64], expected: [f64; 2]| {
            calls
                .iter()
                .zip(expected)
                .all(|(calls, expected)| (calls - expected).abs() < 1e-9)
        };
        let all = 1.0 / 0.28;
        assert!(near(first, [all, 1.2 * all]), "{first:?}");
        assert!(near(second, [0.6 * all, all]), "{second:?}");
    }

    #[test]
    fn a_round_without_retries_or_shares_gains_nothing_and_never_ends() {
        let round = there_and_back(1, 1.0, None);
        assert!((round.spectral_radius - 1.0).abs() < 1e-9);
        assert!(!round.retried && !round.is_bounded());
    }

    #[test]
    fn two_rounds_through_one_service_add_up() {
        let mut graph = chain(vec![policy(1, 1.0, 1.0); 2]);
        graph.add_edge(edge(NodeId(1), NodeId(0), policy(1, 1.0, 1.0)));
        graph.add_edge(edge(NodeId(2), NodeId(1), policy(1, 1.0, 1.0)));
        let round = rounds(&graph).remove(0);
        assert!((round.spectral_radius - 2.0_f64.sqrt()).abs() < 1e-6);
    }
}
