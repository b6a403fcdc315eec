//! Who may do what they could not do before, and who may no longer do what they declare to do.

use mesh_bundle::slice::{AccessRule, Enforcement, Principal};
use rayon::prelude::*;

use super::{Change, Kept, KeptEdge, identities, ports};
use crate::analysis::entrance::{Door, Entrance, Front, Refused, Way, is_unguarded, peers, sent};
use crate::analysis::probe;
use crate::analysis::request_space::{CapExceeded, FieldKind, Likely, Point, Space};
use crate::linked::{LinkedMesh, Requirement, Service, ServiceId};
use crate::model::{RequirementKind, Spanned};
use crate::trial::{Behind, Call, Decision, Trial};

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;

/// Methods that are tried at a gateway.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

/// What became of the access to one service.
#[derive(Clone, Debug)]
pub struct AccessChange {
    /// The service.
    pub service: Kept,
    /// What lets in, in the head, what was refused, ascending.
    pub gained: Vec<Gain>,
    /// Callers some of whose requests were let in and are refused, those without an identity first, then
    /// ascending.
    pub lost: Vec<Loss>,
    /// Requirements of an authorizer that some requests no longer meet on their way in, ascending.
    pub unasked: Vec<Unasked>,
    /// Why some of this is not known.
    pub unknown: Option<CapExceeded>,
}

/// Something that lets in what was refused.
#[derive(Clone, Debug)]
pub struct Gain {
    /// What lets it in, in the head.
    pub way: Way,
    /// Whether the base has the very same, so that something else gave way.
    pub is_old: bool,
    /// A request that was refused and is let in; none where the bounds of the search did not find one.
    pub witness: Option<Point>,
    /// Why the base refuses the witness.
    pub before: Option<Refused>,
    /// Who behind a gateway refuses every request that was tried, and so the witness.
    pub refused_behind: Option<String>,
}

/// A caller some of whose requests are refused now.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Who declares to call, in the head; none: peers without an identity.
    pub caller: Option<Kept>,
    /// A request that was let in and is refused.
    pub witness: Option<Point>,
    /// Why the head refuses the witness.
    pub now: Option<Refused>,
    /// Whether nothing at all is let in any more.
    pub entirely: bool,
}

/// An authorizer that is no longer asked.
#[derive(Clone, Debug)]
pub struct Unasked {
    /// What required it, as an index of the base's requirements.
    pub requirement: usize,
    /// A request that got in only with its consent, and gets in without.
    pub witness: Option<Point>,
}

