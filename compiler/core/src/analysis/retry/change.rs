//! The smallest change that brings a service below a limit.

use super::paths::{Mode, Paths};
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

/// Changes that together bring a service below the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What to change; nothing where earlier changes suffice.
    pub changes: Vec<Change>,
    /// By how much retries multiply on the worst path once all is done, computed anew.
    pub leaves: f64,
}

/// Fewer attempts on as few edges as can be, so that retries multiply by no more than `limit` on any
/// path to `target`, when it fails at once or when it hangs. First a single edge that keeps as many
/// attempts as possible, then greedily the edge that helps most. Among equals, the hop furthest from
/// both ends: retries are worth most next to the entry and next to the callee. `made` are changes that
/// are to be made anyway; where they suffice the answer is empty. None if nothing helps, or only more
/// changes than anybody would read.
pub fn smallest_change(
    graph: &CallGraph,
    target: NodeId,
    limit: f64,
    made: &[Change],
) -> Option<Proposal> {
    let mut search = Search {
        now: Paths::to(graph, target),
        target,
        limit,
        limits: vec![None; graph.edges().len()],
        factors: Vec::new(),
    };
    for change in made {
        search.limits[change.edge.0] = Some(change.to);
    }
    let now = search.product();
    if now <= limit {
        return Some(Proposal {
            changes: Vec::new(),
            leaves: now,
        });
    }
    if let Some(change) = search.single() {
        search.limits[change.edge.0] = Some(change.to);
        return Some(Proposal {
            changes: vec![change],
            leaves: search.product(),
        });
    }
    let mut changes = Vec::new();
    while search.product() > limit {
        let left = CHANGES_MAX - changes.len();
        let candidates = search.candidates();
        if !search.may_help(left) {
            return None;
        }
        let (edge, from, _) = candidates
            .into_iter()
            .map(|(edge, from)| (edge, from, search.with(edge, 1)))
            .reduce(|best, next| if next.2 < best.2 { next } else { best })?;
        search.limits[edge.0] = Some(1);
        changes.push(Change { edge, from, to: 1 });
    }
    Some(Proposal {
        changes,
        leaves: search.product(),
    })
}

struct Search<'g> {
    now: Paths<'g>,
    target: NodeId,
    limit: f64,
    limits: Vec<Option<u32>>,
    /// Of the path on which candidates were looked for last, the greatest first.
    factors: Vec<u32>,
}

impl Search<'_> {
    fn product(&mut self) -> f64 {
        self.now.limit(&self.limits);
        let fast = self.now.fast(self.target).0;
        fast.max(self.now.slow(self.target))
    }

    fn with(&mut self, edge: EdgeId, attempts: u32) -> f64 {
        let before = self.limits[edge.0].replace(attempts);
        let result = self.product();
        self.limits[edge.0] = before;
        result
    }

    /// The edges of the worst path that try again, from its middle outwards.
    fn candidates(&mut self) -> Vec<(EdgeId, u32)> {
        self.now.limit(&self.limits);
        let (fast, class) = self.now.fast(self.target);
        let mode = if self.now.slow(self.target) > fast {
            Mode::Slow
        } else {
            Mode::Fast(class)
        };
        self.factors.clear();
        let path = self.now.worst(self.target, mode).hops;
        self.factors.extend(path.iter().map(|hop| hop.factor));
        self.factors.sort_unstable_by(|a, b| b.cmp(a));
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

    /// Whether so many changes can be enough: those that help most on the worst path, on which candidates were looked
    /// for last, leave of it at least this.
    fn may_help(&mut self, changes: usize) -> bool {
        let helped = self.factors.iter().take(changes).copied();
        let most: f64 = helped.map(f64::from).product();
        self.product() <= self.limit * most * (1.0 + 1e-9)
    }

    fn single(&mut self) -> Option<Change> {
        let mut best: Option<Change> = None;
        let candidates = self.candidates();
        if !self.may_help(1) {
            return None;
        }
        for (edge, from) in candidates {
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
        let proposal = smallest_change(&graph, NodeId(attempts.len()), limit, &[]).unwrap();
        assert!(proposal.leaves <= limit);
        let changes: Vec<(usize, u32)> = proposal
            .changes
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
