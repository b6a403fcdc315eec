//! Parts of a route that never take a request, though the route does.

use mesh_bundle::slice::RouteMatch;

use super::Routes;
use crate::analysis::request_space::Point;

/// A part of a route's matches that never takes a request, though other parts do.
#[derive(Clone, Debug)]
pub struct Idle {
    /// The route.
    pub route: usize,
    /// The match, as a position in the route.
    pub position: usize,
    /// The part, if not all of the match: with those hosts, paths or callers only.
    pub part: Option<RouteMatch>,
    /// The routes that take its requests, none of which could be left out.
    pub covered_by: Vec<usize>,
    /// A request that it would take, and that another route does take.
    pub witness: Option<Point>,
}

impl Routes<'_> {
    /// Parts of a route that others take away from it altogether; the route as a whole is reached.
    pub(super) fn look_for_idle_parts(&mut self, route: usize, sampled: &[bool]) {
        let positions: Vec<usize> = self.of(route).map(|piece| piece.position).collect();
        if positions.len() < 2 {
            return;
        }
        let mut found: Vec<Idle> = Vec::new();
        let mut whole = 0;
        while let Some(position) = positions.get(whole).copied() {
            let count = positions.iter().filter(|each| **each == position).count();
            let part = |number: usize| whole <= number && number < whole + count;
            if !sampled.iter().skip(whole).take(count).any(|each| *each)
                && let Ok(Some(covered_by)) = self.cover(route, part)
            {
                found.push(self.idle(route, position, (whole, count), covered_by));
                whole += count;
                continue;
            }
            for number in whole..whole + count {
                let is_idle = sampled.get(number) == Some(&false) && count > 1;
                if is_idle && let Ok(Some(covered_by)) = self.cover(route, |each| each == number) {
                    found.push(self.idle(route, position, (number, 1), covered_by));
                }
            }
            whole += count;
        }
        // The route itself was found to be reached, or nothing could be said.
        if found.len() < positions.len() {
            self.facts.idle.extend(found);
        }
    }

    fn idle(
        &self,
        route: usize,
        position: usize,
        (first, count): (usize, usize),
        covered_by: Vec<usize>,
    ) -> Idle {
        let all = self.of(route).filter(|piece| piece.position == position);
        let is_part = all.count() > count;
        let pieces = || self.of(route).skip(first).take(count);
        let part = pieces()
            .next()
            .filter(|_| is_part)
            .map(|piece| piece.alternative.narrowed.clone());
        Idle {
            route,
            position,
            part,
            covered_by,
            witness: pieces().find_map(|piece| self.witness_of(route, piece)),
        }
    }
}
