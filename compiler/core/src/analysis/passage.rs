//! What becomes of the requests that a route takes, at those whom it sends them to: whether whoever gets them lets
//! any of them in.
//!
//! Sets of requests prove that nobody lets one in: they hold at least what arrives, for what changes on the way and
//! cannot be followed may be anything. The engine then confirms it with one request, all the way.

use std::collections::BTreeMap;

use mesh_engine::{CalleeTable, GatewayTable};
use mesh_syntax::Span;

use super::entrance::Door;
use super::probe::Probe;
use super::request_space::{CapExceeded, Point, Space, effort};
use super::routes::Contest;
use crate::diff::access::find;
use crate::linked::{Destination, LinkedMesh, Route, RouteId, Service, ServiceId, Target};

mod onward;
mod walk;

use walk::Walk;

/// Requests that are tried before a set is compared exactly.
const GUESSES_MAX: usize = 4;

/// A branch of a route whose requests are all refused by whoever gets them.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The route.
    pub route: RouteId,
    /// Whom the branch names.
    pub by: ServiceId,
    /// The branch.
    pub span: Span,
    /// When requests go that way.
    pub when: When,
    /// One of them, as the proxy gets it that has the route.
    pub witness: Point,
}

/// When a route sends requests along a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Its share of them, always.
    Always,
    /// When what stands before it has no healthy endpoint.
    Otherwise,
    /// A copy of each.
    Copy,
}

/// A gateway, or one of its routes, that no request can enter.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The route; none: every one.
    pub route: Option<usize>,
    /// A request that it would take, and that is refused.
    pub witness: Point,
}

/// A route of which it is too large to say whether whoever gets its requests lets one in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The route.
    pub route: RouteId,
    /// The bound.
    pub why: CapExceeded,
}

/// One branch of a route.
#[derive(Clone, Copy)]
pub(super) struct Branch<'m> {
    /// As declared; none: a copy.
    pub(super) to: Option<&'m Destination>,
    pub(super) target: Target,
    when: When,
    span: Span,
}

/// The branches of a route that requests take.
fn branches(route: &Route) -> impl Iterator<Item = Branch<'_>> {
    let sent = route.destinations.iter().filter(|to| to.weight > 0);
    let sent = sent.flat_map(|to| {
        let branch = move |target: Target, when| Branch {
            to: Some(to),
            target,
            when,
            span: to.span,
        };
        let others = to.otherwise.iter();
        std::iter::once(branch(to.target, When::Always))
            .chain(others.map(move |other| branch(*other, When::Otherwise)))
    });
    let copied = route.actions.mirrors.iter().map(|mirror| Branch {
        to: None,
        target: mirror.target,
        when: When::Copy,
        span: mirror.span,
    });
    sent.chain(copied)
}

/// Follows requests through a mesh. What several questions need is computed once.
#[derive(Debug)]
pub struct Passages<'m> {
    mesh: &'m LinkedMesh,
    contests: BTreeMap<ServiceId, Option<Contest>>,
    doors: BTreeMap<ServiceId, Option<(Door, Space)>>,
    probes: BTreeMap<ServiceId, Option<Probe>>,
    gateways: BTreeMap<ServiceId, Option<GatewayTable>>,
    callees: BTreeMap<(ServiceId, ServiceId), Option<CalleeTable>>,
    undecided: Vec<Undecided>,
}

/// Asks about passages, and says which of the questions were too large, each route once. All of them together look at
/// no more than grows with the mesh.
pub fn ask<'m, T>(
    mesh: &'m LinkedMesh,
    questions: impl FnOnce(&mut Passages<'m>) -> T,
) -> (T, Vec<Undecided>) {
    let parts = |service: &Service| {
        let matches = service.routes.iter().map(|route| route.matches.len() + 1);
        matches.sum::<usize>() + service.access.len()
    };
    let parts = mesh.services.iter().map(parts).sum::<usize>() + mesh.edges.iter().count();
    let mut passages = Passages::new(mesh);
    let answer = effort::within(effort::bound(parts), || questions(&mut passages));
    let mut undecided = passages.undecided;
    undecided.sort_by_key(|each| each.route);
    undecided.dedup_by_key(|each| each.route);
    (answer, undecided)
}