/// What became of the access to every service that both meshes have; only those where something did. Callers are those
/// who they are, whatever their identities read.
pub fn changes(change: Change<'_>) -> Vec<AccessChange> {
    let renamed = identities::as_in_head(change);
    let change = Change::new(renamed.as_ref().unwrap_or(change.base), change.head);
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
    let senders_kept = callers.iter().all(|caller| {
        let (old, new) = (
            change.base.service(caller.base),
            change.head.service(caller.head),
        );
        old.identities == new.identities && is_unguarded(old) == is_unguarded(new)
    });
    if senders_kept && decides_alike(change, service) {
        return None;
    }
    let mut found = AccessChange {
        service,
        gained: Vec::new(),
        lost: Vec::new(),
        unasked: Vec::new(),
        unknown: None,
    };
    let (Some(old), Some(new)) = (
        Door::of(change.base, service.base),
        Door::of(change.head, service.head),
    ) else {
        return None;
    };
    let entrances = Entrance::of(change.base, service.base)
        .and_then(|was| Ok((was, Entrance::of(change.head, service.head)?)));
    let sides = match entrances {
        Ok((was, is)) => Sides {
            change,
            before,
            after,
            was,
            is,
            old,
            new,
        },
        Err(why) => {
            found.unknown = Some(why);
            return Some(found);
        }
    };
    for look in [Sides::gained, Sides::unasked] {
        if let Err(why) = look(&sides, &mut found) {
            found.unknown = Some(why);
        }
    }
    for caller in [None].into_iter().chain(callers.into_iter().map(Some)) {
        match sides.lost(caller) {
            Ok(Some(loss)) => found.lost.push(loss),
            Ok(None) => {}
            Err(why) => found.unknown = Some(why),
        }
    }
    let is_nothing = found.gained.is_empty()
        && found.lost.is_empty()
        && found.unasked.is_empty()
        && found.unknown.is_none();
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

/// Whether everything that decides about entering is the same, wherever it is written.
pub(super) fn decides_alike(change: Change<'_>, service: Kept) -> bool {
    Front::of(change.base, change.base.service(service.base))
        == Front::of(change.head, change.head.service(service.head))
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

struct Sides<'m> {
    change: Change<'m>,
    before: &'m Service,
    after: &'m Service,
    was: Entrance<'m>,
    is: Entrance<'m>,
    old: Door,
    new: Door,
}

impl Sides<'_> {
    fn gained(&self, found: &mut AccessChange) -> Result<(), CapExceeded> {
        let before = self.was.entered()?;
        let denied = self.is.refused()?;
        let mut refused: Vec<&Space> = denied.iter().collect();
        refused.push(&before);
        for (way, takes) in self.is.ways()? {
            let left = takes.remainder(&refused, SAMPLES_MAX)?;
            if left.is_empty() {
                continue;
            }
            let shows = |point: &Point| !self.old.lets_in(point) && self.new.lets_in(point);
            let head = (self.change.head, self.after);
            let sent = |point: &Point| point.clone();
            let (witness, refused_behind) =
                find_landing(head, &left, self.new.likely(), shows, sent);
            found.gained.push(Gain {
                way,
                is_old: self.is_old(way),
                refused_behind,
                before: witness
                    .as_ref()
                    .and_then(|point| self.old.judge(point)?.err()),
                witness,
            });
        }
        Ok(())
    }

    fn is_old(&self, way: Way) -> bool {
        match way {
            Way::Rule(index) => self.after.access.get(index).is_some_and(|rule| {
                let mut rule = probe::access_rule(rule);
                rule.name.clear();
                rules(self.before).contains(&rule)
            }),
            Way::Probe(index) => self.after.probes.get(index).is_some_and(|probe| {
                let mut old = self.before.probes.iter();
                old.any(|old| old.paths == probe.paths && old.peer_ip == probe.peer_ip)
            }),
            Way::Unguarded => is_unguarded(self.before),
        }
    }

    fn unasked(&self, found: &mut AccessChange) -> Result<(), CapExceeded> {
        let is_authorizer =
            |requirement: &Requirement| requirement.kind == RequirementKind::RequireAuthorizer;
        let name_of = |mesh: &LinkedMesh, requirement: &Requirement| {
            let authorizer = mesh.authorizers.get(requirement.provider);
            authorizer.map(|authorizer| authorizer.name.value.clone())
        };
        if is_unguarded(self.after) || self.after.is_external() {
            return Ok(());
        }
        for (index, requirement) in self.before.requirements.iter().enumerate() {
            if !is_authorizer(requirement) {
                continue;
            }
            let Some(name) = name_of(self.change.base, requirement) else {
                continue;
            };
            let mut still = Vec::new();
            for other in &self.after.requirements {
                if is_authorizer(other) && name_of(self.change.head, other).as_ref() == Some(&name)
                {
                    still.push(self.is.asked(other)?);
                }
            }
            let left = self
                .was
                .asked(requirement)?
                .intersection(&self.was.entered()?)?
                .intersection(&self.is.entered()?)?
                .remainder(&still.iter().collect::<Vec<_>>(), SAMPLES_MAX)?;
            if left.is_empty() {
                continue;
            }
            let shows = |point: &Point| {
                self.old.lets_in(point)
                    && self.new.lets_in(point)
                    && self.old.asks(&name, point)
                    && !self.new.asks(&name, point)
            };
            found.unasked.push(Unasked {
                requirement: index,
                witness: find(&left, self.new.likely(), shows),
            });
        }
        Ok(())
    }

    fn lost(&self, caller: Option<Kept>) -> Result<Option<Loss>, CapExceeded> {
        let ends = caller.map(|caller| {
            let old = self.change.base.service(caller.base);
            (old, self.change.head.service(caller.head))
        });
        let nobody = || Space::from(&[Principal::Unauthenticated]);
        let (had_sent, sends) = match ends {
            Some((old, new)) => (sent(old, self.before)?, sent(new, self.after)?),
            None => (nobody()?, nobody()?),
        };
        let mut had = self.was.entered()?.intersection(&had_sent)?.whoever_calls();
        if self.after.gateway().is_none() {
            // What it sent to a port that is gone is lost with the port.
            let kept = ports(self.before).filter(|port| ports(self.after).any(|own| own == *port));
            had = had.intersection(&Space::to_ports(kept)?)?;
        }
        let has = self.is.entered()?.intersection(&sends)?.whoever_calls();
        // What a gateway answers on purpose is an answer, and nobody is locked out.
        let left = had.remainder(&[&has, &self.is.answered()?], SAMPLES_MAX)?;
        if left.is_empty() {
            return Ok(None);
        }
        // The set says nothing of who calls; here it is said on either side.
        let (was, are) = match ends {
            Some((old, new)) => (peers(old, self.before), peers(new, self.after)),
            None => (vec![None], vec![None]),
        };
        let sent_by = |from: &Option<String>, point: &Point| Point {
            from: from.clone(),
            ..point.clone()
        };
        let shows = |point: &Point| {
            let had = was
                .iter()
                .any(|from| self.old.lets_in(&sent_by(from, point)));
            let refuses = |from| {
                let now = self.new.judge(&sent_by(from, point));
                matches!(now, Some(Err(why)) if why != Refused::Answered)
            };
            had && are.iter().all(refuses)
        };
        let witness = find(&left, self.new.likely(), shows);
        let witness = witness
            .zip(are.first())
            .map(|(point, from)| sent_by(from, &point));
        Ok(Some(Loss {
            caller,
            now: witness
                .as_ref()
                .and_then(|point| self.new.judge(point)?.err()),
            witness,
            entirely: has.is_empty(),
        }))
    }
}

