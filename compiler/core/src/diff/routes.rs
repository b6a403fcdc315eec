//! Requests that now go elsewhere: for each service and gateway that both meshes have, which route takes a request
//! before and after, where what the two do with it differs.

use std::collections::BTreeMap;

use mesh_bundle::slice::{self, RouteMatch};
use mesh_engine::route::Precedence;
use rayon::prelude::*;

use super::{Change, Kept};
use crate::analysis::entrance::Entrance;
use crate::analysis::probe::{self, Probe};
use crate::analysis::request_space::{CapExceeded, Likely, Point, Space};
use crate::analysis::routes::{Piece, pieces_of, universe};
use crate::emit;
use crate::linked::{LinkedMesh, Route, Service, ServiceId};

/// Requests that are tried as a witness.
const SAMPLES_MAX: usize = 16;

/// Requests that one route took, and that another takes or that meet another treatment.
#[derive(Clone, Debug)]
pub struct Move {
    /// Whose routes.
    pub service: Kept,
    /// The route that took them, as a position in the base; none: no route did.
    pub before: Option<usize>,
    /// The route that takes them, as a position in the head.
    pub after: Option<usize>,
    /// One of them, seen so in the engine.
    pub witness: Point,
}

/// What became of the requests to every service that both meshes have.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// Ascending by service and routes.
    pub all: Vec<Move>,
    /// Services whose routes were too large to compare.
    pub unknown: Vec<(Kept, CapExceeded)>,
}

impl Moves {
    /// Compares the routes of two meshes.
    pub fn of(change: Change<'_>) -> Self {
        let kept: Vec<Kept> = change.kept().collect();
        let each = |service: Kept| match of(change, service) {
            Ok(found) => (service, found.0, found.1.err()),
            Err(why) => (service, Vec::new(), Some(why)),
        };
        let found: Vec<_> = kept.into_par_iter().map(each).collect();
        let mut moves = Self::default();
        for (service, found, unknown) in found {
            moves.all.extend(found);
            moves.unknown.extend(unknown.map(|why| (service, why)));
        }
        moves
    }
}

/// What a route does with a request, whatever its name and its patience.
pub fn treatment(mesh: &LinkedMesh, route: &Route) -> slice::Route {
    let lowered = emit::route(mesh, route, &route.exchange);
    let mut treatment = slice::Route {
        destinations: lowered.destinations,
        answer: lowered.answer,
        filters: lowered.filters,
        ..slice::Route::default()
    };
    let divisor = treatment
        .destinations
        .iter()
        .fold(0, |divisor, to| common_divisor(divisor, to.weight));
    for to in &mut treatment.destinations {
        to.weight = to.weight.checked_div(divisor).unwrap_or(0);
    }
    treatment
        .destinations
        .sort_by(|a, b| key(&a.target).cmp(&key(&b.target)));
    treatment
}

fn key(target: &slice::Target) -> (&str, Option<&str>, Option<u16>) {
    (&target.service, target.subset.as_deref(), target.port)
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// The routes of a service in one of the meshes.
struct Side<'m> {
    mesh: &'m LinkedMesh,
    id: ServiceId,
    universe: Space,
    pieces: Vec<Piece>,
    probe: Probe,
}

impl<'m> Side<'m> {
    fn of(mesh: &'m LinkedMesh, id: ServiceId) -> Result<Option<Self>, CapExceeded> {
        let service = mesh.service(id);
        let Some(probe) = Probe::of(mesh, id) else {
            return Ok(None);
        };
        let universe = universe(service)?;
        let everything = [RouteMatch::default()];
        let mut pieces = Vec::new();
        for (route, written) in service.routes.iter().enumerate() {
            let matches = probe::matches(written);
            let matches = if matches.is_empty() {
                &everything[..]
            } else {
                &matches
            };
            for (position, each) in matches.iter().enumerate() {
                pieces.extend(pieces_of((route, position), each, &universe)?);
            }
        }
        Ok(Some(Self {
            mesh,
            id,
            universe,
            pieces,
            probe,
        }))
    }

    /// Pieces that win over one of them wherever both take a request.
    fn above<'a>(&'a self, piece: &'a Piece) -> impl Iterator<Item = &'a Space> {
        let above = self
            .pieces
            .iter()
            .filter(|other| other.alternative.compare(&piece.alternative) == Precedence::Higher);
        above.map(|other| &other.space)
    }

    /// The route that takes a request, where there is a port or listener for it to come by.
    fn route(&self, point: &Point) -> Option<usize> {
        let comes = self.universe.contains(point);
        comes.then(|| self.probe.route(point)).flatten()
    }

