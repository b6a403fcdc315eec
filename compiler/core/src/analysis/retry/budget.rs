//! What retry budgets and throttles leave of a retry policy (D4, D5).

use std::time::Duration;

use crate::analysis::call_graph::{BudgetOf, CallGraph, Edge, Policy};

/// What is known about the traffic of an edge; what nobody declares is none, and never assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests per second of all clients, retries not counted.
    pub rate: Option<f64>,
    /// Clients, each with a budget of its own.
    pub clients: Option<f64>,
    /// Time of one try.
    pub try_time: Option<Duration>,
}

impl Traffic {
    /// What the facts of both ends say about an edge.
    pub fn of(graph: &CallGraph, edge: &Edge) -> Self {
        let (caller, callee) = (graph.node(edge.from), graph.node(edge.to));
        let own = caller.load.map(|load| load * edge.per_request * edge.share);
        // All that a service gets comes from its only caller.
        let mut callers = graph.entering(edge.to);
        let only = callers.next().is_some() && callers.next().is_none();
        Self {
            rate: edge.rate.or(own).or(callee.load.filter(|_| only)),
            clients: caller.replicas,
            try_time: callee.handling,
        }
    }
}

/// What a policy lets through in the long run, however many calls fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sustained {
    /// Calls per request. Where the traffic or the minimum of the budget is unknown, the number holds
    /// for rates above [`Self::minimum_dominates_below`].
    pub alpha: f64,
    /// Retries per second that all clients together may always make.
    pub minimum_rate: Option<f64>,
    /// The rate below which that minimum, and not the share, decides.
    pub minimum_dominates_below: Option<f64>,
}

/// What budget and cap of a policy leave of `tries`.
pub fn sustained(tries: u32, policy: &Policy, traffic: &Traffic) -> Sustained {
    let tries = f64::from(tries);
    let alpha = (policy.retries_at_once).map_or(tries, |cap| tries.min(capped(cap, traffic)));
    let Some(budget) = &policy.budget else {
        return Sustained {
            alpha,
            minimum_rate: None,
            minimum_dominates_below: None,
        };
    };
    let seconds = || traffic.try_time.map(|time| time.as_secs_f64());
    let (share, minimum_rate) = match budget.of {
        BudgetOf::Requests { min_per_second } => {
            let minimum = traffic.clients.map(|clients| clients * min_per_second);
            (budget.share, minimum)
        }
        BudgetOf::Active { min_concurrent } => {
            // Retries count as active too: r ≤ b·(o + r).
            let share = if budget.share < 1.0 {
                budget.share / (1.0 - budget.share)
            } else {
                f64::INFINITY
            };
            let minimum = (traffic.clients.zip(seconds()))
                .map(|(clients, seconds)| clients * min_concurrent / seconds);
            (share, minimum)
        }
    };
    let of_minimum = minimum_rate
        .zip(traffic.rate)
        .map_or(0.0, |(minimum, rate)| minimum / rate);
    Sustained {
        alpha: alpha.min(1.0 + share.max(of_minimum)),
        minimum_rate,
        minimum_dominates_below: minimum_rate
            .filter(|_| share.is_finite() && share > 0.0)
            .map(|minimum| minimum / share),
    }
}

/// Calls per request when each client makes no more than `cap` retries at once.
fn capped(cap: f64, traffic: &Traffic) -> f64 {
    let known = (traffic.clients.zip(traffic.rate)).zip(traffic.try_time);
    known.map_or(f64::INFINITY, |((clients, rate), time)| {
        1.0 + clients * cap / (time.as_secs_f64() * rate)
    })
}

/// Calls per request that the policies of an edge let through in the long run, at most: the worst of
/// them, each with its own tries.
pub(super) fn alpha(graph: &CallGraph, edge: &Edge, tries: impl Fn(&Policy) -> u32) -> f64 {
    let traffic = Traffic::of(graph, edge);
    let sustained = |policy: &Policy| sustained(tries(policy), policy, &traffic).alpha;
    edge.policies.iter().map(sustained).fold(1.0, f64::max)
}

/// The share of failing calls above which a gRPC retry throttle of this token ratio switches retries
/// off.
pub fn throttle_balance(token_ratio: f64) -> f64 {
    token_ratio / (1.0 + token_ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::call_graph::Budget;
    use crate::analysis::call_graph::tests::policy;

    #[test]
    fn tc_b4_the_allowance_of_active_requests() {
        let active = [2, 10, 15, 16, 25, 100, 1000];
        let allowance = |active| mesh_engine::retry::active_allowance(2_000, 3, active);
        assert_eq!(active.map(allowance), [3, 3, 3, 3, 5, 20, 200]);
    }

    fn with(share: f64, of: BudgetOf) -> Policy {
        let mut policy = policy(3, 1.0, 3.0);
        policy.budget = Some(Budget { share, of });
        policy
    }

    const THREE_AT_ONCE: BudgetOf = BudgetOf::Active {
        min_concurrent: 3.0,
    };

    fn busy() -> Traffic {
        Traffic {
            rate: Some(1000.0),
            clients: Some(100.0),
            try_time: Some(Duration::from_millis(25)),
        }
    }

    #[test]
    fn tc_b5_many_clients_make_the_minimum_dominate() {
        let policy = with(0.2, THREE_AT_ONCE);
        let found = sustained(3, &policy, &busy());
        assert!((found.alpha - 3.0).abs() < 1e-9);
        assert!((found.minimum_rate.unwrap() - 12_000.0).abs() < 1e-6);
        assert!((found.minimum_dominates_below.unwrap() - 48_000.0).abs() < 1e-6);
        assert!((sustained(100, &policy, &busy()).alpha - 13.0).abs() < 1e-9);
    }

    #[test]
    fn an_unknown_rate_leaves_the_asymptote_and_where_it_holds() {
        let policy = with(
            0.2,
            BudgetOf::Requests {
                min_per_second: 5.0,
            },
        );
        let traffic = Traffic {
            rate: None,
            ..busy()
        };
        let found = sustained(3, &policy, &traffic);
        assert!((found.alpha - 1.2).abs() < 1e-9);
        assert!((found.minimum_dominates_below.unwrap() - 2_500.0).abs() < 1e-6);
        let unknown = sustained(3, &policy, &Traffic::default());
        assert_eq!(unknown.minimum_dominates_below, None);
    }

    #[test]
    fn a_cap_on_retries_at_once_bounds_them() {
        let mut policy = policy(3, 1.0, 3.0);
        policy.retries_at_once = Some(0.1);
        // 100 clients × 0.1 at once / 25 ms = 400 retries per second for 1,000 requests.
        assert!((sustained(3, &policy, &busy()).alpha - 1.4).abs() < 1e-9);
        assert!((sustained(3, &policy, &Traffic::default()).alpha - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_of_everything_is_no_budget() {
        let policy = with(
            1.0,
            BudgetOf::Active {
                min_concurrent: 0.0,
            },
        );
        assert!((sustained(3, &policy, &Traffic::default()).alpha - 3.0).abs() < 1e-9);
    }

    #[test]
    fn tc_b7_where_throttles_balance() {
        for (ratio, expected) in [(0.1, 0.0909), (0.5, 0.3333), (0.05, 0.0476)] {
            assert!((throttle_balance(ratio) - expected).abs() < 1e-4);
        }
    }
}
