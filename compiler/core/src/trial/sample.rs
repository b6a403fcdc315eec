//! A request that an edge is sure to carry, for demonstrations.

use mesh_bundle::slice::{AccessRule, RouteMatch};
use mesh_syntax::Witness;

use super::expectation::default_host;
use super::{Call, Decision, Trial};
use crate::analysis::connections;
use crate::analysis::request_space::{CapExceeded, Likely, Space};
use crate::limits::SAMPLE_TRIES_MAX;
use crate::linked::{Access, LinkedMesh, Route, Service, ServiceId};
use crate::model::Effect;

/// A request of `caller` that `callee` allows and a route of it takes, checked by the engine; the
/// route with the fewest conditions first, for it is the one that ordinary requests take. Nothing
/// when there is no such request, or it would take too long to find.
pub fn sample_request(mesh: &LinkedMesh, caller: ServiceId, callee: ServiceId) -> Option<Witness> {
    let edge = mesh.edge(caller, callee)?;
    let service = mesh.service(callee);
    let caller = mesh.service(caller);
    let likely = likely(mesh, caller, service);
    let mut routes: Vec<&Route> = service.routes.iter().collect();
    routes.sort_by_key(|route| conditions_of(route));
    let mut trial = Trial::new(mesh);
    let mut tries = 0;
    for route in routes {
        for rule in edge
            .permitted
            .iter()
            .filter_map(|index| service.access.get(*index))
        {
            let Ok(space) = space(caller, service, rule, route) else {
                continue;
            };
            for point in space.samples(&likely, SAMPLE_TRIES_MAX - tries).flatten() {
                tries += 1;
                let several = service.ports.len() > 1;
                let witness = point.to_witness(
                    Some(caller.name.value.clone()),
                    service.name.value.clone(),
                    several,
                );
                let outcome = trial.run(&Call::from(&witness));
                if outcome.is_ok_and(|outcome| outcome.decision == Decision::Allowed) {
                    return Some(witness);
                }
            }
            if tries >= SAMPLE_TRIES_MAX {
                return None;
            }
        }
    }
    None
}

fn conditions_of(route: &Route) -> usize {
    // A route without `match`, like an empty one, takes everything.
    route
        .matches
        .iter()
        .map(|block| block.conditions.len())
        .min()
        .unwrap_or(0)
}

pub(super) fn likely(mesh: &LinkedMesh, caller: &Service, callee: &Service) -> Likely {
    Likely {
        hosts: vec![default_host(mesh, &callee.name.value)],
        callers: caller.identities.iter().map(ToString::to_string).collect(),
        paths: vec!["/".to_owned(), format!("/{}/1", callee.name.value)],
    }
}

/// What the rule allows, the route matches, and no `deny` takes.
fn space(
    caller: &Service,
    callee: &Service,
    rule: &Access,
    route: &Route,
) -> Result<Space, CapExceeded> {
    let ports = Space::to_ports(callee.ports.iter().map(|port| port.number.value))?;
    let who: Vec<_> = caller
        .identities
        .first()
        .map(|id| mesh_bundle::slice::Principal::SpiffeId(id.clone()))
        .into_iter()
        .collect();
    let matches: Vec<RouteMatch> = route
        .matches
        .iter()
        .map(|block| RouteMatch {
            conditions: block
                .conditions
                .iter()
                .map(|condition| condition.value.clone())
                .collect(),
        })
        .collect();
    let mut space = connections::spoken_of(callee, &slice_rule(rule))?
        .intersection(&Space::from(&who)?)?
        .intersection(&ports)?
        .intersection(&Space::of_matches(&matches)?)?;
    for deny in callee
        .access
        .iter()
        .filter(|rule| rule.effect == Effect::Deny)
    {
        space = space.difference(&connections::spoken_of(callee, &slice_rule(deny))?)?;
    }
    Ok(space)
}

pub(super) fn slice_rule(rule: &Access) -> AccessRule {
    crate::emit::rule(rule)
}
