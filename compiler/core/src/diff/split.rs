//! How much traffic a change moves at once: to a version of a service, which is what a subset picks, or to
//! another service of a split. It does not matter how: by weights, by a route that takes the requests of
//! another, or because a subset or an endpoint is another version than before.

use std::collections::BTreeMap;

use mesh_bundle::slice::{DeclaredEndpoint, Label};

use super::routes::{self, Move};
use super::{Change, Kept};
use crate::analysis::probe::Probe;
use crate::analysis::request_space::{CapExceeded, Point};
use crate::linked::{Destination, Endpoints, LinkedMesh, Route, Service, Target};
use crate::model::Spanned;

/// Requests of which a version gets more than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose routes.
    pub service: Kept,
    /// The route that took them, as a position in the base.
    pub was: usize,
    /// The route that takes them, as a position in the head.
    pub route: usize,
    /// Where more of them go, as a position in that route; of several such, the one that brings most.
    pub branch: usize,
    /// Where they go.
    pub version: Version,
    /// The version's share of them before, of one; at most, where that is not known exactly.
    pub before: f64,
    /// Its share now; at least.
    pub after: f64,
    /// Whether that is the share of endpoints that were of the version before, whatever they carry now.
    pub is_by_address: bool,
    /// Whether the requests are set apart by headers and the like, and were not before: how many those are,
    /// policy does not say.
    pub is_apart: bool,
    /// One of them.
    pub witness: Point,
}

/// Endpoints that requests can move to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name of their service.
    pub service: String,
    /// What they carry, ascending; empty: all of the service's.
    pub labels: Vec<Label>,
}

/// What a change moves, and what of that is not known.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// For each route of the head the largest step of the requests that nothing sets apart, and the largest of
    /// those that something does; ascending.
    pub all: Vec<Step>,
    /// Services whose routes were too large to compare.
    pub unknown: Vec<(Kept, CapExceeded)>,
}

/// What moves to where it was less before.
pub fn steps(change: Change<'_>) -> Steps {
    let mut steps = Steps::default();
    for service in change.kept() {
        let splits = Splits::of(change, service);
        if splits.are_alike() {
            continue;
        }
        match routes::passed_on(change, service, &|was, route| splits.differ(was, route)) {
            Ok(moves) => steps.all.extend(splits.largest(moves)),
            Err(why) => steps.unknown.push((service, why)),
        }
    }
    steps
}

/// A share that is known only within bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    least: f64,
    most: f64,
}

impl Share {
    const fn exactly(share: f64) -> Self {
        Self {
            least: share,
            most: share,
        }
    }

    fn of(self, whole: f64) -> Self {
        Self {
            least: self.least * whole,
            most: self.most * whole,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            least: self.least + other.least,
            most: self.most + other.most,
        }
    }
}

/// What a version gets more of.
struct Gain {
    version: Version,
    before: f64,
    after: f64,
    is_by_address: bool,
}

impl Gain {
    fn size(&self) -> f64 {
        self.after - self.before
    }
}

/// The routes of one service before and after, by where they send how much.
struct Splits<'m> {
    change: Change<'m>,
    kept: Kept,
    before: &'m [Route],
    after: &'m [Route],
}

impl<'m> Splits<'m> {
    fn of(change: Change<'m>, kept: Kept) -> Self {
        Self {
            change,
            kept,
            before: &change.base.service(kept.base).routes,
            after: &change.head.service(kept.head).routes,
        }
    }

    /// Whether every route is as it was, so that nothing moves.
    fn are_alike(&self) -> bool {
        let (base, head) = (
            self.change.base.service(self.kept.base),
            self.change.head.service(self.kept.head),
        );
        self.before.len() == self.after.len()
            && routes::same_matches(base, head)
            && (0..self.after.len()).all(|route| !self.differ(route, route))
    }

    fn differ(&self, was: usize, route: usize) -> bool {
        let (Some(old), Some(new)) = (self.before.get(was), self.after.get(route)) else {
            return false;
        };
        let gains = self.gains(old, new, None);
        gains.iter().any(|gain| gain.size() > 0.0)
    }

