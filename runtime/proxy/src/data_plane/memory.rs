//! How much memory the process has, and what is done when it comes near to what it may have: nothing new is begun, and
//! those leave who hold memory and do nothing with it. Killed for it, a proxy would take everybody with it.

use std::sync::Arc;

use super::plane::Plane;
use crate::limits;
use crate::listener::Places;

/// The page of every system that this runs on, and no more than it is on others.
const PAGE_BYTES: usize = 4096;

/// Watches it until the proxy ends.
#[expect(
    clippy::infinite_loop,
    reason = "it ends with the runtime that it was started on"
)]
pub(super) async fn watch(plane: Arc<Plane>, places: [Arc<Places>; 2]) {
    let Some(most) = bound(plane.limits.memory_bytes, allowed()) else {
        return std::future::pending().await;
    };
    let mut shortage = Shortage::default();
    loop {
        tokio::time::sleep(limits::MEMORY_PAUSE).await;
        let used = std::fs::read_to_string("/proc/self/statm")
            .ok()
            .and_then(|text| anonymous(&text))
            .unwrap_or(0);
        let was = plane.is_short_of_memory();
        let (may_run, is) = shortage.judge(used, most, plane.running());
        plane.may_run(may_run);
        if is != was {
            tracing::warn!(used, most, short = is, "memory");
            plane.set_short_of_memory(is);
        }
        if is {
            plane.metrics.limit_reached("memory_bytes");
            for places in &places {
                places.make_room(false);
                places.make_room(true);
            }
        }
    }
}

/// What holds: what was said, or what the system allows.
fn bound(said: usize, allowed: Option<usize>) -> Option<usize> {
    match (said, allowed) {
        (0, allowed) => allowed,
        (said, Some(allowed)) => Some(said.min(allowed)),
        (said, None) => Some(said),
    }
}

/// What the cgroup of this process may have (cgroups(7), version 2); none: there is no bound.
fn allowed() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let file = std::path::Path::new("/sys/fs/cgroup")
        .join(path)
        .join("memory.max");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Resident pages that no file backs (proc(5), `statm`).
fn anonymous(statm: &str) -> Option<usize> {
    let mut fields = statm.split(' ').skip(1);
    let mut next = || fields.next()?.parse::<usize>().ok();
    let (resident, of_files) = (next()?, next()?);
    Some(resident.saturating_sub(of_files) * PAGE_BYTES)
}

/// Whether memory is short, over time.
#[derive(Debug, Default)]
struct Shortage {
    /// What ran at once when there was little left. What they free may stay with the allocator, and is as good as free:
    /// as many can run again.
    held: usize,
}

impl Shortage {
    /// How many requests may run until memory is looked at again, and whether it is short: above 85 %, with about as
    /// many running as it is known to hold.
    fn judge(&mut self, used: usize, most: usize, running: usize) -> (usize, bool) {
        let percent = used.saturating_mul(100) / most.max(1);
        self.held = if percent < 65 {
            0
        } else {
            self.held.max(running)
        };
        let again = self.held / 4 * 3;
        let room = (most / 100 * 75).saturating_sub(used) / limits::REQUEST_BYTES;
        let is_short = percent >= 85 && running > 0 && running >= again;
        ((running + room).max(again), is_short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_holds_within_what_is_allowed() {
        assert_eq!(bound(0, None), None);
        assert_eq!(bound(0, Some(7)), Some(7));
        assert_eq!(bound(5, Some(7)), Some(5));
        assert_eq!(bound(9, Some(7)), Some(7));
        assert_eq!(anonymous("9000 300 100 5 0 7 0\n"), Some(200 * PAGE_BYTES));
        assert_eq!(anonymous("9000"), None);
    }

    #[test]
    fn what_may_run_is_what_there_is_room_for() {
        const MIB: usize = 1 << 20;
        let each = MIB / limits::REQUEST_BYTES;
        let mut shortage = Shortage::default();
        assert_eq!(shortage.judge(0, 100 * MIB, 3), (3 + 75 * each, false));
        assert_eq!(shortage.judge(88 * MIB, 100 * MIB, 40), (40, true));
        // They have gone; the allocator keeps what they had, and it serves as many again.
        assert_eq!(shortage.judge(88 * MIB, 100 * MIB, 0), (30, false));
        assert_eq!(shortage.judge(88 * MIB, 100 * MIB, 29), (30, false));
        assert_eq!(shortage.judge(88 * MIB, 100 * MIB, 30), (30, true));
        assert!(!shortage.judge(70 * MIB, 100 * MIB, 30).1);
    }
}
