//! The limits of a destination where its connections are made: who may make one, who waits, and who is
//! turned away.

use std::sync::Arc;

use mesh_engine::breaker::{Breaker, Counted, Held};
use tokio::sync::Notify;

use super::endpoints::Group;

/// The limits of a destination, and who waits for a connection.
#[derive(Debug)]
pub(crate) struct Gate {
    breaker: Arc<Breaker>,
    /// Told whenever a connection is there for somebody else, or could be made.
    freed: Notify,
}

/// The right to one connection, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    held: Option<Held>,
    gate: Arc<Gate>,
}

/// What a request may take of its destination's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'r> {
    /// The limits.
    pub(crate) gate: &'r Arc<Gate>,
    /// All endpoints of the destination.
    pub(crate) group: &'r Group,
}

impl Gate {
    /// With these limits.
    pub(crate) fn new(breaker: Breaker) -> Self {
        Self {
            breaker: Arc::new(breaker),
            freed: Notify::new(),
        }
    }

    /// What counts.
    pub(crate) fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// Takes the right to one more connection.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<Place> {
        let held = self.breaker.take(Counted::Connections)?;
        Some(Place {
            held: Some(held),
            gate: Arc::clone(self),
        })
    }

    /// Requests until a connection is closed.
    pub(crate) fn requests_per_connection(&self) -> Option<u32> {
        self.breaker.limits().requests_per_connection
    }

    /// Waits until there may be a connection. Ask for it before looking whether there is one, or what happens
    /// in between is missed.
    pub(crate) fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }
}

impl Place {
    /// Whether it is of these limits.
    pub(crate) fn is_of(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }

    /// The connection lies idle.
    pub(crate) fn is_idle(&self) {
        self.gate.freed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Given back before anybody looks.
        drop(self.held.take());
        self.gate.freed.notify_one();
    }
}
