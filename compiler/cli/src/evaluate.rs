//! One request through the slices that would be served: the caller's, then the callee's. Everything is decided by the
//! engine; this only asks it and says where its answers were written.

use mesh_bundle::slice::Slice;
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::linked::Service;
use mesh_compiler::model::TestRequest;
use mesh_compiler::{Emitted, LinkedMesh};
use mesh_engine::route::Explanation;
use mesh_engine::{CalleeTable, NormalisedPath, Peer, Request, RouteTable, Snapshot};
use mesh_syntax::{SourceSet, Span};

mod effective;
mod expect;

pub(crate) use self::effective::{EffectiveField, EffectiveValue};
pub(crate) use self::expect::{
    Expected, actual, decision, expected, mismatch, percent, ten_thousandths,
};

/// A request to evaluate.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestSpec {
    pub(crate) method: String,
    /// As sent, without the query.
    pub(crate) path: String,
    /// Without the `?`.
    pub(crate) query: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// None: the called service is named as such.
    pub(crate) host: Option<String>,
    /// None: the first port of the called service.
    pub(crate) port: Option<u16>,
    pub(crate) headers: Vec<(String, String)>,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It reaches the application.
    Allowed,
    /// It is refused.
    Denied,
    /// No route takes it.
    NoRoute,
}

/// What becomes of a request, and who says so.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    /// Why it is refused, in the words of logs and metrics.
    pub(crate) reason: Option<String>,
    /// The status that the caller gets if it is refused.
    pub(crate) status: Option<u16>,
    /// The rule that decided; none: denied by default, or never asked.
    pub(crate) rule: Option<RuleRef>,
    /// The service asked for.
    pub(crate) to_service: String,
    pub(crate) route: Option<String>,
    pub(crate) destinations: Vec<Share>,
    pub(crate) effective: Vec<EffectiveField>,
    pub(crate) losers: Vec<(String, String)>,
    pub(crate) normalised_path: Option<String>,
}

/// A rule and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleRef {
    pub(crate) name: String,
    pub(crate) source: String,
}

/// One branch that requests go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) service: String,
    pub(crate) subset: Option<String>,
    /// Of `total`.
    pub(crate) weight: u64,
    pub(crate) total: u64,
}

/// Evaluates requests.
#[derive(Debug)]
pub(crate) struct Evaluator<'a> {
    mesh: &'a LinkedMesh,
    emitted: &'a Emitted,
    sources: &'a SourceSet,
}

impl RequestSpec {
    /// The request of a test.
    pub(crate) fn of_test(request: &TestRequest) -> Self {
        let mut headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect();
        let cookies: Vec<String> = request
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            headers.push(("cookie".to_owned(), cookies.join("; ")));
        }
        let query: Vec<String> = request
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        Self {
            method: request.method.value.clone(),
            path: request.path.value.clone(),
            query: query.join("&"),
            from: request.from.value.clone(),
            to: request.to.value.clone(),
            host: request.host.as_ref().map(|host| host.value.clone()),
            port: request.port.map(|port| port.value),
            headers,
        }
    }
}

/// A name or value as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl Outcome {
    fn new(to_service: &str, decision: Decision) -> Self {
        Self {
            decision,
            reason: None,
            status: None,
            rule: None,
            to_service: to_service.to_owned(),
            route: None,
            destinations: Vec::new(),
            effective: Vec::new(),
            losers: Vec::new(),
            normalised_path: None,
        }
    }

    fn refused(
        to_service: &str,
        decision: Decision,
        status: u16,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            reason: Some(reason.into()),
            status: Some(status),
            ..Self::new(to_service, decision)
        }
    }
}

impl<'a> Evaluator<'a> {
    /// Evaluates requests of this mesh on these slices.
    pub(crate) fn new(mesh: &'a LinkedMesh, emitted: &'a Emitted, sources: &'a SourceSet) -> Self {
        Self {
            mesh,
            emitted,
            sources,
        }
    }

    /// What becomes of a request between two services of the mesh.
    pub(crate) fn evaluate(&self, spec: &RequestSpec) -> Outcome {
        let path = match mesh_engine::path::normalise(&spec.path) {
            Ok(path) => path,
            Err(error) => {
                return Outcome::refused(
                    &spec.to,
                    Decision::Denied,
                    400,
                    format!("bad_request:{}", error.rule()),
                );
            }
        };
        let mut outcome = self.evaluate_path(spec, &path);
        outcome.normalised_path = Some(path.as_str().to_owned());
        outcome
    }

