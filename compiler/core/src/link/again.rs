//! Linking a mesh of which an earlier state was linked: routes, which are most of it, are taken over where nothing that
//! they are made of has changed.

use std::sync::Arc;

use super::Context;
use crate::linked::{LinkedMesh, Routes};
use crate::model;

/// What was linked, as far as a later state of the mesh may take it over.
#[derive(Debug)]
pub(crate) struct Before {
    root: model::Root,
    policies: Vec<model::Policy>,
    gateway_routes: Vec<model::GatewayRoute>,
    /// Ascending by name, as [`LinkedMesh::services`].
    services: Vec<(Arc<model::Service>, Routes)>,
}

impl Before {
    /// Nothing of a mesh about which there was something to say: what is taken over would have to be said again.
    pub(super) fn of(
        mesh: &model::Mesh,
        linked: &LinkedMesh,
        context: Context<'_>,
        is_clean: bool,
    ) -> Option<Self> {
        let root = mesh.root.clone()?;
        let mut declared: Vec<_> = mesh.services.iter().map(Arc::clone).collect();
        declared.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        let names = || declared.iter().map(|service| &service.name.value);
        let is_whole = is_clean
            && !context.incomplete
            && context.earlier.is_empty()
            && names().eq(linked.services.iter().map(|service| &service.name.value));
        let routes = linked.services.iter().map(|service| service.routes.clone());
        is_whole.then(|| Self {
            root,
            policies: mesh.policies.clone(),
            gateway_routes: mesh.gateway_routes.clone(),
            services: declared.into_iter().zip(routes).collect(),
        })
    }

    /// Whether routes of this mesh, whose services ascend by name, may be taken over at all: what stands above services
    /// is as it was, and so is what routes of others may ask of each service.
    pub(super) fn is_frame_of(&self, mesh: &model::Mesh, services: &[&model::Service]) -> bool {
        let pairs = self.services.iter().map(|(before, _)| &**before);
        services.len() == self.services.len()
            && mesh.root.as_ref() == Some(&self.root)
            && mesh.policies == self.policies
            && mesh.gateway_routes == self.gateway_routes
            && pairs
                .zip(services)
                .all(|(before, now)| std::ptr::eq(before, *now) || is_same_to_others(before, now))
    }

    /// The routes of a service, if it is the one that was linked.
    pub(super) fn routes(&self, position: usize, service: &model::Service) -> Option<Routes> {
        let (before, routes) = self.services.get(position)?;
        std::ptr::eq(&raw const **before, service).then(|| routes.clone())
    }
}

/// Whether routes of other services find the same in both.
fn is_same_to_others(before: &model::Service, now: &model::Service) -> bool {
    let model::Service {
        kind,
        name,
        ports,
        endpoints,
        hosts,
        identities,
        subsets,
        // What it says of itself.
        routes: _,
        calls: _,
        callers_may_extend: _,
        facts: _,
        settings: _,
        mtls: _,
        telemetry: _,
        reach,
        span: _,
    } = before;
    *kind == now.kind
        && name.value == now.name.value
        && *ports == now.ports
        && *endpoints == now.endpoints
        && *hosts == now.hosts
        && *identities == now.identities
        && *subsets == now.subsets
        && *reach == now.reach
}
