//! What retry budgets and throttles leave of a retry policy (D4, D5).

use std::time::Duration;

use crate::analysis::call_graph::{Budget, BudgetOf};

/// What is known about the traffic of an edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Requests per second of all clients, retries not counted.
    pub rate: f64,
    /// Clients, each with a budget of its own.
    pub clients: f64,
    /// Time of one try.
    pub try_time: Duration,
}

/// Calls per request that a budget allows in the long run, at most `attempts`. Without traffic the
/// minimum of the budget is left out: the number holds for rates above which it does not matter.
pub fn factor(attempts: u32, budget: Option<&Budget>, traffic: Option<&Traffic>) -> f64 {
    let attempts = f64::from(attempts);
    let Some(budget) = budget else {
        return attempts;
    };
    let (share, minimum) = match budget.of {
        BudgetOf::Requests { min_per_second } => (
            budget.share,
            traffic.map_or(0.0, |traffic| {
                traffic.clients * min_per_second / traffic.rate
            }),
        ),
        BudgetOf::Active { min_concurrent } => {
            // Retries count as active too: r ≤ b·(o + r).
            let share = if budget.share < 1.0 {
                budget.share / (1.0 - budget.share)
            } else {
                f64::INFINITY
            };
            let minimum = traffic.map_or(0.0, |traffic| {
                traffic.clients * min_concurrent / traffic.try_time.as_secs_f64() / traffic.rate
            });
            (share, minimum)
        }
    };
    attempts.min(1.0 + share.max(minimum))
}

/// The share of failing calls above which a gRPC retry throttle of this token ratio switches retries
/// off.
pub fn throttle_balance(token_ratio: f64) -> f64 {
    token_ratio / (1.0 + token_ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tc_b4_the_allowance_of_active_requests() {
        let active = [2, 10, 15, 16, 25, 100, 1000];
        let allowance = |active| mesh_engine::retry::active_allowance(2_000, 3, active);
        assert_eq!(active.map(allowance), [3, 3, 3, 3, 5, 20, 200]);
    }

    #[test]
    fn tc_b5_many_clients_make_the_minimum_dominate() {
        let budget = Budget {
            share: 0.2,
            of: BudgetOf::Active {
                min_concurrent: 3.0,
            },
        };
        let traffic = Traffic {
            rate: 1000.0,
            clients: 100.0,
            try_time: Duration::from_millis(25),
        };
        // 12,000 retries per second would be allowed.
        assert!((factor(100, Some(&budget), Some(&traffic)) - 13.0).abs() < 1e-9);
        assert!((factor(3, Some(&budget), Some(&traffic)) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_of_everything_is_no_budget() {
        let budget = Budget {
            share: 1.0,
            of: BudgetOf::Active {
                min_concurrent: 0.0,
            },
        };
        assert!((factor(3, Some(&budget), None) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn tc_b7_where_throttles_balance() {
        for (ratio, expected) in [(0.1, 0.0909), (0.5, 0.3333), (0.05, 0.0476)] {
            assert!((throttle_balance(ratio) - expected).abs() < 1e-4);
        }
    }
}
