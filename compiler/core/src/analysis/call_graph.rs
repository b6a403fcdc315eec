//! Who calls whom, with what each edge may do to a failing call. Built from a linked mesh, or directly
//! by a test; it knows nothing of files but the spans it passes on.

use std::time::Duration;

use mesh_bundle::slice::RetryCause;
use mesh_syntax::Span;

mod build;

/// Index of a service in [`CallGraph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Index of an edge in [`CallGraph::edges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub usize);

/// Services and the calls between them.
#[derive(Clone, Debug, Default)]
pub struct CallGraph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// For each node the edges that leave it and those that enter it, ascending.
    leaving: Vec<Vec<EdgeId>>,
    entering: Vec<Vec<EdgeId>>,
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Time that it needs for a request itself, where declared.
    pub handling: Option<Duration>,
    /// Requests per second that it can take, where declared.
    pub capacity: Option<f64>,
    /// Requests per second on an ordinary day, where declared.
    pub load: Option<f64>,
    /// Where it is declared.
    pub span: Option<Span>,
}

/// Calls of one service to another.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Who calls.
    pub from: NodeId,
    /// Who is called.
    pub to: NodeId,
    /// Where the edge is known from.
    pub origin: Origin,
    /// Calls for each request handled; 1 where not declared.
    pub per_request: f64,
    /// How often a request makes the call at all, 0 to 1; 1 where not declared.
    pub share: f64,
    /// Whether the calls of one request are made at once, and not one after the other.
    pub parallel: bool,
    /// The policies that a call may meet, one for each route that it may take; at least one. A worst
    /// case takes the worst of them.
    pub policies: Vec<Policy>,
    /// Where the call is declared.
    pub span: Option<Span>,
}

/// Where an edge is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The caller says so.
    Declared,
    /// The callee would admit it, but nobody says that it happens.
    Permitted,
}

/// What a caller does with a call that fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name of the route.
    pub route: String,
    /// All calls, the first included; at least 1.
    pub attempts: u32,
    /// What is tried again.
    pub causes: Vec<RetryCause>,
    /// Longest time of one try; none: as long as the timeout.
    pub per_try: Option<Duration>,
    /// Longest time of all tries; none: no limit.
    pub timeout: Option<Duration>,
    /// First step of the back-off.
    pub backoff_base: Duration,
    /// Its cap.
    pub backoff_max: Duration,
    /// What bounds the share of retries.
    pub budget: Option<Budget>,
    /// Where `attempts` was set.
    pub attempts_span: Option<Span>,
    /// Where the time of a try was set: by itself, or as the timeout.
    pub limit_span: Option<Span>,
}

/// What bounds the share of retries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The share, 0 to 1.
    pub share: f64,
    /// Share of what.
    pub of: BudgetOf,
}

/// What a budget is a share of, and what it always allows each client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetOf {
    /// Of the requests that are not retries.
    Requests {
        /// Retries per second that are always allowed.
        min_per_second: f64,
    },
    /// Of the requests in flight, retries among them.
    Active {
        /// Retries at once that are always allowed.
        min_concurrent: f64,
    },
}

impl Policy {
    /// The time after which a try is given up, if ever.
    pub fn try_limit(&self) -> Option<Duration> {
        match (self.per_try, self.timeout) {
            (Some(per_try), Some(timeout)) => Some(per_try.min(timeout)),
            (limit, None) | (None, limit) => limit,
        }
    }

    /// Tries that can begin before the timeout when each takes as long as it may.
    pub fn usable_attempts(&self) -> u32 {
        match (self.per_try, self.timeout) {
            (_, None) => self.attempts,
            (None, Some(_)) => 1,
            (Some(per_try), Some(timeout)) => {
                let fitting = timeout.as_nanos().div_ceil(per_try.as_nanos().max(1));
                u32::try_from(fitting)
                    .unwrap_or(u32::MAX)
                    .clamp(1, self.attempts)
            }
        }
    }

