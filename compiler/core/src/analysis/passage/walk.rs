//! The ways that requests go, as sets and one by one through the engine.

use mesh_engine::filter::Action;
use mesh_engine::request::{Peer, Request};
use mesh_engine::route::RouteTable;

use mesh_bundle::slice::{self, Effect, Enforcement, Principal};
use mesh_engine::{CalleeTable, GatewayTable};

use super::{Branch, Passages, When, branches, onward};
use crate::analysis::connections;
use crate::analysis::entrance::{self, Door, Entrance, is_unguarded};
use crate::analysis::probe::{self, Probe};
use crate::analysis::request_space::{CapExceeded, Changes, Likely, Point, Space};
use crate::analysis::routes::{self, Contest};
use crate::emit;
use crate::linked::{LinkedMesh, RouteId, Service, ServiceId, Target};

/// A way that requests go, from the proxy that gets them first.
#[derive(Clone, Copy)]
pub(super) enum Walk<'m> {
    /// From outside, by a gateway's route, to a service and along its own routes.
    Behind { route: RouteId, branch: Branch<'m> },
    /// From outside, as copies that a gateway makes.
    Own { route: RouteId, branch: Branch<'m> },
    /// From a caller, by a route of the service that it calls, to another.
    Called {
        caller: ServiceId,
        route: RouteId,
        branch: Branch<'m>,
    },
    /// From outside, by a gateway's route, and then by a route of the service behind it, to another.
    Through {
        before: RouteId,
        first: Branch<'m>,
        route: RouteId,
        branch: Branch<'m>,
    },
}

impl Walk<'_> {
    /// Who calls in the end, whose route the requests take first, and whom they are sent to last.
    fn ends(self) -> (ServiceId, RouteId, ServiceId) {
        match self {
            Self::Behind { route, branch } | Self::Own { route, branch } => {
                (route.service, route, branch.target.service)
            }
            Self::Called {
                caller,
                route,
                branch,
            } => (caller, route, branch.target.service),
            Self::Through { before, branch, .. } => (before.service, before, branch.target.service),
        }
    }

    /// Whether nobody stands there to judge, or to say who calls.
    pub(super) fn is_unguarded(self, mesh: &LinkedMesh) -> bool {
        let (caller, _, last) = self.ends();
        let last = mesh.service(last);
        is_unguarded(mesh.service(caller)) || is_unguarded(last) || last.gateway().is_some()
    }
}

fn ports_of(service: &Service, target: Target) -> Result<Space, CapExceeded> {
    match target.port {
        Some(port) => Space::to_ports([port]),
        None => Space::to_ports(service.ports.iter().map(|port| port.number.value)),
    }
}

fn identified(service: &Service) -> Result<Space, CapExceeded> {
    let who: Vec<Principal> = (service.identities.iter().cloned())
        .map(Principal::SpiffeId)
        .collect();
    Space::from(&who)
}

/// The request as a branch sends it on.
fn forwarded<T>(
    table: &RouteTable,
    to: Option<&slice::Destination>,
    (port, peer): (Option<u16>, Peer<'_>),
    request: &Request<'_>,
    ask: impl FnOnce(&Request<'_>) -> Option<T>,
) -> Option<T> {
    let sent = table.forwarded(request, to, |onward| {
        ask(&Request {
            port: port.unwrap_or(onward.port),
            peer,
            ..*onward
        })
    });
    sent.ok()?
}

/// The destination that a branch is, as the engine has it.
fn declared<'t>(
    mesh: &LinkedMesh,
    table: &'t RouteTable,
    branch: Branch<'_>,
) -> Option<&'t slice::Destination> {
    let target = emit::target(mesh, branch.to?.target);
    table
        .split()
        .destinations()
        .iter()
        .find(|to| to.target == target)
}

impl<'m> Passages<'m> {
    pub(super) fn door(&mut self, gateway: ServiceId) -> Option<&(Door, Space)> {
        let mesh = self.mesh;
        let make = || {
            let entered =
                Entrance::admitting(mesh, gateway).and_then(|entrance| entrance.entered());
            Some((Door::of(mesh, gateway)?, entered.ok()?))
        };
        self.doors.entry(gateway).or_insert_with(make).as_ref()
    }

    /// The requests that a gateway lets in; none if that is too large to say.
    pub(super) fn entered(&mut self, gateway: ServiceId) -> Option<Space> {
        self.door(gateway).map(|(_, entered)| entered.clone())
    }

    /// The requests that a route would take if no other did.
    pub(super) fn own(&self, service: ServiceId, route: usize) -> Result<Space, CapExceeded> {
        let service = self.mesh.service(service);
        let Some(route) = service.routes.get(route) else {
            return Ok(Space::nothing());
        };
        Space::of_matches(&probe::matches(route))?.intersection(&routes::universe(service)?)
    }

