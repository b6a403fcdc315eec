//! Who calls whom, with what each edge may do to a failing call. Built from a linked mesh, or directly
//! by a test; it knows nothing of files but the spans it passes on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_syntax::Span;

mod build;
mod passage;
mod policy;
mod topology;

pub use policy::{Branch, Budget, BudgetOf, Hedge, Policy};
pub use topology::Topology;

/// Index of a service in [`CallGraph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Index of an edge in [`CallGraph::edges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub usize);

/// Services and the calls between them.
#[derive(Clone, Debug, Default)]
pub struct CallGraph {
    /// Shared with the graphs that are parts of this one.
    nodes: Vec<Arc<Node>>,
    edges: Vec<Arc<Edge>>,
    /// For each node the edges that leave it and those that enter it, ascending.
    leaving: Vec<Vec<EdgeId>>,
    entering: Vec<Vec<EdgeId>>,
    /// Computed when first asked for; forgotten when the graph grows.
    topology: OnceLock<Topology>,
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Instances, where declared.
    pub replicas: Option<f64>,
    /// Time that it needs for a request itself, where declared.
    pub handling: Option<Duration>,
    /// Requests per second that it can take, where declared.
    pub capacity: Option<f64>,
    /// Requests per second on an ordinary day, where declared.
    pub load: Option<f64>,
    /// Where it is declared.
    pub span: Option<Span>,
}

/// What a node of the graph is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeKind {
    /// A service of the mesh.
    #[default]
    Service,
    /// A gateway: where requests come in from outside.
    Gateway,
    /// A service outside of the mesh, which calls nobody in it.
    External,
    /// Something asked on the way: an authorizer.
    Side,
}

/// Calls of one service to another.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Who calls.
    pub from: NodeId,
    /// Who is called.
    pub to: NodeId,
    /// Where the edge is known from.
    pub provenance: Provenance,
    /// What the calls are for.
    pub purpose: Purpose,
    /// Calls for each request handled; 1 where not declared.
    pub per_request: f64,
    /// How often a request makes the call at all, 0 to 1; 1 where not declared.
    pub share: f64,
    /// Whether the calls of one request are made at once, and not one after the other.
    pub parallel: bool,
    /// Requests per second, where measured.
    pub rate: Option<f64>,
    /// The policies that a call may meet, one for each route that it may take; at least one. A worst
    /// case takes the worst of them.
    pub policies: Vec<Policy>,
    /// Where the call is declared.
    pub span: Option<Span>,
}

/// Where an edge is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The caller says so.
    pub declared: bool,
    /// A route leads there.
    pub routed: bool,
    /// The callee would admit it.
    pub authorized: bool,
    /// Somebody measured it.
    pub observed: bool,
}

impl Provenance {
    /// Only declared.
    pub const DECLARED: Self = Self {
        declared: true,
        routed: false,
        authorized: false,
        observed: false,
    };

    /// How far it can be relied on.
    pub const fn origin(self) -> Origin {
        if self.declared || self.routed {
            Origin::Declared
        } else {
            Origin::Permitted
        }
    }

    /// The words used in outputs.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.declared, "declared"),
            (self.routed, "routed"),
            (self.authorized, "authorized"),
            (self.observed, "observed"),
        ];
        all.into_iter()
            .filter_map(|(holds, name)| holds.then_some(name))
    }
}

/// How far an edge can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Policy says that the calls happen.
    Declared,
    /// The callee would admit them, or they were seen, but no policy says that they happen.
    Permitted,
}

/// What calls are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The caller's own business.
    #[default]
    Call,
    /// To ask whether a request may enter.
    Authorize,
    /// To count a request against a limit.
    RateLimit,
    /// A copy of a request to somebody else.
    Mirror,
}

impl Purpose {
    /// The word used in outputs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Authorize => "authorizer",
            Self::RateLimit => "rate-limit",
            Self::Mirror => "mirror",
        }
    }
}

impl Edge {
    /// Whether the caller waits for the answer; nobody waits for that to a copy.
    pub fn is_awaited(&self) -> bool {
        self.purpose != Purpose::Mirror
    }

    /// How far the edge can be relied on.
    pub const fn origin(&self) -> Origin {
        self.provenance.origin()
    }
}

impl CallGraph {
    /// A graph without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service.
    pub fn add_node(&mut self, node: impl Into<Arc<Node>>) -> NodeId {
        self.topology = OnceLock::new();
        self.nodes.push(node.into());
        self.leaving.push(Vec::new());
        self.entering.push(Vec::new());
        NodeId(self.nodes.len() - 1)
    }

    /// Adds calls between two services of this graph.
    pub fn add_edge(&mut self, edge: impl Into<Arc<Edge>>) -> EdgeId {
        let edge = edge.into();
        self.topology = OnceLock::new();
        let id = EdgeId(self.edges.len());
        self.leaving[edge.from.0].push(id);
        self.entering[edge.to.0].push(id);
        self.edges.push(edge);
        id
    }

