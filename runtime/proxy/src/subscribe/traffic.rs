//! What the control side asks of the traffic side. The data plane is the one that runs; tests have
//! one that only remembers.

use std::time::Duration;

use mesh_bundle::slice::Slice;

use super::chain;
use crate::data_plane::{DataPlane, EndpointSet, Prepared};

/// Carries traffic by what it is given.
pub(crate) trait Traffic: Send + Sync + 'static {
    /// Tables that were built aside.
    type Prepared: Send;

    /// Builds the tables of a slice aside; the text says what the engine cannot make sense of.
    fn prepare(&self, slice: &Slice, generation: &str) -> Result<Self::Prepared, String>;

    /// Makes them current, with these discovered endpoints or the present ones, and returns how long
    /// that took.
    fn swap(&self, prepared: Self::Prepared, endpoints: Option<Vec<EndpointSet>>) -> Duration;

    /// Refuses everything from now on.
    fn deny_all(&self);

    /// Judges the peers of live connections again.
    fn recheck_peers(&self);

    /// Replaces the discovered endpoints.
    fn set_endpoints(&self, sets: Vec<EndpointSet>);
}

impl Traffic for DataPlane {
    type Prepared = Prepared;

    fn prepare(&self, slice: &Slice, generation: &str) -> Result<Prepared, String> {
        Self::prepare(self, slice, generation).map_err(|error| chain(&error))
    }

    fn swap(&self, prepared: Prepared, endpoints: Option<Vec<EndpointSet>>) -> Duration {
        Self::swap(self, prepared, endpoints)
    }

    fn deny_all(&self) {
        Self::deny_all(self);
    }

    fn recheck_peers(&self) {
        Self::recheck_peers(self);
    }

    fn set_endpoints(&self, sets: Vec<EndpointSet>) {
        Self::set_endpoints(self, sets);
    }
}