    /// Tries that never begin when each takes as long as it may.
    pub fn dead_attempts(&self) -> u32 {
        self.attempts - self.usable_attempts()
    }

    /// The longest wait before all retries together, with full jitter at its worst.
    pub fn backoff_total(&self) -> Duration {
        let mut total = Duration::ZERO;
        for retry in 1..self.attempts {
            let steps = 1_u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
            let wait = self
                .backoff_base
                .saturating_mul(steps)
                .min(self.backoff_max);
            if wait == self.backoff_max {
                let left = self.attempts - retry;
                return total.saturating_add(wait.saturating_mul(left));
            }
            total = total.saturating_add(wait);
        }
        total
    }
}

impl CallGraph {
    /// A graph without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.leaving.push(Vec::new());
        self.entering.push(Vec::new());
        NodeId(self.nodes.len() - 1)
    }

    /// Adds calls between two services of this graph.
    pub fn add_edge(&mut self, edge: Edge) -> EdgeId {
        let id = EdgeId(self.edges.len());
        self.leaving[edge.from.0].push(id);
        self.entering[edge.to.0].push(id);
        self.edges.push(edge);
        id
    }

    /// Every service.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// Every edge.
    pub fn edges(&self) -> impl ExactSizeIterator<Item = EdgeId> + use<> {
        (0..self.edges.len()).map(EdgeId)
    }

    /// A service.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// An edge.
    pub fn edge(&self, id: EdgeId) -> &Edge {
        &self.edges[id.0]
    }

    /// The service of this name.
    pub fn named(&self, name: &str) -> Option<NodeId> {
        self.nodes().find(|id| self.node(*id).name == name)
    }

    /// Calls that a service makes.
    pub fn leaving(&self, id: NodeId) -> impl Iterator<Item = &Edge> {
        self.leaving[id.0].iter().map(|edge| self.edge(*edge))
    }

    /// Calls that a service gets, with their ids.
    pub fn entering(&self, id: NodeId) -> impl Iterator<Item = (EdgeId, &Edge)> {
        self.entering[id.0]
            .iter()
            .map(|edge| (*edge, self.edge(*edge)))
    }

    /// The same services, with only the edges that somebody declares.
    #[must_use]
    pub fn declared(&self) -> Self {
        let mut graph = Self::new();
        for node in &self.nodes {
            graph.add_node(node.clone());
        }
        for edge in self
            .edges
            .iter()
            .filter(|edge| edge.origin == Origin::Declared)
        {
            graph.add_edge(edge.clone());
        }
        graph
    }

    /// Where requests come from outside: services that nobody declares to call. Where callers only
    /// call each other, the first service by name of each such round stands for it.
    pub fn entries(&self) -> Vec<NodeId> {
        let graph = self.declared();
        let mut entries: Vec<NodeId> = graph
            .nodes()
            .filter(|id| graph.entering(*id).next().is_none())
            .collect();
        let mut reached = vec![false; graph.nodes.len()];
        for entry in &entries {
            graph.mark_reached(*entry, &mut reached);
        }
        for id in graph.nodes() {
            if !reached[id.0] {
                entries.push(id);
                graph.mark_reached(id, &mut reached);
            }
        }
        entries.sort_unstable();
        entries
    }

    fn mark_reached(&self, from: NodeId, reached: &mut [bool]) {
        let mut waiting = vec![from];
        while let Some(id) = waiting.pop() {
            if !std::mem::replace(&mut reached[id.0], true) {
                waiting.extend(self.leaving(id).map(|edge| edge.to));
            }
        }
    }

    /// Groups of services that call each other in a round, in ascending order; a service that calls
    /// itself is one.
    pub fn rounds(&self) -> Vec<Vec<NodeId>> {
        let mut rounds: Vec<Vec<NodeId>> = self
            .components()
            .into_iter()
            .filter(|nodes| self.is_round(nodes))
            .map(|mut nodes| {
                nodes.sort_unstable();
                nodes
            })
            .collect();
        rounds.sort_unstable();
        rounds
    }

    fn is_round(&self, nodes: &[NodeId]) -> bool {
        nodes.len() > 1
            || nodes
                .iter()
                .any(|id| self.leaving(*id).any(|edge| edge.to == *id))
    }

    /// Strongly connected components, callees before callers.
    pub fn components(&self) -> Vec<Vec<NodeId>> {
        let mut graph =
            petgraph::graph::DiGraph::<(), ()>::with_capacity(self.nodes.len(), self.edges.len());
        let indices: Vec<_> = self.nodes.iter().map(|_| graph.add_node(())).collect();
        for edge in &self.edges {
            graph.add_edge(indices[edge.from.0], indices[edge.to.0], ());
        }
        // Kosaraju's keeps its own stack, so that a chain of any length is fine.
        petgraph::algo::kosaraju_scc(&graph)
            .into_iter()
            .map(|nodes| nodes.into_iter().map(|node| NodeId(node.index())).collect())
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// All classes.
    pub(crate) const ALL: [RetryCause; 6] = [
        RetryCause::ConnectFailure,
        RetryCause::Refused,
        RetryCause::Reset,
        RetryCause::ResetBeforeRequest,
        RetryCause::PerTryTimeout,
        RetryCause::ServerError,
    ];

    pub(crate) fn policy(attempts: u32, per_try_s: f64, timeout_s: f64) -> Policy {
        Policy {
            route: "default".to_owned(),
            attempts,
            causes: ALL.to_vec(),
            per_try: Some(Duration::from_secs_f64(per_try_s)),
            timeout: Some(Duration::from_secs_f64(timeout_s)),
            backoff_base: Duration::ZERO,
            backoff_max: Duration::ZERO,
            budget: None,
            attempts_span: None,
            limit_span: None,
        }
    }

    pub(crate) fn edge(from: NodeId, to: NodeId, policy: Policy) -> Edge {
        Edge {
            from,
            to,
            origin: Origin::Declared,
            per_request: 1.0,
            share: 1.0,
            parallel: false,
            policies: vec![policy],
            span: None,
        }
    }

    /// A chain of services `s`, `a`, `b`, …
    pub(crate) fn chain(policies: Vec<Policy>) -> CallGraph {
        let mut graph = CallGraph::new();
        let named = |name: &str| Node {
            name: name.to_owned(),
            ..Node::default()
        };
        let mut from = graph.add_node(named("s"));
        for (policy, name) in policies.into_iter().zip(["a", "b", "c", "d", "e"]) {
            let to = graph.add_node(named(name));
            graph.add_edge(edge(from, to, policy));
            from = to;
        }
        graph
    }

    #[test]
    fn tc_s1_a_third_try_of_a_second_does_not_fit_in_two() {
        let policy = policy(3, 1.0, 2.0);
        assert_eq!((policy.usable_attempts(), policy.dead_attempts()), (2, 1));
    }

    #[test]
    fn tc_s6_a_try_longer_than_the_timeout_leaves_one() {
        assert_eq!(policy(6, 16.0, 15.0).dead_attempts(), 5);
    }

    #[test]
    fn back_off_grows_to_its_cap() {
        let policy = |attempts| Policy {
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            ..policy(attempts, 1.0, 1.0)
        };
        let millis = |attempts| policy(attempts).backoff_total().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6].map(millis), [0, 25, 100, 275, 525, 775]);
        assert!(policy(u32::MAX).backoff_total() > Duration::from_secs(1_000_000_000));
    }

    #[test]
    fn a_round_that_nobody_enters_has_an_entry() {
        let mut graph = chain(vec![policy(1, 1.0, 1.0); 2]);
        assert_eq!(graph.entries(), [NodeId(0)]);
        assert!(graph.rounds().is_empty());
        graph.add_edge(edge(NodeId(2), NodeId(0), policy(1, 1.0, 1.0)));
        assert_eq!(graph.entries(), [NodeId(0)]);
        assert_eq!(graph.rounds(), [[NodeId(0), NodeId(1), NodeId(2)]]);
    }
}