/// A request of the set that shows something. Claims come with a token, and every token has an issuer.
pub(crate) fn find(
    space: &Space,
    likely: &Likely,
    shows: impl Fn(&Point) -> bool,
) -> Option<Point> {
    space
        .samples(likely, SAMPLES_MAX)
        .filter_map(Result::ok)
        .map(issued)
        .find(|point| shows(point))
}

/// The same, best one that can be sent and arrives: no service calls itself, and what a gateway lets in the services
/// behind it may refuse. Then also who does. `sent` says who sends it.
pub(super) fn find_landing(
    (mesh, callee): (&LinkedMesh, &Service),
    space: &Space,
    likely: &Likely,
    shows: impl Fn(&Point) -> bool,
    sent: impl Fn(&Point) -> Point,
) -> (Option<Point>, Option<String>) {
    let name = &callee.name.value;
    // Few are gateways, and of the others nobody stands behind.
    let mut trial = callee.gateway().map(|_| Trial::new(mesh));
    let mut second = (None, None);
    let points = space.samples(likely, SAMPLES_MAX).filter_map(Result::ok);
    // What stands behind a gateway mostly asks for other methods, if it asks for something else.
    let methods = callee.gateway().map_or(&[][..], |_| &METHODS);
    let points = points.map(issued).flat_map(|point| {
        let other = |method: &&str| Point {
            method: (*method).to_owned(),
            ..point.clone()
        };
        let others: Vec<Point> = methods.iter().map(other).collect();
        std::iter::once(point).chain(others)
    });
    for point in points.filter(|point| shows(point)) {
        let sent = sent(&point);
        let from = sent.from.clone();
        let is_own = |from: &String| callee.identities.iter().any(|own| own.as_str() == from);
        let refused = match &mut trial {
            None if from.as_ref().is_some_and(is_own) => {
                let stranger = format!("spiffe://{}/somebody-else", mesh.trust_domain.value);
                let other = Point {
                    from: Some(stranger),
                    ..point.clone()
                };
                // Better one of a service that there is, if another part of the set has one.
                if second.0.is_none() && shows(&other) {
                    second = (Some(other), None);
                }
                Some(None)
            }
            None => None,
            Some(trial) => {
                let call = Call::from(&sent.to_witness(from, name.clone(), true));
                let outcome = trial.run(&call).ok();
                let mut behind = outcome.iter().flat_map(|outcome| &outcome.behind);
                let refuses = |behind: &&Behind| behind.decision != Decision::Allowed;
                let name = behind.find(refuses).map(|behind| behind.service.clone());
                name.map(Some)
            }
        };
        match refused {
            None => return (Some(point), None),
            Some(who) if second.0.is_none() => second = (Some(point), who),
            Some(_) => {}
        }
    }
    second
}

