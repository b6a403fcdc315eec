//! Calls that one request causes when a service hangs (D6, D7): then time limits bind, and every try
//! owns only what is left of the windows above it. A callee that gives up sooner than its caller answers
//! sooner, and the caller's next try begins then.

use std::collections::HashMap;
use std::time::Duration;

use super::failure::Failure;
use crate::analysis::call_graph::{CallGraph, Edge, NodeId, NodeKind, Policy};

/// Hops that are followed window by window; below that, every try is counted.
const DEPTH_MAX: usize = 64;

/// Tries of one call that are followed one by one; further ones are counted like the last of these.
const TRIES_MAX: u32 = 1_000;

/// Windows of one service that are told apart; past that, every try is counted.
const WINDOWS_MAX: usize = 100_000;

/// Calls to `target` for one request at `entry` when it hangs and whoever gives up takes its work
/// along (deadlines are passed on). Jitter only delays, so this is an upper bound. None in or behind a
/// round.
pub fn slow_calls(graph: &CallGraph, entry: NodeId, target: NodeId) -> Option<f64> {
    Some(SlowCalls::to(graph, target)?.propagated(entry))
}

/// The same when abandoned work goes on.
pub fn slow_calls_abandoned(graph: &CallGraph, entry: NodeId, target: NodeId) -> Option<f64> {
    Some(SlowCalls::to(graph, target)?.abandoned(entry))
}

/// Calls of one caller that can be in flight at once when a callee that needs `response` is given up
/// after the time of a try and tried again; a callee that hangs (none) needs for ever.
pub fn overlap(policy: &Policy, response: Option<Duration>) -> u32 {
    let hedged = policy.hedged_tries();
    let (Some(limit), Some(response)) = (policy.try_limit(), response) else {
        return policy.usable_attempts().max(hedged);
    };
    let running = response.as_nanos().div_ceil(limit.as_nanos().max(1));
    let running = u32::try_from(running).unwrap_or(u32::MAX);
    running.clamp(1, policy.attempts).max(hedged)
}

/// What a service that hangs gets from those that lead to it.
#[derive(Debug)]
pub struct SlowCalls<'g> {
    graph: &'g CallGraph,
    target: NodeId,
    /// For each service on the way how soon it answers that it has given up; none: never by itself.
    answers: HashMap<NodeId, Duration>,
    /// Services from which the target is reached; none of them is in a round.
    leads: Vec<bool>,
    /// Of these, those whose callers notice when it hangs: nobody waits for the answer to a copy.
    waits: Vec<bool>,
    /// For each of them the calls when abandoned work goes on.
    abandoned: HashMap<NodeId, f64>,
    known: HashMap<(NodeId, Option<u128>), f64>,
    /// Most windows that are told apart.
    windows_max: usize,
}

impl<'g> SlowCalls<'g> {
    /// Looks at one service; none if somebody on the way to it is in a round.
    pub fn to(graph: &'g CallGraph, target: NodeId) -> Option<Self> {
        let topology = graph.topology();
        let mut leads = vec![false; graph.nodes().len()];
        let mut order = Vec::new();
        let mut waiting = vec![target];
        while let Some(node) = waiting.pop() {
            if std::mem::replace(&mut leads[node.0], true) {
                continue;
            }
            if topology.in_round[node.0] {
                return None;
            }
            order.push(node);
            waiting.extend(graph.entering(node).map(|(_, edge)| edge.from));
        }
        order.sort_unstable_by_key(|node| topology.position[node.0]);
        let mut waits = vec![false; graph.nodes().len()];
        for node in &order {
            let mut leaving = graph.leaving(*node);
            waits[node.0] =
                *node == target || leaving.any(|edge| edge.is_awaited() && waits[edge.to.0]);
        }
        let mut this = Self {
            graph,
            target,
            waits,
            answers: HashMap::new(),
            leads,
            abandoned: HashMap::new(),
            known: HashMap::new(),
            windows_max: WINDOWS_MAX,
        };
        for node in order {
            let calls = if node == target {
                1.0
            } else {
                if let Some(time) = this.answer(node) {
                    this.answers.insert(node, time);
                }
                this.abandoned_from(node)
            };
            this.abandoned.insert(node, calls);
        }
        Some(this)
    }

