//! What the routes of one service do to each other: which never take a request, which fight over one,
//! and which requests none of them takes.

use std::slice;

use mesh_bundle::slice::{Condition, RouteMatch};
use mesh_engine::route::{Alternative, Precedence, alternatives};

use super::probe::{self, Probe};
use super::request_space::{CapExceeded, Point, Repeated, Space, effort};
use crate::linked::{LinkedMesh, Route, Service, ServiceId};

mod idle;
mod won;

pub use idle::Idle;
pub(in crate::analysis) use won::Contest;
pub use won::won;

/// Requests that are tried as a witness before none is shown.
const SAMPLES_MAX: usize = 16;
/// Pieces of routes that are subtracted when looking for a request that none takes: each makes what is
/// left harder to describe.
const UNCOVERED_PIECES_MAX: usize = 256;

/// Pairs of routes that tie of which one service is told; where there are more, there is one reason for all of them.
const TIES_MAX: usize = 100;

/// What is known about the routes of one service. Numbers are positions in its list of routes.
#[derive(Clone, Debug, Default)]
pub struct RouteFacts {
    /// Matches that no request can meet.
    pub impossible: Vec<Impossible>,
    /// Routes that never take a request, though their matches could.
    pub unreachable: Vec<Unreachable>,
    /// Parts of the matches of other routes that never take a request.
    pub idle: Vec<Idle>,
    /// Pairs of routes of which neither wins some request.
    pub ties: Vec<Tie>,
    /// A request that the service lets in and that no route takes.
    pub uncovered: Option<Point>,
    /// Why some of this is not known.
    pub unknown: Vec<Unknown>,
}

/// A match that no request can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The route.
    pub route: usize,
    /// The match, as a position in the route.
    pub position: usize,
    /// The conditions that exclude each other, ascending; one alone if it takes nothing by itself.
    pub conditions: Vec<usize>,
}

/// A route that never takes a request.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// The route.
    pub route: usize,
    /// The routes that take its requests, none of which could be left out.
    pub covered_by: Vec<usize>,
    /// A request that it would take, and that another route does take.
    pub witness: Option<Point>,
}

/// Two routes of which neither wins some request.
#[derive(Clone, Debug)]
pub struct Tie {
    /// The earlier one.
    pub first: usize,
    /// The later one.
    pub second: usize,
    /// Their matches, as positions in the routes; a route without any has the first.
    pub matches: [usize; 2],
    /// Whether they ask the same.
    pub same: bool,
    /// A request that both would take; one that is let in, where there is one.
    pub witness: Option<Point>,
}

/// A question that was too large to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The route.
    pub route: usize,
    /// The bound.
    pub why: CapExceeded,
}

/// One alternative of one match.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) route: usize,
    position: usize,
    pub(crate) alternative: Alternative,
    pub(crate) space: Space,
}

impl RouteFacts {
    /// Computes the facts of one service. They depend on nothing but the service, its edges, the services at their other
    /// ends, and what [`Unchanged`](crate::Unchanged) compares of the whole mesh.
    pub fn of(mesh: &LinkedMesh, id: ServiceId) -> Self {
        let probe = Probe::of(mesh, id);
        probe.map_or_else(Self::default, |probe| Self::asking(mesh, id, &probe))
    }

    /// The same, for who has the service's probe.
    pub fn asking(mesh: &LinkedMesh, id: ServiceId, probe: &Probe) -> Self {
        let matches = |route: &Route| route.matches.len().max(1);
        let parts = mesh.service(id).routes.iter().map(matches).sum();
        effort::within(effort::bound(parts), || Self::compute(mesh, id, probe))
    }

