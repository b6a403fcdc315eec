//! Calls that one request from outside causes when a service fails at once (D1, D2, D4): time limits
//! do not bind, and every layer of retries multiplies the ones before it.

use super::budget::alpha;
use super::failure::Failure;
use crate::analysis::call_graph::{CallGraph, Edge, EdgeId, NodeId, NodeKind};

/// What one request that enters at one service can cause.
#[derive(Debug)]
pub struct Amplification<'g> {
    graph: &'g CallGraph,
    entry: NodeId,
    /// The only edge by which the request leaves its entry; none: all of them.
    first: Option<EdgeId>,
    classes: Vec<Failure>,
    /// Services that the entry reaches, callers first, without those in or behind a round.
    order: Vec<NodeId>,
    /// For each service and class, the calls; zero where it is not reached.
    calls: Vec<Vec<f64>>,
    /// For each service the calls when nothing fails.
    healthy: Vec<f64>,
}

/// The worst that one request can cause at one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Calls.
    pub calls: f64,
    /// Calls when nothing fails.
    pub healthy: f64,
    /// Calls per call when nothing fails: what retries alone do.
    pub amplification: f64,
    /// The same when every budget on the way holds.
    pub budgeted: f64,
    /// The class of failure that does it.
    pub class: Failure,
    /// The path that contributes most, from the entry.
    pub path: Vec<Hop>,
}

/// One edge of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hop {
    /// The edge.
    pub edge: EdgeId,
    /// Which of its policies, as an index.
    pub policy: usize,
    /// Attempts for the class at hand.
    pub factor: u32,
}

/// A source, and the one edge by which a request leaves it, where it takes only one.
pub type Way = (NodeId, Option<EdgeId>);

/// Ways by which a request enters at a source: of a gateway's calls it makes one, of a service's all.
pub fn ways(graph: &CallGraph, source: NodeId) -> Vec<Way> {
    match graph.node(source).kind {
        NodeKind::Gateway => graph
            .leaving_ids(source)
            .map(|(id, _)| (source, Some(id)))
            .collect(),
        _ => vec![(source, None)],
    }
}

/// Steps of the search for paths.
const STEPS_MAX: usize = 10_000;

/// The end of a path, and the most that any beginning makes of it.
struct Partial {
    bound: f64,
    calls: f64,
    at: NodeId,
    hops: Vec<Hop>,
}

impl Ord for Partial {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Of equals the shorter and first: the order of a heap is not that of its pushes.
        let tie = || {
            let edges =
                |partial: &Self| partial.hops.iter().map(|hop| hop.edge).collect::<Vec<_>>();
            other
                .hops
                .len()
                .cmp(&self.hops.len())
                .then_with(|| edges(other).cmp(&edges(self)))
        };
        self.bound.total_cmp(&other.bound).then_with(tie)
    }
}

impl PartialOrd for Partial {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Partial {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Partial {}

impl<'g> Amplification<'g> {
    /// Follows one request that enters at `entry`. Services in or behind a round have no number: see
    /// [`super::rounds()`].
    pub fn from(graph: &'g CallGraph, entry: NodeId) -> Self {
        Self::through(graph, entry, None)
    }

    /// The same for a request that leaves its entry by one edge only, as one that comes to a gateway
    /// does.
    pub fn through(graph: &'g CallGraph, entry: NodeId, first: Option<EdgeId>) -> Self {
        let mut this = Self {
            graph,
            entry,
            first,
            classes: Failure::classes(graph),
            order: order(graph, entry, first),
            calls: Vec::new(),
            healthy: Vec::new(),
        };
        this.healthy = this.chained(|_, _, _| 1.0);
        this.count();
        this
    }

    fn count(&mut self) {
        self.calls = vec![Vec::new(); self.graph.nodes().len()];
        self.calls[self.entry.0] = vec![1.0; self.classes.len()];
        for index in 1..self.order.len() {
            let node = self.order[index];
            self.calls[node.0] = self
                .classes
                .iter()
                .map(|class| self.sum(node, *class))
                .collect();
        }
    }