    /// The largest step of each route, told apart by whether policy says how many requests those are.
    fn largest(&self, moves: Vec<Move>) -> Vec<Step> {
        let mut largest: BTreeMap<(usize, bool), Step> = BTreeMap::new();
        for moved in moves {
            let Some(step) = self.step(moved) else {
                continue;
            };
            let key = (step.route, step.is_apart);
            let size = |step: &Step| step.after - step.before;
            if largest
                .get(&key)
                .is_none_or(|known| size(&step) > size(known))
            {
                largest.insert(key, step);
            }
        }
        largest.into_values().collect()
    }

    fn step(&self, moved: Move) -> Option<Step> {
        let (was, route) = (moved.before?, moved.after?);
        let (old, new) = (self.before.get(was)?, self.after.get(route)?);
        let gains = self.gains(old, new, Some(moved.witness.port));
        let gain = gains
            .into_iter()
            .max_by(|a, b| a.size().total_cmp(&b.size()))
            .filter(|gain| gain.size() > 0.0)?;
        let port = Some(moved.witness.port);
        let brings = |to: &Destination| {
            let of = [None, Some(self.change.base)]
                .map(|known| part(self.change.head, &to.target, &gain.version, port, known));
            let most = of.into_iter().flatten().map(|part| part.least);
            most.fold(0.0, f64::max) * weight(new, to)
        };
        let branches = new.destinations.iter().enumerate();
        let (branch, _) = branches.max_by(|(_, a), (_, b)| brings(a).total_cmp(&brings(b)))?;
        let is_apart = !moved.witness.is_plain() && !self.was_apart(was, &moved.witness);
        Some(Step {
            service: self.kept,
            was,
            route,
            branch,
            version: gain.version,
            before: gain.before,
            after: gain.after,
            is_by_address: gain.is_by_address,
            is_apart,
            witness: moved.witness,
        })
    }

    /// Whether the route of the base takes the request only for its headers and the like.
    fn was_apart(&self, was: usize, witness: &Point) -> bool {
        let plain = Point {
            fields: BTreeMap::new(),
            ..witness.clone()
        };
        let probe = Probe::of(self.change.base, self.kept.base);
        probe.is_some_and(|probe| probe.route(&plain) != Some(was))
    }

    /// Each version with its share before, at most, and now, at least.
    fn gains(&self, old: &Route, new: &Route, port: Option<u16>) -> Vec<Gain> {
        // What was answered or refused did not go anywhere.
        if old.destinations.is_empty() {
            return Vec::new();
        }
        let (base, head) = (self.change.base, self.change.head);
        let known = Some(base);
        let gains = self.versions(old, new).into_iter().map(|version| {
            let before = share(base, old, &version, port, None).most;
            let by_label = share(head, new, &version, port, None).least;
            // An endpoint that is relabelled runs what it ran before.
            let by_address = share(head, new, &version, port, known).least;
            Gain {
                version,
                before,
                after: by_label.max(by_address),
                is_by_address: by_address > by_label,
            }
        });
        gains.collect()
    }

