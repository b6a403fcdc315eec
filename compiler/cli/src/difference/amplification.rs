//! How many calls one request becomes when a service fails, before and after: the numbers of `meshc graph`.

use mesh_compiler::analysis::call_graph::{CallGraph, NodeId};
use mesh_compiler::analysis::retry::{Mode, Paths, Report};
use mesh_compiler::diff::Change;
use serde_json::Value;

use super::Amplification;
use crate::render::json::number;

/// Less than this is how sums are rounded.
const ROUNDING: f64 = 1e-6;

/// Services of which one request becomes more calls than before, or fewer.
pub(super) fn amplification(change: Change<'_>) -> Vec<Amplification> {
    let graphs = [change.base, change.head].map(CallGraph::of);
    let declared = graphs.each_ref().map(CallGraph::declared);
    let [before, after] = [0, 1].map(|side: usize| Side::of(&graphs[side], &declared[side]));
    let found = change.pairs().into_iter().filter_map(|pair| {
        let name = change.name_of(pair);
        let (was, is) = (before.graph.named(name), after.graph.named(name));
        // In and behind a round a request has no number of calls; what retries multiply there has one.
        let is_known = [(&before, was), (&after, is)]
            .into_iter()
            .all(|(side, node)| node.is_none_or(|node| side.calls(node).is_some()));
        let calls = |side: &Side<'_>, node: Option<NodeId>| {
            node.map(|node| match side.calls(node) {
                Some(calls) if is_known => calls,
                _ => side.multiplied(node).0,
            })
        };
        let (was_calls, is_calls) = (calls(&before, was), calls(&after, is));
        if (was_calls.unwrap_or(1.0) - is_calls.unwrap_or(1.0)).abs() < ROUNDING {
            return None;
        }
        let (side, node) = is
            .map(|node| (&after, node))
            .or(was.map(|node| (&before, node)))?;
        let value = |calls: Option<f64>| calls.map_or(Value::Null, number);
        Some(Amplification {
            service: name.to_owned(),
            before: value(was_calls),
            after: value(is_calls),
            path: side.path(node),
            environments: Vec::new(),
        })
    });
    found.collect()
}

struct Side<'g> {
    graph: &'g CallGraph,
    /// As the nodes.
    calls: Vec<Option<f64>>,
    paths: Paths<'g>,
}

impl<'g> Side<'g> {
    fn of(whole: &CallGraph, graph: &'g CallGraph) -> Self {
        Self {
            graph,
            calls: Report::worst_calls(whole),
            paths: Paths::of(graph),
        }
    }

    /// The larger of what it gets when it fails at once and when it hangs.
    fn calls(&self, node: NodeId) -> Option<f64> {
        self.calls.get(node.0).copied().flatten()
    }

    /// What retries alone multiply on the worst path.
    fn multiplied(&self, node: NodeId) -> (f64, Mode) {
        let (fast, class) = self.paths.fast(node);
        let slow = self.paths.slow(node);
        if slow > fast {
            (slow, Mode::Slow)
        } else {
            (fast, Mode::Fast(class))
        }
    }

    fn path(&self, node: NodeId) -> Vec<String> {
        let path = self.paths.worst(node, self.multiplied(node).1);
        let callees = path.hops.iter().map(|hop| self.graph.edge(hop.edge).to);
        let nodes = std::iter::once(path.entry).chain(callees);
        nodes
            .map(|node| self.graph.node(node).name.clone())
            .collect()
    }
}