    /// Where the request enters.
    pub fn entry(&self) -> NodeId {
        self.entry
    }

    /// The most calls at one service, whatever the class.
    pub fn calls(&self, node: NodeId) -> Option<f64> {
        self.calls.get(node.0)?.iter().copied().reduce(f64::max)
    }

    /// Calls over one edge before its own tries multiply, when its callee fails in this way.
    pub fn calls_into(&self, id: EdgeId, class: Failure) -> f64 {
        let edge = self.graph.edge(id);
        self.calls_at(edge.from, class.upstream()) * edge.per_request
    }

    /// The paths that contribute most to the calls at one service that fails in this way, with what
    /// they contribute.
    pub fn top_paths(&self, node: NodeId, class: Failure, count: usize) -> Vec<(Vec<Hop>, f64)> {
        let most = self.chained_most(class);
        let mut open = std::collections::BinaryHeap::from([Partial {
            bound: f64::INFINITY,
            calls: 1.0,
            at: node,
            hops: Vec::new(),
        }]);
        let mut found = Vec::new();
        let mut steps = 0_usize;
        while let Some(partial) = open.pop() {
            steps += 1;
            if partial.at == self.entry {
                let mut hops = partial.hops;
                hops.reverse();
                found.push((hops, partial.calls));
                if found.len() == count {
                    break;
                }
                continue;
            }
            if steps > STEPS_MAX {
                break;
            }
            // Above the failing service its failure has become a status.
            let class = if partial.hops.is_empty() {
                class
            } else {
                class.upstream()
            };
            for (id, edge) in self.entering(partial.at) {
                let (factor, policy) = self.attempts(id, class);
                let calls = partial.calls * edge.per_request * f64::from(factor);
                let bound = calls * most[edge.from.0];
                if bound > 0.0 {
                    let mut hops = partial.hops.clone();
                    hops.push(Hop {
                        edge: id,
                        policy,
                        factor,
                    });
                    open.push(Partial {
                        bound,
                        calls,
                        at: edge.from,
                        hops,
                    });
                }
            }
        }
        found
    }

    /// The most that one path brings to each service whose callees answer with what `class` becomes.
    fn chained_most(&self, class: Failure) -> Vec<f64> {
        let above = class.upstream();
        let mut most = vec![0.0_f64; self.graph.nodes().len()];
        most[self.entry.0] = 1.0;
        for at in self.order.iter().skip(1) {
            for (id, edge) in self.entering(*at) {
                let tries = f64::from(self.attempts(id, above).0);
                most[at.0] = most[at.0].max(most[edge.from.0] * edge.per_request * tries);
            }
        }
        most
    }

    /// Services that the request reaches, callers first.
    pub fn reached(&self) -> &[NodeId] {
        &self.order
    }

    /// The worst at one service; none where the request never gets, or in or behind a round.
    pub fn worst(&self, node: NodeId) -> Option<Worst> {
        let healthy = self
            .healthy
            .get(node.0)
            .copied()
            .filter(|calls| *calls > 0.0)?;
        let calls = &self.calls[node.0];
        // Of equals the one that people meet most, else the first.
        let (class, calls) = (self.classes.iter().zip(calls)).fold(
            (Failure::ConnectFailure, 0.0),
            |worst, (class, calls)| {
                let is_usual = *calls >= worst.1 && *class == Failure::USUAL;
                if *calls > worst.1 || is_usual {
                    (*class, *calls)
                } else {
                    worst
                }
            },
        );
        let budgeted = self.in_class(node, class, |this, id, class| {
            alpha(this.graph, this.graph.edge(id), |policy| {
                class.tries(policy)
            })
        });
        Some(Worst {
            calls,
            healthy,
            amplification: calls / healthy,
            budgeted: budgeted / healthy,
            class,
            path: self.path(node, class),
        })
    }

