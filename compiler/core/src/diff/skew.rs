//! The skewed middle: while a generation rolls out, one end of a call has it and the other does not.
//! What worked before and works after must work then too, in both directions.

use mesh_bundle::slice::Protocol;
use rayon::prelude::*;

use super::access::{decides_alike, ends, find};
use super::{Change, Kept, KeptEdge};
use crate::analysis::entrance::{Door, Entrance, is_unguarded, sent};
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::linked::{LinkedMesh, Service};

/// Requests left over that are tried as a witness.
const SAMPLES_MAX: usize = 16;

/// A pair of services that works before and after, and not in between.
#[derive(Clone, Debug)]
pub struct Skew {
    /// Who calls whom.
    pub edge: KeptEdge,
    /// Why the old caller is refused by the new callee, if it is.
    pub old_caller: Option<Break>,
    /// Why the new caller is refused by the old callee, if it is.
    pub new_caller: Option<Break>,
}

/// Why a request fails in the middle.
#[derive(Clone, Debug)]
pub struct Break {
    /// What does not fit.
    pub cause: Cause,
    /// A request that works before and after, and not in the middle.
    pub witness: Option<Point>,
}

/// What does not fit between two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The callee shows another identity than the caller dials.
    CalleeIdentity,
    /// The callee does not listen where the caller dials.
    Port,
    /// They do not speak the same on the port.
    Protocol,
    /// The caller dials with mutual TLS and the callee takes plaintext only, or the other way round.
    Transport,
    /// The callee's rules refuse the identity that the caller has.
    CallerIdentity,
    /// The callee's rules refuse what they let in before and after.
    Rules,
}

/// Every pair that does not work in the middle, ascending by caller and callee, and how many pairs were
/// too large to compare.
pub fn all(change: Change<'_>) -> (Vec<Skew>, usize) {
    let edges: Vec<KeptEdge> = change.kept_edges().collect();
    let found: Vec<Result<Option<Skew>, CapExceeded>> =
        edges.into_par_iter().map(|edge| of(change, edge)).collect();
    let unknown = found.iter().filter(|each| each.is_err()).count();
    let skews = found.into_iter().filter_map(|each| each.ok().flatten());
    (skews.collect(), unknown)
}

/// What does not work between two services in the middle; nothing if everything does.
pub fn of(change: Change<'_>, edge: KeptEdge) -> Result<Option<Skew>, CapExceeded> {
    let [old_caller, old_callee, new_caller, new_callee] = ends(change, edge);
    // Who may leave for an external is decided at the caller, by the generation that it has.
    if old_callee.is_external() || new_callee.is_external() {
        return Ok(None);
    }
    let is_alike = old_caller.identities == new_caller.identities
        && is_unguarded(old_caller) == is_unguarded(new_caller)
        && old_callee.identities == new_callee.identities
        && protocols(old_callee) == protocols(new_callee)
        && decides_alike(change, edge.callee);
    if is_alike {
        return Ok(None);
    }
    let old = End {
        caller: old_caller,
        view: old_callee,
    };
    let new = End {
        caller: new_caller,
        view: new_callee,
    };
    let [old_callee, new_callee] = Callee::both(change, edge.callee)?;
    let before = works(old, &old_callee)?;
    let after = works(new, &new_callee)?;
    if before.is_empty() || after.is_empty() {
        return Ok(None);
    }
    // Where the only port moved, the requests are the same but for it.
    let both = before.intersection(&after)?;
    let skew = Skew {
        edge,
        old_caller: broken((old, new), &new_callee, (&both, &before))?,
        new_caller: broken((new, old), &old_callee, (&both, &after))?,
    };
    Ok((skew.old_caller.is_some() || skew.new_caller.is_some()).then_some(skew))
}

/// A caller with its generation's view of the callee.
#[derive(Clone, Copy)]
struct End<'m> {
    caller: &'m Service,
    view: &'m Service,
}

/// A callee of one generation, with what it lets in.
struct Callee<'m> {
    service: &'m Service,
    entered: Space,
    door: Option<Door>,
}

