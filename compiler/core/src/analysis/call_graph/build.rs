//! The call graph of a linked mesh.

use mesh_bundle::slice::RetryCause;

use super::{Budget, BudgetOf, CallGraph, Edge, Node, NodeId, Origin, Policy};
use crate::linked::{self, Exchange, LinkedMesh, Source};
use crate::model::{BudgetMinimum, CallMode, RetryBudget};

impl CallGraph {
    /// The declared calls, and the calls that are only permitted. Nodes are in the order of
    /// [`LinkedMesh::services`].
    pub fn of(mesh: &LinkedMesh) -> Self {
        let mut graph = Self::new();
        for service in &mesh.services {
            graph.add_node(Node {
                name: service.name.value.clone(),
                handling: service.facts.handling.map(|handling| handling.value),
                capacity: service.facts.capacity.map(|capacity| capacity.value),
                load: service.facts.load.map(|load| load.value),
                span: Some(service.name.span),
            });
        }
        for edge in &mesh.edges {
            if edge.declared.is_empty() {
                graph.add_edge(permitted(mesh, edge));
            }
            for call in &edge.declared {
                graph.add_edge(declared(mesh, edge, *call));
            }
        }
        graph
    }
}

fn permitted(mesh: &LinkedMesh, edge: &linked::Edge) -> Edge {
    let rule = edge
        .permitted
        .first()
        .and_then(|rule| mesh.service(edge.callee).access.get(*rule));
    Edge {
        from: NodeId(edge.caller.index()),
        to: NodeId(edge.callee.index()),
        origin: Origin::Permitted,
        per_request: 1.0,
        share: 1.0,
        parallel: false,
        policies: policies(mesh, edge, |_| true),
        span: rule.and_then(|rule| rule.source.span()),
    }
}

fn declared(mesh: &LinkedMesh, edge: &linked::Edge, call: usize) -> Edge {
    let calls = &mesh.service(edge.caller).calls;
    let call = &calls[call];
    let of_others = |route: usize| {
        let mut others = edge
            .declared
            .iter()
            .filter_map(|other| calls.get(*other)?.route);
        others.any(|other| other.index == route)
    };
    let takes = |route: usize| match call.route {
        Some(only) => only.index == route,
        None => !of_others(route),
    };
    let mut policies_taken = policies(mesh, edge, takes);
    if policies_taken.is_empty() {
        policies_taken = policies(mesh, edge, |_| true);
    }
    Edge {
        from: NodeId(edge.caller.index()),
        to: NodeId(edge.callee.index()),
        origin: Origin::Declared,
        per_request: call.per_request.map_or(1.0, |calls| calls.value),
        share: call
            .share
            .map_or(1.0, |share| f64::from(share.value) / 10_000.0),
        parallel: call
            .mode
            .is_some_and(|mode| mode.value == CallMode::Parallel),
        policies: policies_taken,
        span: Some(call.callee.span),
    }
}

fn policies(mesh: &LinkedMesh, edge: &linked::Edge, takes: impl Fn(usize) -> bool) -> Vec<Policy> {
    let callee = mesh.service(edge.callee);
    let budget = callee.retry_budget.value.as_ref().map(budget);
    (callee.routes.iter().zip(&edge.exchanges).enumerate())
        .filter(|(index, _)| takes(*index))
        .map(|(_, (route, exchange))| policy(&route.name.value, exchange, budget))
        .collect()
}

fn policy(route: &str, exchange: &Exchange, budget: Option<Budget>) -> Policy {
    // Attempts without a cause, or causes without attempts, never try again.
    let causes: Vec<RetryCause> = exchange.causes.value.clone();
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
        budget,
        attempts_span: exchange.attempts.source.span(),
        limit_span: limit_source(exchange).span(),
    }
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
    reason = "counts of retries are far below 2^52"
)]
fn budget(budget: &RetryBudget) -> Budget {
    Budget {
        share: f64::from(budget.share) / 10_000.0,
        of: match budget.minimum {
            BudgetMinimum::Requests { count, per, .. } => BudgetOf::Requests {
                min_per_second: count as f64 / per.as_secs_f64().max(f64::MIN_POSITIVE),
            },
            BudgetMinimum::Active { count } => BudgetOf::Active {
                min_concurrent: count as f64,
            },
        },
    }
}
