//! Requests of a mesh, decided by the engine as the proxies will: the caller's slice routes, then the
//! callee's slice authorises. Tests, explanations and witnesses all ask here.

use std::collections::BTreeMap;

use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::host::{self, HostError};
use mesh_engine::path::{self, PathError};
use mesh_engine::rbac::Verdict;
use mesh_engine::request::{Peer, Request};
use mesh_engine::route::{CalleeTable, RouteTable};
use mesh_engine::{Snapshot, SnapshotError};
use mesh_syntax::Witness;

use crate::emit;
use crate::linked::{Exchange, LinkedMesh, RouteId, ServiceId, Source};

mod expectation;
mod sample;

pub use expectation::{Expectation, Report};
pub use sample::sample_request;

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

    /// Status of the proxy's own answer, where it gives one.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Allowed => None,
            Self::Denied => Some(403),
            Self::NoRoute => Some(404),
        }
    }

    /// Reason of the proxy's own answer, where it gives one.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Allowed => None,
            Self::Denied => Some("authz_denied"),
            Self::NoRoute => Some("no_route"),
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
    /// The path that every rule saw.
    pub normalised_path: String,
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
    /// The called service has no such port.
    #[error("`{service}` has no port {port}")]
    NoPort {
        /// The service.
        service: String,
        /// The port.
        port: u16,
    },
    /// No proxy would take the path.
    #[error("every proxy refuses the path")]
    Path(#[from] PathError),
    /// No proxy would take the host.
    #[error("every proxy refuses the host")]
    Host(#[from] HostError),
    /// A slice that is none.
    #[error("no proxy takes the configuration")]
    Snapshot(#[from] SnapshotError),
}

impl<'m> Trial<'m> {
    /// Nothing is compiled until a request needs it.
    pub const fn new(mesh: &'m LinkedMesh) -> Self {
        Self {
            mesh,
            snapshots: BTreeMap::new(),
        }
    }

    /// What becomes of a request. `from` names a service; without it the request comes from a peer
    /// without an identity, and skips the caller's side.
    pub fn run(&mut self, request: &Witness) -> Result<Outcome, TrialError> {
        let callee = self.find(&request.to)?;
        let caller = request
            .from
            .as_deref()
            .map(|from| self.find(from))
            .transpose()?;
        let port = self.port(callee, request)?;
        let path = path::normalise(&request.path)?;
        let host = host::normalise(&request.host)?;
        let query = query_text(&request.query);
        let caller_id = caller.and_then(|id| self.mesh.service(id).identities.first());
        let engine_request = Request {
            query: &query,
            headers: &request.headers,
            port,
            peer: caller_id.map_or(Peer::Unauthenticated, Peer::Identity),
            ..Request::new(&request.method, host.host(), &path)
        };
        let mut outcome = Outcome {
            decision: Decision::Denied,
            rule: None,
            route: None,
            losers: Vec::new(),
            normalised_path: path.as_str().to_owned(),
        };
        if let Some(caller) = caller {
            let mesh = self.mesh;
            let Some(table) = self.snapshot(caller)?.callee(&request.to) else {
                return Ok(outcome);
            };
            let explanation = table.explain(&engine_request);
            outcome.losers = losers(&explanation);
            let Some(winner) = explanation.winner else {
                outcome.decision = Decision::NoRoute;
                return Ok(outcome);
            };
            outcome.route = taken(mesh, (caller, callee), table, winner);
        }
        self.authorise(callee, &engine_request, &mut outcome)?;
        Ok(outcome)
    }

    fn authorise(
        &mut self,
        callee: ServiceId,
        request: &Request<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), TrialError> {
        let mesh = self.mesh;
        let Some(table) = self.snapshot(callee)?.inbound(request.port) else {
            return Ok(());
        };
        let verdict = table.authorise(request);
        outcome.decision = match verdict {
            Verdict::Allowed { .. } => Decision::Allowed,
            Verdict::Denied { .. } => Decision::Denied,
        };
        outcome.rule = verdict.rule().and_then(|rule| {
            // The snapshot was made from the rules in this very order.
            let source = mesh.service(callee).access.get(rule.position())?.source;
            Some(DecidingRule {
                name: rule.name().to_owned(),
                source,
            })
        });
        Ok(())
    }

    fn find(&self, name: &str) -> Result<ServiceId, TrialError> {
        self.mesh
            .service_named(name)
            .ok_or_else(|| TrialError::NoService(name.to_owned()))
    }

    fn port(&self, callee: ServiceId, request: &Witness) -> Result<u16, TrialError> {
        let service = self.mesh.service(callee);
        let ports = || service.ports.iter().map(|port| port.number.value);
        match request.port {
            Some(port) if ports().any(|known| known == port) => Ok(port),
            Some(port) => Err(TrialError::NoPort {
                service: service.name.value.clone(),
                port,
            }),
            None => Ok(ports().next().unwrap_or_default()),
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

fn taken(
    mesh: &LinkedMesh,
    (caller, callee): (ServiceId, ServiceId),
    table: &CalleeTable,
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
    let branches = winner.split_shares().map(|share| Branch {
        service: share.destination.target.service.clone(),
        subset: share.destination.target.subset.clone(),
        weight: share.weight,
        total: share.total,
    });
    debug_assert_eq!(
        table.service(),
        service.name.value,
        "the table is the callee's"
    );
    Some(TakenRoute {
        id: RouteId {
            service: callee,
            index,
        },
        name: winner.name().to_owned(),
        branches: branches.collect(),
        exchange: exchange.clone(),
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
