//! From a checked mesh to slices, one for each workload identity. Pure and blind to the order of
//! files and definitions: the same meaning gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::feature;
use mesh_bundle::scope::Scope;
use mesh_bundle::slice::{self, Slice};
use mesh_bundle::spiffe::{SpiffeId, TrustDomain};
use rayon::prelude::*;

use crate::link::IMPLICIT_ROUTE;
use crate::linked::{Access, Edge, Endpoints, Exchange, LinkedMesh, Pool, Route, Service, Target};
use crate::model::{Actions, BudgetMinimum, Port, RetryBudget, Spanned};

mod entry;
mod gateway;
mod reach;

/// Everything that a generation needs but the commit it was compiled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Mesh, environment and trust domain.
    pub scope: Scope,
    /// One slice for each workload identity.
    pub slices: BTreeMap<SpiffeId, Slice>,
}

/// Whose slices they are; nothing for a trust domain that linking would have refused.
pub(crate) fn scope(mesh: &LinkedMesh) -> Option<Scope> {
    Some(Scope {
        mesh: mesh.name.value.clone(),
        environment: mesh.environment.clone(),
        trust_domain: TrustDomain::parse(&mesh.trust_domain.value).ok()?,
    })
}

/// Every slice at once.
pub(crate) fn emit(mesh: &LinkedMesh, scope: Scope) -> Emitted {
    let workloads = workloads(mesh);
    let slices = workloads
        .par_iter()
        .map(|workload| (workload.identity.clone(), workload.slice(mesh)))
        .collect();
    Emitted { scope, slices }
}

/// An identity that has a slice, and the services that have the identity.
#[derive(Debug)]
pub(crate) struct Workload<'m> {
    pub(crate) identity: &'m SpiffeId,
    /// Ascending by name.
    pub(crate) services: Vec<&'m Service>,
}

/// Those of a mesh, ascending. The identities of an external are those of the other side.
pub(crate) fn workloads(mesh: &LinkedMesh) -> Vec<Workload<'_>> {
    let mut owned: BTreeMap<&SpiffeId, Vec<&Service>> = BTreeMap::new();
    for service in mesh
        .services
        .iter()
        .filter(|service| !service.is_external())
    {
        for identity in &service.identities {
            owned.entry(identity).or_default().push(service);
        }
    }
    let workload = |(identity, services)| Workload { identity, services };
    owned.into_iter().map(workload).collect()
}

/// The slice of one identity.
pub(crate) fn slice_of(mesh: &LinkedMesh, identity: &SpiffeId) -> Slice {
    let services = mesh
        .services
        .iter()
        .filter(|service| !service.is_external() && service.identities.contains(identity))
        .collect();
    Workload { identity, services }.slice(mesh)
}

impl<'m> Workload<'m> {
    /// Its slice.
    pub(crate) fn slice(&self, mesh: &'m LinkedMesh) -> Slice {
        let callees = self.callees(mesh);
        let callees = callees.map(|edge| callee(mesh, mesh.service(edge.callee), edge));
        let mut slice = Slice {
            callees: callees.collect(),
            ..self.frame(mesh)
        };
        slice.required_features = feature::required_by(&slice);
        slice
    }

    /// Its slice, but for the callees and what the callees need.
    pub(crate) fn frame(&self, mesh: &'m LinkedMesh) -> Slice {
        let services = self.services.as_slice();
        let mut frame = Slice {
            access: slice::Access {
                services: services
                    .iter()
                    .map(|service| inbound(mesh, service))
                    .collect(),
                jwts: entry::jwts(mesh, services),
                authorizers: entry::authorizers(mesh, services),
                externals: reach::externals(mesh, self.callees(mesh)),
            },
            gateways: services
                .iter()
                .filter(|service| service.gateway().is_some())
                .map(|service| gateway(mesh, service))
                .collect(),
            telemetry: services
                .iter()
                .filter_map(|service| entry::telemetry(service))
                .collect(),
            ..Slice::new(self.identity.clone())
        };
        frame.required_features = feature::required_by(&frame);
        frame
    }

    /// The edges by which it calls, one for each callee, ascending. Services of one identity may share callees; linking
    /// has made sure that they call them alike.
    pub(crate) fn callees(&self, mesh: &'m LinkedMesh) -> impl Iterator<Item = &'m Edge> + use<'m> {
        let mut edges: Vec<&Edge> = self
            .services
            .iter()
            .flat_map(|service| mesh.edges_of(service.id))
            .collect();
        // Of one callee the first caller's stays.
        edges.sort_by_key(|edge| edge.callee);
        edges.dedup_by_key(|edge| edge.callee);
        edges.into_iter()
    }
}

