//! Which services of a mesh are as they were in an earlier one, with all that they touch. What is said of such a
//! service alone, and what its proxy is told, is then what it was.
//!
//! Places count too: a value that moved within its file is another value, because findings point to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_bundle::spiffe::SpiffeId;
use rayon::prelude::*;

use crate::linked::{Edge, LinkedMesh, Service, ServiceId};

/// What of a mesh is as it was; of none in particular, nothing.
#[derive(Debug, Default)]
pub struct Unchanged {
    /// By index of a service.
    services: Vec<bool>,
    /// Identities of services that are not as they were, or were not.
    identities: BTreeSet<SpiffeId>,
}

impl Unchanged {
    /// Nothing is as it was.
    fn nothing(old: &LinkedMesh, new: &LinkedMesh) -> Self {
        let all = old.services.iter().chain(&new.services);
        Self {
            services: vec![false; new.services.len()],
            identities: all
                .flat_map(|service| &service.identities)
                .cloned()
                .collect(),
        }
    }

    /// Compares two meshes. Where a name is gone or new, ids have moved, and nothing counts as unchanged.
    pub fn between(old: &LinkedMesh, new: &LinkedMesh) -> Self {
        let names = |mesh: &LinkedMesh| mesh.services.len();
        let all = || old.services.iter().zip(&new.services);
        let same_names = all().all(|(old, new)| old.name.value == new.name.value);
        if names(old) != names(new) || !same_names || !is_frame_same(old, new) {
            return Self::nothing(old, new);
        }
        let pairs = old.services.par_iter().zip(&new.services);
        let itself: Vec<bool> = pairs.map(|(old, new)| old == new).collect();
        let mut services = itself.clone();
        let mut touch = |edge: &Edge| {
            for (one, other) in [(edge.caller, edge.callee), (edge.callee, edge.caller)] {
                if !itself[other.index()] {
                    services[one.index()] = false;
                }
            }
        };
        old.edges.iter().chain(&new.edges).for_each(&mut touch);
        let is_same = |one: &Edge, two: &Edge| is_same(one, two, old, new, &itself);
        for edge in differing(&old.edges, &new.edges, is_same) {
            services[edge.caller.index()] = false;
            services[edge.callee.index()] = false;
        }
        let changed = |service: &&Service| !services[service.id.index()];
        let changed = old.services.iter().chain(&new.services).filter(changed);
        let identities = changed
            .flat_map(|service| &service.identities)
            .cloned()
            .collect();
        Self {
            services,
            identities,
        }
    }

    /// Whether a service, the services that it calls or that call it, and all that lies between them are as they were.
    pub fn service(&self, id: ServiceId) -> bool {
        self.services.get(id.index()).copied().unwrap_or(false)
    }

    /// Something about each service of the mesh: what was known of those that are unchanged, and the others computed.
    pub fn again<T: Send + Sync>(
        &self,
        mesh: &LinkedMesh,
        earlier: &[Arc<T>],
        of: impl Fn(ServiceId) -> T + Sync,
    ) -> Vec<Arc<T>> {
        let ids: Vec<ServiceId> = mesh.service_ids().collect();
        let known = |id: ServiceId| earlier.get(id.index()).filter(|_| self.service(id));
        ids.into_par_iter()
            .map(|id| known(id).map_or_else(|| Arc::new(of(id)), Arc::clone))
            .collect()
    }

    /// Whether that holds for every service that has this identity, or had it.
    pub fn identity(&self, identity: &SpiffeId) -> bool {
        !self.identities.contains(identity)
    }
}

/// Whether what stands above all services is as it was, and those that stand for strangers.
fn is_frame_same(old: &LinkedMesh, new: &LinkedMesh) -> bool {
    let frame = |mesh: &LinkedMesh| {
        (
            mesh.name.value.clone(),
            mesh.trust_domain.value.clone(),
            mesh.environment.clone(),
            mesh.federates.clone(),
        )
    };
    let strangers = |mesh: &LinkedMesh| {
        let first = mesh
            .services
            .iter()
            .take(crate::analysis::probe::STRANGERS_MAX + 1);
        first
            .flat_map(|service| service.identities.clone())
            .collect::<Vec<_>>()
    };
    frame(old) == frame(new)
        && old.jwts == new.jwts
        && old.authorizers == new.authorizers
        && strangers(old) == strangers(new)
}

