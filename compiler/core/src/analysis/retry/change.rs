//! The smallest change that brings a service below a limit.

use super::amplification::Amplification;
use crate::analysis::call_graph::{CallGraph, EdgeId, NodeId};

/// Edges in one proposal; whoever has to change more needs another design, not a list.
const CHANGES_MAX: usize = 6;

/// Edges that are tried out for each step of a proposal.
const CANDIDATES_MAX: usize = 32;

/// Attempts that one edge should make at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The edge.
    pub edge: EdgeId,
    /// What it makes now.
    pub from: u32,
    /// What it should make.
    pub to: u32,
}

/// Fewer attempts on as few edges as can be, so that one request at `entry` amplifies no more than
/// `limit` at `target`. First a single edge that keeps as many attempts as possible, then greedily the
/// edge that helps most. Among equals, the hop furthest from both ends: retries are worth most next to
/// the entry and next to the callee. `made` are changes that are to be made anyway; where they suffice
/// the answer is empty. None if nothing helps, or only more changes than anybody would read.
pub fn smallest_change(
    graph: &CallGraph,
    entry: NodeId,
    target: NodeId,
    limit: f64,
    made: &[Change],
) -> Option<Vec<Change>> {
    let mut search = Search {
        now: Amplification::from(graph, entry),
        target,
        limit,
        limits: vec![None; graph.edges().len()],
    };
    for change in made {
        search.limits[change.edge.0] = Some(change.to);
    }
    if search.amplification()? <= limit {
        return Some(Vec::new());
    }
    if let Some(change) = search.single() {
        return Some(vec![change]);
    }
    let mut changes = Vec::new();
    while search.amplification()? > limit {
        if changes.len() == CHANGES_MAX {
            return None;
        }
        let (edge, from, _) = search
            .candidates()
            .into_iter()
            .map(|(edge, from)| (edge, from, search.with(edge, 1)))
            .reduce(|best, next| if next.2 < best.2 { next } else { best })?;
        search.limits[edge.0] = Some(1);
        changes.push(Change { edge, from, to: 1 });
    }
    Some(changes)
}

struct Search<'g> {
    now: Amplification<'g>,
    target: NodeId,
    limit: f64,
    limits: Vec<Option<u32>>,
}

impl Search<'_> {
    fn amplification(&mut self) -> Option<f64> {
        self.now.limit(&self.limits);
        self.now.of(self.target)
    }

    fn with(&mut self, edge: EdgeId, attempts: u32) -> f64 {
        let before = self.limits[edge.0].replace(attempts);
        let result = self.amplification().unwrap_or(f64::INFINITY);
        self.limits[edge.0] = before;
        result
    }

    /// The edges of the worst path that try again, from its middle outwards.
    fn candidates(&mut self) -> Vec<(EdgeId, u32)> {
        self.now.limit(&self.limits);
        let path = self
            .now
            .worst(self.target)
            .map_or_else(Vec::new, |worst| worst.path);
        let last = path.len().saturating_sub(1);
        let mut candidates: Vec<(usize, EdgeId, u32)> = path
            .iter()
            .enumerate()
            .filter(|(_, hop)| hop.factor > 1)
            .map(|(index, hop)| ((2 * index).abs_diff(last), hop.edge, hop.factor))
            .collect();
        candidates.sort_unstable_by_key(|(from_middle, edge, _)| (*from_middle, *edge));
        candidates.truncate(CANDIDATES_MAX);
        candidates
            .into_iter()
            .map(|(_, edge, factor)| (edge, factor))
            .collect()
    }

    fn single(&mut self) -> Option<Change> {
        let mut best: Option<Change> = None;
        for (edge, from) in self.candidates() {
            if self.with(edge, 1) > self.limit {
                continue;
            }
            // More attempts never amplify less, so the most that will do is found by halving.
            let (mut low, mut high) = (1, from);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if self.with(edge, middle) > self.limit {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            let change = Change {
                edge,
                from,
                to: low,
            };
            if best.is_none_or(|best| change.to > best.to) {
                best = Some(change);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::tests::{chain, policy};

    #[track_caller]
    fn check(attempts: &[u32], limit: f64, expected: &[(usize, u32)]) {
        let graph = chain(
            attempts
                .iter()
                .map(|attempts| policy(*attempts, 1.0, 3.0))
                .collect(),
        );
        let changes =
            smallest_change(&graph, NodeId(0), NodeId(attempts.len()), limit, &[]).unwrap();
        let changes: Vec<(usize, u32)> = changes
            .iter()
            .map(|change| (change.edge.0, change.to))
            .collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn one_edge_where_one_will_do() {
        check(&[3, 3, 3], 10.0, &[(1, 1)]);
        check(&[3, 3, 3], 18.0, &[(1, 2)]);
        check(&[3, 3], 10.0, &[]);
        check(&[2, 8], 10.0, &[(1, 5)]);
    }

    #[test]
    fn more_where_one_will_not_do() {
        check(&[3, 3, 3], 3.0, &[(1, 1), (0, 1)]);
        check(&[6, 6, 6], 1.0, &[(1, 1), (0, 1), (2, 1)]);
    }
}