    /// Tells apart no more windows than this, and no more than any question may.
    pub(super) fn bound_windows(&mut self, most: usize) {
        self.windows_max = most.min(WINDOWS_MAX);
    }

    /// Windows that were told apart so far.
    pub(super) fn windows(&self) -> usize {
        self.known.len()
    }

    /// Calls for one request at `entry` when whoever gives up takes its work along.
    pub fn propagated(&mut self, entry: NodeId) -> f64 {
        if entry == self.target {
            1.0
        } else {
            self.calls(entry, None, 0)
        }
    }

    /// Calls for one request at `entry` when abandoned work goes on.
    pub fn abandoned(&self, entry: NodeId) -> f64 {
        self.abandoned.get(&entry).copied().unwrap_or(0.0)
    }

    /// What a caller does while the callee hangs or stands above what hangs: how often it tries, and
    /// after how long the next try begins; none: never.
    fn tries(&self, edge: &Edge, policy: &Policy) -> (u32, Option<Duration>) {
        let each = policy.per_try.or(policy.timeout);
        // A callee that gives up before its caller does answers 504; otherwise the try times out. At the
        // same moment it is the caller, whose clock has started earlier.
        if !edge.is_awaited() || !self.waits[edge.to.0] {
            return (1, each);
        }
        let answer = self.answers.get(&edge.to).copied();
        let answer = answer.filter(|time| policy.try_limit().is_none_or(|limit| *time < limit));
        if answer.is_some() && Failure::Status(504).is_retried_by(policy) {
            (policy.tries(), earlier(each, answer))
        } else if Failure::PerTryTimeout.is_retried_by(policy) {
            (policy.tries(), each)
        } else {
            (policy.hedged_tries(), each)
        }
    }

    /// Whether a try that fails is followed by another.
    fn is_followed(&self, edge: &Edge, policy: &Policy) -> bool {
        let limit = policy.try_limit();
        let answers = self.answers.get(&edge.to);
        let in_time = answers.is_some_and(|time| limit.is_none_or(|limit| *time < limit));
        Failure::PerTryTimeout.is_retried_by(policy)
            || in_time && Failure::Status(504).is_retried_by(policy)
    }

    /// How soon a service answers at the earliest when what is behind it hangs: once the last of its
    /// calls has failed.
    fn answer(&self, node: NodeId) -> Option<Duration> {
        let mut longest = Some(Duration::ZERO);
        for edge in self.graph.leaving(node) {
            if self.waits[edge.to.0] && edge.is_awaited() {
                let soonest = edge
                    .policies
                    .iter()
                    .filter_map(|policy| self.exchange_time(edge, policy))
                    .min();
                longest = longest
                    .zip(soonest)
                    .map(|(longest, time)| longest.max(time));
            }
        }
        longest
    }

    /// How long one call lasts at least when what is behind it hangs; none: for ever.
    fn exchange_time(&self, edge: &Edge, policy: &Policy) -> Option<Duration> {
        let answer = self.answers.get(&edge.to).copied();
        let in_time = answer.filter(|time| policy.try_limit().is_none_or(|limit| *time < limit));
        let again = Failure::Status(504).is_retried_by(policy);
        let all = match in_time {
            // Told no and content with it.
            Some(time) if !again => Some(time),
            _ => {
                let (tries, step) = self.tries(edge, policy);
                // It ends with the last of its own tries; what hedges begin beside them may end sooner.
                let own = if tries == policy.hedged_tries() && policy.hedge.is_some() {
                    1
                } else {
                    policy.attempts.min(tries)
                };
                step.and_then(|step| ends(policy, step, own))
            }
        };
        earlier(all, policy.timeout)
    }

