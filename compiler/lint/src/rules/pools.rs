//! How callers pick, limit and watch endpoints, for the rules about it.

use mesh_bundle::slice::EndpointAddress;
use mesh_compiler::linked::{Endpoints, LinkedMesh, Pool, Service};

/// The pools of services, and those of subsets that have their own.
pub(crate) fn pools(mesh: &LinkedMesh) -> impl Iterator<Item = (&Service, &Pool)> {
    mesh.services.iter().flat_map(|service| {
        let own = service.subsets.iter().filter(|subset| subset.has_own_pool);
        let subsets = own.map(|subset| &subset.pool);
        std::iter::once(&service.pool)
            .chain(subsets)
            .map(move |pool| (service, pool))
    })
}

/// Endpoints of a service that are known; none where a name may stand for many, or where they are
/// discovered and nobody says how many.
pub(crate) fn endpoints(service: &Service) -> Option<u64> {
    if let Some(replicas) = service.facts.replicas {
        return Some(u64::from(replicas.value));
    }
    let Endpoints::Declared(endpoints) = &service.endpoints else {
        return None;
    };
    let named = |address: &EndpointAddress| matches!(address, EndpointAddress::Dns { .. });
    if endpoints.iter().any(|each| named(&each.value.address)) {
        return None;
    }
    u64::try_from(endpoints.len()).ok()
}
