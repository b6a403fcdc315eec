//! Requests of a mesh, decided by the engine as the proxies will: the caller's slice routes, then the
//! callee's slice authorises. Tests, explanations and witnesses all ask here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_bundle::slice::RequirementKind;
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::host;
use mesh_engine::path::{self, Accepts, NormalisedPath, PathError};
use mesh_engine::rbac::Verdict;
use mesh_engine::request::{HeaderView, Peer, Request};
use mesh_engine::route::RouteTable;
use mesh_engine::{CalleeTable, GatewayTable, InboundTable, Snapshot, SnapshotError};
use mesh_syntax::Witness;

use crate::analysis::entrance;
use crate::analysis::request_space::ORDINARY_IP;
use crate::emit;
use crate::linked::{Effective, Exchange, LinkedMesh, Pool, RouteId, ServiceId, Source};
use crate::model::RetryBudget;

mod expectation;
mod forward;
mod gateway;
mod sample;
mod written;

pub use expectation::{Expectation, Report, percent};
pub use forward::Answered;
pub use sample::sample_request;
pub use written::{expect_text, request_text, test_text};

/// A mesh whose slices are compiled to snapshots as requests need them.
#[derive(Debug)]
pub struct Trial<'m> {
    mesh: &'m LinkedMesh,
    snapshots: BTreeMap<SpiffeId, Snapshot>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It reaches the application.
    Allowed,
    /// It is refused.
    Denied,
    /// No route takes it.
    NoRoute,
}

impl Decision {
    /// The name used in outputs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::NoRoute => "no_route",
        }
    }
}

/// A request to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its method.
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    /// As sent, without the `?`.
    pub query: String,
    /// Headers, by lower-case name.
    pub headers: Vec<(String, String)>,
    /// The calling service; none: a peer without an identity, for which there is no caller's side.
    pub from: Option<String>,
    /// The called service.
    pub to: String,
    /// The host asked for; none: one that names the called service.
    pub host: Option<String>,
    /// The port of the called service; none: its first.
    pub port: Option<u16>,
    /// The address of the client; none: an ordinary one.
    pub client_ip: Option<IpAddr>,
    /// The address of the connection's peer; none: an ordinary one.
    pub peer_ip: Option<IpAddr>,
    /// Claims of a verified token; empty: the request has none.
    pub claims: Vec<(String, String)>,
}

/// The proxy's own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// Its reason, in the words of logs and metrics.
    pub reason: String,
}

impl Refusal {
    fn no_token() -> Self {
        Self {
            status: 401,
            reason: "jwt_invalid".to_owned(),
        }
    }

    fn bad_request(rule: &str) -> Self {
        Self {
            status: 400,
            reason: format!("bad_request:{rule}"),
        }
    }
}

/// Whether a request must bring a token and has none, or one of another issuer. Who asks an authorizer, and
/// how often requests came before, no trial knows.
fn has_no_token(
    mesh: &LinkedMesh,
    table: &InboundTable,
    request: &Request<'_>,
    route: Option<&str>,
) -> bool {
    let fits = |name: &str| {
        let mut jwts = mesh.jwts.iter();
        let jwt = jwts.find(|jwt| jwt.name.value == name);
        jwt.is_some_and(|jwt| entrance::fits(request.claims, &jwt.provider))
    };
    let mut asked = table.requirements(request, route);
    asked.any(|requirement| match &requirement.kind {
        RequirementKind::RequireJwt(name) => !fits(name),
        RequirementKind::AcceptJwt(_) | RequirementKind::RequireAuthorizer(_) => false,
    })
}

impl From<&Witness> for Call {
    fn from(witness: &Witness) -> Self {
        Self {
            method: witness.method.clone(),
            path: witness.path.clone(),
            query: query_text(&witness.query),
            headers: witness.headers.clone(),
            from: witness.from.clone(),
            to: witness.to.clone(),
            host: Some(witness.host.clone()).filter(|host| !host.is_empty()),
            port: witness.port,
            client_ip: witness.client_ip,
            peer_ip: witness.peer_ip,
            claims: witness.claims.clone(),
        }
    }
}

