//! What the access rules of one service let in: which rules never matter, and which calls stay out.

use mesh_bundle::slice::{Effect, Enforcement, Principal};

mod decided;
mod undecided;

use decided::Decided;
pub use decided::{Bypass, Open, Overruled, Spelling};
use undecided::Asked;
pub use undecided::{Question, Undecided};

use super::connections;
use super::entrance;
use super::probe::{self, Probe};
use super::request_space::{CapExceeded, Likely, Point, Space, effort};
use crate::linked::{Access, Edge, LinkedMesh, Service, ServiceId};

/// What is known about the access rules of one service. Numbers are positions in its list of rules.
#[derive(Clone, Debug, Default)]
pub struct AccessFacts {
    /// Rules that no request can meet.
    pub never: Vec<usize>,
    /// Rules that could be left out, with those that say the same.
    pub redundant: Vec<Redundant>,
    /// Rules that admit, each request of which a `deny` refuses again.
    pub overruled: Vec<Overruled>,
    /// Rules that refuse a path and let in one that many servers take for the same.
    pub bypassed: Vec<Bypass>,
    /// Whether every authenticated peer, or every peer at all, may send whatever it likes.
    pub open: Option<Open>,
    /// Whether there are rules that admit, and nobody gets in all the same.
    pub closed: bool,
    /// Declared calls to the service, and routes of gateways that lead to it, of which no request gets
    /// in, ascending by caller.
    pub lockouts: Vec<Lockout>,
    /// Questions that were too large to answer: all above says nothing of them.
    pub undecided: Vec<Undecided>,
}

/// A rule that could be left out.
#[derive(Clone, Debug)]
pub struct Redundant {
    /// The rule.
    pub rule: usize,
    /// The rules that cover it, none of which could be left out too.
    pub covered_by: Vec<usize>,
    /// A request that it takes and one of the others takes too.
    pub witness: Option<Point>,
}

/// A declared call of which no request gets in.
#[derive(Clone, Debug)]
pub struct Lockout {
    /// Who calls.
    pub caller: ServiceId,
    /// A request that is refused.
    pub witness: Point,
}

/// The requests that the rules of a service let in, of those that come so far as to be judged.
pub fn allowed(service: &Service) -> Result<Space, CapExceeded> {
    entrance::by_rules(service)
}

/// What the rules let in, whatever the service takes.
pub(super) fn by_rules_alone(service: &Service) -> Result<Space, CapExceeded> {
    let mut allowed = Space::nothing();
    for rule in enforced(service, Effect::Allow) {
        allowed.add(space(service, rule)?)?;
    }
    for rule in enforced(service, Effect::Deny) {
        allowed = allowed.difference(&space(service, rule)?)?;
    }
    Ok(allowed)
}

fn enforced(service: &Service, effect: Effect) -> impl Iterator<Item = &Access> {
    service
        .access
        .iter()
        .filter(move |rule| rule.effect == effect && rule.enforcement == Enforcement::Enforce)
}

fn space(service: &Service, rule: &Access) -> Result<Space, CapExceeded> {
    connections::spoken_of(service, &probe::access_rule(rule))
}

fn ports(service: &Service) -> Result<Space, CapExceeded> {
    Space::to_ports(service.ports.iter().map(|port| port.number.value))
}

/// Whether a declared call is refused whatever the request.
fn lockout(
    mesh: &LinkedMesh,
    edge: &Edge,
    probe: &Probe,
    ports: &Space,
) -> Result<Option<Lockout>, CapExceeded> {
    let callee = mesh.service(edge.callee);
    let identities = &mesh.service(edge.caller).identities;
    let likely = Likely {
        callers: identities
            .iter()
            .map(|identity| identity.as_str().to_owned())
            .collect(),
        ..probe.likely().clone()
    };
    let from = identities
        .iter()
        .cloned()
        .map(Principal::SpiffeId)
        .collect::<Vec<_>>();
    let from = Space::from(&from)?.intersection(ports)?;
    // A port of plaintext meets no identity. Where all are, the mode is what is wrong (MSH0701).
    let met = from.intersection(&entrance::met(callee)?)?;
    let from = if met.is_empty() { from } else { met };
    // Rules that admit the caller may still ask what no request has, or be overruled.
    for rule in edge
        .permitted
        .iter()
        .filter_map(|rule| callee.access.get(*rule))
    {
        let takes = space(callee, rule)?.intersection(&from)?;
        // A request that is too large to make says nothing yet.
        let point = takes.pick(&likely).ok().flatten();
        if point.is_some_and(|point| probe.is_allowed(&point) == Some(true)) {
            return Ok(None);
        }
    }
    if !edge.permitted.is_empty() {
        let denied: Vec<Space> = enforced(callee, Effect::Deny)
            .map(|rule| space(callee, rule))
            .collect::<Result<_, _>>()?;
        let denied: Vec<&Space> = denied.iter().collect();
        for rule in enforced(callee, Effect::Allow) {
            let takes = space(callee, rule)?.intersection(&from)?;
            if !takes.remainder(&denied, 1)?.is_empty() {
                return Ok(None);
            }
        }
    }
    let Some(witness) = asked_for(callee, edge, &from, &likely) else {
        return Ok(None);
    };
    let refused = probe.is_allowed(&witness) == Some(false);
    debug_assert!(
        refused,
        "the engine lets in what no rule admits: {witness:?}"
    );
    Ok(refused.then_some(Lockout {
        caller: edge.caller,
        witness,
    }))
}

