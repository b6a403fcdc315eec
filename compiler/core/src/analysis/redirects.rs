//! Where redirects lead: each is followed by the engine itself, so that what a path captures and which
//! port a scheme means is not thought up twice.

use mesh_bundle::slice::Answer;
use mesh_engine::host::HostPattern;

use super::probe::{self, Probe};
use super::request_space::{Point, Space};
use super::routes::universe;
use crate::linked::{LinkedMesh, Service, ServiceId};

/// Requests with which each redirect is tried.
const SAMPLES_MAX: usize = 16;
/// Redirects after which browsers give up too.
const STEPS_MAX: usize = 20;

/// A request that is redirected without end.
#[derive(Clone, Debug)]
pub struct RedirectLoop {
    /// The route that redirects it first.
    pub route: usize,
    /// The routes of the round, ascending.
    pub round: Vec<usize>,
    /// Whether it comes back to where it was; otherwise it is sent to ever new places.
    pub returns: bool,
    /// The request.
    pub witness: Point,
}

/// Requests that the routes of a service redirect without end, at most one for each round.
pub fn loops(mesh: &LinkedMesh, id: ServiceId) -> Vec<RedirectLoop> {
    let service = mesh.service(id);
    let redirects = |route: &&(usize, &crate::linked::Route)| {
        let answer = route.1.actions.answer.as_ref();
        answer.is_some_and(|answer| matches!(answer.value, Answer::Redirect(_)))
    };
    let routes: Vec<_> = service.routes.iter().enumerate().collect();
    let routes: Vec<_> = routes.iter().filter(redirects).collect();
    if routes.is_empty() {
        return Vec::new();
    }
    let (Some(probe), Ok(universe)) = (Probe::of(mesh, id), universe(service)) else {
        return Vec::new();
    };
    let mut found: Vec<RedirectLoop> = Vec::new();
    for (index, route) in routes {
        if found.iter().any(|known| known.round.contains(index)) {
            continue;
        }
        let Ok(space) = Space::of_matches(&probe::matches(route))
            .and_then(|space| space.intersection(&universe))
        else {
            continue;
        };
        let endless = space
            .samples(probe.likely(), SAMPLES_MAX)
            .filter_map(Result::ok)
            .filter(|point| probe.route(point) == Some(*index))
            .find_map(|point| follow(service, &probe, *index, point));
        found.extend(endless);
    }
    found
}

/// Follows a request until it is answered otherwise, leaves the service, or does neither.
fn follow(service: &Service, probe: &Probe, route: usize, start: Point) -> Option<RedirectLoop> {
    let mut been = vec![start.clone()];
    let mut taken = vec![route];
    let mut at = start.clone();
    loop {
        let scheme = scheme(service, &at)?;
        let (location, status) = probe.redirected(&at, scheme)?;
        let mut next = arrive(service, &at, &location)?;
        // What browsers do; with the others the method stays.
        if matches!(status, 301..=303) && next.method != "HEAD" {
            "GET".clone_into(&mut next.method);
        }
        let returns = been.iter().position(|before| *before == next);
        if returns.is_some() || been.len() >= STEPS_MAX {
            let mut round = taken.split_off(returns.unwrap_or_default().min(taken.len() - 1));
            round.sort_unstable();
            round.dedup();
            return Some(RedirectLoop {
                route,
                round,
                returns: returns.is_some(),
                witness: start,
            });
        }
        taken.push(probe.route(&next)?);
        been.push(next.clone());
        at = next;
    }
}

/// What the client speaks to get there; none if it cannot be there.
fn scheme(service: &Service, point: &Point) -> Option<&'static str> {
    let Some(gateway) = service.gateway() else {
        return Some("http");
    };
    let listener = gateway.listeners.iter().find(|listener| {
        listener.port.value == point.port
            && (listener.hosts.is_empty() || serves(&listener.hosts, &point.host))
    })?;
    Some(if listener.tls.is_some() {
        "https"
    } else {
        "http"
    })
}

fn serves(hosts: &[String], host: &str) -> bool {
    let takes = |pattern: &String| HostPattern::parse(pattern).is_ok_and(|own| own.matches(host));
    hosts.iter().any(takes)
}

/// The request to a location, if it comes to the same service. How a port is mapped to another one
/// before it gets here is not known, so it has to be the same.
fn arrive(service: &Service, from: &Point, location: &str) -> Option<Point> {
    let (scheme, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let next = Point {
        host: host.to_owned(),
        port,
        path: path.split('?').next()?.to_owned(),
        ..from.clone()
    };
    let here = match service.gateway() {
        Some(_) => self::scheme(service, &next) == Some(scheme),
        None => {
            scheme == "http"
                && serves(&service.hosts, host)
                && service.ports.iter().any(|own| own.number.value == port)
        }
    };
    here.then_some(next)
}