impl<'m> Passages<'m> {
    /// Nothing is computed until it is asked for.
    pub const fn new(mesh: &'m LinkedMesh) -> Self {
        Self {
            mesh,
            contests: BTreeMap::new(),
            doors: BTreeMap::new(),
            probes: BTreeMap::new(),
            gateways: BTreeMap::new(),
            callees: BTreeMap::new(),
            undecided: Vec::new(),
        }
    }

    /// Whether nobody can enter a gateway, or else which of its routes nobody can.
    pub fn closed(&mut self, gateway: ServiceId) -> Vec<Closed> {
        let service = self.mesh.service(gateway);
        let mut closed = Vec::new();
        let entered = self.entered(gateway).ok_or(CapExceeded::Cells);
        for index in 0..service.routes.len() {
            let answer = match &entered {
                Ok(entered) => self.closed_route(gateway, index, entered),
                Err(why) => Err(*why),
            };
            let route = RouteId {
                service: gateway,
                index,
            };
            if let Some(witness) = self.known(route, answer).flatten() {
                closed.push(Closed {
                    route: Some(index),
                    witness,
                });
            }
        }
        let Ok(entered) = entered else {
            return closed;
        };
        match closed.first() {
            Some(first) if entered.is_empty() || closed.len() == service.routes.len() => {
                vec![Closed {
                    route: None,
                    witness: first.witness.clone(),
                }]
            }
            _ => closed,
        }
    }

    fn closed_route(
        &mut self,
        gateway: ServiceId,
        route: usize,
        entered: &Space,
    ) -> Result<Option<Point>, CapExceeded> {
        let own = self.own(gateway, route)?;
        let mut taken = own.intersection(entered)?;
        if !taken.is_empty() {
            let name = &self.mesh.service(gateway).routes[route].name.value;
            let Some((door, _)) = self.door(gateway) else {
                return Ok(None);
            };
            let enters =
                |point: &Point| door.route(point) == Some(name) && door.admits(point).is_some();
            if taken
                .guesses(door.likely())
                .take(GUESSES_MAX)
                .any(|point| enters(&point))
            {
                return Ok(None);
            }
            taken = match self.won(gateway, route)? {
                Some(won) => won.intersection(entered)?,
                None => return Ok(None),
            };
        }
        if !taken.is_empty() {
            return Ok(None);
        }
        let Some(won) = self.won(gateway, route)? else {
            return Ok(None);
        };
        let name = &self.mesh.service(gateway).routes[route].name.value;
        let Some((door, _)) = self.door(gateway) else {
            return Ok(None);
        };
        let refused =
            |point: &Point| door.route(point) == Some(name) && door.admits(point).is_none();
        Ok(find(&won, door.likely(), refused))
    }

    /// The branches of a gateway's routes whose requests are all refused behind it.
    pub fn refused_behind(&mut self, gateway: ServiceId) -> Vec<Refusal> {
        let service = self.mesh.service(gateway);
        let mut refused = Vec::new();
        for (index, route) in service.routes.iter().enumerate() {
            let id = RouteId {
                service: gateway,
                index,
            };
            // Copies go to their target as they are; see `led`.
            let sent = branches(route).filter(|branch| branch.when != When::Copy);
            for branch in sent {
                let walk = Walk::Behind { route: id, branch };
                refused.extend(self.refusal(walk, branch, id));
            }
        }
        refused
    }