    fn evaluate_path(&self, spec: &RequestSpec, path: &NormalisedPath<'_>) -> Outcome {
        // A service that is not there, or that the caller may not call, is answered alike.
        let unknown = || Outcome::refused(&spec.to, Decision::Denied, 403, "authz_denied");
        let (Some(from), Some(to)) = (self.service(&spec.from), self.service(&spec.to)) else {
            return unknown();
        };
        let (Some(caller), Some(callee)) = (self.snapshot(from), self.snapshot(to)) else {
            return unknown();
        };
        let host = match spec.host.as_deref().map(mesh_engine::host::normalise) {
            None => None,
            Some(Ok(authority)) => Some(authority),
            Some(Err(error)) => {
                return Outcome::refused(
                    &spec.to,
                    Decision::Denied,
                    400,
                    format!("bad_request:{}", error.rule()),
                );
            }
        };
        let named_port = spec
            .port
            .or(host.as_ref().and_then(mesh_engine::host::Authority::port));
        let table = match &host {
            Some(authority) => caller.outbound(authority.host(), named_port),
            None => caller.callee(&spec.to),
        };
        let Some(table) = table.filter(|table| table.service() == spec.to) else {
            return unknown();
        };
        let port = table.port(named_port).or_else(|| {
            table
                .ports()
                .first()
                .copied()
                .filter(|_| named_port.is_none())
        });
        let Some(port) = port else { return unknown() };
        let caller_id: &SpiffeId = caller.identity();
        let request = Request {
            query: &spec.query,
            headers: &spec.headers,
            port: port.number,
            peer: Peer::Identity(caller_id),
            ..Request::new(
                &spec.method,
                host.as_ref()
                    .map_or(spec.to.as_str(), |authority| authority.host()),
                path,
            )
        };
        self.routed(spec, from, to, table, &request, &callee)
    }

    /// The caller's slice chooses the route, the callee's decides about entering.
    fn routed(
        &self,
        spec: &RequestSpec,
        from: &Service,
        to: &Service,
        table: &CalleeTable,
        request: &Request<'_>,
        callee: &Snapshot,
    ) -> Outcome {
        let Explanation { winner, losers } = table.explain(request);
        let losers = losers
            .iter()
            .map(|loser| (loser.route.name().to_owned(), loser.because.to_string()))
            .collect();
        let Some(winner) = winner else {
            return Outcome {
                losers,
                ..Outcome::refused(&spec.to, Decision::NoRoute, 404, "no_route")
            };
        };
        let Some(inbound) = callee.inbound(request.port) else {
            return Outcome::refused(&spec.to, Decision::Denied, 403, "authz_denied");
        };
        let verdict = inbound.authorise(request);
        let mut outcome = if verdict.is_allowed() {
            Outcome::new(&spec.to, Decision::Allowed)
        } else {
            Outcome::refused(&spec.to, Decision::Denied, 403, "authz_denied")
        };
        outcome.rule = verdict
            .rule()
            .map(|rule| self.rule(to, rule.name(), rule.position()));
        outcome.route = Some(winner.name().to_owned());
        outcome.destinations = shares(winner);
        outcome.effective = self.effective(from, to, winner.name());
        outcome.losers = losers;
        outcome
    }

    fn service(&self, name: &str) -> Option<&'a Service> {
        self.mesh
            .service_named(name)
            .map(|id| self.mesh.service(id))
    }

    /// The snapshot of a service's first identity. Its others have the same rules and callees.
    fn snapshot(&self, service: &Service) -> Option<Snapshot> {
        let slice: &Slice = self.emitted.slices.get(service.identities.first()?)?;
        Snapshot::build(slice).ok()
    }

    fn rule(&self, service: &Service, name: &str, position: usize) -> RuleRef {
        // The identity may serve several services; the position counts within this one.
        let written = service
            .access
            .get(position)
            .filter(|rule| rule.name == name);
        let written = written.or_else(|| service.access.iter().find(|rule| rule.name == name));
        RuleRef {
            name: name.to_owned(),
            source: self.place(written.and_then(|rule| rule.source.span())),
        }
    }

    fn effective(&self, from: &Service, to: &Service, route: &str) -> Vec<EffectiveField> {
        let index = to
            .routes
            .iter()
            .position(|candidate| candidate.name.value == route);
        let edge = self.mesh.edge(from.id, to.id);
        let exchange = edge
            .zip(index)
            .and_then(|(edge, index)| edge.exchanges.get(index));
        exchange
            .map(|exchange| effective::fields(exchange, |source| self.place(source.span())))
            .unwrap_or_default()
    }

    fn place(&self, span: Option<Span>) -> String {
        span.map_or_else(
            || "built-in".to_owned(),
            |span| {
                format!(
                    "{}:{}",
                    self.sources.path(span.file),
                    self.sources.line_column(span).0
                )
            },
        )
    }
}

fn shares(route: &RouteTable) -> Vec<Share> {
    route
        .split_shares()
        .map(|share| Share {
            service: share.destination.target.service.clone(),
            subset: share.destination.target.subset.clone(),
            weight: share.weight,
            total: share.total,
        })
        .collect()
}
