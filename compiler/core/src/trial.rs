//! Requests of a mesh, decided by the engine as the proxies will: the caller's slice routes, then the
//! callee's slice authorises. Tests, explanations and witnesses all ask here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::host;
use mesh_engine::jwt::Claims;
use mesh_engine::path::{self, Accepts, NormalisedPath, PathError};
use mesh_engine::request::{HeaderView, Peer, Request};
use mesh_engine::route::{Because, Explanation, Loser, RouteTable};
use mesh_engine::{CalleeTable, GatewayTable, InboundTable, Snapshot};

use crate::analysis::entrance;
use crate::analysis::request_space::ORDINARY_IP;
use crate::emit;
use crate::linked::{Exchange, LinkedMesh, RouteId, Service, ServiceId};
use crate::value;

mod connection;
mod cover;
mod expectation;
mod forward;
mod gateway;
mod judge;
mod outcome;
mod sample;
mod written;

pub use cover::Coverable;
pub use expectation::{Expectation, Reason, Report, percent};
pub use forward::Answered;
pub use outcome::{
    AnsweredHeader, Arrival, Asking, Behind, Branch, Call, DecidingRule, Decision, FaultMet,
    LimitMet, LosingRoute, LosingRule, Outcome, Refusal, TakenRoute, Touched, TrialError,
};
pub use sample::sample_request;
pub use written::{
    changed_expect_text, coarse_expect_text, expect_text, laid_out, quoted, request_text, sent_text,
};

/// A mesh whose slices are compiled to snapshots as requests need them.
#[derive(Debug)]
pub struct Trial<'m> {
    mesh: &'m LinkedMesh,
    snapshots: BTreeMap<SpiffeId, Arc<Snapshot>>,
    /// Headers of the request that is tried, and those that policy edits on its way.
    names: BTreeSet<String>,
}

/// Who sends a request.
#[derive(Debug, Default)]
struct Sender {
    /// Whose proxy routes it; none: nobody's.
    service: Option<ServiceId>,
    /// How it shows itself; none: not at all.
    identity: Option<SpiffeId>,
}

impl Sender {
    fn peer(&self) -> Peer<'_> {
        let identity = self.identity.as_ref();
        identity.map_or(Peer::Unauthenticated, Peer::Identity)
    }
}

impl<'m> Trial<'m> {
    /// Nothing is compiled until a request needs it.
    pub const fn new(mesh: &'m LinkedMesh) -> Self {
        Self {
            mesh,
            snapshots: BTreeMap::new(),
            names: BTreeSet::new(),
        }
    }

    /// What becomes of a request.
    pub fn run(&mut self, call: &Call) -> Result<Outcome, TrialError> {
        let mut outcome = self.run_between(call)?;
        outcome.is_identified = call.from.is_some();
        Ok(outcome)
    }

    fn run_between(&mut self, call: &Call) -> Result<Outcome, TrialError> {
        let callee = self.find(&call.to)?;
        let sender = match &call.from {
            Some(from) => self.sender(from)?,
            None => Sender::default(),
        };
        let port = self.port(callee, call.port);
        // Whatever is sent to a port of bytes, nobody on the way looks into it.
        let to_bytes =
            port.is_some_and(|port| cover::carries_bytes(self.mesh.service(callee), port));
        if call.is_connection || to_bytes {
            return self.connect(call, &sender, callee);
        }
        if !value::is_token(&call.method) {
            return Ok(Outcome::refused(Refusal::no_method()));
        }
        if matches!(call.method.as_str(), "CONNECT" | "TRACE") {
            return Ok(Outcome::refused(Refusal::method_not_carried(&call.method)));
        }
        self.names = call.headers.iter().map(|(name, _)| name.clone()).collect();
        let path = match path::normalise(&call.path) {
            Err(PathError::EncodedSlash | PathError::EncodedBackslash | PathError::Semicolon) => {
                let accepts = self.path_accepts(sender.service, callee)?;
                path::normalise_accepting(&call.path, accepts)
            }
            other => other,
        };
        let path = match path {
            Ok(path) => path,
            Err(error) => return Ok(Outcome::refused(Refusal::bad_request(error.rule()))),
        };
        let mut outcome = self.run_path(call, &sender, callee, &path)?;
        outcome.normalised_path = Some(path.as_str().to_owned());
        Ok(outcome)
    }

