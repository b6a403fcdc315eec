//! Whom each service lets in and did not before, and whom it no longer lets in: by caller, and the same
//! whichever of the two meshes is the earlier one.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::slice::{Enforcement, Principal};
use mesh_bundle::spiffe::SpiffeId;
use rayon::prelude::*;

use super::access::{decides_alike, find_landing};
use super::{Change, Kept, Pair};
use crate::analysis::entrance::{Door, Entrance, is_unguarded, peers, sent};
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::analysis::routes;
use crate::linked::{LinkedMesh, Service, ServiceId};

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;

/// What a caller may do at a service and could not before, or the other way round.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The service.
    pub callee: Pair,
    /// Who calls.
    pub who: Who,
    /// Whether it is let in now; otherwise it was.
    pub is_gained: bool,
    /// Whether nothing at all was let in before, or is any more.
    pub is_entire: bool,
    /// A request that one of the two lets in and the other refuses, seen so in the engine; none where the bounds of the
    /// search did not find one.
    pub witness: Option<Point>,
    /// Who behind a gateway refuses every request that was tried, and so the witness.
    pub refused_behind: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Peers without an identity.
    Unauthenticated,
    /// Every peer with an identity that no rule names.
    Any,
    /// Identities that begin so, where no rule names them.
    Prefix(String),
    /// A service of either mesh.
    Service(String),
    /// An identity that no service has.
    Identity(String),
}

/// What became of the access to every service.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Ascending by service, then by caller; what is gained before what is lost.
    pub all: Vec<Grant>,
    /// Services whose rules were too large to compare.
    pub unknown: Vec<(Pair, CapExceeded)>,
}

impl Grants {
    /// Compares the access to every service of either mesh. One that is not there lets nobody in.
    pub fn of(change: Change<'_>) -> Self {
        let people = People::of(change);
        let found: Vec<(Pair, Result<Vec<Grant>, CapExceeded>)> = change
            .pairs()
            .into_par_iter()
            .map(|callee| (callee, people.at(callee)))
            .collect();
        let mut grants = Self::default();
        for (callee, found) in found {
            match found {
                Ok(found) => grants.all.extend(found),
                Err(why) => grants.unknown.push((callee, why)),
            }
        }
        grants
    }
}

/// A caller as one of the meshes knows it.
struct Caller {
    /// What it sends that is let in, whoever it comes from.
    entering: Space,
    /// How it shows itself; none: not at all.
    identity: Option<String>,
    /// Whether the mesh has such a caller.
    exists: bool,
}

impl Caller {
    const fn nobody() -> Self {
        Self {
            entering: Space::nothing(),
            identity: None,
            exists: false,
        }
    }
}

/// One service in one of the meshes.
struct Side<'m> {
    mesh: &'m LinkedMesh,
    service: Option<&'m Service>,
    entered: Space,
    /// What some route takes, as far as that is known.
    routed: Option<Space>,
    door: Option<Door>,
}

impl<'m> Side<'m> {
    fn of(mesh: &'m LinkedMesh, id: Option<ServiceId>) -> Result<Self, CapExceeded> {
        let service = id.map(|id| mesh.service(id));
        Ok(Self {
            mesh,
            service,
            entered: match id {
                Some(id) => Entrance::of(mesh, id)?.entered()?,
                None => Space::nothing(),
            },
            routed: service.and_then(|service| {
                let universe = routes::universe(service).ok()?;
                routes::won(service, &universe, |_| true).ok()
            }),
            door: id.and_then(|id| Door::of(mesh, id)),
        })
    }

    fn caller(&self, who: &Who, example: Option<&SpiffeId>) -> Result<Caller, CapExceeded> {
        let (sent, identity) = match (who, example) {
            (Who::Service(name), _) => {
                let ends = self.mesh.service_named(name).zip(self.service);
                let Some((id, callee)) = ends else {
                    return Ok(Caller::nobody());
                };
                let caller = self.mesh.service(id);
                let first = peers(caller, callee).into_iter().next().flatten();
                (sent(caller, callee)?, first)
            }
            (_, Some(id)) => {
                let sent = Space::from(&[Principal::SpiffeId(id.clone())])?;
                (sent, Some(id.to_string()))
            }
            (_, None) => (Space::from(&[Principal::Unauthenticated])?, None),
        };
        Ok(Caller {
            entering: self.entered.intersection(&sent)?.whoever_calls(),
            identity,
            exists: true,
        })
    }