    /// Calls to the target for one request at `node` that has this much time left.
    fn calls(&mut self, node: NodeId, window: Option<Duration>, depth: usize) -> f64 {
        if depth >= DEPTH_MAX || self.known.len() >= self.windows_max {
            return self.abandoned(node);
        }
        let key = (node, window.map(|window| window.as_millis()));
        if let Some(calls) = self.known.get(&key) {
            return *calls;
        }
        let graph = self.graph;
        let mut sum = 0.0;
        for edge in graph.leaving(node) {
            if !self.leads[edge.to.0] {
                continue;
            }
            let mut worst = 0.0_f64;
            for policy in &edge.policies {
                worst = worst.max(self.exchange(edge, policy, window, depth));
            }
            sum = self.together(node, sum, edge.per_request * worst);
        }
        self.known.insert(key, sum);
        sum
    }

    /// Calls to the target for one call of an edge with all of its tries.
    fn exchange(
        &mut self,
        edge: &Edge,
        policy: &Policy,
        window: Option<Duration>,
        depth: usize,
    ) -> f64 {
        let end = earlier(policy.timeout, window);
        let each = policy.per_try.or(policy.timeout);
        let (tries, step) = self.tries(edge, policy);
        if policy.hedge.is_none() {
            let begins = multiples(step);
            return self.series(edge, (tries, begins, each), end, depth);
        }
        let again = step.filter(|_| self.is_followed(edge, policy));
        let begins = policy.begins(again);
        self.series(edge, (tries, begins, each), end, depth)
    }

    /// Tries that begin at certain times and of which none takes longer than `each`.
    fn series(
        &mut self,
        edge: &Edge,
        (tries, begins, each): (u32, impl Iterator<Item = Duration>, Option<Duration>),
        end: Option<Duration>,
        depth: usize,
    ) -> f64 {
        let mut sum = 0.0;
        for (number, start) in (0..tries).zip(begins) {
            if end.is_some_and(|end| start >= end) {
                break;
            }
            let left = end.map(|end| end.saturating_sub(start));
            let calls = if edge.to == self.target {
                1.0
            } else {
                self.calls(edge.to, earlier(each, left), depth + 1)
            };
            if number == TRIES_MAX {
                return sum + calls * f64::from(tries - number);
            }
            sum += calls;
        }
        sum
    }

    fn abandoned_from(&self, node: NodeId) -> f64 {
        let calls = |edge: &Edge| {
            let tries = |policy: &Policy| {
                let (tries, step) = self.tries(edge, policy);
                if policy.hedge.is_none() {
                    return tries.min(fitting(policy.timeout, step));
                }
                let again = step.filter(|_| self.is_followed(edge, policy));
                begun(policy, again).min(tries)
            };
            let worst = edge.policies.iter().map(tries).max().unwrap_or(1);
            self.abandoned(edge.to) * edge.per_request * f64::from(worst)
        };
        let all = self.graph.leaving(node).map(calls);
        all.fold(0.0, |sum, calls| self.together(node, sum, calls))
    }

    /// A service makes all of its calls; a request to a gateway takes one of its ways.
    fn together(&self, node: NodeId, sum: f64, calls: f64) -> f64 {
        match self.graph.node(node).kind {
            NodeKind::Gateway => sum.max(calls),
            _ => sum + calls,
        }
    }
}

/// When the tries begin of which each follows the one before it; a try without an end is the last one.
fn multiples(step: Option<Duration>) -> impl Iterator<Item = Duration> {
    let next = move |start: &Duration| step.map(|step| start.saturating_add(step));
    std::iter::successors(Some(Duration::ZERO), next)
}

/// When so many tries of a call can all have failed at the earliest, each after `step`.
fn ends(policy: &Policy, step: Duration, tries: u32) -> Option<Duration> {
    if policy.hedge.is_none() {
        return Some(step.saturating_mul(tries));
    }
    let last = usize::try_from(tries.clamp(1, TRIES_MAX)).ok()? - 1;
    let start = policy.begins(Some(step)).nth(last)?;
    Some(start.saturating_add(step))
}

/// Tries of a policy with a hedge that begin before its timeout.
pub(super) fn begun(policy: &Policy, again: Option<Duration>) -> u32 {
    let in_time = |start: &Duration| policy.timeout.is_none_or(|timeout| *start < timeout);
    let most = usize::try_from(TRIES_MAX).unwrap_or(usize::MAX);
    let begun = policy.begins(again).take_while(in_time).take(most).count();
    if begun == most {
        return policy.tries();
    }
    u32::try_from(begun).unwrap_or(u32::MAX)
}

