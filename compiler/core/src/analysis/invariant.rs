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
        /// The requirement, as an index of [`Service::requirements`], by which an authorizer decides about it, which
        /// may be against the claim or for it.
        authorizer: Option<usize>,
    },
    /// A path of permitted calls.
    Path {
        /// From its first service to its last, at least two.
        services: Vec<ServiceId>,
        /// What lets the request in at each hop, where one can be shown.
        ways: Vec<Option<Way>>,
        /// A request of the last hop.
        witness: Option<Point>,
        /// Whether the engine lets a request in at every hop, about which no authorizer is asked; sets may hold more
        /// than it does.
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
            let entrance = Entrance::admitting(mesh, *to)?;
            let let_in = entrance.entered()?;
            let authorized = entrance.authorized()?;
            if !*allowed {
                let against = asked.intersection(&let_in)?;
                return request(mesh, *to, &against, &authorized);
            }
            let against = asked.remainder(&[&let_in], SAMPLES_MAX)?;
            if against.is_empty() {
                // What an authorizer is asked about is let in if it says so.
                return Ok(left_open(mesh, *to, &asked.intersection(&authorized)?));
            }
            Ok(refused(mesh, *to, &against))
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
    let entrance = Entrance::admitting(mesh, target)?;
    let others = (entrance.entered()?).remainder(&[&Space::from(&named)?], SAMPLES_MAX)?;
    request(mesh, target, &others, &entrance.authorized()?)
}

fn principals(service: &Service) -> impl Iterator<Item = Principal> + '_ {
    service.identities.iter().cloned().map(Principal::SpiffeId)
}

/// A request of the set that the engine lets in: one about which nobody else is asked, if there is one.
fn request(
    mesh: &LinkedMesh,
    to: ServiceId,
    against: &Space,
    authorized: &Space,
) -> Result<Option<Violation>, CapExceeded> {
    let Some(door) = Door::of(mesh, to).filter(|_| !against.is_empty()) else {
        return Ok(None);
    };
    let certain = against.remainder(&[authorized], SAMPLES_MAX)?;
    let witness = shown(&door, &[&certain, against], |point| {
        door.admits(point).is_some()
    });
    Ok(Some(Violation::Request {
        to,
        way: witness.as_ref().and_then(|point| door.admits(point)),
        authorizer: witness.as_ref().and_then(|point| door.authorizer(point)),
        witness,
    }))
}

/// A request of the set that the engine refuses.
fn refused(mesh: &LinkedMesh, to: ServiceId, against: &Space) -> Option<Violation> {
    let door = Door::of(mesh, to)?;
    Some(Violation::Request {
        to,
        way: None,
        authorizer: None,
        witness: shown(&door, &[against], |point| door.admits(point).is_none()),
    })
}

/// A request of the set that an authorizer may refuse.
fn left_open(mesh: &LinkedMesh, to: ServiceId, asked: &Space) -> Option<Violation> {
    let door = Door::of(mesh, to).filter(|_| !asked.is_empty())?;
    let is_open = |point: &Point| door.admits(point).is_some() && door.authorizer(point).is_some();
    let witness = shown(&door, &[asked], is_open)?;
    Some(Violation::Request {
        to,
        way: door.admits(&witness),
        authorizer: door.authorizer(&witness),
        witness: Some(witness),
    })
}

fn shown(door: &Door, spaces: &[&Space], shows: impl Fn(&Point) -> bool) -> Option<Point> {
    let samples = |space: &&Space| {
        let samples = space.samples(door.likely(), SAMPLES_MAX);
        samples.filter_map(Result::ok).collect::<Vec<_>>()
    };
    spaces.iter().flat_map(samples).find(|point| shows(point))
}

/// How one service on the way was come to.
struct Hop {
    from: Option<ServiceId>,
    permit: Option<Permit>,
}

/// What lets a request in.
#[derive(Clone, Copy)]
struct Permit {
    way: Way,
    /// Whether an authorizer may still refuse it.
    is_open: bool,
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
            permit: None,
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
            let (witness, permit) = permitted.unzip();
            if to.contains(&callee) {
                let mut services = vec![callee, caller];
                let mut permits = vec![permit];
                let mut last = caller;
                while let Some(Hop {
                    from: Some(earlier),
                    permit,
                }) = before.get(&last)
                {
                    services.push(*earlier);
                    permits.push(*permit);
                    last = *earlier;
                }
                services.reverse();
                permits.reverse();
                let is_certain =
                    |permit: &Option<Permit>| permit.is_some_and(|permit| !permit.is_open);
                return Ok(Some(Violation::Path {
                    services,
                    certain: permits.iter().all(is_certain),
                    ways: (permits.iter())
                        .map(|permit| permit.map(|permit| permit.way))
                        .collect(),
                    witness,
                }));
            }
            let hop = Hop {
                from: Some(caller),
                permit,
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
    known: BTreeMap<ServiceId, Known>,
}

/// How one service is entered.
struct Known {
    entered: Space,
    /// That part of it about which no authorizer is asked.
    certain: Space,
    door: Option<Door>,
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
    ) -> Result<Option<Option<(Point, Permit)>>, CapExceeded> {
        let mesh = self.mesh;
        let known = match self.known.entry(callee) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let entrance = Entrance::admitting(mesh, callee)?;
                let entered = entrance.entered()?;
                let certain = entered.remainder(&[&entrance.authorized()?], usize::MAX)?;
                new.insert(Known {
                    entered,
                    certain,
                    door: Door::of(mesh, callee),
                })
            }
        };
        let ends = (mesh.service(caller), mesh.service(callee));
        let sent = sent(ends.0, ends.1)?;
        let let_in = known.entered.intersection(&sent)?;
        if let_in.is_empty() {
            return Ok(None);
        }
        let certain = known.certain.intersection(&sent)?;
        let Some(door) = &known.door else {
            return Ok(Some(None));
        };
        let names = peers(ends.0, ends.1).into_iter();
        let likely = Likely {
            callers: names.map(Option::unwrap_or_default).collect(),
            ..door.likely().clone()
        };
        let samples = |space: &Space| {
            let samples = space.samples(&likely, SAMPLES_MAX);
            samples.filter_map(Result::ok).collect::<Vec<_>>()
        };
        let witness = samples(&certain)
            .into_iter()
            .chain(samples(&let_in))
            .find_map(|point| {
                let way = door.admits(&point)?;
                let is_open = door.authorizer(&point).is_some();
                Some((point, Permit { way, is_open }))
            });
        Ok(Some(witness))
    }
}
