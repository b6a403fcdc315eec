//! The skewed middle: while a generation rolls out, one end of a call has it and the other does not.
//! What worked before and works after must work then too, in both directions.

use mesh_bundle::slice::{MtlsMode, Protocol};
use rayon::prelude::*;

use super::access::{decides_alike, ends, entered, find, sent_by};
use super::{Change, KeptEdge};
use crate::analysis::probe::Probe;
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::linked::{LinkedMesh, Service, ServiceId};

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
    let is_alike = old_caller.identities == new_caller.identities
        && old_callee.identities == new_callee.identities
        && protocols(old_callee) == protocols(new_callee)
        && decides_alike(old_callee, new_callee);
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
    let before = works(old, old_callee)?;
    let after = works(new, new_callee)?;
    if before.is_empty() || after.is_empty() {
        return Ok(None);
    }
    // Where the only port moved, the requests are the same but for it.
    let both = before.intersection(&after)?;
    let skew = Skew {
        edge,
        old_caller: broken(change, edge, old, new_callee, (&both, &before))?,
        new_caller: broken(change, edge, new, old_callee, (&both, &after))?,
    };
    Ok((skew.old_caller.is_some() || skew.new_caller.is_some()).then_some(skew))
}

/// A caller with its generation's view of the callee.
#[derive(Clone, Copy)]
struct End<'m> {
    caller: &'m Service,
    view: &'m Service,
}

/// The requests, whoever sends them, that get from a caller to a callee of perhaps another generation.
fn works(end: End<'_>, callee: &Service) -> Result<Space, CapExceeded> {
    // Mesh peers are dialled with mutual TLS, always.
    let plaintext_only = callee.mtls.value == Some(MtlsMode::Off);
    if plaintext_only || !shares_identity(end, callee) {
        return Ok(Space::nothing());
    }
    let ports = Space::to_ports(common_ports(end.view, callee))?;
    entered(callee)?
        .intersection(&sent_by(end.caller)?)?
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
/// have the same.
fn broken(
    change: Change<'_>,
    edge: KeptEdge,
    end: End<'_>,
    callee: &Service,
    (both, own): (&Space, &Space),
) -> Result<Option<Break>, CapExceeded> {
    let is_old_callee = std::ptr::eq(callee, change.base.service(edge.callee.base));
    let (mesh, id): (&LinkedMesh, ServiceId) = if is_old_callee {
        (change.base, edge.callee.base)
    } else {
        (change.head, edge.callee.head)
    };
    let Some(probe) = Probe::of(mesh, id) else {
        return Ok(None);
    };
    let identity = end.caller.identities.first().map(ToString::to_string);
    let likely = Likely {
        callers: identity.iter().cloned().collect(),
        ..probe.likely().clone()
    };
    let any = |space: &Space| find(space, &likely, |_| true);
    let found = |cause, witness| Ok(Some(Break { cause, witness }));
    if !shares_identity(end, callee) {
        return found(Cause::CalleeIdentity, any(own));
    }
    if common_ports(end.view, callee).next().is_none() {
        let numbers = |service: &Service| -> Vec<u16> {
            service.ports.iter().map(|port| port.number.value).collect()
        };
        let callee_ports = numbers(callee);
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
    let listens = |port: u16| callee.ports.iter().any(|own| own.number.value == port);
    let refused = |point: &Point| !listens(point.port) || probe.is_allowed(point) == Some(false);
    let witness = find(&left, &likely, refused);
    let other = if is_old_callee {
        change.base.service(edge.caller.base)
    } else {
        change.head.service(edge.caller.head)
    };
    let cause = if other.identities == end.caller.identities {
        Cause::Rules
    } else {
        Cause::CallerIdentity
    };
    found(cause, witness)
}
