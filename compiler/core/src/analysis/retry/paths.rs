//! By how much retries multiply along single paths (D1, D2), over all entries at once: the product of
//! the tries of the hops that retry the failure in question. A product over a path says what no sum
//! over paths hides: a second, harmless way to a service does not make the first one harmless.

use super::amplification::{Hop, worst_policy};
use super::failure::Failure;
use super::windows::begun;
use crate::analysis::call_graph::{CallGraph, Edge, EdgeId, NodeId, Policy};

/// What fails, as paths tell failures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The last service fails at once in this way.
    Fast(Failure),
    /// It hangs.
    Slow,
    /// Something behind it hangs: it may answer late, or soon that it has given up.
    SlowBehind,
}

/// The greatest products of tries along paths, from any source to each service.
#[derive(Debug)]
pub struct Paths<'g> {
    graph: &'g CallGraph,
    classes: Vec<Failure>,
    /// Services, callers first, without those in rounds.
    order: Vec<NodeId>,
    in_scope: Vec<bool>,
    /// For each class, then for hangs, then for hangs behind the callee, the tries of each edge in scope and by which
    /// of its policies: changes are tried out many times, and these stay.
    tries: Vec<Vec<(u32, usize)>>,
    /// For each class the first one that every edge tries again as often, as an index of `classes`: its numbers are
    /// the same.
    like: Vec<usize>,
    /// Tries that edges are limited to, for trying out changes.
    limits: Vec<Option<u32>>,
    /// For each class what reaches a service that answers in this way, as an index of `classes`.
    fast: Vec<Vec<f64>>,
    /// What reaches a service that hangs, and one whose callees do.
    slow: Vec<f64>,
    slow_above: Vec<f64>,
}

/// The path on which retries multiply most.
#[derive(Clone, Debug, PartialEq)]
pub struct WorstPath {
    /// Where the request comes in.
    pub entry: NodeId,
    /// From there on.
    pub hops: Vec<Hop>,
    /// What fails.
    pub mode: Mode,
    /// The product of all tries.
    pub product: f64,
}

impl<'g> Paths<'g> {
    /// Over the whole graph. Paths lead around services that call each other in a round.
    pub fn of(graph: &'g CallGraph) -> Self {
        Self::within(graph, vec![true; graph.nodes().len()])
    }

    /// Over what leads to one service, for looking at it often.
    pub(super) fn to(graph: &'g CallGraph, target: NodeId) -> Self {
        let mut leads = vec![false; graph.nodes().len()];
        let mut waiting = vec![target];
        while let Some(node) = waiting.pop() {
            if !std::mem::replace(&mut leads[node.0], true) {
                waiting.extend(graph.entering(node).map(|(_, edge)| edge.from));
            }
        }
        Self::within(graph, leads)
    }

    fn within(graph: &'g CallGraph, in_scope: Vec<bool>) -> Self {
        let topology = graph.topology();
        let order = (topology.components.iter().rev().flatten())
            .filter(|node| in_scope[node.0] && !topology.in_round[node.0])
            .copied()
            .collect();
        let classes = Failure::classes(graph);
        let fast = classes.iter().map(|class| Mode::Fast(*class));
        let modes = fast.chain([Mode::Slow, Mode::SlowBehind]);
        let of_edges = |mode| {
            let of_edge = |id| {
                let edge = graph.edge(id);
                if in_scope[edge.from.0] && in_scope[edge.to.0] {
                    tries(edge, mode)
                } else {
                    (1, 0)
                }
            };
            graph.edges().map(of_edge).collect()
        };
        let tries: Vec<Vec<(u32, usize)>> = modes.map(of_edges).collect();
        // What becomes of them above is the same only among those with a status, and among those without.
        let has_status = |index: usize| classes[index].upstream() == classes[index];
        let is_like = |one: usize, two: usize| {
            let pairs = tries[one].iter().zip(&tries[two]);
            has_status(one) == has_status(two) && pairs.into_iter().all(|(one, two)| one.0 == two.0)
        };
        let first_like = |index| (0..index).find(|first| is_like(*first, index));
        let like = (0..classes.len()).map(|index| first_like(index).unwrap_or(index));
        let mut this = Self {
            graph,
            like: like.collect(),
            tries,
            classes,
            order,
            in_scope,
            limits: Vec::new(),
            fast: Vec::new(),
            slow: Vec::new(),
            slow_above: Vec::new(),
        };
        this.count();
        this
    }

