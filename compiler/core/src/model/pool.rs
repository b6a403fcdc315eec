//! What one level says of a caller's pool of connections.

use std::time::Duration;

use crate::keyword::{
    Balance, EffectiveBalance, EffectiveHealthCheck, EffectiveLimits, EffectiveLocality,
    EffectiveOutlier, HealthCheck, Limits, Locality, Outlier,
};
use crate::level::group;

group! {
    /// What one level says of the endpoints of a service or of a subset.
    declared Pool;
    /// How a calling proxy picks, limits and watches the endpoints of a service or of a subset.
    effective EffectivePool;
    /// `balance`.
    balance: Balance => EffectiveBalance;
    /// `locality`.
    locality: Locality => EffectiveLocality;
    /// `limits`.
    limits: Limits => EffectiveLimits;
    /// `outlier`.
    outlier: Outlier => EffectiveOutlier;
    /// `health-check`.
    health_check: HealthCheck => EffectiveHealthCheck;
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
