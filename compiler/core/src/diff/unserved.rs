//! Requests that a service was sent, and that a proxy now answers itself: because a route says so, because a fault
//! ends every one of them, or because no route takes them any more.

use mesh_bundle::slice::Answer;

use super::routes;
use super::{Change, Kept};
use crate::analysis::entrance::Door;
use crate::analysis::request_space::{CapExceeded, Point};
use crate::linked::Route;

/// Requests that nobody is sent any more.
#[derive(Clone, Debug)]
pub struct Unserved {
    /// Whose routes.
    pub service: Kept,
    /// The route that sent them on, as a position in the base.
    pub was: usize,
    /// The route that takes them, as a position in the head; none: no route does, and the answer is 404.
    pub route: Option<usize>,
    /// One of them, that the base lets in.
    pub witness: Point,
}

/// What a change leaves unserved, and what of that is not known.
#[derive(Clone, Debug, Default)]
pub struct All {
    /// Ascending by service and routes.
    pub found: Vec<Unserved>,
    /// Services whose routes were too large to compare.
    pub unknown: Vec<(Kept, CapExceeded)>,
}

/// Requests that reached somebody and reach nobody. Those that a gateway has no route for any more are refused as far as
/// its clients can tell, and are told with access.
pub fn of(change: Change<'_>) -> All {
    let mut all = All::default();
    for service in change.kept() {
        let (before, after) = (
            change.base.service(service.base),
            change.head.service(service.head),
        );
        let answers = after.routes.iter().any(|route| !is_served(route));
        let loses_routes = after.gateway().is_none() && !routes::same_matches(before, after);
        if !answers && !loses_routes {
            continue;
        }
        let ends = |was: usize, route: usize| {
            before.routes.get(was).is_some_and(is_served)
                && after
                    .routes
                    .get(route)
                    .is_some_and(|route| !is_served(route))
        };
        let moves = match routes::ended(change, service, &ends, loses_routes) {
            Ok(moves) => moves,
            Err(why) => {
                all.unknown.push((service, why));
                continue;
            }
        };
        if moves.is_empty() {
            continue;
        }
        let door = Door::of(change.base, service.base);
        for moved in moves {
            let Some(was) = moved.before else { continue };
            let is_let_in = door
                .as_ref()
                .is_some_and(|door| door.lets_in(&moved.witness));
            if is_let_in && before.routes.get(was).is_some_and(is_served) {
                all.found.push(Unserved {
                    service,
                    was,
                    route: moved.after,
                    witness: moved.witness,
                });
            }
        }
    }
    all
}

/// Whether any request that a route takes is sent to somebody, or back to where it came to take another route.
fn is_served(route: &Route) -> bool {
    let is_answered = match route.actions.answer.as_ref().map(|answer| &answer.value) {
        Some(Answer::Respond(_)) => true,
        Some(Answer::Redirect(redirect)) => redirect.host.is_some(),
        None => false,
    };
    !is_answered && !ends_all(route)
}

/// Whether a fault ends every request of a route.
fn ends_all(route: &Route) -> bool {
    let abort = route.actions.fault.and_then(|fault| fault.abort);
    abort.is_some_and(|abort| abort.value.share >= 10_000)
}