    fn run_path(
        &mut self,
        call: &Call,
        sender: &Sender,
        callee: ServiceId,
        path: &NormalisedPath<'_>,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let authority = call
            .host
            .clone()
            .unwrap_or_else(|| expectation::default_host(mesh, &call.to));
        let host = match host::normalise(&authority) {
            Ok(host) => host,
            Err(error) => return Ok(Outcome::refused(Refusal::bad_request(error.rule()))),
        };
        let named_port = call.port.or(host.port());
        let gateway = mesh.service(callee).gateway();
        let default = gateway.and_then(|gateway| gateway::default_port(gateway, host.host()));
        let Some(port) = self.port(callee, named_port.or(default)) else {
            return Ok(Outcome::denied());
        };
        let claims: Claims = call
            .claims
            .iter()
            .map(|(name, value)| (name, value))
            .collect();
        let request = Request {
            query: &call.query,
            headers: &call.headers,
            port,
            peer: sender.peer(),
            peer_ip: Some(call.peer_ip.unwrap_or(ORDINARY_IP)),
            client_ip: Some(call.client_ip.unwrap_or(ORDINARY_IP)),
            claims: (!call.claims.is_empty()).then_some(&claims as &dyn HeaderView),
            ..Request::new(&call.method, host.host(), path)
        };
        if gateway.is_some() {
            return self.enter(callee, &request);
        }
        let Some(caller) = sender.service else {
            return self.authorise(callee, &request, None, Outcome::denied());
        };
        let mut outcome = Outcome::denied();
        let snapshot = self.snapshot(caller)?;
        // Another name, and one that the caller may not call, are answered alike.
        let table = match call.host {
            Some(_) => snapshot.outbound(host.host(), named_port),
            None => snapshot.callee(&call.to),
        };
        let Some(table) = table.filter(|table| table.service() == call.to) else {
            return Ok(outcome);
        };
        let explanation = table.explain(&request);
        outcome.losers = losers(mesh, callee, &explanation);
        let Some(winner) = explanation.winner else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        outcome.route = taken(mesh, (caller, callee), winner);
        let Some(id) = outcome.route.as_ref().map(|taken| taken.id) else {
            return Ok(outcome.ending(Decision::NoRoute));
        };
        outcome.touched.routes.insert(id);
        if let Err(error) = winner.filters().path_accepts.allow(path) {
            outcome.refusal = Some(Refusal::bad_request(error.rule()));
            return Ok(outcome);
        }
        outcome.faults.extend(forward::fault(mesh, id));
        match forward::answer(winner, &request, "http", host.port()) {
            Ok(None) => {}
            Ok(answer) => {
                outcome.answer = answer;
                return Ok(outcome.ending(Decision::Allowed));
            }
            Err(refusal) => {
                outcome.refusal = Some(refusal);
                return Ok(outcome);
            }
        }
        if let Some(verdict) = snapshot.leave(table, &request) {
            let rules = snapshot.external(table.service());
            let outcome = judge::judged(mesh, callee, (rules, verdict), &request, outcome);
            return Ok(self.leave(winner, &request, outcome));
        }
        self.arrive(id, (&snapshot, winner), &request, outcome)
    }

    /// What a path may hold until its route is known.
    fn path_accepts(
        &mut self,
        caller: Option<ServiceId>,
        callee: ServiceId,
    ) -> Result<Accepts, TrialError> {
        let service = self.mesh.service(callee);
        let name = &service.name.value;
        let accepts = match (service.gateway(), caller) {
            (Some(_), _) => {
                let snapshot = self.snapshot(callee)?;
                snapshot.gateway(name).map(GatewayTable::path_accepts)
            }
            (None, Some(caller)) => {
                let snapshot = self.snapshot(caller)?;
                snapshot.callee(name).map(CalleeTable::path_accepts)
            }
            // Only a caller's proxy lets anything leave.
            (None, None) if service.is_external() => None,
            (None, None) => {
                let snapshot = self.snapshot(callee)?;
                let mut own = snapshot.services().iter();
                own.find(|own| own.service() == name)
                    .map(InboundTable::path_accepts)
            }
        };
        Ok(accepts.unwrap_or_default())
    }

