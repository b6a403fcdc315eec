//! The two clocks of the mesh: the wall, which dates what is signed, and the time since boot,
//! which never jumps and by which ages are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use rustls_pki_types::UnixTime;

/// Where a daemon reads the time; tests hold one that they move by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
}

#[derive(Debug)]
struct Manual {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
}

impl Clock {
    /// The clocks of this machine.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still at `wall_ms` until a test moves it.
    pub fn manual(wall_ms: u64) -> Self {
        Self {
            manual: Some(Arc::new(Manual {
                wall_ms: AtomicU64::new(wall_ms),
                boot_ms: AtomicU64::new(0),
            })),
        }
    }

    /// Unix time in milliseconds.
    pub fn wall_ms(&self) -> u64 {
        if let Some(manual) = &self.manual {
            return manual.wall_ms.load(Ordering::Relaxed);
        }
        // A machine whose clock is before 1970 has no usable time: everything signed is then in
        // its future, and refused.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, to_ms)
    }

    /// Unix time in seconds, as certificates count it.
    pub fn unix_time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.wall_ms()))
    }

    /// Time since boot, suspension included; only differences mean anything.
    pub fn boot(&self) -> Duration {
        if let Some(manual) = &self.manual {
            return Duration::from_millis(manual.boot_ms.load(Ordering::Relaxed));
        }
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
            .expect("every supported kernel has a monotonic clock");
        Duration::from(now)
    }

    /// Moves a manual clock on, both faces of it; the machine's clocks stay where they are.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            manual.wall_ms.fetch_add(to_ms(by), Ordering::Relaxed);
            manual.boot_ms.fetch_add(to_ms(by), Ordering::Relaxed);
        }
    }

    /// Sets the wall of a manual clock, as an administrator would.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        if let Some(manual) = &self.manual {
            manual.wall_ms.store(wall_ms, Ordering::Relaxed);
        }
    }
}

/// Lets rustls judge certificates by the same clock as everything else.
impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix_time())
    }
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_leaves_the_boot_clock_alone() {
        let clock = Clock::manual(1_000_000);
        clock.advance(Duration::from_secs(5));
        let before = clock.boot();
        clock.set_wall_ms(0);
        assert_eq!(clock.boot(), before);
        assert_eq!(clock.wall_ms(), 0);
    }

    #[test]
    fn the_machine_has_both() {
        let clock = Clock::system();
        assert!(clock.wall_ms() > 1_600_000_000_000);
        let first = clock.boot();
        assert!(clock.boot() >= first);
    }
}
