//! Requests for what no test covers yet: one that a route takes, one that a rule speaks of. Each is checked by
//! the engine before anybody sees it, and the same mesh always gives the same.

use mesh_bundle::slice::{Enforcement, Principal, Protocol, RouteMatch};
use mesh_syntax::Witness;

use super::sample::{likely, slice_rule};
use super::{Call, Decision, Outcome, Trial};
use crate::analysis::request_space::{CapExceeded, Likely, Space};
use crate::analysis::{connections, probe};
use crate::linked::{Access, LinkedMesh, Route, RouteId, Service, ServiceId};
use crate::model::Effect;

/// Callers that are tried: whoever calls a service is mostly among the first.
const CALLERS_MAX: usize = 8;
/// Requests that are tried of one set.
const SAMPLES_MAX: usize = 8;
/// Other routes that are subtracted: each makes what is left harder to describe.
const OTHERS_MAX: usize = 64;

/// Something that a test can cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverable {
    /// A route that a file declares.
    Route(RouteId),
    /// An access rule that a file writes: its service and its position there.
    Rule(ServiceId, usize),
}

impl Coverable {
    /// Everything that tests of a mesh can cover, services in their order, routes before rules.
    pub fn all(mesh: &LinkedMesh) -> Vec<Self> {
        let of_service = |service: &Service| {
            let id = service.id;
            let routes = service.routes.iter().enumerate();
            let routes = routes
                .filter(|(_, route)| !route.implicit)
                .map(move |(index, _)| Self::Route(RouteId { service: id, index }));
            let rules = service.access.iter().enumerate();
            let rules = rules
                .filter(|(_, rule)| !rule.implied)
                .map(move |(index, _)| Self::Rule(id, index));
            routes.chain(rules).collect::<Vec<_>>()
        };
        mesh.services.iter().flat_map(of_service).collect()
    }

    /// Whether a request touched it.
    pub fn is_touched(self, outcome: &Outcome) -> bool {
        match self {
            Self::Route(id) => outcome.touched.routes.contains(&id),
            Self::Rule(service, rule) => outcome.touched.rules.contains(&(service, rule)),
        }
    }

    /// Whose it is.
    pub const fn service(self) -> ServiceId {
        match self {
            Self::Route(id) => id.service,
            Self::Rule(service, _) => service,
        }
    }
}

/// Who might send a request.
#[derive(Clone, Copy, Debug)]
struct Caller {
    /// None: a peer without an identity.
    service: Option<ServiceId>,
}

impl Trial<'_> {
    /// A request that covers something: one that is let in, if there is one; of a `deny` one that nothing else refuses,
    /// if there is one, so that a test of it fails without the rule. None: none was found, which is no proof that there
    /// is none.
    pub fn covering(&mut self, what: Coverable) -> Option<Witness> {
        let callers = callers(self.mesh, what);
        self.covering_by(what, &callers)
    }

    /// The same of one caller.
    pub fn covering_from(&mut self, what: Coverable, caller: ServiceId) -> Option<Witness> {
        let service = Some(caller);
        self.covering_by(what, &[Caller { service }])
    }

    fn covering_by(&mut self, what: Coverable, callers: &[Caller]) -> Option<Witness> {
        let mesh = self.mesh;
        let service = mesh.service(what.service());
        let mut refused = None;
        for caller in callers.iter().copied() {
            let Ok(spaces) = spaces(mesh, what, caller) else {
                continue;
            };
            let likely = likely_of(mesh, caller, service);
            for (promise, space) in &spaces {
                for point in space.samples(&likely, SAMPLES_MAX).flatten() {
                    let from = caller.service.map(|id| mesh.service(id).name.value.clone());
                    let several = service.ports.len() > 1;
                    let witness = point.to_witness(from, service.name.value.clone(), several);
                    let Ok(outcome) = self.run(&Call::from(&witness)) else {
                        continue;
                    };
                    if !what.is_touched(&outcome) {
                        continue;
                    }
                    if outcome.decision == Decision::Allowed || *promise == Promise::Refusal {
                        return Some(witness);
                    }
                    refused.get_or_insert(witness);
                }
            }
        }
        refused
    }
}

