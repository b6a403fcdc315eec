//! What routes of teams' own files take from a gateway beyond what it delegates to them.

use mesh_bundle::slice::Condition;

use super::probe::{self, Probe};
use super::request_space::{CapExceeded, Point, Repeated, Space};
use super::routes;
use crate::linked::{DelegatedRoute, LinkedMesh, ServiceId};

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;

/// A route that takes requests that are not delegated to its team.
#[derive(Clone, Debug)]
pub struct Beyond {
    /// One of them, which the engine has agreed that the route admits.
    pub witness: Option<Point>,
}

/// Whether a delegated route takes more than its gateway delegates to its team.
pub fn beyond(
    mesh: &LinkedMesh,
    gateway: ServiceId,
    delegated: &DelegatedRoute,
) -> Result<Option<Beyond>, CapExceeded> {
    let service = mesh.service(gateway);
    let (Some(own), Some(route)) = (service.gateway(), service.routes.get(delegated.route)) else {
        return Ok(None);
    };
    let takes =
        Space::of_matches(&probe::matches(route))?.intersection(&routes::universe(service)?)?;
    let mut granted = Vec::new();
    let owner = mesh.owner(route.name.span.file);
    for grant in &own.delegates {
        if owner.is_some_and(|team| team.name.value == grant.team.value) {
            let conditions: Vec<Condition> = grant
                .conditions
                .iter()
                .map(|condition| condition.value.clone())
                .collect();
            granted.push(Space::of_conditions(&conditions, Repeated::One)?);
        }
    }
    let left = takes.remainder(&granted.iter().collect::<Vec<_>>(), SAMPLES_MAX)?;
    if left.is_empty() {
        return Ok(None);
    }
    let witness = Probe::of(mesh, gateway).and_then(|probe| {
        left.samples(probe.likely(), SAMPLES_MAX)
            .filter_map(Result::ok)
            .find(|point| probe.admits(delegated.route, point))
    });
    Ok(Some(Beyond { witness }))
}