    /// Limits edges to fewer tries, to see what that would do.
    pub fn limit(&mut self, limits: &[Option<u32>]) {
        limits.clone_into(&mut self.limits);
        self.count();
    }

    fn count(&mut self) {
        let nodes = self.graph.nodes().len();
        self.slow = vec![1.0; nodes];
        self.slow_above = vec![1.0; nodes];
        self.fast = vec![vec![1.0; nodes]; self.classes.len()];
        for node in &self.order {
            let above = |from: NodeId| self.slow_above[from.0];
            let slow = self.worst_into(*node, Mode::Slow, above);
            let slow_above = self.worst_into(*node, Mode::SlowBehind, above);
            self.slow[node.0] = slow;
            self.slow_above[node.0] = slow_above;
        }
        for index in 0..self.classes.len() {
            // What its callers make of a failure without a status has a status, and comes before.
            let mode = Mode::Fast(self.classes[index]);
            if self.like[index] == index && self.classes[index].upstream() == self.classes[index] {
                for node in &self.order {
                    let worst = self.worst_into(*node, mode, |from| self.fast[index][from.0]);
                    self.fast[index][node.0] = worst;
                }
            }
        }
        for index in 0..self.classes.len() {
            let class = self.classes[index];
            let Ok(above) = self.classes.binary_search(&class.upstream()) else {
                continue;
            };
            if above != index && self.like[index] == index {
                let above = self.like[above];
                let worst: Vec<(NodeId, f64)> = (self.order.iter())
                    .map(|node| {
                        let above = |from: NodeId| self.fast[above][from.0];
                        (*node, self.worst_into(*node, Mode::Fast(class), above))
                    })
                    .collect();
                for (node, worst) in worst {
                    self.fast[index][node.0] = worst;
                }
            }
        }
    }

    fn worst_into(&self, node: NodeId, mode: Mode, from: impl Fn(NodeId) -> f64) -> f64 {
        self.graph
            .entering(node)
            .filter(|(_, edge)| self.follows(edge.from))
            .map(|(id, edge)| from(edge.from) * f64::from(self.tries(id, mode).0))
            .fold(1.0, f64::max)
    }

    fn follows(&self, node: NodeId) -> bool {
        self.in_scope[node.0] && !self.graph.topology().in_round[node.0]
    }

    fn tries(&self, id: EdgeId, mode: Mode) -> (u32, usize) {
        let limit = self.limits.get(id.0).copied().flatten().unwrap_or(u32::MAX);
        let row = match mode {
            Mode::Fast(class) => self.classes.binary_search(&class).ok(),
            Mode::Slow => Some(self.classes.len()),
            Mode::SlowBehind => Some(self.classes.len() + 1),
        };
        let known = row.and_then(|row| self.tries.get(row)?.get(id.0).copied());
        let (tries, policy) = known.unwrap_or_else(|| tries(self.graph.edge(id), mode));
        (tries.min(limit), policy)
    }

    /// The greatest product at a service of all failures at once, with the failure. An upper bound,
    /// reached, of all entries.
    pub fn fast(&self, node: NodeId) -> (f64, Failure) {
        let mut worst = (1.0, Failure::USUAL);
        for (index, class) in self.classes.iter().enumerate() {
            let product = self.fast[self.like[index]][node.0];
            let is_usual = product >= worst.0 && *class == Failure::USUAL;
            if product > worst.0 || is_usual {
                worst = (product, *class);
            }
        }
        worst
    }

    /// The greatest product when the service hangs and no time limit of a caller above binds: an upper
    /// bound of [`super::SlowCalls`].
    pub fn slow(&self, node: NodeId) -> f64 {
        self.slow[node.0]
    }

    fn product(&self, node: NodeId, mode: Mode) -> f64 {
        match mode {
            Mode::Slow => self.slow[node.0],
            Mode::SlowBehind => self.slow_above[node.0],
            Mode::Fast(class) => {
                let index = self.classes.binary_search(&class);
                index.map_or(1.0, |index| self.fast[self.like[index]][node.0])
            }
        }
    }