    /// What no route takes of some requests, which may be none that could come.
    fn untaken(&self, of: &Space) -> Result<Space, CapExceeded> {
        let mut taken: Vec<&Piece> = self.pieces.iter().collect();
        // The widest first: a route without a `match` ends the search at once.
        taken.sort_by(|a, b| a.alternative.specificity.cmp(&b.alternative.specificity));
        let taken: Vec<&Space> = taken.into_iter().map(|piece| &piece.space).collect();
        of.remainder(&taken, usize::MAX)
    }
}

fn treatments(mesh: &LinkedMesh, service: &Service) -> Vec<slice::Route> {
    let routes = service.routes.iter();
    routes.map(|route| treatment(mesh, route)).collect()
}

/// What moved, and whether that is all.
type Found = (Vec<Move>, Result<(), CapExceeded>);

fn of(change: Change<'_>, kept: Kept) -> Result<Found, CapExceeded> {
    let before = change.base.service(kept.base);
    let after = change.head.service(kept.head);
    let old = treatments(change.base, before);
    let new = treatments(change.head, after);
    let is_alike = old == new && same_matches(before, after);
    if is_alike && same_listeners(before, after) {
        return Ok((Vec::new(), Ok(())));
    }
    let differ = |mine: usize, theirs: usize| old.get(mine) != new.get(theirs);
    let Some(mut both) = Both::of(change, kept, &differ)? else {
        return Ok((Vec::new(), Ok(())));
    };
    // What is found before a bound is passed is true all the same.
    let whole = both.look_at_routes().and_then(|()| both.look_at_untaken());
    Ok((both.found.into_values().collect(), whole))
}

/// Requests that one route takes in the base and another, or the same, in the head, for every pair of routes that
/// differ in something, as far as somebody may send them before or after; where there is one that nothing but its method, host, path and caller sets apart, that one.
pub(super) fn passed_on(
    change: Change<'_>,
    kept: Kept,
    differ: Differ<'_>,
) -> Result<Vec<Move>, CapExceeded> {
    let Some(mut both) = Both::of(change, kept, differ)? else {
        return Ok(Vec::new());
    };
    both.wants_plain = true;
    both.wants_let_in = true;
    both.look_at_routes()?;
    Ok(both.found.into_values().collect())
}

/// Requests that one route took and another, or the same, takes where the two differ; and with `untaken` those that none
/// takes any more.
pub(super) fn ended(
    change: Change<'_>,
    kept: Kept,
    differ: Differ<'_>,
    untaken: bool,
) -> Result<Vec<Move>, CapExceeded> {
    let Some(mut both) = Both::of(change, kept, differ)? else {
        return Ok(Vec::new());
    };
    both.wants_let_in = true;
    both.look_at_routes()?;
    if untaken {
        both.look_at_lost()?;
    }
    Ok(both.found.into_values().collect())
}

/// Whether the routes of both ask for the same, position by position.
pub(super) fn same_matches(before: &Service, after: &Service) -> bool {
    let matches = |service: &Service| -> Vec<Vec<RouteMatch>> {
        service.routes.iter().map(probe::matches).collect()
    };
    matches(before) == matches(after)
}

/// Whether a route of the base, by its position, and one of the head are worth telling apart.
type Differ<'d> = &'d dyn Fn(usize, usize) -> bool;

fn same_listeners(before: &Service, after: &Service) -> bool {
    let listeners = |service: &Service| -> Vec<(u16, Vec<String>)> {
        let gateway = service.gateway();
        let listeners = gateway.map_or(&[][..], |gateway| &gateway.listeners);
        listeners
            .iter()
            .map(|listener| (listener.port.value, listener.hosts.clone()))
            .collect()
    };
    listeners(before) == listeners(after)
}

struct Both<'m> {
    change: Change<'m>,
    kept: Kept,
    differ: Differ<'m>,
    /// Whether it is worth looking further for a request without headers and the like.
    wants_plain: bool,
    /// Whether only requests count that somebody may send, where anybody may send any.
    wants_let_in: bool,
    old: Side<'m>,
    new: Side<'m>,
    /// By the routes before and after.
    found: BTreeMap<Routes, Move>,
}

/// Positions of routes in base and head.
type Routes = (Option<usize>, Option<usize>);

impl<'m> Both<'m> {
    fn of(change: Change<'m>, kept: Kept, differ: Differ<'m>) -> Result<Option<Self>, CapExceeded> {
        let (Some(old), Some(new)) = (
            Side::of(change.base, kept.base)?,
            Side::of(change.head, kept.head)?,
        ) else {
            return Ok(None);
        };
        Ok(Some(Self {
            change,
            kept,
            differ,
            wants_plain: false,
            wants_let_in: false,
            old,
            new,
            found: BTreeMap::new(),
        }))
    }

    /// Whether nothing better than what was found for these routes is looked for.
    fn is_settled(&self, routes: &Routes) -> bool {
        let found = self.found.get(routes);
        found.is_some_and(|found| !self.wants_plain || found.witness.is_plain())
    }