    /// Notes that the calls of an edge were seen, and how often.
    fn see(&mut self, id: EdgeId, rate: Option<f64>) {
        let edge = Arc::make_mut(&mut self.edges[id.0]);
        edge.provenance.observed = true;
        edge.rate = edge.rate.or(rate);
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

    /// Calls that a service makes, with their ids.
    pub fn leaving_ids(&self, id: NodeId) -> impl Iterator<Item = (EdgeId, &Edge)> {
        self.leaving[id.0]
            .iter()
            .map(|edge| (*edge, self.edge(*edge)))
    }

    /// The order of services, and who calls in a round.
    pub fn topology(&self) -> &Topology {
        self.topology.get_or_init(|| Topology::of(self))
    }

    /// The same services, with only the edges that policy says happen.
    #[must_use]
    pub fn declared(&self) -> Self {
        let mut graph = Self::new();
        for node in &self.nodes {
            graph.add_node(Arc::clone(node));
        }
        for edge in self
            .edges
            .iter()
            .filter(|edge| edge.origin() == Origin::Declared)
        {
            graph.add_edge(Arc::clone(edge));
        }
        graph
    }

    /// Where requests come from outside: gateways' destinations and services that nobody is said to
    /// call. Where callers only call each other, the first service by name of each such round stands
    /// for it. Gateways are not among them: see [`Self::sources`].
    pub fn entries(&self) -> Vec<NodeId> {
        let mut entries = self.starts();
        for id in self.nodes() {
            if self.node(id).kind == NodeKind::Gateway {
                let to = self
                    .leaving(id)
                    .filter(|edge| edge.origin() == Origin::Declared)
                    .map(|edge| edge.to);
                entries.extend(to);
            }
        }
        entries.retain(|id| self.node(*id).kind == NodeKind::Service);
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// Where requests begin: [`Self::entries`], with the gateways instead of what only they lead to.
    pub fn sources(&self) -> Vec<NodeId> {
        let mut sources = self.starts();
        let begins =
            |id: &NodeId| matches!(self.node(*id).kind, NodeKind::Service | NodeKind::Gateway);
        sources.retain(begins);
        sources
    }

    /// Whatever nobody is said to call, and one of each round that nobody enters.
    fn starts(&self) -> Vec<NodeId> {
        let said = |edge: &&Edge| edge.origin() == Origin::Declared;
        let mut starts: Vec<NodeId> = self
            .nodes()
            .filter(|id| !self.entering(*id).any(|(_, edge)| said(&edge)))
            .collect();
        let mut reached = vec![false; self.nodes.len()];
        for entry in &starts {
            self.mark_reached(*entry, &mut reached);
        }
        for id in self.nodes() {
            if !reached[id.0] {
                starts.push(id);
                self.mark_reached(id, &mut reached);
            }
        }
        starts.sort_unstable();
        starts
    }

    fn mark_reached(&self, from: NodeId, reached: &mut [bool]) {
        let mut waiting = vec![from];
        while let Some(id) = waiting.pop() {
            if !std::mem::replace(&mut reached[id.0], true) {
                let said = self
                    .leaving(id)
                    .filter(|edge| edge.origin() == Origin::Declared);
                waiting.extend(said.map(|edge| edge.to));
            }
        }
    }

    /// Groups of services that call each other in a round, in ascending order; a service that calls
    /// itself is one.
    pub fn rounds(&self) -> &[Vec<NodeId>] {
        &self.topology().rounds
    }

    /// Strongly connected components, callees before callers.
    pub fn components(&self) -> &[Vec<NodeId>] {
        &self.topology().components
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mesh_bundle::slice::RetryCause;

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
            hedge: None,
            retries_at_once: None,
            branches: Vec::new(),
            attempts_span: None,
            limit_span: None,
        }
    }

    pub(crate) fn edge(from: NodeId, to: NodeId, policy: Policy) -> Edge {
        Edge {
            from,
            to,
            provenance: Provenance::DECLARED,
            purpose: Purpose::Call,
            per_request: 1.0,
            share: 1.0,
            parallel: false,
            rate: None,
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
    fn a_round_that_nobody_enters_has_an_entry() {
        let mut graph = chain(vec![policy(1, 1.0, 1.0); 2]);
        assert_eq!(graph.entries(), [NodeId(0)]);
        assert!(graph.rounds().is_empty());
        graph.add_edge(edge(NodeId(2), NodeId(0), policy(1, 1.0, 1.0)));
        assert_eq!(graph.entries(), [NodeId(0)]);
        assert_eq!(graph.rounds(), [[NodeId(0), NodeId(1), NodeId(2)]]);
    }
}
