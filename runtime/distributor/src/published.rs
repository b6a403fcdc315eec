//! What is served at one moment, immutable and swapped whole: every stream reads the newest.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_bundle::digest::Digest;
use mesh_bundle::messages::bundle as signed;
use mesh_bundle::spiffe::SpiffeId;

use crate::endpoints::EndpointFeed;
use crate::generation::Served;
use crate::status::fleet::KnownGeneration;

/// One signed object that has been verified, as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    /// Which one of its kind: a trust domain, a key id; empty for trust roots.
    pub(crate) name: String,
    /// Its version; a head's is when it was issued.
    pub(crate) version: u64,
    /// Of the payload.
    pub(crate) digest: Digest,
    /// Exactly as signed.
    pub(crate) envelope: signed::Envelope,
}

/// What is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// The chain, ascending by version.
    pub(crate) trust_roots: Vec<Object>,
    /// Ascending by trust domain.
    pub(crate) trust_bundles: Vec<Object>,
    /// Ascending by key id.
    pub(crate) revocations: Vec<Object>,
    /// None before the first good commit.
    pub(crate) head: Option<Head>,
    /// Oldest first; the head names the last.
    pub(crate) generations: Vec<Arc<Served>>,
    /// None until someone fed them.
    pub(crate) endpoints: Option<Endpoints>,
    /// The last time that every proxy was asked to renew its certificate.
    pub(crate) renewals: Renewals,
}

/// Asking every proxy to renew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Renewals {
    /// Rises each time.
    pub(crate) count: u64,
    /// Over how long they spread, in seconds.
    pub(crate) within_s: u32,
}

/// The newest head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// As sent.
    pub(crate) object: Object,
    /// Unix milliseconds.
    pub(crate) expires_ms: u64,
}

/// Discovered endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// Rises with each change of them.
    pub(crate) version: u64,
    /// All of them.
    pub(crate) feed: Arc<EndpointFeed>,
}

impl Published {
    /// The generation that the head names.
    pub(crate) fn current(&self) -> Option<&Arc<Served>> {
        self.generations.last()
    }

    /// Whether the current generation has a workload of this identity.
    pub(crate) fn has_identity(&self, identity: &SpiffeId) -> bool {
        self.current()
            .is_some_and(|served| served.slices().contains_key(identity))
    }

    /// Services that an identity may call by any kept generation. It may be serving an earlier one:
    /// until it has applied the current one, if it refused that, or if it is taken back.
    pub(crate) fn callees(&self, identity: &SpiffeId) -> BTreeSet<String> {
        self.generations
            .iter()
            .filter_map(|served| served.slices().get(identity))
            .flat_map(|slice| slice.callees().iter().cloned())
            .collect()
    }

    /// The kept generations, for reports.
    pub(crate) fn known(&self) -> Vec<KnownGeneration> {
        self.generations
            .iter()
            .map(|served| served.known())
            .collect()
    }
}