    fn compute(mesh: &LinkedMesh, id: ServiceId, probe: &Probe) -> Self {
        let mut facts = Self::default();
        let service = mesh.service(id);
        let Ok(universe) = universe(service) else {
            let unknown = |route| Unknown {
                route,
                why: CapExceeded::Effort,
            };
            facts.unknown = (0..service.routes.len()).map(unknown).collect();
            return facts;
        };
        let matches: Vec<Vec<RouteMatch>> = service.routes.iter().map(probe::matches).collect();
        let pieces = facts.pieces(&matches, &universe);
        let mut unknown = vec![false; matches.len()];
        for each in &facts.unknown {
            unknown[each.route] = true;
        }
        let mut routes = Routes {
            service,
            probe,
            pieces,
            unknown,
            facts,
        };
        for route in 0..matches.len() {
            routes.look_whether_reached(route);
        }
        routes.look_for_ties(matches.len());
        // What a gateway's routes leave out, nobody has promised to serve.
        if service.gateway().is_none() {
            routes.look_for_uncovered(mesh, id, &universe);
        }
        routes.facts
    }

    fn pieces(&mut self, matches: &[Vec<RouteMatch>], universe: &Space) -> Vec<Piece> {
        let everything = [RouteMatch::default()];
        let mut pieces = Vec::new();
        for (route, matches) in matches.iter().enumerate() {
            let matches = if matches.is_empty() {
                &everything[..]
            } else {
                matches
            };
            for (position, each) in matches.iter().enumerate() {
                match pieces_of((route, position), each, universe) {
                    Ok(found) if found.is_empty() => match conflict(each, universe) {
                        Ok(conditions) => {
                            self.impossible.push(Impossible {
                                route,
                                position,
                                conditions,
                            });
                        }
                        Err(why) => self.unknown.push(Unknown { route, why }),
                    },
                    Ok(found) => pieces.extend(found),
                    Err(why) => self.unknown.push(Unknown { route, why }),
                }
            }
        }
        pieces
    }
}

/// The requests that can come: to the ports of a service, to the listeners of a gateway.
pub fn universe(service: &Service) -> Result<Space, CapExceeded> {
    let Some(gateway) = service.gateway() else {
        return Space::to_ports(service.ports.iter().map(|port| port.number.value));
    };
    let mut universe = Space::nothing();
    for listener in &gateway.listeners {
        let mut conditions = vec![Condition::Port(vec![listener.port.value])];
        if !listener.hosts.is_empty() {
            conditions.push(Condition::Host(listener.hosts.clone()));
        }
        universe.add(Space::of_conditions(&conditions, Repeated::One)?)?;
    }
    Ok(universe)
}

pub(crate) fn pieces_of(
    (route, position): (usize, usize),
    each: &RouteMatch,
    universe: &Space,
) -> Result<Vec<Piece>, CapExceeded> {
    // The engine has compiled the match, so it has alternatives.
    let alternatives = alternatives(each).map_err(|_too_many| CapExceeded::Cells)?;
    let mut pieces = Vec::with_capacity(alternatives.len());
    for alternative in alternatives {
        let space = Space::of_match(&alternative.narrowed)?.intersection(universe)?;
        if !space.is_empty() {
            pieces.push(Piece {
                route,
                position,
                alternative,
                space,
            });
        }
    }
    Ok(pieces)
}

/// The fewest conditions, found from the front, that no request meets together.
fn conflict(each: &RouteMatch, universe: &Space) -> Result<Vec<usize>, CapExceeded> {
    let is_empty = |chosen: &[usize]| {
        let conditions = chosen
            .iter()
            .filter_map(|index| each.conditions.get(*index).cloned());
        let together = RouteMatch {
            conditions: conditions.collect(),
        };
        Ok(Space::of_match(&together)?
            .intersection(universe)?
            .is_empty())
    };
    let mut chosen: Vec<usize> = (0..each.conditions.len()).collect();
    let mut index = 0;
    while index < chosen.len() {
        let mut without = chosen.clone();
        without.remove(index);
        if is_empty(&without)? {
            chosen = without;
        } else {
            index += 1;
        }
    }
    Ok(chosen)
}

struct Routes<'p> {
    service: &'p Service,
    probe: &'p Probe,
    pieces: Vec<Piece>,
    /// For each route whether there is a reason why something about it is not known.
    unknown: Vec<bool>,
    facts: RouteFacts,
}

