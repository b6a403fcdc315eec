//! The call graph of a linked mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_bundle::slice::{Protocol, RetryCause};
use rayon::prelude::*;

use super::passage::Passages;
use super::{
    Branch, Budget, BudgetOf, CallGraph, Edge, EdgeId, Hedge, Node, NodeId, NodeKind, Origin,
    Policy, Provenance, Purpose,
};
use crate::linked::{self, Destination, Exchange, LinkedMesh, Route, Service, ServiceId, Source};
use crate::model::{BudgetMinimum, CallMode, Port, RetryBudget};

impl CallGraph {
    /// The declared calls, and the calls that are only permitted. Nodes are in the order of
    /// [`LinkedMesh::services`].
    pub fn of(mesh: &LinkedMesh) -> Self {
        let mut graph = Self::new();
        for service in &mesh.services {
            graph.add_node(Node {
                name: service.name.value.clone(),
                kind: kind(&service.kind),
                replicas: service
                    .facts
                    .replicas
                    .map(|replicas| f64::from(replicas.value)),
                handling: service.facts.handling.map(|handling| handling.value),
                capacity: service.facts.capacity.map(|capacity| capacity.value),
                load: service.facts.load.map(|load| load.value),
                span: Some(service.name.span),
            });
        }
        let passages = Passages::of(mesh, &mut graph);
        let between = |edge| between(mesh, &passages, edge);
        let edges: Vec<Vec<Arc<Edge>>> = mesh.edges.par_iter().map(between).collect();
        for edge in edges.into_iter().flatten() {
            graph.add_edge(edge);
        }
        graph.observe(mesh, &passages);
        graph
    }

    /// Marks what was seen, and adds what was seen and nobody says or permits.
    fn observe(&mut self, mesh: &LinkedMesh, passages: &Passages) {
        let seen = mesh
            .inventory
            .iter()
            .flat_map(|inventory| &inventory.observed);
        for call in seen {
            let (Ok(from), Ok(to)) = (&call.from, &call.to) else {
                continue;
            };
            let callee = mesh.service(*to);
            let (from, to) = (node(*from), node(*to));
            let by = passages.between(from, to);
            let between: Vec<EdgeId> = (self.leaving_ids(from))
                .filter(|(_, edge)| edge.to == by.unwrap_or(to) && edge.purpose == Purpose::Call)
                .map(|(id, _)| id)
                .collect();
            for id in &between {
                self.see(*id, call.rate.filter(|_| between.len() == 1));
            }
            if between.is_empty() {
                self.add_edge(
                    passages.lead(Edge {
                        from,
                        to,
                        provenance: Provenance {
                            observed: true,
                            ..Provenance::default()
                        },
                        purpose: Purpose::Call,
                        per_request: 1.0,
                        share: 1.0,
                        parallel: false,
                        rate: call.rate,
                        policies: (callee.routes.iter())
                            .map(|route| policy(&route.name.value, &route.exchange, callee))
                            .collect(),
                        span: Some(call.span),
                    }),
                );
            }
        }
    }
}

/// The calls of one service to another.
fn between(mesh: &LinkedMesh, passages: &Passages, edge: &linked::Edge) -> Vec<Arc<Edge>> {
    let mut calls = Vec::new();
    if !edge.routed.is_empty() {
        let routed = of_gateway(mesh, edge).into_iter();
        calls.extend(routed.map(|edge| passages.lead(edge)));
    } else if edge.declared.is_empty() && edge.asked.is_empty() && !edge.permitted.is_empty() {
        let all = exchanges(mesh, edge, |_| true);
        let (by, plain) = (node(edge.callee), permitted(mesh, edge));
        // Who may enter a gateway on the way out of the mesh calls what it leads to in its own name.
        let routed = routed(mesh, edge, &plain, all)
            .into_iter()
            .filter(|edge| !passages.is_by(by, edge.to));
        calls.extend(routed.map(|edge| passages.lead(edge)));
    }
    let asked = edge.asked.iter();
    calls.extend(asked.map(|asked| side_call(mesh, edge, *asked)));
    for call in &edge.declared {
        let declared = declared(mesh, edge, *call).into_iter();
        calls.extend(declared.map(|edge| passages.lead(edge)));
    }
    calls.into_iter().map(Arc::new).collect()
}

pub(super) const fn node(service: ServiceId) -> NodeId {
    NodeId(service.index())
}

const fn kind(kind: &linked::Kind) -> NodeKind {
    match kind {
        linked::Kind::Service => NodeKind::Service,
        linked::Kind::Gateway(_) => NodeKind::Gateway,
        linked::Kind::External(_) => NodeKind::External,
    }
}