    /// The requests that a route takes; none if that is too large to say.
    pub(super) fn won(
        &mut self,
        service: ServiceId,
        route: usize,
    ) -> Result<Option<Space>, CapExceeded> {
        let mesh = self.mesh;
        let make = || {
            let service = mesh.service(service);
            Contest::of(service, &routes::universe(service).ok()?).ok()
        };
        let contest = self.contests.entry(service).or_insert_with(make);
        contest
            .as_ref()
            .map(|contest| contest.won(|each| each == route))
            .transpose()
    }

    fn taken(&mut self, id: RouteId, exact: bool) -> Result<Space, CapExceeded> {
        if exact {
            return self.won(id.service, id.index)?.ok_or(CapExceeded::Cells);
        }
        self.own(id.service, id.index)
    }

    pub(super) fn likely(&mut self, walk: Walk<'m>) -> Likely {
        let (caller, first, _) = walk.ends();
        let mut likely = probe::likely(self.mesh, first.service);
        if let Walk::Called { .. } = walk {
            let own = self.mesh.service(caller).identities.iter();
            likely.callers = own.map(ToString::to_string).collect();
        }
        likely
    }

    /// The requests that take the first route of a walk.
    pub(super) fn sent(&mut self, walk: Walk<'m>, exact: bool) -> Result<Space, CapExceeded> {
        let (caller, first, _) = walk.ends();
        let taken = self.taken(first, exact)?;
        if caller == first.service {
            let entered = self.entered(caller).ok_or(CapExceeded::Cells)?;
            return taken.intersection(&entered);
        }
        taken.intersection(&identified(self.mesh.service(caller))?)
    }

    /// Sets in which requests are likely that go on as a walk does: what its later routes take, whatever the first one
    /// writes into the requests, or else as if it wrote nothing.
    pub(super) fn hints(&self, walk: Walk<'m>) -> Result<Vec<Space>, CapExceeded> {
        let (later, first): (Vec<RouteId>, _) = match walk {
            Walk::Own { .. } | Walk::Called { .. } => return Ok(Vec::new()),
            Walk::Through {
                before,
                first,
                route,
                ..
            } => (vec![route], (before, first)),
            Walk::Behind { route, branch } => {
                let service = branch.target.service;
                let routes = 0..self.mesh.service(service).routes.len();
                let routes = routes.map(|index| RouteId { service, index });
                (routes.collect(), (route, branch))
            }
        };
        let mut hints = Vec::new();
        for id in later {
            let own = self.own(id.service, id.index)?;
            hints.push(onward::arrives_as(
                &own,
                self.mesh.route(first.0),
                first.1.to,
            ));
            hints.push(own.sent_on(&Changes {
                path: false,
                host: false,
                header: &|_| false,
            }));
        }
        Ok(hints)
    }

    fn onward(
        &self,
        space: &Space,
        caller: ServiceId,
        id: RouteId,
        branch: Branch<'_>,
    ) -> Result<Space, CapExceeded> {
        let mesh = self.mesh;
        onward::sent_on(space, mesh.route(id), branch.to)?
            .intersection(&identified(mesh.service(caller))?)?
            .intersection(&ports_of(
                mesh.service(branch.target.service),
                branch.target,
            )?)
    }

    /// Whether some of the requests may be let in at the end of a walk.
    pub(super) fn admits_some(
        &mut self,
        walk: Walk<'m>,
        sent: &Space,
        exact: bool,
    ) -> Result<bool, CapExceeded> {
        let (caller, first, last) = walk.ends();
        match walk {
            Walk::Own { route, branch } | Walk::Called { route, branch, .. } => {
                let arrived = self.onward(sent, caller, route, branch)?;
                self.lets_some_in(last, &arrived)
            }
            Walk::Through {
                first: leg,
                route,
                branch,
                ..
            } => {
                let there = self.onward(sent, caller, first, leg)?;
                let there = there.intersection(&self.taken(route, exact)?)?;
                let arrived = self.onward(&there, caller, route, branch)?;
                self.lets_some_in(last, &arrived)
            }
            Walk::Behind { route, branch } => {
                let there = self.onward(sent, caller, route, branch)?;
                self.some_get_through(caller, last, &there, exact)
            }
        }
    }