impl Routes<'_> {
    /// The pieces of a route. They were made route by route, and so stand together.
    fn of(&self, route: usize) -> slice::Iter<'_, Piece> {
        let from = self.pieces.partition_point(|piece| piece.route < route);
        let rest = self.pieces.get(from..).unwrap_or_default();
        let many = rest.partition_point(|piece| piece.route == route);
        rest.get(..many).unwrap_or_default().iter()
    }

    fn is_known(&self, route: usize) -> bool {
        self.unknown.get(route) == Some(&false)
    }

    fn give_up(&mut self, route: usize, why: CapExceeded) {
        self.unknown[route] = true;
        self.facts.unknown.push(Unknown { route, why });
    }

    fn look_whether_reached(&mut self, route: usize) {
        // Impossible matches were reported as such, and an unknown match may take anything.
        if self.of(route).next().is_none() || !self.is_known(route) {
            return;
        }
        // Most routes take the first request that one would think of, and then nothing is to prove.
        let takes = |point: &Point| self.probe.route(point) == Some(route);
        let is_sampled = |piece: &Piece| {
            let mut guesses = piece.space.guesses(self.probe.likely()).take(1);
            guesses.any(|point| takes(&point)) || self.sample(&piece.space, 1, takes).is_some()
        };
        let sampled: Vec<bool> = self.of(route).map(is_sampled).collect();
        if sampled.contains(&true) {
            if sampled.contains(&false) {
                self.look_for_idle_parts(route, &sampled);
            }
            return;
        }
        match self.cover(route, |_| true) {
            Ok(Some(covered_by)) => {
                let witness = self.witness_of_unreachable(route);
                self.facts.unreachable.push(Unreachable {
                    route,
                    covered_by,
                    witness,
                });
            }
            Ok(None) => self.look_for_idle_parts(route, &sampled),
            Err(why) => self.give_up(route, why),
        }
    }

    /// The routes that take every request of the chosen pieces of this one; none if they leave some.
    fn cover(
        &self,
        route: usize,
        chosen: impl Fn(usize) -> bool,
    ) -> Result<Option<Vec<usize>>, CapExceeded> {
        let mine = || {
            let pieces = self.of(route).enumerate();
            pieces
                .filter(|(number, _)| chosen(*number))
                .map(|(_, piece)| piece)
        };
        let mut others: Vec<usize> = Vec::new();
        for mine in mine() {
            effort::spend(self.pieces.len())?;
            for other in self.above(mine).filter(|other| other.route != route) {
                if !others.contains(&other.route)
                    && !mine.space.intersection(&other.space)?.is_empty()
                {
                    others.push(other.route);
                }
            }
        }
        others.sort_unstable();
        if !self.is_covered(mine(), &others)? {
            return Ok(None);
        }
        let mut index = 0;
        while index < others.len() {
            let mut without = others.clone();
            without.remove(index);
            if self.is_covered(mine(), &without)? {
                others = without;
            } else {
                index += 1;
            }
        }
        Ok(Some(others))
    }

    fn is_covered<'a>(
        &self,
        pieces: impl Iterator<Item = &'a Piece>,
        others: &[usize],
    ) -> Result<bool, CapExceeded> {
        for mine in pieces {
            effort::spend(self.pieces.len())?;
            let others: Vec<&Space> = self
                .above(mine)
                .filter(|other| others.contains(&other.route))
                .map(|other| &other.space)
                .collect();
            if !mine.space.remainder(&others, 1)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pieces that win over this one wherever both take a request.
    fn above<'a>(&'a self, piece: &'a Piece) -> impl Iterator<Item = &'a Piece> {
        self.pieces
            .iter()
            .filter(|other| other.alternative.compare(&piece.alternative) == Precedence::Higher)
    }

    fn witness_of_unreachable(&self, route: usize) -> Option<Point> {
        self.of(route)
            .find_map(|piece| self.witness_of(route, piece))
    }

    /// A request of the piece that another route takes.
    fn witness_of(&self, route: usize, piece: &Piece) -> Option<Point> {
        let shows = |point: &Point| {
            self.probe.admits(route, point)
                && self
                    .probe
                    .route(point)
                    .is_some_and(|winner| winner != route)
        };
        self.sample(&piece.space, SAMPLES_MAX, shows)
    }

    fn sample(&self, space: &Space, most: usize, shows: impl Fn(&Point) -> bool) -> Option<Point> {
        space
            .samples(self.probe.likely(), most)
            .filter_map(Result::ok)
            .find(|point| shows(point))
    }

    /// A request of the space that shows something and that the service lets in: one that is refused anyway convinces
    /// nobody.
    fn let_in(&self, space: &Space, shows: impl Fn(&Point) -> bool) -> Option<Point> {
        let allowed = super::access::allowed(self.service).ok()?;
        let space = allowed.intersection(space).ok()?;
        let shows = |point: &Point| self.probe.is_allowed(point) == Some(true) && shows(point);
        self.sample(&space, SAMPLES_MAX, shows)
    }

    fn look_for_ties(&mut self, count: usize) {
        for second in 0..count {
            for first in 0..second {
                if self.facts.ties.len() == TIES_MAX {
                    for route in second..count {
                        self.give_up(route, CapExceeded::Findings);
                    }
                    return;
                }
                self.look_whether_tied(first, second);
            }
        }
    }

    fn look_whether_tied(&mut self, first: usize, second: usize) {
        if !self.is_known(first) || !self.is_known(second) {
            return;
        }
        match self.tie(first, second) {
            Ok(Some(tie)) => self.facts.ties.push(tie),
            Ok(None) => {}
            Err(why) => self.give_up(second, why),
        }
    }

    /// Requests that both would take and that no more specific match takes from either.
    fn tie(&self, first: usize, second: usize) -> Result<Option<Tie>, CapExceeded> {
        for one in self.of(first) {
            for two in self.of(second) {
                effort::spend(1)?;
                let same = match one.alternative.compare(&two.alternative) {
                    Precedence::Same => true,
                    Precedence::Incomparable => false,
                    Precedence::Higher | Precedence::Lower => continue,
                };
                let both = one.space.intersection(&two.space)?;
                if both.is_empty() {
                    continue;
                }
                effort::spend(2 * self.pieces.len())?;
                let above = self.above(one).chain(self.above(two));
                let above: Vec<&Space> = above.map(|other| &other.space).collect();
                let left = both.remainder(&above, SAMPLES_MAX)?;
                if left.is_empty() {
                    continue;
                }
                let both = |point: &Point| {
                    self.probe.admits(first, point) && self.probe.admits(second, point)
                };
                let witness = self.let_in(&left, both);
                let witness = witness.or_else(|| self.sample(&left, SAMPLES_MAX, both));
                return Ok(Some(Tie {
                    first,
                    second,
                    matches: [one.position, two.position],
                    same,
                    witness,
                }));
            }
        }
        Ok(None)
    }

    fn look_for_uncovered(&mut self, mesh: &LinkedMesh, id: ServiceId, universe: &Space) {
        if !self.facts.unknown.is_empty() {
            return;
        }
        let uncovered = || {
            // The widest first: a route without a `match` ends the search at once.
            let mut pieces: Vec<&Piece> = self.pieces.iter().collect();
            pieces.sort_by(|a, b| a.alternative.specificity.cmp(&b.alternative.specificity));
            // What is shown in the end is asked of the engine, so that nothing wrong comes of leaving some out.
            let pieces = pieces.into_iter().take(UNCOVERED_PIECES_MAX);
            let taken: Vec<&Space> = pieces.map(|piece| &piece.space).collect();
            let allowed = super::access::allowed(mesh.service(id))?;
            allowed
                .intersection(universe)?
                .remainder(&taken, SAMPLES_MAX)
        };
        // This finding is not worth an "unknown" of its own.
        if let Ok(left) = uncovered() {
            let shows = |point: &Point| {
                self.probe.route(point).is_none() && self.probe.is_allowed(point) == Some(true)
            };
            self.facts.uncovered = self.sample(&left, SAMPLES_MAX, shows);
        }
    }
}
