//! Why a request takes the route that it takes, for people.

use std::fmt;

use super::{RouteSet, RouteTable};
use crate::condition::{ConditionMatcher, Reading};
use crate::request::Request;

/// The route that takes a request, and why each of the others does not.
#[derive(Clone, Debug)]
pub struct Explanation<'t> {
    /// `None`: no route takes it.
    pub winner: Option<&'t RouteTable>,
    /// The other routes, in the order of the slice.
    pub losers: Vec<Loser<'t>>,
}

/// A route that does not take the request.
#[derive(Clone, Debug)]
pub struct Loser<'t> {
    /// The route.
    pub route: &'t RouteTable,
    /// Why not.
    pub because: Because<'t>,
}

/// Why a route does not take a request.
#[derive(Clone, Debug)]
pub enum Because<'t> {
    /// It would, but the winner is more specific.
    LessSpecific {
        /// The winner.
        than: &'t RouteTable,
    },
    /// A condition does not hold: the first of the match that came furthest.
    Condition {
        /// Which of the route's matches.
        match_position: usize,
        /// Which of its conditions, in the order of the slice.
        condition_position: usize,
        /// The condition.
        condition: &'t ConditionMatcher,
    },
}

pub(super) fn explain<'t>(routes: &'t RouteSet, request: &Request<'_>) -> Explanation<'t> {
    let winner = routes.find(request);
    let losers = routes
        .routes()
        .iter()
        .filter(|route| !winner.is_some_and(|winner| std::ptr::eq(winner, *route)))
        .filter_map(|route| {
            let because = first_failing(route, request)
                .or_else(|| winner.map(|than| Because::LessSpecific { than }))?;
            Some(Loser { route, because })
        })
        .collect();
    Explanation { winner, losers }
}

/// `None` if the route admits the request.
fn first_failing<'t>(route: &'t RouteTable, request: &Request<'_>) -> Option<Because<'t>> {
    if route.admits(request) {
        return None;
    }
    let failing = |all: &'t [ConditionMatcher]| {
        all.iter()
            .enumerate()
            .find(|(_, condition)| !condition.matches(request, Reading::Match))
    };
    let matches = route.matches.iter().enumerate();
    let mut furthest: Option<Because<'t>> = None;
    for (match_position, all) in matches {
        let Some((condition_position, condition)) = failing(all) else {
            continue;
        };
        let nearer = match furthest {
            Some(Because::Condition {
                condition_position: best,
                ..
            }) => condition_position > best,
            _ => true,
        };
        if nearer {
            furthest = Some(Because::Condition {
                match_position,
                condition_position,
                condition,
            });
        }
    }
    furthest
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LessSpecific { than } => write!(f, "less specific than {}", than.name()),
            Self::Condition { condition, .. } => write!(f, "does not match `{condition}`"),
        }
    }
}