    /// Calls that a service gets from this request's way.
    fn entering(&self, node: NodeId) -> impl Iterator<Item = (EdgeId, &'g Edge)> {
        let (entry, first) = (self.entry, self.first);
        self.graph
            .entering(node)
            .filter(move |(id, edge)| is_taken((*id, edge), entry, first))
    }

    /// Attempts that an edge makes when its callee fails in this way, with the policy that says so.
    fn attempts(&self, id: EdgeId, class: Failure) -> (u32, usize) {
        worst_policy(self.graph.edge(id), class)
    }

    fn sum(&self, node: NodeId, class: Failure) -> f64 {
        self.entering(node)
            .map(|(id, edge)| {
                self.calls_at(edge.from, class.upstream())
                    * edge.per_request
                    * f64::from(self.attempts(id, class).0)
            })
            .sum()
    }

    fn calls_at(&self, node: NodeId, class: Failure) -> f64 {
        let index = self.classes.binary_search(&class).ok();
        index
            .and_then(|index| self.calls[node.0].get(index))
            .copied()
            .unwrap_or(0.0)
    }

    /// Calls at each service with a factor of one's own for each edge, whatever the class.
    fn chained(&self, factor: impl Fn(&Self, EdgeId, &Edge) -> f64) -> Vec<f64> {
        let mut calls = vec![0.0; self.graph.nodes().len()];
        calls[self.entry.0] = 1.0;
        for at in self.order.iter().skip(1) {
            calls[at.0] = self
                .entering(*at)
                .map(|(id, edge)| calls[edge.from.0] * edge.per_request * factor(self, id, edge))
                .sum();
        }
        calls
    }

    /// Calls at a service that fails in one way, with a factor of one's own.
    fn in_class(
        &self,
        node: NodeId,
        class: Failure,
        factor: impl Fn(&Self, EdgeId, Failure) -> f64 + Copy,
    ) -> f64 {
        // Above the failing service its failure has become a status and stays one.
        let above = class.upstream();
        let callers = |this: &Self, id: EdgeId, edge: &Edge| {
            let class = if edge.to == node { class } else { above };
            factor(this, id, class)
        };
        self.chained(callers)[node.0]
    }