    fn some_get_through(
        &mut self,
        caller: ServiceId,
        service: ServiceId,
        sent: &Space,
        exact: bool,
    ) -> Result<bool, CapExceeded> {
        for (index, route) in self.mesh.service(service).routes.iter().enumerate() {
            let id = RouteId { service, index };
            let taken = sent.intersection(&self.taken(id, exact)?)?;
            if taken.is_empty() {
                continue;
            }
            if route.actions.answer.is_some() {
                return Ok(true);
            }
            for branch in branches(route).filter(|branch| branch.when != When::Copy) {
                // What others make of it is said of the service's own route (MSH0312).
                if branch.target.service != service {
                    return Ok(true);
                }
                let arrived = self.onward(&taken, caller, id, branch)?;
                if self.lets_some_in(service, &arrived)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn lets_some_in(&self, id: ServiceId, arrived: &Space) -> Result<bool, CapExceeded> {
        let service = self.mesh.service(id);
        if is_unguarded(service) || service.gateway().is_some() {
            return Ok(!arrived.is_empty());
        }
        let met = arrived.intersection(&entrance::met(service)?)?;
        let rules = |effect: Effect| {
            let rules = service.access.iter();
            let rules = rules.filter(move |rule| {
                rule.effect == effect && rule.enforcement == Enforcement::Enforce
            });
            rules.map(|rule| connections::spoken_of(service, &probe::access_rule(rule)))
        };
        let denied: Vec<Space> = rules(Effect::Deny).collect::<Result<_, _>>()?;
        let denied: Vec<&Space> = denied.iter().collect();
        for takes in rules(Effect::Allow) {
            if !takes?.intersection(&met)?.remainder(&denied, 1)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the engine lets a request in at the end of a walk; none if it goes another way.
    pub(super) fn is_let_in(&mut self, walk: Walk<'m>, point: &Point) -> Option<bool> {
        let (caller, first, last) = walk.ends();
        self.prepare(walk)?;
        let mesh = self.mesh;
        let identity = mesh.service(caller).identities.first()?;
        let peer = Peer::Identity(identity);
        let name = |id: RouteId| mesh.route(id).name.value.as_str();
        probe::ask(point, |request| {
            let table = if caller == first.service {
                let (door, _) = self.doors.get(&caller)?.as_ref()?;
                door.admits(point)?;
                self.gateways.get(&caller)?.as_ref()?.route(request)?
            } else {
                self.callees
                    .get(&(caller, first.service))?
                    .as_ref()?
                    .route(request)?
            };
            if table.name() != name(first) {
                return None;
            }
            let judged = |service: ServiceId, request: &Request<'_>| {
                Some(self.probes.get(&service)?.as_ref()?.lets_in(request))
            };
            match walk {
                Walk::Own { branch, .. } | Walk::Called { branch, .. } => {
                    let to = declared(mesh, table, branch);
                    let port = branch.target.port;
                    forwarded(table, to, (port, peer), request, |arrived| {
                        judged(last, arrived)
                    })
                }
                Walk::Through {
                    first: leg,
                    route,
                    branch,
                    ..
                } => {
                    let callee = self.callees.get(&(caller, route.service))?.as_ref()?;
                    let port = callee.port(leg.target.port).map(|port| port.number);
                    let to = declared(mesh, table, leg);
                    forwarded(table, to, (port, peer), request, |there| {
                        let next = callee
                            .route(there)
                            .filter(|next| next.name() == name(route))?;
                        let to = declared(mesh, next, branch);
                        let port = branch.target.port;
                        forwarded(next, to, (port, peer), there, |arrived| {
                            judged(last, arrived)
                        })
                    })
                }
                Walk::Behind { branch, .. } => {
                    let callee = self.callees.get(&(caller, last))?.as_ref()?;
                    let port = callee.port(branch.target.port).map(|port| port.number);
                    let to = declared(mesh, table, branch);
                    forwarded(table, to, (port, peer), request, |there| {
                        let next = callee.route(there)?;
                        if !matches!(next.action(), Action::Forward) {
                            return Some(true);
                        }
                        let routes = &mesh.service(last).routes;
                        let taken = routes
                            .iter()
                            .find(|route| route.name.value == next.name())?;
                        let mut any = None;
                        for branch in branches(taken).filter(|branch| branch.when != When::Copy) {
                            let to = declared(mesh, next, branch);
                            let port = branch.target.port;
                            let let_in = branch.target.service != last
                                || forwarded(next, to, (port, peer), there, |arrived| {
                                    judged(last, arrived)
                                })?;
                            any = Some(any.unwrap_or(false) || let_in);
                        }
                        any
                    })
                }
            }
        })?
    }

    /// Compiles what the engine needs on a walk.
    fn prepare(&mut self, walk: Walk<'m>) -> Option<()> {
        let mesh = self.mesh;
        let (caller, first, last) = walk.ends();
        let mut through = Vec::new();
        if caller == first.service {
            self.door(caller)?;
            let gateway = mesh.service(caller);
            let make = || GatewayTable::build(&emit::gateway(mesh, gateway)).ok();
            self.gateways.entry(caller).or_insert_with(make);
        } else {
            through.push(first.service);
        }
        match walk {
            Walk::Own { .. } | Walk::Called { .. } => {}
            Walk::Through { route, .. } => through.push(route.service),
            Walk::Behind { .. } => through.push(last),
        }
        for service in through {
            let make = || {
                let edge = mesh.edge(caller, service)?;
                CalleeTable::build(&emit::callee(mesh, mesh.service(service), edge)).ok()
            };
            self.callees.entry((caller, service)).or_insert_with(make);
        }
        let make = || Probe::of(mesh, last);
        self.probes.entry(last).or_insert_with(make);
        Some(())
    }
}