    /// Who sends a request: a service, or an identity in full, which may be nobody's of this mesh.
    fn sender(&self, from: &str) -> Result<Sender, TrialError> {
        let identity = SpiffeId::parse(from).ok();
        let service = match &identity {
            Some(identity) => {
                let mut services = self.mesh.services.iter();
                let own = |service: &&Service| {
                    !service.is_external() && service.identities.contains(identity)
                };
                services.find(own).map(|service| service.id)
            }
            None => Some(self.find(from)?),
        };
        let known = service.map(|id| self.mesh.service(id));
        // Without a proxy nobody routes for it, nor says who it is.
        if known.is_some_and(entrance::is_unguarded) {
            return Ok(Sender::default());
        }
        let first = || known?.identities.first().cloned();
        Ok(Sender {
            service,
            identity: identity.or_else(first),
        })
    }

    fn find(&self, name: &str) -> Result<ServiceId, TrialError> {
        self.mesh
            .service_named(name)
            .ok_or_else(|| TrialError::NoService(name.to_owned()))
    }

    fn port(&self, callee: ServiceId, named: Option<u16>) -> Option<u16> {
        let mut ports = self
            .mesh
            .service(callee)
            .ports
            .iter()
            .map(|port| port.number.value);
        match named {
            Some(named) => ports.find(|port| *port == named),
            None => ports.next(),
        }
    }

    fn snapshot(&mut self, service: ServiceId) -> Result<Arc<Snapshot>, TrialError> {
        let service = self.mesh.service(service);
        let Some(identity) = service.identities.first() else {
            return Err(TrialError::NoService(service.name.value.clone()));
        };
        if let Some(snapshot) = self.snapshots.get(identity) {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(Snapshot::build(&emit::slice_of(self.mesh, identity))?);
        self.snapshots
            .insert(identity.clone(), Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

fn taken(
    mesh: &LinkedMesh,
    (caller, callee): (ServiceId, ServiceId),
    winner: &RouteTable,
) -> Option<TakenRoute> {
    let service = mesh.service(callee);
    let index = service
        .routes
        .iter()
        .position(|route| route.name.value == winner.name())?;
    // A caller that shares its identity may have its edge under the other service.
    let exchange = mesh
        .edge(caller, callee)
        .and_then(|edge| edge.exchanges.get(index))
        .unwrap_or(&service.routes.get(index)?.exchange);
    let pool = match service.routes.get(index)?.destinations.as_slice() {
        [only] => mesh.pool(only.target),
        _ => &service.pool,
    };
    let branches = winner.split_shares().map(|share| Branch {
        service: share.destination.target.service.clone(),
        subset: share.destination.target.subset.clone(),
        weight: share.weight,
        total: share.total,
    });
    Some(TakenRoute {
        id: RouteId {
            service: callee,
            index,
        },
        name: winner.name().to_owned(),
        branches: branches.collect(),
        exchange: Exchange::clone(exchange),
        pool: pool.clone(),
        retry_budget: service.retry_budget.clone(),
    })
}

/// The other routes of a service, each with the place of the condition that does not hold.
fn losers(
    mesh: &LinkedMesh,
    service: ServiceId,
    explanation: &Explanation<'_>,
) -> Vec<LosingRoute> {
    let routes = &mesh.service(service).routes;
    let span = |loser: &Loser<'_>| {
        let mut named = routes.iter().filter(|route| !route.implicit);
        let route = named.find(|route| route.name.value == loser.route.name())?;
        let condition = match loser.because {
            // The slice has matches and conditions in the order of the files.
            Because::Condition {
                match_position,
                condition_position,
                ..
            } => route
                .matches
                .get(match_position)
                .and_then(|block| block.conditions.get(condition_position)),
            Because::LessSpecific { .. } => None,
        };
        Some(condition.map_or(route.name.span, |condition| condition.span))
    };
    let loser = |loser: &Loser<'_>| LosingRoute {
        name: loser.route.name().to_owned(),
        because: loser.because.to_string(),
        span: span(loser),
    };
    explanation.losers.iter().map(loser).collect()
}

/// The query as it would be sent.
fn query_text(query: &[(String, String)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    pairs.join("&")
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped = format!("{escaped}%{byte:02X}");
        }
    }
    escaped
}
