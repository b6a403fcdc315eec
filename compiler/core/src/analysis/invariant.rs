//! Whether what must hold for the whole mesh does: over permitted calls, and over sets of requests.
//!
//! A call is permitted where some request of the caller gets in, by whatever lets it in, whether or not anybody
//! declares it: what is allowed is what an intruder can use. A service is known to others by what its proxy
//! proves; one without a proxy is anybody without an identity. A gateway calls only where its routes lead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use mesh_bundle::slice::Principal;

use super::entrance::{Door, Entrance, Way, is_unguarded, peers, sent};
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
        /// What lets the witness in; none if it is refused, or there is none.
        way: Option<Way>,
    },
    /// A path of permitted calls.
    Path {
        /// From its first service to its last, at least two.
        services: Vec<ServiceId>,
        /// What lets the request in at each hop, where one can be shown.
        ways: Vec<Option<Way>>,
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
            let let_in = Entrance::admitting(mesh, *to)?.entered()?;
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
    let named = only
        .iter()
        .chain([&target])
        .flat_map(|id| principals(mesh.service(*id)))
        .collect::<Vec<_>>();
    let let_in = Entrance::admitting(mesh, target)?.entered()?;
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
    let door = Door::of(mesh, to)?;
    let witness = against
        .samples(door.likely(), SAMPLES_MAX)
        .filter_map(Result::ok)
        .find(|point| door.admits(point).is_some() == is_allowed);
    Some(Violation::Request {
        to,
        way: witness.as_ref().and_then(|point| door.admits(point)),
        witness,
    })
}

/// How one service on the way was come to.
struct Hop {
    from: Option<ServiceId>,
    way: Option<Way>,
}

/// The shortest path of permitted calls from one of the first to one of the others, by breadth.
fn isolated(
    mesh: &LinkedMesh,
    from: &[ServiceId],
    to: &[ServiceId],
) -> Result<Option<Violation>, CapExceeded> {
    let start = |id: &ServiceId| {
        let hop = Hop {
            from: None,
            way: None,
        };
        (*id, hop)
    };
    let mut before: BTreeMap<ServiceId, Hop> = from.iter().map(start).collect();
    let mut waiting: VecDeque<ServiceId> = from.iter().copied().collect();
    let mut entrances = Entrances {
        mesh,
        known: BTreeMap::new(),
    };
    while let Some(caller) = waiting.pop_front() {
        for callee in callees(mesh, caller) {
            if before.contains_key(&callee) && !to.contains(&callee) {
                continue;
            }
            let Some(permitted) = entrances.permitted(caller, callee)? else {
                continue;
            };
            let (witness, way) = permitted.unzip();
            if to.contains(&callee) {
                let mut services = vec![callee, caller];
                let mut ways = vec![way];
                let mut last = caller;
                while let Some(Hop {
                    from: Some(earlier),
                    way,
                }) = before.get(&last)
                {
                    services.push(*earlier);
                    ways.push(*way);
                    last = *earlier;
                }
                services.reverse();
                ways.reverse();
                return Ok(Some(Violation::Path {
                    services,
                    certain: ways.iter().all(Option::is_some),
                    ways,
                    witness,
                }));
            }
            let hop = Hop {
                from: Some(caller),
                way,
            };
            before.insert(callee, hop);
            waiting.push_back(callee);
        }
    }
    Ok(None)
}

/// Whom a service might call: those with an edge, and who lets in others than it knows: gateways, which have no
/// edge from their clients, and services that nothing guards. What has no proxy itself is known to nobody, so
/// that for it there are no edges.
fn callees(mesh: &LinkedMesh, caller: ServiceId) -> Vec<ServiceId> {
    let service = mesh.service(caller);
    if service.is_external() {
        return Vec::new();
    }
    if service.gateway().is_some() {
        let routed = mesh.edges_of(caller).filter(|edge| edge.is_used());
        return routed.map(|edge| edge.callee).collect();
    }
    let others = mesh
        .services
        .iter()
        .filter(|other| is_unguarded(service) || is_unguarded(other) || other.gateway().is_some())
        .map(|other| other.id);
    let mut callees: Vec<ServiceId> = mesh
        .edges_of(caller)
        .map(|edge| edge.callee)
        .chain(others)
        .filter(|callee| *callee != caller)
        .collect();
    callees.sort_unstable();
    callees.dedup();
    callees
}

/// How services are entered, worked out once for each.
struct Entrances<'m> {
    mesh: &'m LinkedMesh,
    known: BTreeMap<ServiceId, (Space, Option<Door>)>,
}

impl Entrances<'_> {
    /// A request of the caller that the callee lets in, and what lets it in: nothing if there is none, and inside,
    /// nothing if there is one that can't be shown.
    #[expect(
        clippy::option_option,
        reason = "outside: permitted or not; inside: shown or not"
    )]
    fn permitted(
        &mut self,
        caller: ServiceId,
        callee: ServiceId,
    ) -> Result<Option<Option<(Point, Way)>>, CapExceeded> {
        let mesh = self.mesh;
        let (entered, door) = match self.known.entry(callee) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let entered = Entrance::admitting(mesh, callee)?.entered()?;
                new.insert((entered, Door::of(mesh, callee)))
            }
        };
        let ends = (mesh.service(caller), mesh.service(callee));
        let let_in = entered.intersection(&sent(ends.0, ends.1)?)?;
        if let_in.is_empty() {
            return Ok(None);
        }
        let Some(door) = door else {
            return Ok(Some(None));
        };
        let names = peers(ends.0, ends.1).into_iter();
        let likely = Likely {
            callers: names.map(Option::unwrap_or_default).collect(),
            ..door.likely().clone()
        };
        let witness = let_in
            .samples(&likely, SAMPLES_MAX)
            .filter_map(Result::ok)
            .find_map(|point| {
                let way = door.admits(&point)?;
                Some((point, way))
            });
        Ok(Some(witness))
    }
}