/// What becomes of a request, and why.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ends.
    pub decision: Decision,
    /// The rule that decided; none where nothing allows it or it never came that far.
    pub rule: Option<DecidingRule>,
    /// The route that takes it.
    pub route: Option<TakenRoute>,
    /// Routes that do not take it, and why not.
    pub losers: Vec<LosingRoute>,
    /// What becomes of it at each service behind a gateway, and at others that a route leads to.
    pub behind: Vec<Behind>,
    /// The answer where it is refused.
    pub refusal: Option<Refusal>,
    /// The answer that the route itself gives; nobody behind it is asked.
    pub answer: Option<Answered>,
    /// The path that every rule saw; none where no proxy takes the path.
    pub normalised_path: Option<String>,
}

/// What becomes of a request at a service behind a gateway, or behind another service's route.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The service.
    pub service: String,
    /// How it ends there.
    pub decision: Decision,
    /// The rule that decided there.
    pub rule: Option<DecidingRule>,
    /// The route of the service that takes it, as this route of the gateway has it.
    pub route: Option<TakenRoute>,
}

/// An access rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingRule {
    /// As people wrote it, `allow productpage`.
    pub name: String,
    /// Where it stands.
    pub source: Source,
}

/// A route that takes a request.
#[derive(Clone, Debug)]
pub struct TakenRoute {
    /// The route.
    pub id: RouteId,
    /// Its name.
    pub name: String,
    /// Where its requests go.
    pub branches: Vec<Branch>,
    /// Timeouts and retries for this caller.
    pub exchange: Exchange,
    /// How endpoints are picked, limited and watched: of the only branch, else of the service.
    pub pool: Pool,
    /// How many retries each calling proxy may send.
    pub retry_budget: Effective<Option<RetryBudget>>,
}

/// One branch of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The service.
    pub service: String,
    /// Its subset; none: all endpoints.
    pub subset: Option<String>,
    /// Its weight …
    pub weight: u64,
    /// … of this sum.
    pub total: u64,
}

/// A route that does not take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LosingRoute {
    /// The route.
    pub name: String,
    /// Why not.
    pub because: String,
}

/// Why a request can't be tried at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no such service.
    #[error("there is no service `{0}`")]
    NoService(String),
    /// A slice that is none.
    #[error("no proxy takes the configuration")]
    Snapshot(#[from] SnapshotError),
}

impl Outcome {
    fn denied() -> Self {
        Self {
            decision: Decision::Denied,
            rule: None,
            route: None,
            losers: Vec::new(),
            behind: Vec::new(),
            refusal: None,
            answer: None,
            normalised_path: None,
        }
        .ending(Decision::Denied)
    }

    fn refused(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::denied()
        }
    }

    fn ending(self, decision: Decision) -> Self {
        let refusal = match decision {
            Decision::Allowed => None,
            Decision::Denied => Some((403, "authz_denied")),
            Decision::NoRoute => Some((404, "no_route")),
        };
        Self {
            decision,
            refusal: refusal.map(|(status, reason)| Refusal {
                status,
                reason: reason.to_owned(),
            }),
            ..self
        }
    }
}

impl<'m> Trial<'m> {
    /// Nothing is compiled until a request needs it.
    pub const fn new(mesh: &'m LinkedMesh) -> Self {
        Self {
            mesh,
            snapshots: BTreeMap::new(),
        }
    }

    /// What becomes of a request.
    pub fn run(&mut self, call: &Call) -> Result<Outcome, TrialError> {
        let callee = self.find(&call.to)?;
        let caller = call
            .from
            .as_deref()
            .map(|from| self.find(from))
            .transpose()?
            // Without a proxy nobody routes for it, nor says who it is.
            .filter(|caller| !entrance::is_unguarded(self.mesh.service(*caller)));
        let path = match path::normalise(&call.path) {
            Err(PathError::EncodedSlash | PathError::EncodedBackslash | PathError::Semicolon) => {
                let accepts = self.path_accepts(caller, callee)?;
                path::normalise_accepting(&call.path, accepts)
            }
            other => other,
        };
        let path = match path {
            Ok(path) => path,
            Err(error) => return Ok(Outcome::refused(Refusal::bad_request(error.rule()))),
        };
        let mut outcome = self.run_path(call, caller, callee, &path)?;
        outcome.normalised_path = Some(path.as_str().to_owned());
        Ok(outcome)
    }