/// Whether an edge is as it was; `itself` says of each service whether it is. Most exchanges of an edge are those of the
/// callee's routes, which have been compared.
fn is_same(one: &Edge, two: &Edge, old: &LinkedMesh, new: &LinkedMesh, itself: &[bool]) -> bool {
    let Edge {
        caller,
        callee,
        declared,
        permitted,
        routed,
        led,
        asked,
        exchanges,
    } = one;
    let is_frame_same = *caller == two.caller
        && *callee == two.callee
        && *declared == two.declared
        && *permitted == two.permitted
        && *routed == two.routed
        && *led == two.led
        && *asked == two.asked
        && exchanges.len() == two.exchanges.len();
    if !is_frame_same {
        return false;
    }
    let is_callee_same = itself[callee.index()];
    let routes = (old.service(*callee).routes.iter()).zip(&new.service(*callee).routes);
    let own = routes.map(|(one, two)| (&one.exchange, &two.exchange));
    let own = own.map(Some).chain(std::iter::repeat(None));
    let mut pairs = exchanges.iter().zip(&two.exchanges).zip(own);
    pairs.all(|((one, two), own)| {
        let of_routes = own.is_some_and(|(before, after)| {
            is_callee_same && Arc::ptr_eq(one, before) && Arc::ptr_eq(two, after)
        });
        of_routes || one == two
    })
}

/// Edges that only one of two lists has in this form. Both ascend by (caller, callee).
fn differing<'e>(
    old: &'e [Edge],
    new: &'e [Edge],
    is_same: impl Fn(&Edge, &Edge) -> bool,
) -> Vec<&'e Edge> {
    let key = |edge: &Edge| (edge.caller, edge.callee);
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut found = Vec::new();
    loop {
        let (before, after) = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(before), None) => (Some(*before), None),
            (None, Some(after)) => (None, Some(*after)),
            (Some(before), Some(after)) => match key(before).cmp(&key(after)) {
                std::cmp::Ordering::Less => (Some(*before), None),
                std::cmp::Ordering::Equal => (Some(*before), Some(*after)),
                std::cmp::Ordering::Greater => (None, Some(*after)),
            },
        };
        if before.is_some() {
            old.next();
        }
        if after.is_some() {
            new.next();
        }
        let same = before
            .zip(after)
            .is_some_and(|(before, after)| is_same(before, after));
        if !same {
            found.extend(before.or(after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util;

    const POLICY: &str = "\
mesh example { trust-domain \"example.test\" }
service a { port 80; endpoints { static \"10.0.0.1:80\" }; calls b }
service b { port 80; endpoints { static \"10.0.0.2:80\" }; allow a; calls c }
service c { port 80; endpoints { static \"10.0.0.3:80\" }; allow b }
service d { port 80; endpoints { static \"10.0.0.4:80\" } }
";

    #[track_caller]
    fn changed(from: &str, to: &str) -> String {
        let linked = |text: &str| {
            let sources = test_util::sources(&[("mesh.kdl", text)]);
            test_util::load(&sources).mesh.unwrap()
        };
        let (old, new) = (linked(POLICY), linked(&POLICY.replacen(from, to, 1)));
        let unchanged = Unchanged::between(&old, &new);
        let names = new
            .services
            .iter()
            .filter(|service| !unchanged.service(service.id));
        names.map(|service| service.name.value.as_str()).collect()
    }

    #[test]
    fn what_a_service_touches_counts() {
        assert_eq!(changed("", ""), "");
        assert_eq!(changed("10.0.0.4", "10.0.0.5"), "d");
        assert_eq!(changed("10.0.0.3", "10.0.0.5"), "bc");
        assert_eq!(changed("10.0.0.1", "10.0.0.5"), "ab");
        // All below it have moved.
        assert_eq!(changed("calls b", ""), "abcd");
        assert_eq!(changed("example.test", "other.test"), "abcd");
        assert_eq!(changed("service d", "service e"), "abce");
    }
}