/// The edge without its policies.
fn permitted(mesh: &LinkedMesh, edge: &linked::Edge) -> Edge {
    let rule = edge
        .permitted
        .first()
        .and_then(|rule| mesh.service(edge.callee).access.get(*rule));
    Edge {
        from: node(edge.caller),
        to: node(edge.callee),
        provenance: Provenance {
            authorized: true,
            ..Provenance::default()
        },
        purpose: Purpose::Call,
        per_request: 1.0,
        share: 1.0,
        parallel: false,
        rate: None,
        policies: Vec::new(),
        span: rule.and_then(|rule| rule.source.span()),
    }
}

fn declared(mesh: &LinkedMesh, edge: &linked::Edge, call: usize) -> Vec<Edge> {
    let calls = &mesh.service(edge.caller).calls;
    let call = &calls[call];
    let of_others = |route: usize| {
        let mut others = edge
            .declared
            .iter()
            .filter_map(|other| calls.get(*other)?.route);
        others.any(|other| other.index == route)
    };
    let all_named = (0..mesh.service(edge.callee).routes.len()).all(of_others);
    let takes = |route: usize| match call.route {
        Some(only) => only.index == route,
        None => all_named || !of_others(route),
    };
    let plain = Edge {
        from: node(edge.caller),
        to: node(edge.callee),
        provenance: Provenance {
            authorized: !edge.permitted.is_empty(),
            ..Provenance::DECLARED
        },
        purpose: Purpose::Call,
        per_request: call.per_request.map_or(1.0, |calls| calls.value),
        share: call
            .share
            .map_or(1.0, |share| f64::from(share.value) / 10_000.0),
        parallel: call
            .mode
            .is_some_and(|mode| mode.value == CallMode::Parallel),
        rate: None,
        policies: Vec::new(),
        span: Some(call.callee.span),
    };
    routed(mesh, edge, &plain, exchanges(mesh, edge, takes))
}

/// A proxy asks once, and what it asks is not tried again.
fn side_call(mesh: &LinkedMesh, edge: &linked::Edge, asked: linked::Asked) -> Edge {
    let callee = mesh.service(edge.callee);
    let routes = callee.routes.iter().zip(&edge.exchanges);
    let policies = routes.map(|(route, exchange)| Policy {
        attempts: 1,
        timeout: asked.timeout.or(exchange.timeout.value),
        limit_span: asked.timeout.map(|_| asked.span),
        budget: None,
        ..policy(&route.name.value, exchange, callee)
    });
    Edge {
        provenance: Provenance {
            authorized: !edge.permitted.is_empty(),
            ..Provenance::DECLARED
        },
        purpose: match asked.purpose {
            linked::AskedPurpose::Authorize => Purpose::Authorize,
            linked::AskedPurpose::RateLimit => Purpose::RateLimit,
        },
        policies: policies.collect(),
        span: Some(asked.span),
        ..permitted(mesh, edge)
    }
}

/// A request takes one route of a gateway, so its routes to one service are one edge with the policies
/// of all of them.
fn of_gateway(mesh: &LinkedMesh, edge: &linked::Edge) -> Vec<Edge> {
    let plain = Edge {
        provenance: Provenance {
            routed: true,
            authorized: !edge.permitted.is_empty(),
            ..Provenance::default()
        },
        span: edge.routed.first().map(|routed| routed.span),
        ..permitted(mesh, edge)
    };
    let routes = &mesh.service(edge.callee).routes;
    let all = (edge.routed.iter()).flat_map(|routed| with(routes, &routed.exchanges));
    routed(mesh, edge, &plain, all)
}

/// Routes of the callee, with what holds for this caller.
fn exchanges<'m>(
    mesh: &'m LinkedMesh,
    edge: &'m linked::Edge,
    takes: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (&'m Route, &'m Exchange)> {
    let routes = with(&mesh.service(edge.callee).routes, &edge.exchanges);
    (routes.enumerate())
        .filter(move |(index, _)| takes(*index))
        .map(|(_, both)| both)
}

fn with<'m>(
    routes: &'m [Route],
    exchanges: &'m [Arc<Exchange>],
) -> impl Iterator<Item = (&'m Route, &'m Exchange)> {
    routes.iter().zip(exchanges.iter().map(AsRef::as_ref))
}