    fn run_path(
        &mut self,
        call: &Call,
        caller: Option<ServiceId>,
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
        let caller_id = caller.and_then(|id| mesh.service(id).identities.first());
        let request = Request {
            query: &call.query,
            headers: &call.headers,
            port,
            peer: caller_id.map_or(Peer::Unauthenticated, Peer::Identity),
            peer_ip: Some(call.peer_ip.unwrap_or(ORDINARY_IP)),
            client_ip: Some(call.client_ip.unwrap_or(ORDINARY_IP)),
            claims: (!call.claims.is_empty()).then_some(&call.claims as &dyn HeaderView),
            ..Request::new(&call.method, host.host(), path)
        };
        if gateway.is_some() {
            return self.enter(callee, &request);
        }
        let mut outcome = Outcome::denied();
        if let Some(caller) = caller {
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
            outcome.losers = losers(&explanation);
            let Some(winner) = explanation.winner else {
                return Ok(outcome.ending(Decision::NoRoute));
            };
            outcome.route = taken(mesh, (caller, callee), winner);
            if let Err(error) = winner.filters().path_accepts.allow(path) {
                return Ok(Outcome::refused(Refusal::bad_request(error.rule())));
            }
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
                return Ok(judged(mesh, callee, verdict, outcome));
            }
            let (winner, id) = (winner.clone(), outcome.route.as_ref().map(|taken| taken.id));
            if let Some(id) = id
                && (winner.changes_requests() || self.leads_elsewhere(id))
            {
                return self.arrive(id, &winner, &request, outcome);
            }
        }
        self.authorise(callee, &request, outcome)
    }

    fn authorise(
        &mut self,
        callee: ServiceId,
        request: &Request<'_>,
        outcome: Outcome,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let service = mesh.service(callee);
        if entrance::is_unguarded(service) && self.port(callee, Some(request.port)).is_some() {
            // Nothing stands there that would judge.
            return Ok(outcome.ending(Decision::Allowed));
        }
        let Some(table) = self.snapshot(callee)?.inbound(request.port) else {
            return Ok(outcome);
        };
        if let Err(error) = table.path_accepts().allow(request.path) {
            return Ok(Outcome {
                refusal: Some(Refusal::bad_request(error.rule())),
                ..outcome
            });
        }
        if has_no_token(mesh, table, request, None) {
            return Ok(Outcome {
                refusal: Some(Refusal::no_token()),
                ..outcome
            });
        }
        Ok(judged(mesh, callee, table.authorise(request), outcome))
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
                let gateway = self.snapshot(callee)?.gateway(name);
                gateway.map(GatewayTable::path_accepts)
            }
            (None, Some(caller)) => {
                let table = self.snapshot(caller)?.callee(name);
                table.map(CalleeTable::path_accepts)
            }
            (None, None) => {
                let mut own = self.snapshot(callee)?.services().iter();
                own.find(|own| own.service() == name)
                    .map(InboundTable::path_accepts)
            }
        };
        Ok(accepts.unwrap_or_default())
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

    fn snapshot(&mut self, service: ServiceId) -> Result<&Snapshot, TrialError> {
        let service = self.mesh.service(service);
        let Some(identity) = service.identities.first() else {
            return Err(TrialError::NoService(service.name.value.clone()));
        };
        if !self.snapshots.contains_key(identity) {
            let snapshot = Snapshot::build(&emit::slice_of(self.mesh, identity))?;
            self.snapshots.insert(identity.clone(), snapshot);
        }
        self.snapshots
            .get(identity)
            .ok_or_else(|| TrialError::NoService(service.name.value.clone()))
    }
}

fn judged(
    mesh: &LinkedMesh,
    callee: ServiceId,
    verdict: Verdict<'_>,
    mut outcome: Outcome,
) -> Outcome {
    outcome.rule = verdict.rule().and_then(|rule| {
        // The snapshot was made from the rules in this very order.
        let source = mesh.service(callee).access.get(rule.position())?.source;
        Some(DecidingRule {
            name: rule.name().to_owned(),
            source,
        })
    });
    outcome.ending(match verdict {
        Verdict::Allowed { .. } => Decision::Allowed,
        Verdict::Denied { .. } => Decision::Denied,
    })
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
        exchange: exchange.clone(),
        pool: pool.clone(),
        retry_budget: service.retry_budget.clone(),
    })
}

fn losers(explanation: &mesh_engine::route::Explanation<'_>) -> Vec<LosingRoute> {
    explanation
        .losers
        .iter()
        .map(|loser| LosingRoute {
            name: loser.route.name().to_owned(),
            because: loser.because.to_string(),
        })
        .collect()
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
