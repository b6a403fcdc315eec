//! How much traffic a change of weights moves at once.

use super::{Change, Kept};
use crate::linked::{Destination, LinkedMesh, Route};

/// A branch of a route that takes more than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose route.
    pub service: Kept,
    /// The route, as a position in the head.
    pub route: usize,
    /// The branch, as a position in the route of the head.
    pub branch: usize,
    /// Its share before, of one.
    pub before: f64,
    /// Its share now.
    pub after: f64,
}

/// For each route that both meshes have, the branch that gains most, if any does.
pub fn steps(change: Change<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for service in change.kept() {
        let (before, after) = (
            change.base.service(service.base),
            change.head.service(service.head),
        );
        for (index, route) in after.routes.iter().enumerate() {
            let was = before
                .routes
                .iter()
                .find(|was| was.name.value == route.name.value);
            let Some(was) = was.filter(|was| is_split(was) || is_split(route)) else {
                continue;
            };
            let gains = route.destinations.iter().enumerate().map(|(branch, to)| {
                let target = target(change.head, to);
                let old = was
                    .destinations
                    .iter()
                    .filter(|old| self::target(change.base, old) == target)
                    .map(|old| share(was, old))
                    .sum();
                Step {
                    service,
                    route: index,
                    branch,
                    before: old,
                    after: share(route, to),
                }
            });
            let most = gains
                .filter(|step| step.after > step.before)
                .max_by(|a, b| (a.after - a.before).total_cmp(&(b.after - b.before)));
            steps.extend(most);
        }
    }
    steps
}

fn is_split(route: &Route) -> bool {
    route.destinations.len() > 1
}

fn share(route: &Route, to: &Destination) -> f64 {
    let sum: f64 = route
        .destinations
        .iter()
        .map(|to| f64::from(to.weight))
        .sum();
    if sum == 0.0 {
        0.0
    } else {
        f64::from(to.weight) / sum
    }
}

/// Where a branch leads, by names: ids of two meshes say nothing to each other.
fn target<'m>(mesh: &'m LinkedMesh, to: &Destination) -> (&'m str, Option<&'m str>, Option<u16>) {
    let service = mesh.service(to.target.service);
    let subset = to
        .target
        .subset
        .and_then(|index| service.subsets.get(index))
        .map(|subset| subset.name.value.as_str());
    (&service.name.value, subset, to.target.port)
}