/// The edge with the policies of the routes that it takes, and one more for each other service that
/// these routes lead to.
fn routed<'m>(
    mesh: &LinkedMesh,
    edge: &linked::Edge,
    plain: &Edge,
    routes: impl Iterator<Item = (&'m Route, &'m Exchange)>,
) -> Vec<Edge> {
    let callee = mesh.service(edge.callee);
    let mut policies: BTreeMap<ServiceId, Vec<Policy>> = BTreeMap::new();
    let mut copies: BTreeMap<ServiceId, Edge> = BTreeMap::new();
    for (route, exchange) in routes {
        for mirror in &route.actions.mirrors {
            let to = mesh.service(mirror.target.service);
            let share = f64::from(mirror.share) / 10_000.0;
            let copy = copies
                .entry(to.id)
                .or_insert_with(|| copied(plain, to.id, mirror.span));
            // A request takes one route: the one that copies most is the worst.
            copy.per_request = copy.per_request.max(plain.per_request * share);
            copy.policies.push(policy(&route.name.value, exchange, to));
        }
        for target in targets(route) {
            let to = mesh.service(target);
            policies.entry(target).or_default().push(Policy {
                branches: branches(to, route),
                ..policy(&route.name.value, exchange, to)
            });
        }
    }
    let caller = edge.caller;
    let edge_to = |(target, policies): (ServiceId, Vec<Policy>)| {
        let mut edge = Edge {
            to: node(target),
            policies,
            ..plain.clone()
        };
        if target != callee.id {
            let admits = mesh
                .edge(caller, target)
                .is_some_and(|edge| !edge.permitted.is_empty());
            edge.provenance = Provenance {
                routed: edge.provenance.declared || edge.provenance.routed,
                authorized: admits || edge.origin() == Origin::Permitted,
                ..Provenance::default()
            };
        }
        edge
    };
    let calls = policies.into_iter().map(edge_to);
    calls.chain(copies.into_values()).collect()
}

/// Copies of the requests of an edge, to somebody else.
fn copied(plain: &Edge, to: ServiceId, span: mesh_syntax::Span) -> Edge {
    let is_said = plain.origin() == Origin::Declared;
    Edge {
        to: node(to),
        provenance: Provenance {
            routed: is_said,
            authorized: !is_said,
            ..Provenance::default()
        },
        purpose: Purpose::Mirror,
        per_request: 0.0,
        span: Some(span),
        ..plain.clone()
    }
}

/// Services that a route leads to, ascending; where all else fails, too.
fn targets(route: &Route) -> Vec<ServiceId> {
    let mut targets: Vec<ServiceId> = (route.destinations.iter())
        .filter(|to| to.weight > 0)
        .flat_map(|to| std::iter::once(&to.target).chain(&to.otherwise))
        .map(|target| target.service)
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The shares of a route that go to one service, where it splits or narrows.
fn branches(to: &Service, route: &Route) -> Vec<Branch> {
    let destinations = &route.destinations;
    let total: u64 = destinations.iter().map(|each| u64::from(each.weight)).sum();
    let is_whole =
        |each: &Destination| each.target.service == to.id && each.target.subset.is_none();
    if total == 0 || destinations.iter().all(is_whole) {
        return Vec::new();
    }
    let branch = |each: &Destination| Branch {
        subset: each
            .target
            .subset
            .and_then(|subset| to.subsets.get(subset))
            .map(|subset| subset.name.value.clone()),
        share: f64::from(each.weight) / as_number(total),
    };
    (destinations.iter())
        .filter(|each| each.target.service == to.id)
        .map(branch)
        .collect()
}

/// The policy of a route whose requests go to endpoints of `to`.
fn policy(route: &str, exchange: &Exchange, to: &Service) -> Policy {
    // Attempts without a cause, or causes without attempts, never try again.
    let mut causes: Vec<RetryCause> = exchange.causes.value.clone();
    if to.ports.iter().all(carries_bytes) {
        // Nothing is known of bytes but whether there is a connection for them.
        causes.retain(|cause| *cause == RetryCause::ConnectFailure);
    }
    Policy {
        route: route.to_owned(),
        attempts: if causes.is_empty() {
            1
        } else {
            exchange.attempts.value.max(1)
        },
        causes,
        per_try: exchange.per_try.value,
        timeout: exchange.timeout.value,
        backoff_base: exchange.backoff_base.value,
        backoff_max: exchange.backoff_max.value,
        budget: to.retry_budget.value.as_ref().map(budget),
        hedge: exchange.hedge.value.map(|delay| Hedge {
            delay,
            attempts: exchange.hedge_attempts.value,
        }),
        retries_at_once: to.pool.limits.retries.value.map(f64::from),
        branches: Vec::new(),
        attempts_span: exchange.attempts.source.span(),
        limit_span: limit_source(exchange).span(),
    }
}

fn carries_bytes(port: &Port) -> bool {
    matches!(port.protocol, Protocol::Tcp | Protocol::Tls)
}

fn limit_source(exchange: &Exchange) -> Source {
    match (exchange.per_try.value, exchange.timeout.value) {
        (Some(per_try), Some(timeout)) if timeout < per_try => exchange.timeout.source,
        (Some(_), _) => exchange.per_try.source,
        (None, _) => exchange.timeout.source,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "weights and counts of retries are far below 2^52"
)]
const fn as_number(count: u64) -> f64 {
    count as f64
}

fn budget(budget: &RetryBudget) -> Budget {
    Budget {
        share: f64::from(budget.share) / 10_000.0,
        of: match budget.minimum {
            BudgetMinimum::Requests { count, per, .. } => BudgetOf::Requests {
                min_per_second: as_number(count) / per.as_secs_f64().max(f64::MIN_POSITIVE),
            },
            BudgetMinimum::Active { count } => BudgetOf::Active {
                min_concurrent: as_number(count),
            },
        },
    }
}