/// Tries that can begin before the end when one begins after each step.
fn fitting(end: Option<Duration>, step: Option<Duration>) -> u32 {
    let (Some(end), Some(step)) = (end, step) else {
        // Without an end all fit; without a step there is no second one.
        return if step.is_some() { u32::MAX } else { 1 };
    };
    let fitting = end.as_nanos().div_ceil(step.as_nanos().max(1));
    u32::try_from(fitting).unwrap_or(u32::MAX).max(1)
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (end, None) | (None, end) => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::tests::{chain, policy};

    #[track_caller]
    fn check(policies: &[(u32, f64, f64)], propagated: f64, abandoned: f64) {
        let graph = chain(
            policies
                .iter()
                .map(|(a, p, t)| policy(*a, *p, *t))
                .collect(),
        );
        let (entry, leaf) = (NodeId(0), NodeId(policies.len()));
        assert_eq!(slow_calls(&graph, entry, leaf), Some(propagated));
        assert_eq!(slow_calls_abandoned(&graph, entry, leaf), Some(abandoned));
    }

    #[test]
    fn tc_s1_the_third_try_does_not_fit() {
        check(&[(3, 1.0, 2.0)], 2.0, 2.0);
    }

    #[test]
    fn tc_s2_equal_timeouts_hide_a_storm_only_while_deadlines_travel() {
        check(&[(3, 1.0, 3.0); 3], 3.0, 27.0);
    }

    #[test]
    fn tc_s3_growing_timeouts_let_all_tries_happen() {
        check(&[(3, 1.0, 3.0), (3, 0.3, 0.9), (3, 0.1, 0.3)], 27.0, 27.0);
    }

    #[test]
    fn tc_s6_a_try_longer_than_the_timeout_is_the_only_one() {
        check(&[(6, 16.0, 15.0)], 1.0, 1.0);
        check(&[(6, 16.0, 15.0); 3], 1.0, 1.0);
    }

    #[test]
    fn who_is_told_no_early_tries_again_early() {
        // The callee gives up after half a second, so five tries fit where three of a second would.
        check(&[(5, 1.0, 2.5), (1, 0.5, 0.5)], 5.0, 5.0);
    }

    #[test]
    fn hedges_and_tries_in_turn_mix() {
        let hedged = |attempts, again: bool| {
            let mut one = policy(attempts, 1.0, 2.0);
            one.hedge = Some(crate::analysis::call_graph::Hedge {
                delay: Duration::from_millis(500),
                attempts: 2,
            });
            if !again {
                one.causes.clear();
            }
            let graph = chain(vec![one]);
            let calls = slow_calls(&graph, NodeId(0), NodeId(1));
            assert_eq!(slow_calls_abandoned(&graph, NodeId(0), NodeId(1)), calls);
            calls
        };
        // At 0, by the hedge at 0.5 s, and again at 1 s when the first one has failed.
        assert_eq!(hedged(3, true), Some(3.0));
        assert_eq!(hedged(9, true), Some(4.0));
        assert_eq!(hedged(3, false), Some(2.0));
    }

    #[test]
    fn hangs_are_tried_again_only_by_who_says_so() {
        let mut one = policy(3, 1.0, 3.0);
        one.causes
            .retain(|cause| *cause != mesh_bundle::slice::RetryCause::PerTryTimeout);
        let graph = chain(vec![one]);
        assert_eq!(slow_calls(&graph, NodeId(0), NodeId(1)), Some(1.0));
    }

    #[test]
    fn many_tries_take_no_time_to_count() {
        let graph = chain(vec![policy(u32::MAX, 0.001, 1e9), policy(1, 1.0, 1.0)]);
        let calls = slow_calls(&graph, NodeId(0), NodeId(2)).unwrap();
        assert!(calls >= 1e9);
    }

    #[test]
    fn work_given_up_goes_on_beside_the_next_try() {
        assert_eq!(
            overlap(&policy(3, 1.0, 3.0), Some(Duration::from_millis(2500))),
            3
        );
        assert_eq!(
            overlap(&policy(3, 1.0, 3.0), Some(Duration::from_millis(500))),
            1
        );
    }
}
