//! Gateways by which calls to externals leave the mesh: the caller's proxy tries, and for each of its tries the
//! gateway does.

use std::collections::BTreeMap;

use super::build::node;
use super::{CallGraph, Edge, Node, NodeId, NodeKind, Purpose};
use crate::linked::{Kind, LinkedMesh, ServiceId};

/// For each external that is reached `via` a gateway the gateway, and its node on the way there.
#[derive(Debug, Default)]
pub(super) struct Passages(BTreeMap<NodeId, Passage>);

#[derive(Clone, Copy, Debug)]
struct Passage {
    gateway: NodeId,
    /// The gateway itself where it leads to this external only; otherwise a node for the requests to this external
    /// alone: what goes to one of them is not tried at the others.
    at: NodeId,
}

impl Passages {
    /// Of all externals whose gateway has a route to them; without one nothing gets there.
    pub(super) fn of(mesh: &LinkedMesh, graph: &mut CallGraph) -> Self {
        let mut passages = BTreeMap::new();
        let leads = |gateway: ServiceId, to: ServiceId| {
            (mesh.edge(gateway, to)).is_some_and(|edge| !edge.routed.is_empty())
        };
        let mut destinations: BTreeMap<ServiceId, usize> = BTreeMap::new();
        for edge in mesh.edges.iter().filter(|edge| !edge.routed.is_empty()) {
            *destinations.entry(edge.caller).or_default() += 1;
        }
        for external in &mesh.services {
            let Kind::External(outside) = &external.kind else {
                continue;
            };
            let Some(via) = outside.via.map(|via| via.value) else {
                continue;
            };
            if !leads(via, external.id) {
                continue;
            }
            let gateway = node(via);
            let at = if destinations.get(&via) == Some(&1) {
                gateway
            } else {
                let name = format!("{} (to {})", graph.node(gateway).name, external.name.value);
                graph.add_node(Node {
                    name,
                    kind: NodeKind::Gateway,
                    ..graph.node(gateway).clone()
                })
            };
            passages.insert(node(external.id), Passage { gateway, at });
        }
        Self(passages)
    }

    /// The node by which calls of `from` to `to` leave; none where they go straight.
    pub(super) fn between(&self, from: NodeId, to: NodeId) -> Option<NodeId> {
        let passage = self.0.get(&to)?;
        (from != passage.gateway).then_some(passage.at)
    }

    /// Whether `to` is reached by the gateway `by`.
    pub(super) fn is_by(&self, by: NodeId, to: NodeId) -> bool {
        self.0.get(&to).is_some_and(|passage| passage.gateway == by)
    }

    /// The edge as it is taken: up to the gateway, or from there on.
    pub(super) fn lead(&self, edge: Edge) -> Edge {
        let Some(passage) = self.0.get(&edge.to) else {
            return edge;
        };
        match (edge.purpose, edge.from == passage.gateway) {
            (Purpose::Call, true) => Edge {
                from: passage.at,
                ..edge
            },
            (Purpose::Call, false) => Edge {
                to: passage.at,
                ..edge
            },
            _ => edge,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_syntax::SourceSet;

    use crate::analysis::call_graph::CallGraph;
    use crate::analysis::retry::{Amplification, Failure};

    const SERVICES: &str = r#"
        mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3 } }
        service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank; calls mail { retry none } }
        external bank { host "bank.example"; port 80; via egress; allow web egress }
        external mail { host "mail.example"; port 80; via egress; allow web egress }
        gateway egress { listen 8080; allow web; route bank { match { host "bank.example" }; to bank; retry "5xx" attempts=2 }; ROUTE }
    "#;

    fn graph(route: &str) -> CallGraph {
        let mut sources = SourceSet::new();
        let text = SERVICES.replace("ROUTE", route);
        sources.add("mesh.kdl", text.as_bytes().to_vec());
        let analysed = crate::test_util::load(&sources);
        assert_eq!(analysed.diagnostics, [], "{text}");
        CallGraph::of(&analysed.mesh.unwrap())
    }

    fn ways(graph: &CallGraph) -> Vec<String> {
        let name = |id| graph.node(id).name.as_str();
        let mut ways: Vec<String> = (graph.edges())
            .map(|id| graph.edge(id))
            .map(|edge| format!("{} → {}", name(edge.from), name(edge.to)))
            .collect();
        ways.sort_unstable();
        ways
    }

    fn calls(graph: &CallGraph, to: &str) -> f64 {
        let worst = Amplification::from(graph, graph.named("web").unwrap())
            .worst(graph.named(to).unwrap())
            .unwrap();
        assert_eq!(worst.class, Failure::USUAL);
        worst.calls
    }

    #[test]
    fn the_gateway_tries_for_each_try_of_the_caller() {
        let graph = graph("");
        // The gateway leads nowhere else, so it is the node; mail has no route there and is called straight.
        assert_eq!(
            ways(&graph),
            ["egress → bank", "web → egress", "web → mail"]
        );
        assert!((calls(&graph, "bank") - 6.0).abs() < 1e-9);
    }

    #[test]
    fn what_goes_to_one_external_is_not_tried_at_another() {
        let graph = graph(
            "route mail { match { host \"mail.example\" }; to mail; retry \"5xx\" attempts=2 }",
        );
        assert_eq!(
            ways(&graph),
            [
                "egress (to bank) → bank",
                "egress (to mail) → mail",
                "web → egress (to bank)",
                "web → egress (to mail)",
            ]
        );
        assert!((calls(&graph, "bank") - 6.0).abs() < 1e-9);
        assert!((calls(&graph, "mail") - 2.0).abs() < 1e-9);
    }
}