/// How a service is entered.
pub(crate) fn inbound(mesh: &LinkedMesh, service: &Service) -> slice::InboundService {
    slice::InboundService {
        service: service.name.value.clone(),
        ports: ports(&service.ports),
        rules: service.access.iter().map(rule).collect(),
        listeners: listeners(service),
        mtls: entry::mtls(service),
        requirements: entry::requirements(mesh, service),
        rate_limits: entry::rate_limits(mesh, service),
        probes: entry::probes(service),
        path_accepts: path_accepts(service),
    }
}

/// The routes of a gateway.
pub(crate) fn gateway(mesh: &LinkedMesh, service: &Service) -> slice::Gateway {
    gateway::gateway(mesh, service)
}

/// Where a gateway listens.
pub(crate) fn listeners(service: &Service) -> Vec<slice::Listener> {
    service
        .gateway()
        .map(gateway::listeners)
        .unwrap_or_default()
}

/// Ports where mTLS is not strict.
pub(crate) fn mtls(service: &Service) -> Vec<slice::PortMtls> {
    entry::mtls(service)
}

/// Where the caller's proxy listens for a callee of bytes.
pub(crate) fn listeners_of(mesh: &LinkedMesh, edge: &Edge) -> Vec<slice::CalleeListener> {
    reach::listeners(mesh, edge)
}

/// What paths may hold for some route of the service: its proxy knows no routes.
pub(crate) fn path_accepts(service: &Service) -> Vec<slice::PathAccepts> {
    let of_routes = service.routes.iter();
    let accepts: BTreeSet<_> = of_routes
        .flat_map(|route| &route.actions.path_accepts)
        .copied()
        .collect();
    accepts.into_iter().collect()
}

pub(crate) fn ports(ports: &[Port]) -> Vec<slice::Port> {
    ports
        .iter()
        .map(|port| slice::Port {
            number: port.number.value,
            protocol: port.protocol,
        })
        .collect()
}

/// A rule as the callee's proxy is told it.
pub(crate) fn rule(rule: &Access) -> slice::AccessRule {
    slice::AccessRule {
        name: rule.name.clone(),
        effect: rule.effect,
        enforcement: rule.enforcement,
        who: rule.who.clone(),
        conditions: rule
            .conditions
            .iter()
            .map(|condition| condition.value.clone())
            .collect(),
    }
}

/// A callee as the proxy of an edge's caller is told it.
pub(crate) fn callee(mesh: &LinkedMesh, service: &Service, edge: &Edge) -> slice::Callee {
    let routes = service.routes.iter().zip(&edge.exchanges);
    slice::Callee {
        service: service.name.value.clone(),
        hosts: service.hosts.clone(),
        ports: ports(&service.ports),
        identities: service.identities.clone(),
        subsets: service.subsets.iter().map(subset).collect(),
        endpoints: match &service.endpoints {
            Endpoints::Discovered => slice::EndpointSource::Discovered,
            Endpoints::Declared(endpoints) => slice::EndpointSource::Declared(
                endpoints
                    .iter()
                    .map(|endpoint| endpoint.value.clone())
                    .collect(),
            ),
        },
        routes: match service.gateway() {
            // Requests that leave by a gateway are routed there.
            Some(_) => vec![slice::Route {
                name: IMPLICIT_ROUTE.to_owned(),
                destinations: vec![slice::Destination::only(slice::Target {
                    service: service.name.value.clone(),
                    ..slice::Target::default()
                })],
                ..slice::Route::default()
            }],
            None => routes
                .map(|(route, exchange)| self::route(mesh, route, exchange))
                .collect(),
        },
        retry_budget: service.retry_budget.value.as_ref().map(retry_budget),
        balance: service.pool.balance.method.value.algorithm,
        pool: pool(&service.pool),
        kind: reach::kind(mesh, service),
        addresses: reach::addresses(service),
        dials: reach::dials(service),
        listeners: reach::listeners(mesh, edge),
    }
}

fn subset(subset: &crate::linked::Subset) -> slice::Subset {
    slice::Subset {
        name: subset.name.value.clone(),
        labels: subset
            .labels
            .iter()
            .map(|label| label.value.clone())
            .collect(),
        pool: subset.has_own_pool.then(|| slice::SubsetPool {
            balance: subset.pool.balance.method.value.algorithm,
            pool: pool(&subset.pool),
        }),
    }
}