    /// The path of the greatest product to a service that fails in this way.
    pub fn worst(&self, node: NodeId, mode: Mode) -> WorstPath {
        let product = self.product(node, mode);
        let mut hops = Vec::new();
        let (mut at, mut now) = (node, mode);
        loop {
            let above = match now {
                Mode::Slow | Mode::SlowBehind => Mode::SlowBehind,
                Mode::Fast(class) => Mode::Fast(class.upstream()),
            };
            let mut best: Option<(f64, Hop, NodeId)> = None;
            for (edge, calls) in self.graph.entering(at) {
                if !self.follows(calls.from) {
                    continue;
                }
                let (factor, policy) = self.tries(edge, now);
                let product = self.product(calls.from, above) * f64::from(factor);
                if best.as_ref().is_none_or(|best| product > best.0) {
                    let hop = Hop {
                        edge,
                        policy,
                        factor,
                    };
                    best = Some((product, hop, calls.from));
                }
            }
            let Some((_, hop, from)) = best else { break };
            hops.push(hop);
            (at, now) = (from, above);
        }
        hops.reverse();
        WorstPath {
            entry: at,
            hops,
            mode,
            product,
        }
    }
}

/// Tries that an edge makes, and by which of its policies.
fn tries(edge: &Edge, mode: Mode) -> (u32, usize) {
    match mode {
        Mode::Fast(class) => worst_policy(edge, class),
        Mode::Slow => slow_tries(edge, false),
        Mode::SlowBehind => slow_tries(edge, true),
    }
}

/// Tries that begin before the timeout when each takes as long as it may.
fn in_turn_and_beside(policy: &Policy) -> u32 {
    if policy.hedge.is_none() {
        return policy.usable_attempts();
    }
    begun(policy, policy.per_try.or(policy.timeout))
}

/// Tries that an edge makes when its callee hangs, or what is behind it does.
fn slow_tries(edge: &Edge, behind: bool) -> (u32, usize) {
    let mut worst = (1, 0);
    for (index, policy) in edge.policies.iter().enumerate() {
        let tries = if behind && Failure::Status(504).is_retried_by(policy) {
            // How soon the callee says that it has given up is not known here.
            policy.tries()
        } else if Failure::PerTryTimeout.is_retried_by(policy) {
            in_turn_and_beside(policy)
        } else {
            policy.hedged_tries()
        };
        if tries > worst.0 {
            worst = (tries, index);
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use mesh_bundle::slice::RetryCause;

    use super::*;
    use crate::analysis::call_graph::tests::{chain, edge, policy};

    fn factors(path: &WorstPath) -> Vec<u32> {
        path.hops.iter().map(|hop| hop.factor).collect()
    }

    #[test]
    fn a_harmless_way_beside_does_not_hide_a_storm() {
        let mut graph = chain(vec![policy(3, 1.0, 3.0); 3]);
        graph.add_edge(edge(NodeId(0), NodeId(3), policy(1, 1.0, 3.0)));
        let paths = Paths::of(&graph);
        let (product, class) = paths.fast(NodeId(3));
        assert!((product - 27.0).abs() < 1e-9);
        assert_eq!(class, Failure::USUAL);
        let worst = paths.worst(NodeId(3), Mode::Fast(class));
        assert_eq!((worst.entry, factors(&worst)), (NodeId(0), vec![3, 3, 3]));
    }

    #[test]
    fn tc_f7_only_those_who_retry_the_class_multiply() {
        let with = |cause| {
            let mut policy = policy(3, 1.0, 3.0);
            policy.causes = vec![cause];
            policy
        };
        let graph = chain(vec![
            with(RetryCause::ServerError),
            with(RetryCause::ConnectFailure),
            with(RetryCause::Status(503)),
        ]);
        let paths = Paths::of(&graph);
        let (product, class) = paths.fast(NodeId(3));
        assert!((product - 9.0).abs() < 1e-9);
        assert_eq!(
            factors(&paths.worst(NodeId(3), Mode::Fast(class))),
            [3, 1, 3]
        );
        assert!((paths.fast(NodeId(2)).0 - 9.0).abs() < 1e-9);
    }

    #[test]
    fn a_round_is_gone_around() {
        let mut graph = chain(vec![policy(3, 1.0, 3.0); 2]);
        let other = graph.add_node(crate::analysis::call_graph::Node::default());
        graph.add_edge(edge(NodeId(1), other, policy(5, 1.0, 9.0)));
        graph.add_edge(edge(other, NodeId(1), policy(5, 1.0, 9.0)));
        let paths = Paths::of(&graph);
        assert!((paths.fast(NodeId(2)).0 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_hang_is_bounded_by_what_fits() {
        let graph = chain(vec![policy(6, 16.0, 15.0), policy(3, 1.0, 2.0)]);
        let paths = Paths::of(&graph);
        assert!((paths.slow(NodeId(1)) - 1.0).abs() < 1e-9);
        // The first hop is told 504 after two seconds, and six tries fit into fifteen.
        assert!((paths.slow(NodeId(2)) - 12.0).abs() < 1e-9);
    }
}
