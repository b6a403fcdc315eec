//! Requests that come from outside: a gateway lets them in and routes them, then each service that
//! its route leads to routes and authorises them as calls of the gateway.

use mesh_bundle::slice::{Balance, Callee, EndpointSource, Pool};
use mesh_engine::host::HostPattern;
use mesh_engine::request::{Peer, Request};
use mesh_engine::route::CalleeTable;

use super::{Behind, Branch, Decision, Outcome, TakenRoute, Trial, TrialError, losers};
use crate::linked::{Exchange, Gateway, LinkedMesh, RouteId, ServiceId, Target};

/// The port that a request without one comes to: the first that serves its host.
pub(super) fn default_port(gateway: &Gateway, host: &str) -> Option<u16> {
    gateway
        .listeners
        .iter()
        .find(|listener| serves(&listener.hosts, host))
        .or(gateway.listeners.first())
        .map(|listener| listener.port.value)
}

fn serves(hosts: &[String], host: &str) -> bool {
    hosts.is_empty()
        || hosts
            .iter()
            .any(|pattern| HostPattern::parse(pattern).is_ok_and(|pattern| pattern.matches(host)))
}

impl Trial<'_> {
    pub(super) fn enter(
        &mut self,
        id: ServiceId,
        gateway: &Gateway,
        request: &Request<'_>,
    ) -> Result<Outcome, TrialError> {
        let served = gateway.listeners.iter().any(|listener| {
            listener.port.value == request.port && serves(&listener.hosts, request.host)
        });
        if !served {
            return Ok(Outcome::denied().ending(Decision::NoRoute));
        }
        let mut outcome = self.authorise(id, request, Outcome::denied())?;
        if outcome.decision != Decision::Allowed {
            return Ok(outcome);
        }
        let table = self.gateway_table(id)?;
        let explanation = table.explain(request);
        outcome.losers = losers(&explanation);
        let Some(winner) = explanation.winner else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let name = winner.name().to_owned();
        let mesh = self.mesh;
        let routes = &mesh.service(id).routes;
        let Some(index) = routes.iter().position(|route| route.name.value == name) else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let route = RouteId { service: id, index };
        self.follow(route, request, outcome)
    }

    /// The engine ranks a gateway's routes like those of a service.
    fn gateway_table(&self, id: ServiceId) -> Result<CalleeTable, TrialError> {
        let service = self.mesh.service(id);
        let name = &service.name.value;
        let gateways = service
            .identities
            .first()
            .map(|identity| crate::emit::slice_of(self.mesh, identity).gateways)
            .unwrap_or_default();
        let own = gateways.into_iter().find(|own| own.name == *name);
        let table = CalleeTable::build(&Callee {
            service: name.clone(),
            hosts: service.hosts.clone(),
            ports: crate::emit::ports(&service.ports),
            identities: service.identities.clone(),
            endpoints: EndpointSource::Discovered,
            routes: own.map(|own| own.routes).unwrap_or_default(),
            balance: Balance::LeastRequest,
            pool: Pool::default(),
            ..Callee::default()
        });
        table.map_err(|source| {
            TrialError::Snapshot(mesh_engine::SnapshotError::Callee {
                service: name.clone(),
                source,
            })
        })
    }

    /// Follows a request along every branch of a gateway's route that takes something.
    fn follow(
        &mut self,
        id: RouteId,
        request: &Request<'_>,
        mut outcome: Outcome,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let route = mesh.route(id);
        let total: u64 = route
            .destinations
            .iter()
            .map(|to| u64::from(to.weight))
            .sum();
        let mut taken = TakenRoute {
            id,
            name: route.name.value.clone(),
            branches: Vec::new(),
            exchange: route.exchange.clone(),
            pool: mesh.service(id.service).pool.clone(),
            retry_budget: mesh.service(id.service).retry_budget.clone(),
        };
        for to in route.destinations.iter().filter(|to| to.weight > 0) {
            let (weight, total) = (u64::from(to.weight), total.max(1));
            let behind = self.behind(id, to.target, request)?;
            if let Some(next) = &behind.route {
                if taken.branches.is_empty() {
                    taken.exchange = next.exchange.clone();
                    taken.pool = next.pool.clone();
                    taken.retry_budget = next.retry_budget.clone();
                }
                taken
                    .branches
                    .extend(next.branches.iter().map(|branch| Branch {
                        weight: branch.weight * weight,
                        total: branch.total * total,
                        ..branch.clone()
                    }));
            }
            // One branch that ends otherwise is enough for some requests to end so.
            if outcome.decision == Decision::Allowed && behind.decision != Decision::Allowed {
                outcome = outcome.ending(behind.decision);
                outcome.rule.clone_from(&behind.rule);
            }
            outcome.behind.push(behind);
        }
        outcome.route = Some(taken);
        Ok(outcome)
    }

    /// What becomes of the request at a service behind a gateway.
    fn behind(
        &mut self,
        route: RouteId,
        target: Target,
        request: &Request<'_>,
    ) -> Result<Behind, TrialError> {
        let mesh = self.mesh;
        let (gateway, callee) = (mesh.service(route.service), mesh.service(target.service));
        let mut behind = Behind {
            service: callee.name.value.clone(),
            decision: Decision::Denied,
            rule: None,
            route: None,
        };
        let Some(identity) = gateway.identities.first() else {
            return Ok(behind);
        };
        let first = callee.ports.first().map(|port| port.number.value);
        let Some(port) = target.port.or(first) else {
            return Ok(behind);
        };
        let request = Request {
            port,
            peer: Peer::Identity(identity),
            ..*request
        };
        let Some(table) = self.snapshot(route.service)?.callee(&callee.name.value) else {
            return Ok(behind);
        };
        let Some(winner) = table.route(&request) else {
            behind.decision = Decision::NoRoute;
            return Ok(behind);
        };
        behind.route = super::taken(mesh, (route.service, target.service), winner)
            .map(|taken| narrowed(mesh, route, target, taken));
        let outcome = self.authorise(target.service, &request, Outcome::denied())?;
        behind.decision = outcome.decision;
        behind.rule = outcome.rule;
        Ok(behind)
    }
}

/// The route of a service for this route of a gateway: its times, and only the subset that it names.
fn narrowed(mesh: &LinkedMesh, route: RouteId, target: Target, taken: TakenRoute) -> TakenRoute {
    let exchange = exchange(mesh, route, &taken).unwrap_or(taken.exchange);
    let callee = mesh.service(target.service);
    let subset = target
        .subset
        .and_then(|subset| callee.subsets.get(subset))
        .map(|subset| subset.name.value.clone());
    let branches = match subset {
        Some(subset) => vec![Branch {
            service: callee.name.value.clone(),
            subset: Some(subset),
            weight: 1,
            total: 1,
        }],
        None => taken.branches,
    };
    TakenRoute {
        branches,
        exchange,
        ..taken
    }
}

fn exchange(mesh: &LinkedMesh, route: RouteId, taken: &TakenRoute) -> Option<Exchange> {
    let edge = mesh.edge(route.service, taken.id.service)?;
    let routed = edge.routed.iter().find(|routed| routed.route == route)?;
    routed.exchanges.get(taken.id.index).cloned()
}