/// Endpoints as proxies are told of them.
pub(crate) fn target(mesh: &LinkedMesh, target: Target) -> slice::Target {
    let service = mesh.service(target.service);
    slice::Target {
        service: service.name.value.clone(),
        subset: target
            .subset
            .and_then(|index| service.subsets.get(index))
            .map(|subset| subset.name.value.clone()),
        port: target.port,
    }
}

/// A route as the callers' proxies are told it.
pub(crate) fn route(mesh: &LinkedMesh, route: &Route, exchange: &Exchange) -> slice::Route {
    let matches = route.matches.iter().map(|block| slice::RouteMatch {
        conditions: block
            .conditions
            .iter()
            .map(|condition| condition.value.clone())
            .collect(),
    });
    let destinations = route.destinations.iter().map(|to| slice::Destination {
        target: target(mesh, to.target),
        weight: to.weight,
        otherwise: to
            .otherwise
            .iter()
            .map(|other| target(mesh, *other))
            .collect(),
        request_headers: to.request_headers.clone(),
        response_headers: to.response_headers.clone(),
    });
    slice::Route {
        name: route.name.value.clone(),
        matches: matches.collect(),
        destinations: destinations.collect(),
        exchange: self::exchange(exchange),
        answer: route.actions.answer.clone().map(|answer| answer.value),
        filters: filters(mesh, &route.actions),
        exchanges: Vec::new(),
    }
}

fn filters(mesh: &LinkedMesh, actions: &Actions<Target>) -> slice::RouteFilters {
    let value = |edits: &Option<Spanned<slice::HeaderEdits>>| {
        edits
            .as_ref()
            .map(|edits| edits.value.clone())
            .unwrap_or_default()
    };
    slice::RouteFilters {
        rewrite: actions
            .rewrite
            .as_ref()
            .map(|rewrite| rewrite.value.clone()),
        mirrors: actions
            .mirrors
            .iter()
            .map(|mirror| slice::Mirror {
                target: target(mesh, mirror.target),
                share: mirror.share,
            })
            .collect(),
        fault: actions.fault.map(|fault| slice::Fault {
            delay: fault.delay.map(|delay| delay.value),
            abort: fault.abort.map(|abort| abort.value),
            until: fault
                .until
                .map(|until| u64::try_from(until.value.days()).unwrap_or(0) * 86_400),
        }),
        request_headers: value(&actions.request_headers),
        response_headers: value(&actions.response_headers),
        cors: actions.cors.as_ref().map(|cors| cors.value.clone()),
        upgrade: actions.upgrade.map(|upgrade| upgrade.value),
        path_accepts: actions.path_accepts.clone(),
        streaming: actions.streaming.is_some(),
        sticky: actions
            .sticky
            .as_ref()
            .map(|own| own.value.clone())
            .unwrap_or_default(),
    }
}

/// What a proxy is told of an exchange: values without their sources.
pub(crate) fn exchange(exchange: &Exchange) -> slice::Exchange {
    slice::Exchange {
        timeout: exchange.timeout.value,
        connect_timeout: exchange.connect.value,
        retry: slice::Retry {
            attempts: exchange.attempts.value,
            causes: exchange.causes.value.clone(),
            per_try: exchange.per_try.value,
            any_method: exchange.any_method.value,
            backoff_base: exchange.backoff_base.value,
            backoff_max: exchange.backoff_max.value,
        },
        stream_idle: exchange.stream_idle.value,
        max_duration: exchange.max_duration.value,
        idle: exchange.idle.value,
        hedge: exchange.hedge.value.map(|delay| slice::Hedge {
            delay,
            attempts: exchange.hedge_attempts.value,
        }),
    }
}

/// Each setting of a pool puts its own part into the message.
fn pool(pool: &Pool) -> slice::Pool {
    let mut message = slice::Pool::default();
    pool.lower(&mut message);
    message
}

fn retry_budget(budget: &RetryBudget) -> slice::RetryBudget {
    slice::RetryBudget {
        share: budget.share,
        kind: match budget.minimum {
            BudgetMinimum::Requests { count, per, window } => slice::RetryBudgetKind::Requests {
                min_count: count,
                min_per: per,
                window,
            },
            BudgetMinimum::Active { count } => slice::RetryBudgetKind::Active { min_count: count },
        },
    }
}