/// Whoever may get as far as a service, those who say that they call it first.
fn callers(mesh: &LinkedMesh, what: Coverable) -> Vec<Caller> {
    let callee = mesh.service(what.service());
    let nobody = Caller { service: None };
    let mut edges: Vec<_> = mesh.edges.entering(callee.id).collect();
    let is_gateway = |id: ServiceId| mesh.service(id).gateway().is_some();
    edges.sort_by_key(|edge| {
        (
            is_gateway(edge.caller),
            !edge.is_used(),
            edge.permitted.is_empty(),
        )
    });
    let mut callers: Vec<Caller> = edges
        .iter()
        .map(|edge| Caller {
            service: Some(edge.caller),
        })
        .collect();
    if callee.gateway().is_some() {
        // Who comes from outside first; of the mesh only those come whose calls leave by it.
        callers.insert(0, nobody);
    }
    if let Coverable::Rule(_, rule) = what
        && let Some(rule) = callee.access.get(rule)
    {
        let speaks_of = |caller: &Caller| {
            let identity = caller
                .service
                .and_then(|id| mesh.service(id).identities.first());
            identity.is_some_and(|identity| rule.covers(identity))
        };
        callers.retain(speaks_of);
        callers.truncate(CALLERS_MAX);
        let of_strangers = rule.who.is_empty() || rule.who.contains(&Principal::Unauthenticated);
        if of_strangers {
            let first = if callee.gateway().is_some() {
                0
            } else {
                callers.len()
            };
            callers.insert(first, nobody);
        }
    }
    callers.truncate(CALLERS_MAX + 1);
    callers
}

/// What the requests of a set are good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing but a `deny` refuses them.
    Refusal,
    /// Better ones may be found.
    Nothing,
}

/// Sets to look in, the most promising first.
fn spaces(
    mesh: &LinkedMesh,
    what: Coverable,
    caller: Caller,
) -> Result<Vec<(Promise, Space)>, CapExceeded> {
    let service = mesh.service(what.service());
    let who = match caller.service {
        Some(id) => {
            let identity = mesh.service(id).identities.first().cloned();
            identity.map(Principal::SpiffeId).into_iter().collect()
        }
        None => vec![Principal::Unauthenticated],
    };
    let ports = Space::to_ports(service.ports.iter().map(|port| port.number.value))?;
    let entering = Space::from(&who)?.intersection(&ports)?;
    let mut spaces = Vec::new();
    let mut guarded = Vec::new();
    match what {
        Coverable::Route(id) => {
            let route = mesh.route(id);
            let taken = route_space(route)?.intersection(&entering)?;
            let own = not_of_others(service, id, &taken).unwrap_or_else(|_large| taken.clone());
            let admitted = admitted(service)?;
            for admitted in &admitted {
                spaces.push(own.intersection(admitted)?);
            }
            for admitted in &admitted {
                spaces.push(taken.intersection(admitted)?);
            }
            spaces.extend([own, taken]);
        }
        Coverable::Rule(_, index) => {
            let Some(rule) = service.access.get(index) else {
                return Ok(Vec::new());
            };
            let spoken_of =
                connections::spoken_of(service, &slice_rule(rule))?.intersection(&entering)?;
            let spoken_of = if rule.effect == Effect::Allow {
                without_denied(service, &spoken_of, None)?
            } else {
                if rule.enforcement == Enforcement::Enforce {
                    guarded = guarded_by(service, index, &spoken_of)?;
                }
                spoken_of
            };
            spaces.push(spoken_of.clone());
            // What no route takes never arrives.
            for route in service
                .routes
                .iter()
                .filter(|route| !route.matches.is_empty())
                .take(OTHERS_MAX)
            {
                spaces.push(spoken_of.intersection(&route_space(route)?)?);
            }
        }
    }
    let guarded = guarded.into_iter().map(|space| (Promise::Refusal, space));
    let spaces = spaces.into_iter().map(|space| (Promise::Nothing, space));
    let all = guarded.chain(spaces).filter(|(_, space)| !space.is_empty());
    Ok(all.collect())
}

