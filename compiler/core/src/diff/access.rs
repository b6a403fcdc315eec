//! Who may do what they could not do before, and who may no longer do what they declare to do.

use mesh_bundle::slice::{AccessRule, Effect, Enforcement, Principal};
use rayon::prelude::*;

use super::{Change, Kept, KeptEdge, ports, requests_to};
use crate::analysis::access::allowed;
use crate::analysis::probe::{self, Probe};
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::linked::{LinkedMesh, Service, ServiceId};
use crate::model::Spanned;

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;

/// What became of the access to one service.
#[derive(Clone, Debug)]
pub struct AccessChange {
    /// The service.
    pub service: Kept,
    /// Rules of the head that let in what was refused, ascending.
    pub gained: Vec<Gain>,
    /// Callers some of whose requests were let in and are refused, ascending.
    pub lost: Vec<Loss>,
    /// Why some of this is not known.
    pub unknown: Option<CapExceeded>,
}

/// A rule that lets in what was refused.
#[derive(Clone, Debug)]
pub struct Gain {
    /// Its position among the rules of the head.
    pub rule: usize,
    /// Whether the base has the very same rule, so that something else gave way.
    pub is_old: bool,
    /// A request that was refused and is let in; none where the bounds of the search did not find one.
    pub witness: Option<Point>,
}

/// A caller some of whose requests are refused now.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Who declares to call, in the head.
    pub caller: Kept,
    /// A request that was let in and is refused.
    pub witness: Option<Point>,
    /// Whether nothing at all is let in any more.
    pub entirely: bool,
}

/// What became of the access to every service that both meshes have; only those where something did.
pub fn changes(change: Change<'_>) -> Vec<AccessChange> {
    let kept: Vec<Kept> = change.kept().collect();
    kept.into_par_iter()
        .filter_map(|service| of(change, service))
        .collect()
}

/// What became of the access to one service; nothing if nobody gained or lost anything.
pub fn of(change: Change<'_>, service: Kept) -> Option<AccessChange> {
    let (before, after) = (
        change.base.service(service.base),
        change.head.service(service.head),
    );
    let callers: Vec<Kept> = declared_callers(change, service).collect();
    let identities_kept = callers.iter().all(|caller| {
        change.base.service(caller.base).identities == change.head.service(caller.head).identities
    });
    if identities_kept && decides_alike(before, after) {
        return None;
    }
    let mut found = AccessChange {
        service,
        gained: Vec::new(),
        lost: Vec::new(),
        unknown: None,
    };
    let (Some(old), Some(new)) = (
        Probe::of(change.base, service.base),
        Probe::of(change.head, service.head),
    ) else {
        return None;
    };
    let sides = Sides {
        change,
        before,
        after,
        old,
        new,
    };
    if let Err(why) = sides.gained(&mut found) {
        found.unknown = Some(why);
    }
    for caller in callers {
        match sides.lost(caller) {
            Ok(Some(loss)) => found.lost.push(loss),
            Ok(None) => {}
            Err(why) => found.unknown = Some(why),
        }
    }
    let is_nothing = found.gained.is_empty() && found.lost.is_empty() && found.unknown.is_none();
    (!is_nothing).then_some(found)
}

fn declared_callers(change: Change<'_>, service: Kept) -> impl Iterator<Item = Kept> + '_ {
    change
        .head
        .edges
        .iter()
        .filter(move |edge| edge.callee == service.head && edge.is_used())
        .filter_map(move |edge| {
            let caller = change.kept_service(edge.caller)?;
            change.base.edge(caller.base, service.base)?;
            Some(caller)
        })
}

/// Whether the rules and ports are the same, wherever they are written.
pub(super) fn decides_alike(before: &Service, after: &Service) -> bool {
    rules(before) == rules(after) && ports(before).eq(ports(after))
}

pub(super) fn rules(service: &Service) -> Vec<AccessRule> {
    let mut rules: Vec<AccessRule> = service.access.iter().map(probe::access_rule).collect();
    rules.retain(|rule| rule.enforcement == Enforcement::Enforce);
    // Their names are for people.
    for rule in &mut rules {
        rule.name.clear();
    }
    rules
}

/// What the proxy of a service lets in on the ports that it has.
pub(super) fn entered(service: &Service) -> Result<Space, CapExceeded> {
    allowed(service)?.intersection(&requests_to(service)?)
}

/// The requests of one service, as its proxy identifies itself.
pub(super) fn sent_by(service: &Service) -> Result<Space, CapExceeded> {
    let who: Vec<Principal> = service
        .identities
        .iter()
        .cloned()
        .map(Principal::SpiffeId)
        .collect();
    Space::from(&who)
}

struct Sides<'m> {
    change: Change<'m>,
    before: &'m Service,
    after: &'m Service,
    old: Probe,
    new: Probe,
}

