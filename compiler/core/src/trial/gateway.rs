//! Requests that come from outside: a gateway lets them in and routes them, then each service that
//! its route leads to routes and authorises them as calls of the gateway.

use mesh_engine::gateway::OnwardError;
use mesh_engine::host::HostPattern;
use mesh_engine::request::{Peer, Request};
use mesh_engine::route::RouteTable;

use super::forward;
use super::{Behind, Branch, Decision, Outcome, Refusal, TakenRoute, Trial, TrialError, losers};
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
        request: &Request<'_>,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let name = &mesh.service(id).name.value;
        let snapshot = self.snapshot(id)?;
        let served = snapshot
            .inbound(request.port)
            .is_some_and(|table| table.listener(request.port, Some(request.host)).is_some());
        if !served {
            return Ok(Outcome::denied().ending(Decision::NoRoute));
        }
        let mut outcome = self.authorise(id, request, Outcome::denied())?;
        if outcome.decision != Decision::Allowed {
            return Ok(outcome);
        }
        let Some(table) = self.snapshot(id)?.gateway(name) else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let explanation = table.explain(request);
        outcome.losers = losers(&explanation);
        let Some(winner) = explanation.winner.cloned() else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let inbound = self.snapshot(id)?.inbound(request.port);
        if inbound
            .is_some_and(|table| super::has_no_token(mesh, table, request, Some(winner.name())))
        {
            return Ok(Outcome::refused(Refusal::no_token()));
        }
        let listeners = mesh
            .service(id)
            .gateway()
            .map(|own| own.listeners.as_slice());
        let secure = listeners
            .unwrap_or_default()
            .iter()
            .any(|listener| listener.port.value == request.port && listener.tls.is_some());
        let scheme = if secure { "https" } else { "http" };
        if let Err(error) = winner.filters().path_accepts.allow(request.path) {
            return Ok(Outcome::refused(Refusal::bad_request(error.rule())));
        }
        match forward::answer(&winner, request, scheme, Some(request.port)) {
            Ok(answer) => outcome.answer = answer,
            Err(refusal) => return Ok(Outcome::refused(refusal)),
        }
        let routes = &mesh.service(id).routes;
        let Some(index) = routes
            .iter()
            .position(|route| route.name.value == winner.name())
        else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let route = RouteId { service: id, index };
        self.follow(route, &winner, request, outcome)
    }

    /// Follows a request along every branch of a gateway's route that takes something.
    fn follow(
        &mut self,
        id: RouteId,
        table: &RouteTable,
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
            let behind = self.behind(id, to.target, table, request)?;
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
        table: &RouteTable,
        request: &Request<'_>,
    ) -> Result<Behind, TrialError> {
        let mesh = self.mesh;
        let callee = mesh.service(target.service);
        let name = &callee.name.value;
        let mut behind = Behind {
            service: name.clone(),
            decision: Decision::Denied,
            rule: None,
            route: None,
        };
        let subset = target.subset.and_then(|subset| callee.subsets.get(subset));
        let subset = subset.map(|subset| subset.name.value.as_str());
        let destinations = table.split().destinations();
        let Some(to) = destinations.iter().find(|to| {
            let own = (&to.target.service, to.target.subset.as_deref());
            own == (name, subset) && to.target.port == target.port
        }) else {
            return Ok(behind);
        };
        let snapshot = self.snapshot(route.service)?;
        let onward = match snapshot.onward(table, to, request) {
            Ok(onward) => onward,
            Err(OnwardError::NoRoute | OnwardError::NoPort) => {
                behind.decision = Decision::NoRoute;
                return Ok(behind);
            }
            Err(OnwardError::NoCallee | OnwardError::Path(_)) => return Ok(behind),
        };
        behind.route = super::taken(mesh, (route.service, target.service), onward.route)
            .map(|taken| narrowed(mesh, route, target, taken));
        let id = behind.route.as_ref().map(|taken| taken.id);
        let identity = snapshot.identity().clone();
        let (next, port) = (onward.route.clone(), onward.port.number);
        let arrived = table.forwarded(request, Some(to), |first| {
            let first = Request {
                port,
                peer: Peer::Identity(&identity),
                ..*first
            };
            match (forward::answer(&next, &first, "http", None), id) {
                (Ok(None), Some(id)) => self.arrive(id, &next, &first, Outcome::denied()),
                (Ok(Some(answer)), _) => {
                    let answered = Outcome {
                        answer: Some(answer),
                        ..Outcome::denied()
                    };
                    Ok(answered.ending(Decision::Allowed))
                }
                (Ok(None), None) | (Err(_), _) => Ok(Outcome::denied()),
            }
        });
        let Ok(outcome) = arrived else {
            return Ok(behind);
        };
        let outcome = outcome?;
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