impl<'m> Callee<'m> {
    fn both(change: Change<'m>, kept: Kept) -> Result<[Self; 2], CapExceeded> {
        let of = |mesh: &'m LinkedMesh, id| {
            Ok(Self {
                service: mesh.service(id),
                entered: Entrance::of(mesh, id)?.entered()?,
                door: Door::of(mesh, id),
            })
        };
        Ok([of(change.base, kept.base)?, of(change.head, kept.head)?])
    }
}

impl End<'_> {
    /// Whether the caller's proxy dials with mutual TLS: it does so with every peer of the mesh, always.
    const fn is_mutual(self) -> bool {
        !is_unguarded(self.caller) && !is_unguarded(self.view)
    }
}

/// The requests, whoever sends them, that get from a caller to a callee of perhaps another generation.
fn works(end: End<'_>, callee: &Callee<'_>) -> Result<Space, CapExceeded> {
    if end.is_mutual() && (is_unguarded(callee.service) || !shares_identity(end, callee.service)) {
        return Ok(Space::nothing());
    }
    let sent = sent(end.caller, end.view)?;
    let ports = Space::to_ports(common_ports(end.view, callee.service))?;
    callee
        .entered
        .intersection(&sent)?
        .whoever_calls()
        .intersection(&ports)
}

/// Some instance of the callee shows an identity that the caller dials.
fn shares_identity(end: End<'_>, callee: &Service) -> bool {
    callee
        .identities
        .iter()
        .any(|identity| end.view.identities.contains(identity))
}

fn common_ports<'m>(view: &'m Service, callee: &'m Service) -> impl Iterator<Item = u16> + 'm {
    view.ports
        .iter()
        .filter(|port| {
            callee.ports.iter().any(|other| {
                other.number.value == port.number.value
                    && carried_as(other.protocol) == carried_as(port.protocol)
            })
        })
        .map(|port| port.number.value)
}

/// How proxies carry a protocol among themselves: requests, or bytes.
fn carried_as(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Grpc)
}

fn protocols(service: &Service) -> Vec<(u16, bool)> {
    let ports = service.ports.iter();
    ports
        .map(|port| (port.number.value, carried_as(port.protocol)))
        .collect()
}

/// Why a caller of one generation fails at a callee of the other, for requests that work when both
/// have the same; `other` is the caller of the callee's own generation.
fn broken(
    (end, other): (End<'_>, End<'_>),
    callee: &Callee<'_>,
    (both, own): (&Space, &Space),
) -> Result<Option<Break>, CapExceeded> {
    let Some(door) = &callee.door else {
        return Ok(None);
    };
    let identity = end.is_mutual().then(|| end.caller.identities.first());
    let identity = identity.flatten().map(ToString::to_string);
    let likely = Likely {
        callers: identity.iter().cloned().collect(),
        ..door.likely().clone()
    };
    // The sets say nothing of who calls.
    let named = |mut point: Point| {
        point.from.clone_from(&identity);
        point
    };
    let any = |space: &Space| find(space, &likely, |_| true).map(named);
    let found = |cause, witness| Ok(Some(Break { cause, witness }));
    let service = callee.service;
    if end.is_mutual() && is_unguarded(service) {
        return found(Cause::Transport, any(own));
    }
    if end.is_mutual() && !shares_identity(end, service) {
        return found(Cause::CalleeIdentity, any(own));
    }
    if common_ports(end.view, service).next().is_none() {
        let numbers = |service: &Service| -> Vec<u16> {
            service.ports.iter().map(|port| port.number.value).collect()
        };
        let callee_ports = numbers(service);
        let same_number = numbers(end.view)
            .iter()
            .any(|port| callee_ports.contains(port));
        let cause = if same_number {
            Cause::Protocol
        } else {
            Cause::Port
        };
        return found(cause, any(own));
    }
    let left = both.remainder(&[&works(end, callee)?], SAMPLES_MAX)?;
    if left.is_empty() {
        return Ok(None);
    }
    let refused = |point: &Point| matches!(door.judge(&named(point.clone())), Some(Err(_)));
    let witness = find(&left, &likely, refused).map(named);
    let cause = if end.is_mutual() != other.is_mutual() {
        Cause::Transport
    } else if other.caller.identities == end.caller.identities {
        Cause::Rules
    } else {
        Cause::CallerIdentity
    };
    found(cause, witness)
}