    /// The branches of a route that lead a caller's requests to another service, which refuses them all.
    pub fn led(&mut self, caller: ServiceId, target: ServiceId, route: RouteId) -> Vec<Refusal> {
        let mesh = self.mesh;
        let there = branches(mesh.route(route)).filter(|branch| branch.target.service == target);
        let mut refused = Vec::new();
        for branch in there {
            if route.service == caller {
                let walk = Walk::Own { route, branch };
                refused.extend(self.refusal(walk, branch, route));
                continue;
            }
            if mesh.service(caller).gateway().is_none() {
                let walk = Walk::Called {
                    caller,
                    route,
                    branch,
                };
                refused.extend(self.refusal(walk, branch, route));
                continue;
            }
            refused.extend(self.led_through(caller, route, branch));
        }
        refused
    }

    /// The same for a gateway: what all of its own routes send there is refused.
    fn led_through(
        &mut self,
        gateway: ServiceId,
        route: RouteId,
        branch: Branch<'m>,
    ) -> Option<Refusal> {
        let mesh = self.mesh;
        let mut found = None;
        for (index, own) in mesh.service(gateway).routes.iter().enumerate() {
            let before = RouteId {
                service: gateway,
                index,
            };
            let to = branches(own).filter(|first| first.when != When::Copy);
            for first in to.filter(|first| first.target.service == route.service) {
                let walk = Walk::Through {
                    before,
                    first,
                    route,
                    branch,
                };
                let verdict = self.verdict(walk);
                match self.known(route, verdict)? {
                    Verdict::Idle => {}
                    Verdict::Admitted => return None,
                    Verdict::Refused(point) => found = found.or(Some(point)),
                }
            }
        }
        found.map(|witness| refusal(route, branch, witness))
    }

    fn refusal(&mut self, walk: Walk<'m>, branch: Branch<'m>, route: RouteId) -> Option<Refusal> {
        let verdict = self.verdict(walk);
        match self.known(route, verdict)? {
            Verdict::Refused(witness) => Some(refusal(route, branch, witness)),
            Verdict::Idle | Verdict::Admitted => None,
        }
    }

    /// The answer, if there is one; that there is none is noted.
    fn known<T>(&mut self, route: RouteId, answer: Result<T, CapExceeded>) -> Option<T> {
        let undecided = &mut self.undecided;
        let note = |why| undecided.push(Undecided { route, why });
        answer.map_err(note).ok()
    }

    /// Whether some request of a walk is let in at its end.
    fn verdict(&mut self, walk: Walk<'m>) -> Result<Verdict, CapExceeded> {
        if walk.is_unguarded(self.mesh) {
            return Ok(Verdict::Admitted);
        }
        let likely = self.likely(walk);
        // Most routes let in the first request that one would think of, or nothing whatever the other routes are.
        let wide = self.sent(walk, false)?;
        for point in wide.guesses(&likely).take(GUESSES_MAX) {
            if self.is_let_in(walk, &point) == Some(true) {
                return Ok(Verdict::Admitted);
            }
        }
        if wide.is_empty() {
            return Ok(Verdict::Idle);
        }
        if self.admits_some(walk, &wide, false)? {
            let exact = self.sent(walk, true)?;
            if exact.is_empty() {
                return Ok(Verdict::Idle);
            }
            if self.admits_some(walk, &exact, true)? {
                return Ok(Verdict::Admitted);
            }
        }
        let sent = self.sent(walk, true)?;
        let mut hinted = Vec::new();
        for hint in self.hints(walk)? {
            hinted.push(sent.intersection(&hint)?);
        }
        hinted.push(sent);
        let this = std::cell::RefCell::new(self);
        let refused = |point: &Point| this.borrow_mut().is_let_in(walk, point) == Some(false);
        let witness = hinted
            .iter()
            .find_map(|space| find(space, &likely, refused));
        Ok(witness.map_or(Verdict::Idle, Verdict::Refused))
    }
}

fn refusal(route: RouteId, branch: Branch<'_>, witness: Point) -> Refusal {
    Refusal {
        route,
        by: branch.target.service,
        span: branch.span,
        when: branch.when,
        witness,
    }
}

/// What becomes of all requests of a walk.
enum Verdict {
    /// There are none.
    Idle,
    /// Some may be let in.
    Admitted,
    /// None is; this is one of them.
    Refused(Point),
}
