//! `retry-budget` and `balance` as one level gives them.

use std::time::Duration;

use mesh_bundle::slice::Balance;

use super::{Field, Spanned};

/// The settings of a caller's pool of connections to one service, at one level.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// `retry-budget`.
    pub retry_budget: Field<RetryBudget>,
    /// `balance`.
    pub balance: Option<Spanned<Balance>>,
}

/// `retry-budget` at one level, taken over as a whole: `min` means something else for each kind of
/// share, so a share of one level with the minimum of another would be a budget nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of 10,000.
    pub share: u32,
    /// What is always allowed; this also says what the share is of.
    pub minimum: BudgetMinimum,
}

/// What a budget is a share of, and what it always allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetMinimum {
    /// Of the requests of the last `window`: this many retries in this time.
    Requests {
        /// Retries …
        count: u64,
        /// … in this time.
        per: Duration,
        /// How far back requests count.
        window: Duration,
    },
    /// Of the requests in flight: this many retries at once.
    Active {
        /// Retries at once.
        count: u64,
    },
}