/// What of the requests that a `deny` speaks of would be let in without it: by a rule each, and where the service has routes
/// that ask for something, first what they take, for what no route takes never arrives.
fn guarded_by(
    service: &Service,
    index: usize,
    spoken_of: &Space,
) -> Result<Vec<Space>, CapExceeded> {
    let mut all = Vec::new();
    for allow in allows(service) {
        let allowed = connections::spoken_of(service, &slice_rule(allow))?;
        let open = without_denied(service, &spoken_of.intersection(&allowed)?, Some(index))?;
        for route in service.routes.iter().take(OTHERS_MAX) {
            if !route.matches.is_empty() {
                all.push(open.intersection(&route_space(route)?)?);
            }
        }
        all.push(open);
    }
    Ok(all)
}

/// The rules that let something in and that a file writes.
fn allows(service: &Service) -> impl Iterator<Item = &Access> {
    service.access.iter().filter(|rule| {
        rule.effect == Effect::Allow && rule.enforcement == Enforcement::Enforce && !rule.implied
    })
}

fn route_space(route: &Route) -> Result<Space, CapExceeded> {
    let matches: Vec<RouteMatch> = probe::matches(route);
    Space::of_matches(&matches)
}

/// What no other route takes that asks for something.
fn not_of_others(service: &Service, id: RouteId, taken: &Space) -> Result<Space, CapExceeded> {
    let others = service.routes.iter().enumerate();
    let others = others.filter(|(index, other)| *index != id.index && !other.matches.is_empty());
    let others: Vec<Space> = others
        .take(OTHERS_MAX)
        .map(|(_, other)| route_space(other))
        .collect::<Result<_, _>>()?;
    let others: Vec<&Space> = others.iter().collect();
    taken.remainder(&others, SAMPLES_MAX)
}

/// What each rule lets in, and no `deny` refuses.
fn admitted(service: &Service) -> Result<Vec<Space>, CapExceeded> {
    let each = allows(service).map(|rule| {
        let spoken_of = connections::spoken_of(service, &slice_rule(rule))?;
        without_denied(service, &spoken_of, None)
    });
    each.collect()
}

/// What no `deny` refuses, but perhaps the one at a position.
fn without_denied(
    service: &Service,
    space: &Space,
    but: Option<usize>,
) -> Result<Space, CapExceeded> {
    let denies = service.access.iter().enumerate().filter(|(index, rule)| {
        Some(*index) != but
            && rule.effect == Effect::Deny
            && rule.enforcement == Enforcement::Enforce
    });
    let denies: Vec<Space> = denies
        .map(|(_, rule)| connections::spoken_of(service, &slice_rule(rule)))
        .collect::<Result<_, _>>()?;
    let denies: Vec<&Space> = denies.iter().collect();
    space.remainder(&denies, SAMPLES_MAX)
}

fn likely_of(mesh: &LinkedMesh, caller: Caller, callee: &Service) -> Likely {
    match (caller.service, callee.gateway()) {
        (Some(caller), _) => likely(mesh, mesh.service(caller), callee),
        (None, Some(gateway)) => {
            let hosts = gateway
                .listeners
                .iter()
                .flat_map(|listener| &listener.hosts);
            Likely {
                hosts: hosts
                    .map(|host| host.replace("**", "www").replace('*', "www"))
                    .collect(),
                callers: vec![String::new()],
                paths: vec!["/".to_owned()],
            }
        }
        (None, None) => Likely {
            callers: vec![String::new()],
            ..likely(mesh, callee, callee)
        },
    }
}

/// Whether a port carries bytes, so that only connections come to it.
pub(super) fn carries_bytes(service: &Service, port: u16) -> bool {
    let mut ports = service.ports.iter();
    let found = ports.find(|known| known.number.value == port);
    found.is_some_and(|port| matches!(port.protocol, Protocol::Tcp | Protocol::Tls))
}
