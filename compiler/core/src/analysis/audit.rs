//! Who can reach what, and by what of the policy: for whoever has to answer for it and does not read policies.
//!
//! A grant is one of the ways into a service, for one of those whom it names. What a `deny` or a missing token takes
//! back of it again is told, by sets of requests; where these grow too large the answer is that nobody knows.

use std::collections::{BTreeMap, VecDeque};

use mesh_bundle::slice::{Effect, Principal};

use super::entrance::{Entrance, Way, is_unguarded};
use super::request_space::{CapExceeded, Space};
use crate::linked::{Kind, LinkedMesh, Service, ServiceId};

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Everybody, also without a certificate; no proxy stands in between.
    Anybody,
    /// A peer without a certificate; at a gateway, every client.
    Unauthenticated,
    /// Every peer with a verified identity.
    Any,
    /// Every identity that begins with this.
    Prefix(String),
    /// An identity that no service of this policy has.
    Identity(String),
    /// A service or gateway.
    Service(ServiceId),
}

/// How much of what a way lets in is left by what refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it.
    Whole,
    /// Some of it is refused, by a `deny` or for want of a token.
    Part,
    /// None of it: the grant has no effect.
    Nothing,
    /// The sets grew too large.
    Unknown,
}

/// One way into a service, for one who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Into which.
    pub callee: ServiceId,
    /// For whom.
    pub who: Who,
    /// By what.
    pub way: Way,
    /// What is left of it.
    pub left: Left,
}

/// Every grant, ascending by service and by whom it is for; an external's are about who may leave for it.
pub fn grants(mesh: &LinkedMesh) -> Vec<Grant> {
    let mut all = Vec::new();
    for callee in mesh.service_ids() {
        let service = mesh.service(callee);
        let mut grants: Vec<Grant> = named(mesh, service)
            .into_iter()
            .map(|(who, way)| Grant {
                callee,
                left: left(mesh, callee, way, &who).unwrap_or(Left::Unknown),
                who,
                way,
            })
            .collect();
        grants.sort_by(|a, b| (&a.who, a.way).cmp(&(&b.who, b.way)));
        all.extend(grants);
    }
    all
}

/// The shortest path of permitted calls from a gateway that lets in clients without an identity, by the service that it
/// leads to; the gateway first.
pub fn from_outside(mesh: &LinkedMesh, grants: &[Grant]) -> BTreeMap<ServiceId, Vec<ServiceId>> {
    let mut callees: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
    let mut open = VecDeque::new();
    let mut paths: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
    for grant in grants.iter().filter(|grant| grant.left != Left::Nothing) {
        let callee = mesh.service(grant.callee);
        match &grant.who {
            Who::Service(caller) => callees.entry(*caller).or_default().push(grant.callee),
            Who::Any | Who::Prefix(_) => {
                for caller in mesh.service_ids() {
                    // Who is meant among others may be refused by name.
                    let is_left = || {
                        let one = left(mesh, grant.callee, grant.way, &Who::Service(caller));
                        one.unwrap_or(Left::Unknown) != Left::Nothing
                    };
                    if fits(mesh.service(caller), &grant.who) && is_left() {
                        callees.entry(caller).or_default().push(grant.callee);
                    }
                }
            }
            Who::Unauthenticated if matches!(callee.kind, Kind::Gateway(_)) => {
                if paths.insert(grant.callee, vec![grant.callee]).is_none() {
                    open.push_back(grant.callee);
                }
            }
            Who::Anybody | Who::Unauthenticated | Who::Identity(_) => {}
        }
    }
    while let Some(caller) = open.pop_front() {
        let path = paths.get(&caller).cloned().unwrap_or_default();
        let is_gateway = matches!(mesh.service(caller).kind, Kind::Gateway(_));
        for callee in callees.get(&caller).into_iter().flatten().copied() {
            // A gateway calls only where its routes lead.
            let leads = !is_gateway || mesh.edge(caller, callee).is_some();
            if leads && !paths.contains_key(&callee) {
                let further = [path.clone(), vec![callee]].concat();
                paths.insert(callee, further);
                open.push_back(callee);
            }
        }
    }
    paths
}

fn named(mesh: &LinkedMesh, service: &Service) -> Vec<(Who, Way)> {
    if is_unguarded(service) {
        return vec![(Who::Anybody, Way::Unguarded)];
    }
    let mut named = Vec::new();
    for (index, rule) in service.access.iter().enumerate() {
        if rule.effect != Effect::Allow {
            continue;
        }
        for principal in &rule.who {
            for who in who(mesh, principal) {
                named.push((who, Way::Rule(index)));
            }
        }
    }
    for index in 0..service.probes.len() {
        named.push((Who::Unauthenticated, Way::Probe(index)));
    }
    named
}

fn who(mesh: &LinkedMesh, principal: &Principal) -> Vec<Who> {
    match principal {
        Principal::Any => vec![Who::Any],
        Principal::Unauthenticated => vec![Who::Unauthenticated],
        Principal::SpiffePrefix(prefix) => vec![Who::Prefix(prefix.clone())],
        Principal::SpiffeId(id) => {
            let services = mesh
                .services
                .iter()
                .filter(|service| !service.is_external() && service.identities.contains(id));
            let found: Vec<_> = services.map(|service| Who::Service(service.id)).collect();
            if found.is_empty() {
                vec![Who::Identity(id.to_string())]
            } else {
                found
            }
        }
    }
}

fn fits(service: &Service, who: &Who) -> bool {
    match who {
        Who::Any => !service.is_external(),
        Who::Prefix(prefix) => {
            let mut identities = service.identities.iter();
            !service.is_external() && identities.any(|id| id.as_str().starts_with(prefix.as_str()))
        }
        _ => false,
    }
}

fn left(mesh: &LinkedMesh, callee: ServiceId, way: Way, who: &Who) -> Result<Left, CapExceeded> {
    let entrance = Entrance::of(mesh, callee)?;
    let Some((_, lets_in)) = entrance.ways()?.into_iter().find(|(each, _)| *each == way) else {
        // It decides nothing: a rule that is only audited.
        return Ok(Left::Nothing);
    };
    let lets_in = match principals(mesh, who) {
        Some(principals) => lets_in.intersection(&Space::from(&principals)?)?,
        None => lets_in,
    };
    if lets_in.is_empty() {
        return Ok(Left::Nothing);
    }
    let refused = entrance.refused()?;
    let all: Vec<&Space> = refused.iter().collect();
    if lets_in.remainder(&all, 1)?.is_empty() {
        return Ok(Left::Nothing);
    }
    for space in &refused {
        if !lets_in.intersection(space)?.is_empty() {
            return Ok(Left::Part);
        }
    }
    Ok(Left::Whole)
}

fn principals(mesh: &LinkedMesh, who: &Who) -> Option<Vec<Principal>> {
    Some(match who {
        Who::Anybody => return None,
        Who::Unauthenticated => vec![Principal::Unauthenticated],
        Who::Any => vec![Principal::Any],
        Who::Prefix(prefix) => vec![Principal::SpiffePrefix(prefix.clone())],
        Who::Identity(id) => vec![Principal::SpiffeId(id.parse().ok()?)],
        Who::Service(id) => {
            let identities = mesh.service(*id).identities.iter().cloned();
            identities.map(Principal::SpiffeId).collect()
        }
    })
}