    /// Where the requests of the two could have moved: to the subsets of the services that they lead to, and, where these
    /// are several, to one of them.
    fn versions(&self, old: &Route, new: &Route) -> Vec<Version> {
        let (base, head) = (self.change.base, self.change.head);
        let both = [(base, old), (head, new)].into_iter();
        let mut names: Vec<&String> = both
            .flat_map(|(mesh, route)| {
                let services = route.destinations.iter().map(|to| to.target.service);
                services.map(|id| &mesh.service(id).name.value)
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut versions = Vec::new();
        for name in &names {
            let of_all = (names.len() > 1).then(Vec::new);
            let sides = [base, head].into_iter();
            let services = sides.filter_map(|mesh| Some(mesh.service(mesh.service_named(name)?)));
            let subsets = services.flat_map(|service| &service.subsets);
            let labels = subsets.map(|subset| plain(&subset.labels));
            versions.extend(of_all.into_iter().chain(labels).map(|labels| Version {
                service: (*name).clone(),
                labels,
            }));
        }
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

/// The share of a version in the requests of a route.
fn share(
    mesh: &LinkedMesh,
    route: &Route,
    version: &Version,
    port: Option<u16>,
    known: Option<&LinkedMesh>,
) -> Share {
    let mut sum = Share::default();
    for to in &route.destinations {
        if let Some(part) = part(mesh, &to.target, version, port, known) {
            sum = sum.and(part.of(weight(route, to)));
        }
    }
    sum
}

fn weight(route: &Route, to: &Destination) -> f64 {
    let weights = route.destinations.iter().map(|to| f64::from(to.weight));
    let sum: f64 = weights.sum();
    if sum == 0.0 {
        0.0
    } else {
        f64::from(to.weight) / sum
    }
}

/// The part of a branch that goes to a version; nothing if it leads to another service. Endpoints that are known as
/// something else in an earlier mesh count as that.
fn part(
    mesh: &LinkedMesh,
    target: &Target,
    version: &Version,
    port: Option<u16>,
    known: Option<&LinkedMesh>,
) -> Option<Share> {
    let service = mesh.service(target.service);
    if service.name.value != version.service {
        return None;
    }
    let subset = target.subset.and_then(|index| service.subsets.get(index));
    let own = subset.map_or_else(Vec::new, |subset| plain(&subset.labels));
    let port = target.port.or(port);
    // Whoever prefers what is near does not spread requests evenly.
    let is_even = mesh.pool(*target).locality.nearness.value.is_none();
    let counted = match &service.endpoints {
        Endpoints::Declared(_) => Some(count(service, &own, &version.labels, port, known)),
        Endpoints::Discovered => instances(mesh, service, &own, &version.labels),
    };
    let counted = counted.filter(|(_, all)| *all > 0);
    Some(match counted {
        Some((0, _)) => Share::exactly(0.0),
        Some((these, all)) if these == all => Share::exactly(1.0),
        Some((these, all)) if is_even => Share::exactly(f64::from(these) / f64::from(all)),
        _ => by_labels(&own, &version.labels),
    })
}

/// What labels alone say of how much of what carries some of them also carries others.
fn by_labels(own: &[Label], wanted: &[Label]) -> Share {
    let differs = |wanted: &Label| {
        let mut own = own.iter();
        own.any(|own| own.key == wanted.key && own.value != wanted.value)
    };
    if carries(own, wanted) {
        Share::exactly(1.0)
    } else if wanted.iter().any(differs) {
        Share::exactly(0.0)
    } else {
        Share {
            least: 0.0,
            most: 1.0,
        }
    }
}

/// How many declared endpoints of a branch are of a version, and how many it has.
fn count(
    service: &Service,
    own: &[Label],
    wanted: &[Label],
    port: Option<u16>,
    known: Option<&LinkedMesh>,
) -> (u32, u32) {
    let earlier =
        known.and_then(|mesh| Some(mesh.service(mesh.service_named(&service.name.value)?)));
    let earlier = earlier.map_or(&[][..], declared);
    let (mut these, mut all) = (0, 0);
    for endpoint in declared(service) {
        let endpoint = &endpoint.value;
        if !carries(&endpoint.labels, own) || port.is_some_and(|port| port != endpoint.port) {
            continue;
        }
        all += 1;
        let mut before = earlier.iter().map(|earlier| &earlier.value);
        let before = before
            .find(|before| before.address == endpoint.address && before.port == endpoint.port);
        let labels = before.map_or(&endpoint.labels, |before| &before.labels);
        these += u32::from(carries(labels, wanted));
    }
    (these, all)
}

fn declared(service: &Service) -> &[Spanned<DeclaredEndpoint>] {
    match &service.endpoints {
        Endpoints::Declared(endpoints) => endpoints,
        Endpoints::Discovered => &[],
    }
}

/// The same of instances that somebody counted.
fn instances(
    mesh: &LinkedMesh,
    service: &Service,
    own: &[Label],
    wanted: &[Label],
) -> Option<(u32, u32)> {
    let counted = &mesh
        .inventory
        .as_ref()?
        .services
        .get(&service.id)?
        .instances;
    let with = |wanted: &[Label]| {
        let carrying = counted
            .iter()
            .filter(|one| carries(&plain(&one.labels), wanted));
        carrying
            .map(|one| one.count.value)
            .fold(0, u32::saturating_add)
    };
    Some((with(&[own, wanted].concat()), with(own)))
}

fn carries(labels: &[Label], wanted: &[Label]) -> bool {
    wanted.iter().all(|wanted| labels.contains(wanted))
}

fn plain(labels: &[crate::model::Label]) -> Vec<Label> {
    labels.iter().map(|label| label.value.clone()).collect()
}