impl Sides<'_> {
    fn gained(&self, found: &mut AccessChange) -> Result<(), CapExceeded> {
        let denied: Vec<Space> = self
            .after
            .access
            .iter()
            .filter(|rule| rule.effect == Effect::Deny && rule.enforcement == Enforcement::Enforce)
            .map(|rule| Space::of_rule(&probe::access_rule(rule)))
            .collect::<Result<_, _>>()?;
        let before = entered(self.before)?;
        let mut refused: Vec<&Space> = denied.iter().collect();
        refused.push(&before);
        let ports = requests_to(self.after)?;
        let old = rules(self.before);
        for (index, rule) in self.after.access.iter().enumerate() {
            if rule.effect != Effect::Allow || rule.enforcement != Enforcement::Enforce {
                continue;
            }
            let mut rule = probe::access_rule(rule);
            let takes = Space::of_rule(&rule)?.intersection(&ports)?;
            let left = takes.remainder(&refused, SAMPLES_MAX)?;
            if left.is_empty() {
                continue;
            }
            rule.name.clear();
            let shows = |point: &Point| {
                !self.old_lets_in(point) && self.new.is_allowed(point) == Some(true)
            };
            found.gained.push(Gain {
                rule: index,
                is_old: old.contains(&rule),
                witness: find(&left, self.new.likely(), shows),
            });
        }
        Ok(())
    }

    fn lost(&self, caller: Kept) -> Result<Option<Loss>, CapExceeded> {
        let (old_caller, new_caller) = (
            self.change.base.service(caller.base),
            self.change.head.service(caller.head),
        );
        // What it sent to a port that is gone is lost with the port.
        let both_ports = requests_to(self.before)?.intersection(&requests_to(self.after)?)?;
        let had = entered(self.before)?
            .intersection(&sent_by(old_caller)?)?
            .whoever_calls()
            .intersection(&both_ports)?;
        let has = entered(self.after)?
            .intersection(&sent_by(new_caller)?)?
            .whoever_calls();
        let left = had.remainder(&[&has], SAMPLES_MAX)?;
        if left.is_empty() {
            return Ok(None);
        }
        let likely = Likely {
            callers: identities(new_caller),
            ..self.new.likely().clone()
        };
        let shows = |point: &Point| {
            let was = Point {
                from: identities(old_caller).into_iter().next(),
                ..point.clone()
            };
            self.old_lets_in(&was) && self.new.is_allowed(point) == Some(false)
        };
        Ok(Some(Loss {
            caller,
            witness: find(&left, &likely, shows),
            entirely: has.is_empty(),
        }))
    }

    fn old_lets_in(&self, point: &Point) -> bool {
        ports(self.before).any(|port| port == point.port)
            && self.old.is_allowed(point) == Some(true)
    }
}

fn identities(service: &Service) -> Vec<String> {
    let texts = service.identities.iter().map(ToString::to_string);
    texts.collect()
}

pub(super) fn find(
    space: &Space,
    likely: &Likely,
    shows: impl Fn(&Point) -> bool,
) -> Option<Point> {
    space
        .samples(likely, SAMPLES_MAX)
        .filter_map(Result::ok)
        .find(|point| shows(point))
}

/// A service that is gone, and who called it and stays.
#[derive(Clone, Debug)]
pub struct Orphaned {
    /// The service, in the base.
    pub callee: ServiceId,
    /// Those who declared to call it and are still there.
    pub callers: Vec<Kept>,
}

/// Services that are gone although, until the change, others declared to call them: in the roll-out,
/// those with the old generation still do.
pub fn orphaned(change: Change<'_>) -> Vec<Orphaned> {
    let callers = |callee: ServiceId| {
        let edges = change.base.edges.iter();
        edges
            .filter(move |edge| edge.callee == callee && edge.is_used())
            .filter_map(|edge| change.kept_in_head(edge.caller))
            .collect::<Vec<_>>()
    };
    change
        .removed()
        .map(|callee| Orphaned {
            callee,
            callers: callers(callee),
        })
        .filter(|orphaned| !orphaned.callers.is_empty())
        .collect()
}

/// Where the base declared a call, for findings that have no other place.
pub fn name_of(mesh: &LinkedMesh, id: ServiceId) -> &Spanned<String> {
    &mesh.service(id).name
}

/// An edge that both meshes have, with its ends.
pub(super) fn ends(change: Change<'_>, edge: KeptEdge) -> [&Service; 4] {
    [
        change.base.service(edge.caller.base),
        change.base.service(edge.callee.base),
        change.head.service(edge.caller.head),
        change.head.service(edge.callee.head),
    ]
}