fn issued(mut point: Point) -> Point {
    let issuer = (FieldKind::Claim, "iss".to_owned());
    if point.fields_of(FieldKind::Claim).next().is_some() && !point.fields.contains_key(&issuer) {
        let stranger = vec!["https://issuer.invalid".to_owned()];
        point.fields.insert(issuer, stranger);
    }
    point
}

/// A service that the base does not have, and that lets in more than the calls that somebody declares.
#[derive(Clone, Debug)]
pub struct Added {
    /// The service, in the head.
    pub service: ServiceId,
    /// What lets them in.
    pub way: Way,
    /// Such a request.
    pub witness: Point,
}

/// Services that only the head has, with one way in each for whoever declares no call.
pub fn added(change: Change<'_>) -> Vec<Added> {
    let is_new = |service: &&Service| change.base.service_named(&service.name.value).is_none();
    let new = change.head.services.iter().filter(is_new);
    new.filter_map(|service| of_new(change.head, service))
        .collect()
}

fn of_new(mesh: &LinkedMesh, service: &Service) -> Option<Added> {
    let door = Door::of(mesh, service.id)?;
    let mut declared = Vec::new();
    for edge in mesh
        .edges
        .entering(service.id)
        .filter(|edge| edge.is_used())
    {
        declared.push(sent(mesh.service(edge.caller), service).ok()?);
    }
    let declared: Vec<&Space> = declared.iter().collect();
    // What is too large to compare is said of what changes; here nothing is lost but a note.
    let left = Entrance::of(mesh, service.id).ok()?.entered().ok()?;
    let left = left.remainder(&declared, SAMPLES_MAX).ok()?;
    let witness = find(&left, door.likely(), |point| door.lets_in(point))?;
    let way = door.judge(&witness)?.ok()?;
    Some(Added {
        service: service.id,
        way,
        witness,
    })
}

/// Gateways that only the base has, with a request from outside that got in, ascending.
pub fn closed(change: Change<'_>) -> Vec<(ServiceId, Point)> {
    let gone = change.removed();
    let gateways = gone.filter(|id| change.base.service(*id).gateway().is_some());
    let entered = |id: ServiceId| {
        let door = Door::of(change.base, id)?;
        let entered = Entrance::of(change.base, id).ok()?.entered().ok()?;
        let outside = Space::from(&[Principal::Unauthenticated]).ok()?;
        let entered = entered.intersection(&outside).ok()?;
        let witness = find(&entered, door.likely(), |point| door.lets_in(point))?;
        Some((id, witness))
    };
    gateways.filter_map(entered).collect()
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
