//! Requests that come from outside: a gateway lets them in and routes them, then each service that
//! its route leads to routes and authorises them as calls of the gateway.

use mesh_engine::gateway::OnwardError;
use mesh_engine::host::HostPattern;
use mesh_engine::request::{Peer, Request};
use mesh_engine::route::RouteTable;

use super::forward;
use super::{
    Behind, Branch, Decision, Outcome, Refusal, TakenRoute, Trial, TrialError, judge, losers,
};
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
        let mut outcome = self.authorise(id, request, None, Outcome::denied())?;
        if outcome.decision != Decision::Allowed {
            return Ok(outcome);
        }
        let Some(table) = snapshot.gateway(name) else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let explanation = table.explain(request);
        outcome.losers = losers(mesh, id, &explanation);
        let Some(winner) = explanation.winner else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let routes = &mesh.service(id).routes;
        let Some(index) = routes
            .iter()
            .position(|route| route.name.value == winner.name())
        else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        let route = RouteId { service: id, index };
        outcome.touched.routes.insert(route);
        if let Some(inbound) = snapshot.inbound(request.port) {
            let taken = Some(winner.name());
            if judge::has_no_token(mesh, inbound, request, taken) {
                outcome.route = Some(self.unfollowed(route));
                outcome.decision = Decision::Denied;
                outcome.rule = None;
                outcome.refusal = Some(Refusal::no_token());
                return Ok(outcome);
            }
            judge::meet(mesh, id, inbound, (request, taken), &mut outcome);
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
        outcome.faults.extend(forward::fault(mesh, route));
        match forward::answer(winner, request, scheme, Some(request.port)) {
            Ok(None) => self.follow(route, winner, request, outcome),
            Ok(answer) => {
                outcome.route = Some(self.unfollowed(route));
                outcome.answer = answer;
                Ok(outcome)
            }
            Err(refusal) => Ok(Outcome::refused(refusal)),
        }
    }

    /// A route of a gateway before anybody knows what the services behind it make of a request.
    fn unfollowed(&self, id: RouteId) -> TakenRoute {
        let mesh = self.mesh;
        let route = mesh.route(id);
        TakenRoute {
            id,
            name: route.name.value.clone(),
            branches: Vec::new(),
            exchange: Exchange::clone(&route.exchange),
            pool: mesh.service(id.service).pool.clone(),
            retry_budget: mesh.service(id.service).retry_budget.clone(),
        }
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
        let mut taken = self.unfollowed(id);
        for to in route.destinations.iter().filter(|to| to.weight > 0) {
            let (weight, total) = (u64::from(to.weight), total.max(1));
            let (behind, mut there) = self.behind(id, to.target, table, request)?;
            outcome.absorb(&mut there);
            if outcome.answer.is_none() {
                outcome.answer = there.answer.take();
            }
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
                outcome.refusal.clone_from(&behind.refusal);
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
    ) -> Result<(Behind, Outcome), TrialError> {
        let mesh = self.mesh;
        let callee = mesh.service(target.service);
        let name = &callee.name.value;
        let mut behind = Behind {
            service: name.clone(),
            decision: Decision::Denied,
            rule: None,
            route: None,
            losers: Vec::new(),
            refusal: Outcome::denied().refusal,
        };
        let subset = target.subset.and_then(|subset| callee.subsets.get(subset));
        let subset = subset.map(|subset| subset.name.value.as_str());
        let destinations = table.split().destinations();
        let Some(to) = destinations.iter().find(|to| {
            let own = (&to.target.service, to.target.subset.as_deref());
            own == (name, subset) && to.target.port == target.port
        }) else {
            return Ok((behind, Outcome::denied()));
        };
        let names = self.names(table, to);
        let snapshot = self.snapshot(route.service)?;
        if callee.is_external() {
            // Nobody behind judges what leaves the mesh: the gateway's own proxy does.
            let judged = table.forwarded(request, Some(to), |first| {
                let table = snapshot.callee(name)?;
                let port = table.port(to.target.port)?.number;
                let first = Request {
                    port,
                    peer: Peer::Identity(snapshot.identity()),
                    ..*first
                };
                let verdict = snapshot.leave(table, &first)?;
                let rules = (snapshot.external(name), verdict);
                let none = Outcome::denied();
                Some(judge::judged(mesh, target.service, rules, &first, none))
            });
            if let Ok(Some(judged)) = judged
                && judged.decision != Decision::Allowed
            {
                behind.rule.clone_from(&judged.rule);
                behind.refusal.clone_from(&judged.refusal);
                return Ok((behind, judged));
            }
        }
        let onward = match snapshot.onward(table, to, request) {
            Ok(onward) => onward,
            Err(OnwardError::NoRoute | OnwardError::NoPort) => {
                let nowhere = Outcome::denied().ending(Decision::NoRoute);
                behind.decision = nowhere.decision;
                behind.refusal = nowhere.refusal;
                return Ok((behind, Outcome::denied()));
            }
            Err(OnwardError::NoCallee | OnwardError::Denied) => {
                return Ok((behind, Outcome::denied()));
            }
            Err(OnwardError::Path(error)) => {
                behind.refusal = Some(Refusal::bad_request(error.rule()));
                return Ok((behind, Outcome::denied()));
            }
        };
        behind.route = super::taken(mesh, (route.service, target.service), onward.route)
            .map(|taken| narrowed(mesh, route, target, taken));
        let id = behind.route.as_ref().map(|taken| taken.id);
        let identity = snapshot.identity().clone();
        let (next, port) = (onward.route, onward.port.number);
        let before = std::mem::replace(&mut self.names, names);
        let arrived = table.forwarded(request, Some(to), |first| {
            let first = Request {
                port,
                peer: Peer::Identity(&identity),
                ..*first
            };
            behind.losers = losers(mesh, target.service, &onward.callee.explain(&first));
            match (forward::answer(next, &first, "http", None), id) {
                (Ok(None), Some(id)) => match snapshot.leave(onward.callee, &first) {
                    Some(verdict) => {
                        let rules = (snapshot.external(name), verdict);
                        let none = Outcome::denied();
                        let judged = judge::judged(mesh, target.service, rules, &first, none);
                        Ok(self.leave(next, &first, judged))
                    }
                    None => self.arrive(id, (&snapshot, next), &first, Outcome::denied()),
                },
                (Ok(Some(answer)), _) => {
                    let answered = Outcome {
                        answer: Some(answer),
                        ..Outcome::denied()
                    };
                    Ok(answered.ending(Decision::Allowed))
                }
                (Ok(None), None) => Ok(Outcome::denied()),
                (Err(refusal), _) => Ok(Outcome::refused(refusal)),
            }
        });
        self.names = before;
        let mut outcome = match arrived {
            Ok(outcome) => outcome?,
            Err(error) => Outcome::refused(Refusal::bad_request(error.rule())),
        };
        // The gateway's own edits are nearer to the client.
        let edits = std::iter::once(&table.filters().response_headers);
        let edits = edits.chain(table.response_headers_from(to));
        let edits: Vec<_> = edits.filter(|edits| !edits.is_empty()).cloned().collect();
        for arrival in &mut outcome.arrivals {
            arrival.edits.extend(edits.iter().cloned());
            arrival.subset = subset.map(str::to_owned).or(arrival.subset.take());
        }
        if let Some(id) = id {
            outcome.touched.routes.insert(id);
            outcome.faults.extend(forward::fault(mesh, id));
        }
        behind.decision = outcome.decision;
        behind.rule.clone_from(&outcome.rule);
        behind.refusal.clone_from(&outcome.refusal);
        Ok((behind, outcome))
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
    let exchange = routed.exchanges.get(taken.id.index)?;
    Some(Exchange::clone(exchange))
}
