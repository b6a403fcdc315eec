//! A service as the engine sees it, to run witnesses through before anybody reads them.

use std::time::Duration;

use mesh_bundle::slice::{
    self, AccessRule, Answer, Balance, Callee, Condition, EndpointSource, InboundService,
    RouteMatch, Target,
};
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::filter::{Action, Received};
use mesh_engine::{CalleeTable, HeaderView, InboundTable, Peer, Request, RouteTable, path};

use super::connections;
use super::request_space::{FieldKind, Likely, Point};
use crate::emit;
use crate::linked::{self, LinkedMesh, Service, ServiceId};

/// Services that have nothing to do with the callee and are still likely callers of it: for requests
/// that anybody may send, or nobody.
pub(crate) const STRANGERS_MAX: usize = 8;

/// A service compiled by the engine.
#[derive(Debug)]
pub struct Probe {
    callee: CalleeTable,
    inbound: InboundTable,
    likely: Likely,
}

impl Probe {
    /// Compiles a service. None if the engine refuses it; linking has then said why.
    pub fn of(mesh: &LinkedMesh, id: ServiceId) -> Option<Self> {
        let service = mesh.service(id);
        Some(Self {
            callee: CalleeTable::build(&callee(service)).ok()?,
            inbound: InboundTable::build(&inbound(service)).ok()?,
            likely: likely(mesh, id),
        })
    }

    /// What a request to the service is likely to have.
    pub fn likely(&self) -> &Likely {
        &self.likely
    }

    /// The index of the route that takes the request.
    pub fn route(&self, point: &Point) -> Option<usize> {
        let winner = ask(point, |request| {
            self.callee.route(request).map(RouteTable::name)
        })??;
        self.callee
            .routes()
            .iter()
            .position(|route| route.name() == winner)
    }

    /// Whether a route would take the request if no other did.
    pub fn admits(&self, route: usize, point: &Point) -> bool {
        let admits = |request: &Request<'_>| {
            self.callee
                .routes()
                .get(route)
                .is_some_and(|route| route.admits(request))
        };
        ask(point, admits).unwrap_or(false)
    }

    /// Whether the callee lets the request in; none if no such request can be made.
    pub fn is_allowed(&self, point: &Point) -> Option<bool> {
        ask(point, |request| {
            connections::authorise(&self.inbound, request).is_allowed()
        })
    }

    /// Whether the callee lets a request in that is made already.
    pub(super) fn lets_in(&self, request: &Request<'_>) -> bool {
        connections::authorise(&self.inbound, request).is_allowed()
    }

    /// Where the client is sent, if the route that takes the request redirects it, and with which status.
    pub fn redirected(&self, point: &Point, scheme: &str) -> Option<(String, u16)> {
        let location = |request: &Request<'_>| {
            let route = self.callee.route(request)?;
            let Action::Redirect(policy) = route.action() else {
                return None;
            };
            let received = Received {
                scheme,
                host: &point.host,
                port: Some(point.port),
                path: request.path,
                query: "",
            };
            let location = policy.location(&received, &route.captures(request));
            Some((location.ok()?, policy.status()))
        };
        ask(point, location)?
    }

    /// Whether an access rule speaks of the request.
    pub fn takes(&self, rule: usize, point: &Point) -> bool {
        let takes = |request: &Request<'_>| {
            self.inbound
                .rules()
                .iter()
                .nth(rule)
                .is_some_and(|rule| connections::takes(&self.inbound, rule, request))
        };
        ask(point, takes).unwrap_or(false)
    }
}

/// Puts the request to the engine; none if no such request can be made.
pub(super) fn ask<T>(point: &Point, answer: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
    let path = path::normalise(&point.path)
        .ok()
        .filter(|path| path.as_str() == point.path)?;
    let from = match &point.from {
        Some(from) => Some(SpiffeId::parse(from).ok()?),
        None => None,
    };
    let headers = point.headers();
    let query = query(point);
    let claims: Vec<(String, String)> = point
        .fields_of(FieldKind::Claim)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Request::new(&point.method, &point.host, &path);
    request.query = &query;
    request.headers = &headers;
    request.claims = (!claims.is_empty()).then_some(&claims as &dyn HeaderView);
    request.port = point.port;
    request.peer = from.as_ref().map_or(Peer::Unauthenticated, Peer::Identity);
    request.peer_ip = Some(point.peer_ip);
    request.client_ip = Some(point.client_ip);
    Some(answer(&request))
}

