//! What may be asked of a trial, and what it answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use mesh_engine::SnapshotError;
use mesh_engine::filter::HeaderEditor;
use mesh_syntax::{Span, Witness};

use super::forward::Answered;
use crate::date::Date;
use crate::linked::{Effective, Exchange, Pool, RouteId, ServiceId, Source};
use crate::model::RetryBudget;

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
    /// Whether it is a connection of bytes only; then method, path, query and headers say nothing.
    pub is_connection: bool,
    /// Its method.
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    /// As sent, without the `?`.
    pub query: String,
    /// Headers, by lower-case name.
    pub headers: Vec<(String, String)>,
    /// The calling service, or an identity in full; none: a peer without one. Without a service there is no caller's side.
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
    /// Its status; none: the connection is closed.
    pub status: Option<u16>,
    /// Its reason, in the words of logs and metrics.
    pub reason: String,
}

impl Refusal {
    pub(super) fn no_token() -> Self {
        Self {
            status: Some(401),
            reason: "jwt_invalid".to_owned(),
        }
    }

    pub(super) fn bad_request(rule: &str) -> Self {
        Self {
            status: Some(400),
            reason: format!("bad_request:{rule}"),
        }
    }

    /// A method that no server takes.
    pub(super) fn no_method() -> Self {
        Self::bad_request("malformed")
    }

    /// `CONNECT` and `TRACE`, which proxies of the mesh never carry.
    pub(super) fn method_not_carried(method: &str) -> Self {
        Self {
            status: Some(405),
            ..Self::bad_request(&method.to_ascii_lowercase())
        }
    }
}

impl From<&Witness> for Call {
    fn from(witness: &Witness) -> Self {
        Self {
            is_connection: false,
            method: witness.method.clone(),
            path: witness.path.clone(),
            query: super::query_text(&witness.query),
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
    /// Whether it was a connection of bytes.
    pub is_connection: bool,
    /// Whether its peer has an identity: only then somebody's slice routes it.
    pub is_identified: bool,
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
    /// Rules that were asked and did not decide, and why not.
    pub other_rules: Vec<LosingRule>,
    /// The request as it arrives at each place that it may be sent to.
    pub arrivals: Vec<Arrival>,
    /// Rate limits that count it, in the order in which it meets them.
    pub limits: Vec<LimitMet>,
    /// Authorizers that are asked about it, the same.
    pub asked: Vec<Asking>,
    /// What befalls some such requests on purpose.
    pub faults: Vec<FaultMet>,
    /// What it touched.
    pub touched: Touched,
}

/// The routes that took a request, and the rules that spoke of it: what a test covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Routes, those behind a gateway too.
    pub routes: BTreeSet<RouteId>,
    /// Rules that had a part in the decision, and those that only log: positions in the service's list.
    pub rules: BTreeSet<(ServiceId, usize)>,
}

/// A request as it arrives somewhere.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The service.
    pub service: String,
    /// Its subset; none: any endpoint.
    pub subset: Option<String>,
    /// Its port.
    pub port: u16,
    /// The host asked for.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// Lines of headers that the test or policy names.
    pub headers: Vec<(String, String)>,
    /// Edits of the answer's headers, in their order.
    pub(super) edits: Vec<HeaderEditor>,
}

/// What policy makes of one header of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredHeader {
    /// Whether what the service says of it goes on.
    pub is_kept: bool,
    /// Lines that policy sets or adds.
    pub values: Vec<String>,
}

impl Arrival {
    /// What policy makes of one header of the answer.
    pub fn answered(&self, name: &str) -> AnsweredHeader {
        let mut lines = vec![None];
        for edits in &self.edits {
            edits.edit_lines(name, &mut lines);
        }
        AnsweredHeader {
            is_kept: lines.contains(&None),
            values: lines.into_iter().flatten().collect(),
        }
    }

    /// The headers of answers that policy edits, ascending.
    pub fn edited(&self) -> BTreeSet<&str> {
        self.edits.iter().flat_map(HeaderEditor::names).collect()
    }
}

/// A rate limit that counts a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitMet {
    /// Whose limit.
    pub service: String,
    /// As policy writes it, `100/s`.
    pub rate: String,
    /// The service that counts for all proxies; none: each counts for itself.
    pub via: Option<String>,
    /// The status of the answer to those that are too many.
    pub status: u16,
    /// Where it stands.
    pub source: Source,
}

/// An authorizer that is asked about a request. What it answers, no trial knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Where it is required.
    pub service: String,
    /// Its name.
    pub authorizer: String,
    /// The service that is asked.
    pub to: String,
    /// Whether requests go on when it does not answer.
    pub opens_on_failure: bool,
    /// Where it is required.
    pub source: Source,
}

/// A fault that befalls some requests. Its last day is told and not judged: a test says the same every day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultMet {
    /// Whose route.
    pub service: String,
    /// The route.
    pub route: String,
    /// How long some wait, and the share of 10,000.
    pub delay: Option<(Duration, u32)>,
    /// The status that some are answered with, and the share.
    pub abort: Option<(u16, u32)>,
    /// The day from which on nothing happens any more.
    pub until: Option<Date>,
    /// Where it stands.
    pub span: Span,
}

/// An access rule that did not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LosingRule {
    /// As people wrote it.
    pub name: String,
    /// Whose rule.
    pub service: String,
    /// Why not.
    pub because: String,
    /// Whether it speaks of the peer at all.
    pub concerns_peer: bool,
    /// Where it stands.
    pub source: Source,
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
    /// Other routes of the service, and why not.
    pub losers: Vec<LosingRoute>,
    /// The answer where it is refused there.
    pub refusal: Option<Refusal>,
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
    /// The condition that does not hold, else the route; none: no file declares it.
    pub span: Option<Span>,
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
    pub(super) fn denied() -> Self {
        Self {
            is_connection: false,
            is_identified: true,
            decision: Decision::Denied,
            rule: None,
            route: None,
            losers: Vec::new(),
            behind: Vec::new(),
            refusal: None,
            answer: None,
            normalised_path: None,
            other_rules: Vec::new(),
            arrivals: Vec::new(),
            limits: Vec::new(),
            asked: Vec::new(),
            faults: Vec::new(),
            touched: Touched::default(),
        }
        .ending(Decision::Denied)
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::denied()
        }
    }

    pub(super) fn ending(self, decision: Decision) -> Self {
        let refusal = match decision {
            Decision::Allowed => None,
            Decision::Denied => Some((403, "authz_denied")),
            Decision::NoRoute => Some((404, "no_route")),
        };
        Self {
            decision,
            refusal: refusal.map(|(status, reason)| Refusal {
                status: Some(status),
                reason: reason.to_owned(),
            }),
            ..self
        }
    }

    /// Takes over what another part of the way met, but not how it ended there.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.other_rules.append(&mut other.other_rules);
        self.arrivals.append(&mut other.arrivals);
        self.limits.append(&mut other.limits);
        self.asked.append(&mut other.asked);
        self.faults.append(&mut other.faults);
        self.touched.routes.append(&mut other.touched.routes);
        self.touched.rules.append(&mut other.touched.rules);
    }
}
