//! Whether an endpoint lives, by what it answers when it is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mesh_bundle::slice::HealthCheck;

/// What asking has shown of one endpoint. Until it was asked it is taken to live.
#[derive(Debug)]
pub struct Health {
    healthy: u32,
    unhealthy: u32,
    is_healthy: AtomicBool,
    streak: Mutex<Streak>,
}

#[derive(Debug, Default)]
struct Streak {
    /// Answers in a row that speak against what it is taken to be.
    against: u32,
    asked: bool,
}

impl Health {
    /// Not asked yet.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            healthy: check.healthy.max(1),
            unhealthy: check.unhealthy.max(1),
            is_healthy: AtomicBool::new(true),
            streak: Mutex::default(),
        }
    }

    /// Whether it is taken to live.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }

    /// Takes note of an answer; says whether it is now taken to be something else. The first decides at once:
    /// nothing else is known.
    pub fn observe(&self, well: bool) -> bool {
        // A panic elsewhere leaves a number that is still good.
        let mut streak = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !std::mem::replace(&mut streak.asked, true);
        let is_healthy = self.is_healthy();
        if well == is_healthy {
            streak.against = 0;
            return false;
        }
        streak.against = streak.against.saturating_add(1);
        let needed = if is_healthy {
            self.unhealthy
        } else {
            self.healthy
        };
        if !first && streak.against < needed {
            return false;
        }
        streak.against = 0;
        self.is_healthy.store(well, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_bundle::slice::HealthCheckKind;

    use super::*;

    fn health(healthy: u32, unhealthy: u32) -> Health {
        Health::new(&HealthCheck {
            kind: HealthCheckKind::Tcp,
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy,
            unhealthy,
        })
    }

    /// What it is taken to be after each answer, as `+` and `-`.
    #[track_caller]
    fn check(answers: &str, expected: &str) {
        let health = health(2, 3);
        let mut found = String::new();
        for answer in answers.chars() {
            health.observe(answer == '+');
            found.push(if health.is_healthy() { '+' } else { '-' });
        }
        assert_eq!(found, expected, "{answers}");
    }

    #[test]
    fn answers_in_a_row() {
        check("+---", "+++-");
        check("+--+--+---", "+++++++++-");
        check("+---+-++", "+++----+");
    }

    #[test]
    fn the_first_answer_decides() {
        check("-++", "--+");
        check("+-", "++");
        assert!(health(2, 3).is_healthy());
    }
}
