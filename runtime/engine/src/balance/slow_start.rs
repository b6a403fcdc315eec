//! New endpoints that get their share slowly: caches are cold, and code is not compiled yet.

use std::time::Duration;

use crate::limits;

/// Of 10,000: in which share of picks an endpoint takes part that has been there for so long, when it
/// reaches its full share after `slow_start`. It grows evenly.
pub fn share_after(age: Duration, slow_start: Duration) -> u32 {
    if age >= slow_start {
        return 10_000;
    }
    let grown = age.as_nanos().saturating_mul(10_000) / slow_start.as_nanos().max(1);
    u32::try_from(grown)
        .unwrap_or(10_000)
        .clamp(limits::SLOW_START_SHARE, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_evenly_from_a_tenth() {
        let share = |seconds| share_after(Duration::from_secs(seconds), Duration::from_secs(100));
        assert_eq!(
            [0, 5, 10, 50, 99, 100, 1_000].map(share),
            [1_000, 1_000, 1_000, 5_000, 9_900, 10_000, 10_000]
        );
        assert_eq!(share_after(Duration::ZERO, Duration::ZERO), 10_000);
    }
}