    fn look_at_routes(&mut self) -> Result<(), CapExceeded> {
        for mine in 0..self.old.pieces.len() {
            for theirs in 0..self.new.pieces.len() {
                let (old, new) = (&self.old, &self.new);
                let (mine, theirs) = (&old.pieces[mine], &new.pieces[theirs]);
                let routes = (Some(mine.route), Some(theirs.route));
                if self.is_settled(&routes) || !(self.differ)(mine.route, theirs.route) {
                    continue;
                }
                let both = mine.space.intersection(&theirs.space)?;
                let above: Vec<&Space> = old.above(mine).chain(new.above(theirs)).collect();
                let left = both.remainder(&above, SAMPLES_MAX)?;
                self.add(routes, &left);
            }
        }
        Ok(())
    }

    fn look_at_untaken(&mut self) -> Result<(), CapExceeded> {
        for is_new in [true, false] {
            let (with, without) = if is_new {
                (&self.new, &self.old)
            } else {
                (&self.old, &self.new)
            };
            let untaken = without.untaken(&with.universe)?;
            if untaken.is_empty() {
                continue;
            }
            let mut left = Vec::new();
            for piece in &with.pieces {
                let above: Vec<&Space> = with.above(piece).collect();
                let both = piece.space.intersection(&untaken)?;
                left.push((piece.route, both.remainder(&above, SAMPLES_MAX)?));
            }
            for (route, left) in left {
                let routes = if is_new {
                    (None, Some(route))
                } else {
                    (Some(route), None)
                };
                self.add(routes, &left);
            }
        }
        Ok(())
    }

    /// Requests of which some come to the service as before, and that no route takes any more.
    fn look_at_lost(&mut self) -> Result<(), CapExceeded> {
        let comes = self.old.universe.intersection(&self.new.universe)?;
        let untaken = self.new.untaken(&comes)?;
        if untaken.is_empty() {
            return Ok(());
        }
        for position in 0..self.old.pieces.len() {
            let piece = &self.old.pieces[position];
            let above: Vec<&Space> = self.old.above(piece).collect();
            let both = piece.space.intersection(&untaken)?;
            let left = both.remainder(&above, SAMPLES_MAX)?;
            self.add((Some(piece.route), None), &left);
        }
        Ok(())
    }

    /// Takes a request of the set that the engine routes so, if there is one: best one that is let in.
    fn add(&mut self, (before, after): Routes, space: &Space) {
        if space.is_empty() || self.is_settled(&(before, after)) {
            return;
        }
        let shows =
            |point: &Point| self.old.route(point) == before && self.new.route(point) == after;
        let plain = |point: &Point| point.is_plain() && shows(point);
        let likely = self.likely();
        // Best one that is let in before and after, then one that is let in by either.
        let entered = [&self.old, &self.new].map(|side| {
            let entrance = Entrance::of(side.mesh, side.id).ok()?;
            entrance.entered().ok()
        });
        let both = match &entered {
            [Some(old), Some(new)] => old.intersection(new).ok(),
            _ => None,
        };
        let is_known = entered.iter().all(Option::is_some);
        let [old, new] = entered;
        let let_in: Vec<Space> = [both, new, old].into_iter().flatten().collect();
        let is_open = let_in.iter().any(|space| !space.is_empty());
        let is_enough = self.wants_let_in && is_known && is_open;
        let best = |shows: &dyn Fn(&Point) -> bool| {
            let let_in = let_in.iter().find_map(|let_in| {
                let space = let_in.intersection(space).ok()?;
                super::access::find(&space, &likely, shows)
            });
            if is_enough {
                return let_in;
            }
            let_in.or_else(|| super::access::find(space, &likely, shows))
        };
        let witness = if self.wants_plain {
            best(&plain).or_else(|| best(&shows))
        } else {
            best(&shows)
        };
        if let Some(witness) = witness {
            let moved = Move {
                service: self.kept,
                before,
                after,
                witness,
            };
            self.found.insert((before, after), moved);
        }
    }

    /// Those first who can call before and after: only they can be tried on both sides.
    fn likely(&self) -> Likely {
        let likely = self.new.probe.likely().clone();
        let change = self.change;
        let can_call = |identity: &String| {
            let edges = change.base.edges.entering(self.kept.base);
            let mut callers = edges.map(|edge| change.base.service(edge.caller));
            callers.any(|caller| {
                caller
                    .identities
                    .first()
                    .is_some_and(|id| id.as_str() == identity)
            })
        };
        let (mut first, rest): (Vec<String>, Vec<String>) =
            likely.callers.into_iter().partition(can_call);
        first.extend(rest);
        Likely {
            callers: first,
            ..likely
        }
    }
}