/// The query as sent, everything but letters and digits escaped.
fn query(point: &Point) -> String {
    let mut query = String::new();
    for (name, value) in point.fields_of(FieldKind::Query) {
        if !query.is_empty() {
            query.push('&');
        }
        escape(&mut query, name);
        query.push('=');
        escape(&mut query, value);
    }
    query
}

fn escape(query: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digits = [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
            query.push('%');
            query.extend(digits);
        }
    }
}

/// Those who declare to call it first, then those whom a rule lets in, then some others, and the
/// service itself last.
pub(super) fn likely(mesh: &LinkedMesh, id: ServiceId) -> Likely {
    let edges = || mesh.edges.entering(id);
    let callers = edges()
        .filter(|edge| !edge.declared.is_empty())
        .chain(edges().filter(|edge| edge.declared.is_empty()))
        .flat_map(|edge| &mesh.service(edge.caller).identities);
    let others = mesh
        .service_ids()
        .filter(|other| *other != id)
        .take(STRANGERS_MAX)
        .chain([id])
        .flat_map(|other| &mesh.service(other).identities);
    // Most of whoever enters a gateway has no identity, which in a set of requests is the empty one.
    let nobody = mesh.service(id).gateway().map(|_| String::new());
    let named = callers
        .chain(others)
        .map(|identity| identity.as_str().to_owned());
    Likely {
        hosts: mesh.service(id).example_hosts().collect(),
        callers: nobody.into_iter().chain(named).collect(),
        paths: Vec::new(),
    }
}

/// The matches of a route as the engine takes them.
pub fn matches(route: &linked::Route) -> Vec<RouteMatch> {
    route
        .matches
        .iter()
        .map(|each| RouteMatch {
            conditions: plain(&each.conditions),
        })
        .collect()
}

/// An access rule as the engine takes it.
pub fn access_rule(access: &linked::Access) -> AccessRule {
    AccessRule {
        name: access.name.clone(),
        effect: access.effect,
        enforcement: access.enforcement,
        who: access.who.clone(),
        conditions: plain(&access.conditions),
    }
}

fn plain(conditions: &[crate::model::Spanned<Condition>]) -> Vec<Condition> {
    conditions
        .iter()
        .map(|condition| condition.value.clone())
        .collect()
}

fn ports(service: &Service) -> Vec<slice::Port> {
    let port = |port: &crate::model::Port| slice::Port {
        number: port.number.value,
        protocol: port.protocol,
    };
    service.ports.iter().map(port).collect()
}

fn inbound(service: &Service) -> InboundService {
    InboundService {
        service: service.name.value.clone(),
        ports: ports(service),
        rules: service.access.iter().map(access_rule).collect(),
        mtls: emit::mtls(service),
        listeners: emit::listeners(service),
        ..InboundService::default()
    }
}

/// Of what a route does, only where it sends the client is asked for here.
fn redirect(route: &linked::Route) -> Option<Answer> {
    let answer = route.actions.answer.as_ref()?;
    matches!(answer.value, Answer::Redirect(_)).then(|| answer.value.clone())
}

/// Where requests go and how often they are tried is of no concern here.
fn callee(service: &Service) -> Callee {
    let route = |route: &linked::Route| slice::Route {
        name: route.name.value.clone(),
        matches: matches(route),
        answer: redirect(route),
        destinations: match redirect(route) {
            Some(_) => Vec::new(),
            None => vec![slice::Destination {
                target: Target {
                    service: service.name.value.clone(),
                    subset: None,
                    ..Target::default()
                },
                weight: 1,
                otherwise: Vec::new(),
                ..slice::Destination::default()
            }],
        },
        exchange: slice::Exchange {
            timeout: None,
            connect_timeout: Duration::from_secs(1),
            retry: slice::Retry {
                attempts: 1,
                causes: Vec::new(),
                per_try: None,
                any_method: false,
                backoff_base: Duration::ZERO,
                backoff_max: Duration::ZERO,
            },
            stream_idle: None,
            max_duration: None,
            ..slice::Exchange::default()
        },
        ..slice::Route::default()
    };
    Callee {
        service: service.name.value.clone(),
        hosts: service.hosts.clone(),
        ports: ports(service),
        identities: service.identities.clone(),
        subsets: Vec::new(),
        endpoints: EndpointSource::Discovered,
        routes: service.routes.iter().map(route).collect(),
        retry_budget: None,
        balance: Balance::RoundRobin,
        ..Callee::default()
    }
}