    fn lets_in(&self, point: &Point, caller: &Caller) -> bool {
        let Some(door) = self.door.as_ref().filter(|_| caller.exists) else {
            return false;
        };
        let point = Point {
            from: caller.identity.clone(),
            ..point.clone()
        };
        door.lets_in(&point)
    }

    fn likely(&self, caller: &Caller) -> Likely {
        let likely = self.door.as_ref().map(Door::likely).cloned();
        Likely {
            callers: caller.identity.iter().cloned().collect(),
            ..likely.unwrap_or_default()
        }
    }
}

/// Who can call in either mesh.
struct People<'m> {
    change: Change<'m>,
    owners: BTreeMap<&'m SpiffeId, BTreeSet<&'m str>>,
}

impl<'m> People<'m> {
    fn of(change: Change<'m>) -> Self {
        let mut owners: BTreeMap<&SpiffeId, BTreeSet<&str>> = BTreeMap::new();
        for service in change.base.services.iter().chain(&change.head.services) {
            for identity in &service.identities {
                let names = owners.entry(identity).or_default();
                names.insert(&service.name.value);
            }
        }
        Self { change, owners }
    }

    fn at(&self, callee: Pair) -> Result<Vec<Grant>, CapExceeded> {
        let change = self.change;
        let services = [
            callee.base.map(|id| change.base.service(id)),
            callee.head.map(|id| change.head.service(id)),
        ];
        let spoken_of = SpokenOf::by(services.into_iter().flatten());
        if let (Some(base), Some(head)) = (callee.base, callee.head)
            && decides_alike(change, Kept { base, head })
            && spoken_of.named.iter().all(|id| self.is_kept(id))
        {
            return Ok(Vec::new());
        }
        let old = Side::of(change.base, callee.base)?;
        let new = Side::of(change.head, callee.head)?;
        let mut grants = Vec::new();
        // What everybody gains or loses is not told once more for each whom a rule names.
        let mut anybody = [Space::nothing(), Space::nothing()];
        for (who, example) in self.callers(&spoken_of, callee) {
            let was = old.caller(&who, example.as_ref())?;
            let is = new.caller(&who, example.as_ref())?;
            for (is_gained, anybody) in [true, false].into_iter().zip(&mut anybody) {
                let (from, (more, less)) = if is_gained {
                    (&new, (&is, &was))
                } else {
                    (&old, (&was, &is))
                };
                let left = more
                    .entering
                    .remainder(&[&less.entering, anybody], SAMPLES_MAX)?;
                if left.is_empty() {
                    continue;
                }
                if who == Who::Any {
                    *anybody = more.entering.difference(&less.entering)?;
                }
                let shows = |point: &Point| {
                    old.lets_in(point, &was) != is_gained && new.lets_in(point, &is) == is_gained
                };
                // Best one that some route takes: to lose what ended nowhere is hardly a loss.
                let likely = from.likely(more);
                let routed = from.routed.as_ref();
                let routed = routed.and_then(|routed| left.intersection(routed).ok());
                let sent = |point: &Point| Point {
                    from: more.identity.clone(),
                    ..point.clone()
                };
                let look = |space: &Space| match from.service {
                    Some(callee) => find_landing((from.mesh, callee), space, &likely, shows, sent),
                    None => (None, None),
                };
                let (witness, refused_behind) = routed
                    .map(|routed| look(&routed))
                    .filter(|(witness, _)| witness.is_some())
                    .unwrap_or_else(|| look(&left));
                grants.push(Grant {
                    callee,
                    who: who.clone(),
                    is_gained,
                    is_entire: less.entering.is_empty(),
                    witness: witness.as_ref().map(sent),
                    refused_behind,
                });
            }
        }
        Ok(grants)
    }

