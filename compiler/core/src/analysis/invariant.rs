//! Whether what must hold for the whole mesh does: over permitted calls, and over sets of requests.
//!
//! A call is permitted where the callee lets some request of the caller in, whether or not anybody
//! declares it: what is allowed is what an intruder can use. A gateway calls only where its routes lead.

use std::collections::BTreeMap;

use mesh_bundle::slice::Principal;

use super::access;
use super::probe::Probe;
use super::request_space::{CapExceeded, Likely, Point, Repeated, Space};
use super::routes;
use crate::linked::{Claim, ClaimKind, LinkedMesh, Service, ServiceId};

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;

/// How a claim does not hold.
#[derive(Clone, Debug)]
pub enum Violation {
    /// A request that the engine lets in, or refuses, against the claim.
    Request {
        /// The service that it is for.
        to: ServiceId,
        /// The request; none where there is one that can't be shown.
        witness: Option<Point>,
    },
    /// A path of permitted calls.
    Path {
        /// From its first service to its last, at least two.
        services: Vec<ServiceId>,
        /// A request of the last hop.
        witness: Option<Point>,
        /// Whether the engine lets a request in at every hop; sets may hold more than it does.
        certain: bool,
    },
}

/// How a claim does not hold; nothing if it does.
pub fn violation(mesh: &LinkedMesh, claim: &Claim) -> Result<Option<Violation>, CapExceeded> {
    match &claim.kind {
        ClaimKind::Reaches { target, only } => reaches(mesh, *target, only),
        ClaimKind::Isolated { from, to } => isolated(mesh, from, to),
        ClaimKind::Decided {
            allowed,
            from,
            to,
            conditions,
        } => {
            let service = mesh.service(*to);
            let mut asked = Space::of_conditions(conditions, Repeated::One)?
                .intersection(&routes::universe(service)?)?;
            if !from.is_empty() {
                asked = asked.intersection(&Space::from(from)?)?;
            }
            let let_in = access::allowed(service)?;
            let against = if *allowed {
                asked.remainder(&[&let_in], SAMPLES_MAX)?
            } else {
                asked.intersection(&let_in)?
            };
            Ok(request(mesh, *to, &against, !allowed))
        }
    }
}

/// Whoever is let in besides those named, and besides the service itself.
fn reaches(
    mesh: &LinkedMesh,
    target: ServiceId,
    only: &[ServiceId],
) -> Result<Option<Violation>, CapExceeded> {
    let service = mesh.service(target);
    let named = only
        .iter()
        .chain([&target])
        .flat_map(|id| principals(mesh.service(*id)))
        .collect::<Vec<_>>();
    let let_in = access::allowed(service)?.intersection(&routes::universe(service)?)?;
    let others = let_in.remainder(&[&Space::from(&named)?], SAMPLES_MAX)?;
    Ok(request(mesh, target, &others, true))
}

fn principals(service: &Service) -> impl Iterator<Item = Principal> + '_ {
    service.identities.iter().cloned().map(Principal::SpiffeId)
}

/// A request of the set of which the engine says what the set does.
fn request(
    mesh: &LinkedMesh,
    to: ServiceId,
    against: &Space,
    is_allowed: bool,
) -> Option<Violation> {
    if against.is_empty() {
        return None;
    }
    let probe = Probe::of(mesh, to)?;
    let witness = against
        .samples(probe.likely(), SAMPLES_MAX)
        .filter_map(Result::ok)
        .find(|point| probe.is_allowed(point) == Some(is_allowed));
    Some(Violation::Request { to, witness })
}

/// The shortest path of permitted calls from one of the first to one of the others, by breadth.
fn isolated(
    mesh: &LinkedMesh,
    from: &[ServiceId],
    to: &[ServiceId],
) -> Result<Option<Violation>, CapExceeded> {
    // Each service with the one before it, and whether all hops so far are certain.
    let mut before: BTreeMap<ServiceId, (Option<ServiceId>, bool)> =
        from.iter().map(|id| (*id, (None, true))).collect();
    let mut waiting: std::collections::VecDeque<ServiceId> = from.iter().copied().collect();
    while let Some(caller) = waiting.pop_front() {
        for callee in callees(mesh, caller) {
            if before.contains_key(&callee) && !to.contains(&callee) {
                continue;
            }
            let Some(point) = permitted(mesh, caller, callee)? else {
                continue;
            };
            if to.contains(&callee) {
                let mut services = vec![callee, caller];
                let mut last = caller;
                let mut certain = point.is_some();
                certain &= before.get(&caller).is_some_and(|(_, certain)| *certain);
                while let Some((Some(earlier), _)) = before.get(&last) {
                    services.push(*earlier);
                    last = *earlier;
                }
                services.reverse();
                return Ok(Some(Violation::Path {
                    services,
                    witness: point,
                    certain,
                }));
            }
            let certain = before.get(&caller).is_some_and(|(_, certain)| *certain);
            before.insert(callee, (Some(caller), certain && point.is_some()));
            waiting.push_back(callee);
        }
    }
    Ok(None)
}

/// Whom a service might call: those with an edge, and gateways, which have none from their clients.
fn callees(mesh: &LinkedMesh, caller: ServiceId) -> Vec<ServiceId> {
    let is_gateway = mesh.service(caller).gateway().is_some();
    let gateways = mesh
        .services
        .iter()
        .filter(|service| service.gateway().is_some() && !is_gateway)
        .map(|service| service.id);
    let mut callees: Vec<ServiceId> = mesh
        .edges_of(caller)
        .map(|edge| edge.callee)
        .chain(gateways)
        .collect();
    callees.sort_unstable();
    callees
}

/// A request of the caller that the callee lets in: nothing if there is none, and inside, nothing if
/// there is one that can't be shown.
#[expect(
    clippy::option_option,
    reason = "outside: permitted or not; inside: shown or not"
)]
fn permitted(
    mesh: &LinkedMesh,
    caller: ServiceId,
    callee: ServiceId,
) -> Result<Option<Option<Point>>, CapExceeded> {
    let service = mesh.service(callee);
    let from: Vec<Principal> = principals(mesh.service(caller)).collect();
    let let_in = access::allowed(service)?
        .intersection(&routes::universe(service)?)?
        .intersection(&Space::from(&from)?)?;
    if let_in.is_empty() {
        return Ok(None);
    }
    let Some(probe) = Probe::of(mesh, callee) else {
        return Ok(Some(None));
    };
    let likely = Likely {
        callers: mesh
            .service(caller)
            .identities
            .iter()
            .map(|identity| identity.as_str().to_owned())
            .collect(),
        ..probe.likely().clone()
    };
    let witness = let_in
        .samples(&likely, SAMPLES_MAX)
        .filter_map(Result::ok)
        .find(|point| probe.is_allowed(point) == Some(true));
    Ok(Some(witness))
}