    fn path(&self, node: NodeId, class: Failure) -> Vec<Hop> {
        let mut path = Vec::new();
        let (mut at, mut class) = (node, class);
        while at != self.entry {
            let mut best: Option<(f64, EdgeId, NodeId)> = None;
            for (id, edge) in self.entering(at) {
                let attempts = f64::from(self.attempts(id, class).0);
                let calls =
                    self.calls_at(edge.from, class.upstream()) * edge.per_request * attempts;
                if calls > best.map_or(0.0, |best| best.0) {
                    best = Some((calls, id, edge.from));
                }
            }
            let Some((_, edge, from)) = best else { break };
            let (factor, policy) = self.attempts(edge, class);
            path.push(Hop {
                edge,
                policy,
                factor,
            });
            (at, class) = (from, class.upstream());
        }
        path.reverse();
        path
    }
}

/// Tries that an edge makes when its callee fails in this way, with the policy that says so.
pub(super) fn worst_policy(edge: &Edge, class: Failure) -> (u32, usize) {
    let mut worst = (1, 0);
    for (index, policy) in edge.policies.iter().enumerate() {
        let tries = class.tries(policy);
        if tries > worst.0 {
            worst = (tries, index);
        }
    }
    worst
}

/// Whether a request that enters at `entry` can take an edge.
fn is_taken((id, edge): (EdgeId, &Edge), entry: NodeId, first: Option<EdgeId>) -> bool {
    edge.from != entry || first.is_none_or(|first| first == id)
}

/// Services that `entry` reaches, callers before callees, without those in or behind a round.
fn order(graph: &CallGraph, entry: NodeId, first: Option<EdgeId>) -> Vec<NodeId> {
    let topology = graph.topology();
    let mut reached = vec![false; graph.nodes().len()];
    let mut order = Vec::new();
    let mut waiting = vec![entry];
    while let Some(node) = waiting.pop() {
        if !std::mem::replace(&mut reached[node.0], true) {
            order.push(node);
            let taken = graph
                .leaving_ids(node)
                .filter(|(id, edge)| is_taken((*id, edge), entry, first));
            waiting.extend(taken.map(|(_, edge)| edge.to));
        }
    }
    // Components that call each other have neighbouring positions, callees before callers.
    order.sort_unstable_by_key(|node| std::cmp::Reverse(topology.position[node.0]));
    let mut behind = topology.in_round.clone();
    for node in &order {
        let after_round = |edge: &Edge| reached[edge.from.0] && behind[edge.from.0];
        behind[node.0] |= graph.entering(*node).any(|(_, edge)| after_round(edge));
    }
    order.retain(|node| !behind[node.0] || *node == entry);
    // An entry in a round is not the first by position.
    order.sort_by_key(|node| *node != entry);
    order
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::RetryCause;

    use super::*;
    use crate::analysis::call_graph::tests::{chain, edge, policy};
    use crate::analysis::call_graph::{Budget, BudgetOf};

    fn worst(graph: &CallGraph, name: &str) -> Worst {
        let node = graph.named(name).unwrap();
        Amplification::from(graph, NodeId(0)).worst(node).unwrap()
    }

    #[track_caller]
    fn check(graph: &CallGraph, expected: &[(&str, f64)]) {
        for (name, calls) in expected {
            assert!(
                (worst(graph, name).calls - calls).abs() < 1e-9,
                "{name}: {:?}",
                worst(graph, name)
            );
        }
    }

    #[test]
    fn tc_f1_three_tries_over_three_hops() {
        let graph = chain(vec![policy(3, 1.0, 3.0); 3]);
        check(&graph, &[("s", 1.0), ("a", 3.0), ("b", 9.0), ("c", 27.0)]);
        let c = worst(&graph, "c");
        assert_eq!(
            c.path.iter().map(|hop| hop.factor).collect::<Vec<_>>(),
            [3, 3, 3]
        );
        assert!((100.0 / c.amplification - 3.70).abs() < 0.01);
    }

    #[test]
    fn tc_f2_f3_what_others_mean_by_three_and_by_default() {
        check(&chain(vec![policy(4, 1.0, 3.0); 3]), &[("c", 64.0)]);
        check(&chain(vec![policy(6, 1.0, 3.0); 3]), &[("c", 216.0)]);
    }

    #[test]
    fn tc_f5_fan_out_multiplies_but_is_not_amplification() {
        let mut graph = CallGraph::new();
        let base = chain(vec![policy(3, 1.0, 3.0); 3]);
        for node in base.nodes() {
            graph.add_node(base.node(node).clone());
        }
        for id in base.edges() {
            let mut edge = base.edge(id).clone();
            edge.per_request = if edge.from == NodeId(1) { 2.0 } else { 1.0 };
            graph.add_edge(edge);
        }
        check(&graph, &[("b", 18.0), ("c", 54.0)]);
        assert!((worst(&graph, "c").amplification - 27.0).abs() < 1e-9);
    }

    #[test]
    fn tc_f7_only_those_who_retry_the_class_count() {
        let with = |causes: &[RetryCause]| {
            let mut policy = policy(3, 1.0, 3.0);
            policy.causes = causes.to_vec();
            policy
        };
        let graph = chain(vec![
            with(&[RetryCause::ServerError]),
            with(&[RetryCause::ConnectFailure]),
            with(&[RetryCause::Status(503)]),
        ]);
        let c = worst(&graph, "c");
        assert!((c.calls - 9.0).abs() < 1e-9);
        assert_eq!(c.class, Failure::Status(503));
        assert_eq!(
            c.path.iter().map(|hop| hop.factor).collect::<Vec<_>>(),
            [3, 1, 3]
        );
    }

    #[test]
    fn a_failure_without_a_status_becomes_one_above() {
        let with = |cause| {
            let mut policy = policy(3, 1.0, 3.0);
            policy.causes = vec![cause];
            policy
        };
        let graph = chain(vec![
            with(RetryCause::Gateway),
            with(RetryCause::ConnectFailure),
        ]);
        let b = worst(&graph, "b");
        assert!((b.calls - 9.0).abs() < 1e-9);
        assert_eq!(b.class, Failure::ConnectFailure);
        let stops = chain(vec![
            with(RetryCause::ConnectFailure),
            with(RetryCause::ConnectFailure),
        ]);
        check(&stops, &[("b", 3.0)]);
    }

    #[test]
    fn tc_b1_b2_budgets_bound_each_hop() {
        let with = |of, hops| {
            let mut policy = policy(3, 1.0, 3.0);
            policy.budget = Some(Budget { share: 0.2, of });
            chain(vec![policy; hops])
        };
        let requests = BudgetOf::Requests {
            min_per_second: 5.0,
        };
        let active = BudgetOf::Active {
            min_concurrent: 3.0,
        };
        for (graph, name, expected) in [
            (with(requests, 1), "a", 1.2),
            (with(requests, 3), "c", 1.728),
            (with(active, 1), "a", 1.25),
            (with(active, 3), "c", 1.953_125),
        ] {
            assert!((worst(&graph, name).budgeted - expected).abs() < 1e-9);
        }
        check(&with(requests, 3), &[("c", 27.0)]);
    }

    #[test]
    fn a_hang_is_no_failure_at_once() {
        let mut slow = policy(6, 1.0, 15.0);
        slow.causes = vec![RetryCause::PerTryTimeout];
        check(&chain(vec![slow]), &[("a", 1.0)]);
    }

    #[test]
    fn hedging_and_retrying_share_their_tries() {
        let mut hedged = policy(3, 1.0, 15.0);
        let hedge = |attempts| {
            let delay = std::time::Duration::from_millis(100);
            Some(crate::analysis::call_graph::Hedge { delay, attempts })
        };
        hedged.hedge = hedge(2);
        check(&chain(vec![hedged.clone()]), &[("a", 3.0)]);
        hedged.hedge = hedge(4);
        check(&chain(vec![hedged]), &[("a", 4.0)]);
    }

    #[test]
    fn two_ways_to_a_service_add_up() {
        let mut graph = chain(vec![policy(2, 1.0, 3.0); 2]);
        graph.add_edge(edge(NodeId(0), NodeId(2), policy(3, 1.0, 3.0)));
        let b = worst(&graph, "b");
        assert!((b.calls - 7.0).abs() < 1e-9);
        assert!((b.healthy - 2.0).abs() < 1e-9);
        assert_eq!(b.path.len(), 2);
    }

    #[test]
    fn a_request_to_a_gateway_takes_one_of_its_ways() {
        let mut graph = chain(vec![policy(2, 1.0, 3.0); 2]);
        let other = graph.add_node(crate::analysis::call_graph::Node::default());
        let first = graph.add_edge(edge(NodeId(0), other, policy(3, 1.0, 3.0)));
        graph.add_edge(edge(other, NodeId(2), policy(3, 1.0, 3.0)));
        let calls = |first| Amplification::through(&graph, NodeId(0), first).calls(NodeId(2));
        assert_eq!(calls(Some(first)), Some(9.0));
        assert_eq!(calls(None), Some(13.0));
    }

    #[test]
    fn what_is_in_or_behind_a_round_has_no_number() {
        let mut graph = chain(vec![policy(2, 1.0, 3.0); 4]);
        graph.add_edge(edge(NodeId(2), NodeId(1), policy(2, 1.0, 3.0)));
        let from = Amplification::from(&graph, NodeId(0));
        assert_eq!(from.reached(), [NodeId(0)]);
        assert_eq!(from.worst(NodeId(3)), None);
        assert!(from.worst(NodeId(0)).is_some());
    }
}