    /// Whether the services of an identity have the same ones before and after.
    fn is_kept(&self, id: &SpiffeId) -> bool {
        let owners = self.owners.get(id).into_iter().flatten();
        owners.into_iter().all(|name| {
            let pair = self.change.pair(name);
            let shown = |service: &'m Service| (&service.identities, is_unguarded(service));
            let before = pair.base.map(|id| shown(self.change.base.service(id)));
            let after = pair.head.map(|id| shown(self.change.head.service(id)));
            before == after
        })
    }

    /// Everybody of whom a rule speaks, with an identity where it is no service's own.
    fn callers(&self, spoken_of: &SpokenOf<'_>, callee: Pair) -> BTreeMap<Who, Option<SpiffeId>> {
        let mut callers = BTreeMap::new();
        // Probes and services without a proxy let them in, too.
        callers.insert(Who::Unauthenticated, None);
        if spoken_of.any {
            callers.extend(
                self.example(spoken_of, None, callee)
                    .map(|id| (Who::Any, Some(id))),
            );
        }
        for prefix in &spoken_of.prefixes {
            let example = self.example(spoken_of, Some(prefix), callee);
            let who = Who::Prefix((*prefix).to_owned());
            callers.extend(example.map(|id| (who, Some(id))));
        }
        for id in &spoken_of.named {
            match self.owners.get(*id) {
                None => {
                    callers.insert(Who::Identity(id.to_string()), Some((*id).clone()));
                }
                Some(names) => {
                    let services = names.iter().map(|name| Who::Service((*name).to_owned()));
                    callers.extend(services.map(|who| (who, None)));
                }
            }
        }
        callers
    }

    /// An identity of which no rule speaks by itself: of a service of both meshes where there is one, so that a test
    /// can be made from it. Which one does not depend on the direction of the change.
    fn example(
        &self,
        spoken_of: &SpokenOf<'_>,
        prefix: Option<&str>,
        callee: Pair,
    ) -> Option<SpiffeId> {
        let fits = |id: &SpiffeId| match prefix {
            Some(prefix) => id.as_str().starts_with(prefix),
            None => {
                let mut prefixes = spoken_of.prefixes.iter();
                !prefixes.any(|prefix| id.as_str().starts_with(prefix))
            }
        };
        let change = self.change;
        let mut in_both = change.kept().filter_map(|kept| {
            let before = change.base.service(kept.base);
            let after = change.head.service(kept.head);
            let is_one = before.identities == after.identities && !after.is_external();
            // No service calls itself.
            let is_other = Some(kept.head) != callee.head && Some(kept.base) != callee.base;
            after.identities.first().filter(|_| is_one && is_other)
        });
        let known = in_both.find(|id| !spoken_of.named.contains(id) && fits(id));
        known.cloned().or_else(|| {
            let domains = [change.base, change.head].map(|mesh| &mesh.trust_domain.value);
            let text = match prefix {
                Some(prefix) => format!("{prefix}somebody-else"),
                None => format!("spiffe://{}/somebody-else", domains[0].min(domains[1])),
            };
            SpiffeId::parse(&text).ok()
        })
    }
}

/// Of whom the rules of a service speak.
#[derive(Default)]
struct SpokenOf<'m> {
    named: BTreeSet<&'m SpiffeId>,
    prefixes: BTreeSet<&'m str>,
    any: bool,
}

impl<'m> SpokenOf<'m> {
    fn by(services: impl Iterator<Item = &'m Service>) -> Self {
        let mut found = Self::default();
        let rules = services.flat_map(|service| &service.access);
        for rule in rules.filter(|rule| rule.enforcement == Enforcement::Enforce) {
            for who in &rule.who {
                match who {
                    Principal::SpiffeId(id) => drop(found.named.insert(id)),
                    Principal::SpiffePrefix(prefix) => drop(found.prefixes.insert(prefix)),
                    Principal::Any => found.any = true,
                    Principal::Unauthenticated => {}
                }
            }
        }
        found
    }
}