/// A request that the caller would really send: one that a rule for it speaks of, or that a route of the callee takes.
fn asked_for(callee: &Service, edge: &Edge, from: &Space, likely: &Likely) -> Option<Point> {
    let rules = edge
        .permitted
        .iter()
        .filter_map(|rule| callee.access.get(*rule));
    let ruled = rules.map(|rule| space(callee, rule));
    let routes = callee
        .routes
        .iter()
        .map(|route| Space::of_matches(&probe::matches(route)));
    let picked = ruled.chain(routes).find_map(|space| {
        let space = space.and_then(|space| space.intersection(from)).ok()?;
        space.pick(likely).ok()?
    });
    picked.or_else(|| from.pick(likely).ok()?)
}

impl AccessFacts {
    /// Computes the facts of one service. They depend on nothing but the service, its edges, the services at their other
    /// ends, and what [`Unchanged`](crate::Unchanged) compares of the whole mesh.
    pub fn of(mesh: &LinkedMesh, id: ServiceId) -> Self {
        let probe = Probe::of(mesh, id);
        probe.map_or_else(Self::default, |probe| Self::asking(mesh, id, &probe))
    }

    /// The same, for who has the service's probe.
    pub fn asking(mesh: &LinkedMesh, id: ServiceId, probe: &Probe) -> Self {
        let parts = mesh.service(id).access.len() + mesh.edges.entering(id).count();
        effort::within(effort::bound(parts), || Self::compute(mesh, id, probe))
    }

    fn compute(mesh: &LinkedMesh, id: ServiceId, probe: &Probe) -> Self {
        let mut facts = Self::default();
        let service = mesh.service(id);
        let asked = Asked::default();
        let Some(ports) = asked.known(Question::Service, ports(service)) else {
            facts.undecided = asked.undecided();
            return facts;
        };
        let spaces: Vec<Option<Space>> = (service.access.iter().enumerate())
            .map(|(index, rule)| {
                let space = space(service, rule).and_then(|space| space.intersection(&ports));
                asked.known(Question::Rule(index), space)
            })
            .collect();
        for (rule, space) in spaces.iter().enumerate() {
            let implied = service.access.get(rule).is_some_and(|rule| rule.implied);
            if !implied && space.as_ref().is_some_and(Space::is_empty) {
                facts.never.push(rule);
            }
        }
        let declared = |edge: &&Edge| {
            !(edge.declared.is_empty() && edge.routed.is_empty() && edge.asked.is_empty())
        };
        // Who has no proxy has no identity that a rule could know (MSH0703), and nobody judges who enters (MSH0808).
        let is_judged = !entrance::is_unguarded(service);
        let calls = mesh
            .edges
            .entering(id)
            .filter(declared)
            .filter(|edge| is_judged && !entrance::is_unguarded(mesh.service(edge.caller)));
        facts.lockouts = calls
            .filter_map(|edge| {
                let lockout = lockout(mesh, edge, probe, &ports);
                asked.known(Question::Call(edge.caller), lockout)?
            })
            .collect();
        let decided = Decided {
            service,
            probe,
            spaces: &spaces,
            asked: &asked,
        };
        facts.overruled = decided.overruled();
        facts.bypassed = decided.bypassed(&ports);
        let open = decided.open(mesh, &ports);
        facts.open = asked.known(Question::Service, open).flatten();
        facts.closed = decided.is_closed();
        // Of two that say the same the later one goes, and no longer counts for those before it.
        // What a health check implies is nobody's to take out.
        let mut counts: Vec<bool> = service.access.iter().map(|rule| !rule.implied).collect();
        for rule in &facts.never {
            counts[*rule] = false;
        }
        // What asks for a name covers nothing: what is spoken of by name is not all that comes.
        let covers: Vec<bool> = (service.access.iter())
            .map(|rule| !connections::asks_for_a_name(service, &probe::access_rule(rule)))
            .collect();
        for rule in (0..service.access.len()).rev() {
            if !counts[rule] {
                continue;
            }
            let cover = cover(service, &spaces, rule, |other| {
                counts[other] && covers[other]
            });
            if let Some(covered_by) = asked.known(Question::Rule(rule), cover).flatten() {
                counts[rule] = false;
                let witness = witness(probe, &spaces, rule, &covered_by);
                facts.redundant.push(Redundant {
                    rule,
                    covered_by,
                    witness,
                });
            }
        }
        facts.redundant.reverse();
        facts.undecided = asked.undecided();
        facts
    }
}

/// Those of the chosen rules that cover a rule, none of which could be left out; none if they don't.
fn cover(
    service: &Service,
    spaces: &[Option<Space>],
    rule: usize,
    is_chosen: impl Fn(usize) -> bool,
) -> Result<Option<Vec<usize>>, CapExceeded> {
    let (Some(mine), Some(Some(space))) = (service.access.get(rule), spaces.get(rule)) else {
        return Ok(None);
    };
    let like_mine =
        |other: &Access| other.effect == mine.effect && other.enforcement == mine.enforcement;
    let mut others: Vec<(usize, &Space)> = Vec::new();
    for (other, (declared, theirs)) in service.access.iter().zip(spaces).enumerate() {
        if let Some(theirs) = theirs
            && other != rule
            && is_chosen(other)
            && like_mine(declared)
            && !space.intersection(theirs)?.is_empty()
        {
            others.push((other, theirs));
        }
    }
    decided::smallest(&others, |others| Ok(space.remainder(others, 1)?.is_empty()))
}

fn witness(
    probe: &Probe,
    spaces: &[Option<Space>],
    rule: usize,
    covered_by: &[usize],
) -> Option<Point> {
    let point = spaces.get(rule)?.as_ref()?.pick(probe.likely()).ok()??;
    let shown =
        probe.takes(rule, &point) && covered_by.iter().any(|other| probe.takes(*other, &point));
    shown.then_some(point)
}
