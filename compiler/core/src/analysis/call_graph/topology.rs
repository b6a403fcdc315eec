//! The order of a call graph, computed once for all questions about it.

use super::{CallGraph, NodeId};

/// Who comes before whom, and who calls in a round.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Strongly connected components, callees before callers.
    pub components: Vec<Vec<NodeId>>,
    /// Components that call themselves, each ascending, in ascending order.
    pub rounds: Vec<Vec<NodeId>>,
    /// For each service whether it is in a round.
    pub in_round: Vec<bool>,
    /// For each service its place when callees come before their callers.
    pub position: Vec<usize>,
}

impl Topology {
    pub(super) fn of(graph: &CallGraph) -> Self {
        let components = components(graph);
        let count = graph.nodes().len();
        let (mut in_round, mut position) = (vec![false; count], vec![0; count]);
        for (index, node) in components.iter().flatten().enumerate() {
            position[node.0] = index;
        }
        let is_round = |nodes: &[NodeId]| {
            let calls_itself = |id: &NodeId| graph.leaving(*id).any(|edge| edge.to == *id);
            nodes.len() > 1 || nodes.iter().any(calls_itself)
        };
        let mut rounds: Vec<Vec<NodeId>> = components
            .iter()
            .filter(|nodes| is_round(nodes))
            .cloned()
            .collect();
        for round in &mut rounds {
            round.sort_unstable();
            for node in round {
                in_round[node.0] = true;
            }
        }
        rounds.sort_unstable();
        Self {
            components,
            rounds,
            in_round,
            position,
        }
    }
}

fn components(graph: &CallGraph) -> Vec<Vec<NodeId>> {
    let mut plain =
        petgraph::graph::DiGraph::<(), ()>::with_capacity(graph.nodes().len(), graph.edges().len());
    let indices: Vec<_> = graph.nodes().map(|_| plain.add_node(())).collect();
    for id in graph.edges() {
        let edge = graph.edge(id);
        plain.add_edge(indices[edge.from.0], indices[edge.to.0], ());
    }
    // Kosaraju's keeps its own stack, so that a chain of any length is fine.
    petgraph::algo::kosaraju_scc(&plain)
        .into_iter()
        .map(|nodes| nodes.into_iter().map(|node| NodeId(node.index())).collect())
        .collect()
}
