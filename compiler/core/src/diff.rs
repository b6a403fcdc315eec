//! Two linked meshes compared by meaning: who gained or lost access, which pairs of services can't
//! work together while one has the new generation and the other still the old, and whose slices
//! change. What only moves text changes nothing here.
//!
//! Facts only: what is worth a finding is for the lints, how it reads for `meshc diff`.

pub mod access;
pub mod dropped;
pub mod fields;
pub mod grants;
mod identities;
pub mod loosened;
pub mod routes;
pub mod skew;
pub mod slices;
pub mod split;
pub mod staging;
pub mod unserved;
pub mod weakened;

use std::collections::BTreeSet;

use crate::linked::{Edge, LinkedMesh, Service, ServiceId};

/// Two meshes of one root: what is deployed, and what would replace it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'m> {
    /// What is deployed.
    pub base: &'m LinkedMesh,
    /// What would replace it.
    pub head: &'m LinkedMesh,
}

/// A service that both meshes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id in the base.
    pub base: ServiceId,
    /// Its id in the head.
    pub head: ServiceId,
}

/// A service that one mesh has, or both: at least one of the ids is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its id in the base.
    pub base: Option<ServiceId>,
    /// Its id in the head.
    pub head: Option<ServiceId>,
}

impl Pair {
    /// The same seen from the other side.
    #[must_use]
    pub const fn reverted(self) -> Self {
        Self {
            base: self.head,
            head: self.base,
        }
    }
}

/// A pair of services that both meshes have, of which one declares to call the other before or after.
#[derive(Clone, Copy, Debug)]
pub struct KeptEdge {
    /// Who calls.
    pub caller: Kept,
    /// Who is called.
    pub callee: Kept,
}

impl<'m> Change<'m> {
    /// Compares two meshes.
    pub const fn new(base: &'m LinkedMesh, head: &'m LinkedMesh) -> Self {
        Self { base, head }
    }

    /// The same the other way round: what a revert would do.
    #[must_use]
    pub const fn reverted(self) -> Self {
        Self {
            base: self.head,
            head: self.base,
        }
    }

    /// Services of both meshes, ascending by name.
    pub fn kept(self) -> impl Iterator<Item = Kept> + 'm {
        self.head.service_ids().filter_map(move |head| {
            let base = self
                .base
                .service_named(&self.head.service(head).name.value)?;
            Some(Kept { base, head })
        })
    }

    /// Services of either mesh, ascending by name.
    pub fn pairs(self) -> Vec<Pair> {
        let names = |mesh: &'m LinkedMesh| mesh.services.iter().map(|one| &one.name.value);
        let all: BTreeSet<&String> = names(self.base).chain(names(self.head)).collect();
        let pair = |name: &String| self.pair(name);
        all.into_iter().map(pair).collect()
    }

    /// The service of this name in either.
    pub fn pair(self, name: &str) -> Pair {
        Pair {
            base: self.base.service_named(name),
            head: self.head.service_named(name),
        }
    }

    /// The name of a service of either mesh.
    pub fn name_of(self, pair: Pair) -> &'m str {
        let base = pair.base.map(|id| self.base.service(id));
        let head = pair.head.map(|id| self.head.service(id));
        head.or(base)
            .map_or("", |service| service.name.value.as_str())
    }

    /// Whether a request to this service has to name the port, since without it another one is meant before or after, or
    /// one of several.
    pub fn names_port(self, name: &str) -> bool {
        let ports = |mesh: &'m LinkedMesh| Some(ports(mesh.service(mesh.service_named(name)?)));
        let several = |ports: &Vec<u16>| ports.len() > 1;
        let (base, head) = (ports(self.base), ports(self.head));
        let (base, head) = (base.map(Vec::from_iter), head.map(Vec::from_iter));
        [&base, &head].into_iter().flatten().any(several)
            || base.zip(head).is_some_and(|(base, head)| base != head)
    }

    /// Services that only the base has, ascending by name.
    pub fn removed(self) -> impl Iterator<Item = ServiceId> + 'm {
        let head = self.head;
        let is_gone = move |service: &&Service| head.service_named(&service.name.value).is_none();
        self.base
            .services
            .iter()
            .filter(is_gone)
            .map(|service| service.id)
    }

    /// The service of the head in both.
    pub fn kept_service(self, head: ServiceId) -> Option<Kept> {
        let base = self
            .base
            .service_named(&self.head.service(head).name.value)?;
        Some(Kept { base, head })
    }

    /// The same service of the base in both.
    pub fn kept_in_head(self, base: ServiceId) -> Option<Kept> {
        let head = self
            .head
            .service_named(&self.base.service(base).name.value)?;
        Some(Kept { base, head })
    }

    /// Pairs that both meshes have, declared by one of them, ascending.
    pub fn kept_edges(self) -> impl Iterator<Item = KeptEdge> + 'm {
        self.head.edges.iter().filter_map(move |edge| {
            let kept = KeptEdge {
                caller: self.kept_service(edge.caller)?,
                callee: self.kept_service(edge.callee)?,
            };
            let before = self.base.edge(kept.caller.base, kept.callee.base)?;
            let is_declared = |edge: &Edge| edge.is_used();
            (is_declared(edge) || is_declared(before)).then_some(kept)
        })
    }
}

/// The numbers of the ports of a service.
fn ports(service: &Service) -> impl Iterator<Item = u16> + Clone + '_ {
    service.ports.iter().map(|port| port.number.value)
}

#[cfg(test)]
mod tests;
