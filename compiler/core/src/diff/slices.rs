//! Whose slices change, and how large they are.

use std::collections::BTreeMap;

use mesh_bundle::digest::Digest;
use mesh_bundle::slice::Slice;
use mesh_bundle::spiffe::SpiffeId;
use rayon::prelude::*;

use super::Change;
use super::fields::{self, Field};
use crate::emit;
use crate::linked::{LinkedMesh, Service};

/// How the slices of two meshes differ.
#[derive(Clone, Debug, Default)]
pub struct SliceChange {
    /// Identities whose slice differs, ascending.
    pub changed: Vec<SpiffeId>,
    /// Those of them whose rules about entering differ, ascending.
    pub access_changed: Vec<SpiffeId>,
    /// Identities that only the head has, ascending.
    pub added: Vec<SpiffeId>,
    /// Identities that only the base has, ascending.
    pub removed: Vec<SpiffeId>,
    /// Slices of the base.
    pub before: usize,
    /// Slices of the head.
    pub after: usize,
    /// The largest slice of the head: whose, its bytes, and its bytes in the base.
    pub largest: Option<Size>,
    /// Mesh, environment or trust domain is another one: proxies refuse it as not theirs.
    pub other_scope: bool,
}

/// How large a slice is, and was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Whose.
    pub identity: SpiffeId,
    /// Its bytes in the head.
    pub bytes: usize,
    /// Its bytes in the base; 0 if it is new.
    pub before: usize,
    /// Its routes in the head.
    pub routes: usize,
}

impl SliceChange {
    /// Compares the slices of two meshes; none where one of them has no trust domain that could be.
    pub fn of(change: Change<'_>) -> Option<Self> {
        let slices = |mesh| Some(emit::emit(mesh, emit::scope(mesh)?));
        let (before, after) = (slices(change.base)?, slices(change.head)?);
        let (old, new) = (encoded(before.slices), encoded(after.slices));
        let mut found = Self {
            before: old.len(),
            after: new.len(),
            other_scope: before.scope != after.scope,
            ..Self::default()
        };
        for (identity, slice) in &new {
            let was = old.get(identity);
            match was {
                None => found.added.push(identity.clone()),
                Some(was) if was.bytes != slice.bytes => {
                    found.changed.push(identity.clone());
                    if was.access != slice.access {
                        found.access_changed.push(identity.clone());
                    }
                }
                Some(_) => {}
            }
            let bytes = slice.bytes.len();
            if found.largest.as_ref().is_none_or(|most| most.bytes < bytes) {
                found.largest = Some(Size {
                    identity: identity.clone(),
                    bytes,
                    before: was.map_or(0, |was| was.bytes.len()),
                    routes: slice.routes,
                });
            }
        }
        let is_gone = |identity: &&SpiffeId| !new.contains_key(*identity);
        found.removed = old.keys().filter(is_gone).cloned().collect();
        Some(found)
    }

    /// Whether proxies would not see that anything changed.
    pub fn is_nothing(&self) -> bool {
        self.changed.is_empty()
            && self.added.is_empty()
            && self.removed.is_empty()
            && !self.other_scope
    }
}

/// A slice that differs, is new or is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub identity: SpiffeId,
    /// Its digest and bytes in the base.
    pub before: Option<(Digest, usize)>,
    /// The same in the head.
    pub after: Option<(Digest, usize)>,
    /// Where they differ, ascending; empty of one that is new or gone.
    pub fields: Vec<Field>,
}

/// Every slice that differs, is new or is gone, ascending by identity; none where a mesh has no trust domain that could
/// be. Slices that are equal are never encoded.
pub fn records(change: Change<'_>) -> Option<Vec<Record>> {
    let (old_scope, new_scope) = (emit::scope(change.base)?, emit::scope(change.head)?);
    let (mut old, new) = (
        emit::emit(change.base, old_scope).slices,
        emit::emit(change.head, new_scope).slices,
    );
    let mut pairs: Vec<(SpiffeId, Option<Slice>, Option<Slice>)> = Vec::new();
    for (identity, slice) in new {
        let was = old.remove(&identity);
        if was.as_ref() != Some(&slice) {
            pairs.push((identity, was, Some(slice)));
        }
    }
    pairs.extend(
        old.into_iter()
            .map(|(identity, was)| (identity, Some(was), None)),
    );
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let measured = |slice: &Option<Slice>| {
        slice.as_ref().map(|slice| {
            let bytes = slice.encode();
            (Digest::of(&bytes), bytes.len())
        })
    };
    let records = pairs.into_par_iter().map(|(identity, was, is)| Record {
        identity,
        before: measured(&was),
        after: measured(&is),
        fields: match (&was, &is) {
            (Some(was), Some(is)) => fields::of(was, is),
            _ => Vec::new(),
        },
    });
    // Sets may be written in another order and be the same bytes.
    Some(
        records
            .filter(|record| record.before != record.after)
            .collect(),
    )
}

struct Encoded {
    bytes: Vec<u8>,
    access: Vec<u8>,
    routes: usize,
}

fn encoded(slices: BTreeMap<SpiffeId, Slice>) -> BTreeMap<SpiffeId, Encoded> {
    let slices: Vec<_> = slices.into_iter().collect();
    let encode = |(identity, slice): (SpiffeId, Slice)| {
        let encoded = Encoded {
            bytes: slice.encode(),
            access: slice.access.encode(),
            routes: slice.callees.iter().map(|callee| callee.routes.len()).sum(),
        };
        (identity, encoded)
    };
    slices.into_par_iter().map(encode).collect()
}

/// What the proxy of a service is told: the slice of its first identity.
pub fn own(mesh: &LinkedMesh, service: &Service) -> Option<Slice> {
    Some(emit::slice_of(mesh, service.identities.first()?))
}
