//! What a route does to a request and to its answer on their way; every decision is the engine's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use mesh_bundle::slice::Destination;
use mesh_daemon::telemetry::Reason;
use mesh_engine::filter::{
    Action, CorsDecision, CorsPolicy, FaultPolicy, HeaderEditor, Received, RedirectPolicy,
};
use mesh_engine::path::PathError;
use mesh_engine::{NormalisedPath, Peer, RouteTable};
use tokio::time::Instant;

use super::super::local_reply;
use super::super::sanitise::{Rule, Sanitised};
use super::{Exchanging, Refusal, Reply};

/// What is to be done to an answer.
#[derive(Debug)]
pub(super) enum Edit<'t> {
    /// Its headers are edited.
    Headers(&'t HeaderEditor),
    /// A browser is told whether the page of this site may read it.
    Cors(&'t CorsPolicy, Option<HeaderValue>),
    /// A client is told by what it is known again.
    Cookie(HeaderValue),
}

impl Edit<'_> {
    /// Does it.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Headers(editor) => editor.apply(headers),
            Self::Cors(cors, origin) => cors.answer(origin.as_ref(), headers),
            Self::Cookie(cookie) => {
                headers.append(header::SET_COOKIE, cookie.clone());
            }
        }
    }
}

/// Why a request goes no further than its route.
pub(super) enum Ending {
    /// Policy answers it.
    Answer(Box<Reply>),
    /// It broke a rule, by what a rewrite made of it.
    Rule(Rule),
    /// A fault that policy injects.
    Fault(u16),
}

impl From<PathError> for Ending {
    fn from(error: PathError) -> Self {
        Self::Rule(Rule::Path(error))
    }
}

/// How a route sees the request that it takes.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) peer: Peer<'a>,
    pub(super) tls: bool,
}

impl Exchanging<'_> {
    /// How the request ends at its route, if it does: preflight, fault, answer. Otherwise what is to be
    /// done to its answer is noted.
    pub(super) async fn filter<'t>(
        &mut self,
        route: &'t RouteTable,
        sanitised: &Sanitised,
        seen: Seen<'_>,
        edits: &mut Vec<Edit<'t>>,
    ) -> Result<(), Ending> {
        let filters = route.filters();
        if let Some(cors) = &filters.cors {
            let decided = self.ask(seen.host, seen.port, seen.peer, |request| {
                cors.decide(request)
            });
            match decided.map_err(Ending::Rule)? {
                CorsDecision::Pass => edits.push(Edit::Cors(cors, None)),
                CorsDecision::Allow { origin } => edits.push(Edit::Cors(cors, origin)),
                CorsDecision::Preflight(headers) => {
                    return Err(Ending::Answer(Box::new(local_reply::preflight(headers))));
                }
            }
        }
        if let Some(fault) = &filters.fault {
            self.inject(fault).await?;
        }
        match route.action() {
            Action::Forward => Ok(()),
            Action::Respond(respond) => {
                Err(Ending::Answer(Box::new(local_reply::respond(respond))))
            }
            Action::Redirect(redirect) => Err(self.redirect(route, redirect, sanitised, seen)),
        }
    }

    async fn inject(&mut self, fault: &FaultPolicy) -> Result<(), Ending> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let met = fault.draw(now.as_secs(), &mut rand::rng());
        if met.delay.is_some() || met.abort.is_some() {
            self.connection.plane.metrics.fault_injected();
        }
        if let Some(delay) = met.delay {
            let waiting = Instant::now();
            tokio::time::sleep(delay).await;
            self.record.waited(waiting);
        }
        match met.abort {
            Some(status) => Err(Ending::Fault(status)),
            None => Ok(()),
        }
    }

    fn redirect(
        &self,
        route: &RouteTable,
        redirect: &RedirectPolicy,
        sanitised: &Sanitised,
        seen: Seen<'_>,
    ) -> Ending {
        let located = self.ask(seen.host, seen.port, seen.peer, |request| {
            let received = Received {
                scheme: if seen.tls { "https" } else { "http" },
                host: seen.host,
                port: sanitised.authority.port(),
                path: request.path,
                query: request.query,
            };
            redirect.location(&received, &route.captures(request))
        });
        match located {
            Ok(Ok(location)) => {
                let reply = local_reply::redirect(redirect.status(), &location);
                Ending::Answer(Box::new(reply))
            }
            Ok(Err(error)) => error.into(),
            Err(rule) => Ending::Rule(rule),
        }
    }

    /// What a route makes of the request that goes on: another path or host, then other headers.
    pub(super) fn rewrite(&mut self, route: &RouteTable, seen: Seen<'_>) -> Result<(), Ending> {
        if route.filters().rewrite.is_none() {
            return Ok(());
        }
        let rewritten = self
            .ask(seen.host, seen.port, seen.peer, |request| {
                route.rewrite(request)
            })
            .map_err(Ending::Rule)??;
        self.readdress(rewritten.path, rewritten.host)
    }

    /// Another path and host; `None`: as received.
    pub(super) fn readdress(
        &mut self,
        path: Option<NormalisedPath<'static>>,
        host: Option<&str>,
    ) -> Result<(), Ending> {
        if let Some(path) = path {
            let text = match self.head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.to_string(),
            };
            let target = PathAndQuery::try_from(text)
                .map_err(|_malformed| Ending::Rule(Rule::TargetForm))?;
            self.head.uri = Uri::from(target);
        }
        if let Some(host) = host {
            self.authority = HeaderValue::try_from(host)
                .map_err(|_malformed| Ending::Rule(Rule::HostMissing))?;
        }
        Ok(())
    }

    /// Edits the request's headers for its route, and after it for its destination.
    pub(super) fn edit(&mut self, route: &RouteTable, to: &Destination) {
        let headers = &mut self.head.headers;
        route.filters().request_headers.apply(headers);
        if let Some(edits) = route.request_headers_to(to) {
            edits.apply(headers);
        }
    }

    /// Ends the exchange with what a route says.
    pub(super) fn end(self, ending: Ending) -> Reply {
        match ending {
            // An answer that policy gives is no failure.
            Ending::Answer(reply) => self.over(None, *reply),
            Ending::Rule(rule) => self.refuse(Refusal::Rule(rule)),
            Ending::Fault(status) => {
                let reply = local_reply::with_status(Reason::FaultInjected, status, self.asked);
                self.over(Some(Reason::FaultInjected), reply)
            }
        }
    }
}

/// Edits of an answer's headers: the route's, then the destination's.
pub(super) fn edits_of_answers<'t>(
    route: &'t RouteTable,
    to: &Destination,
) -> impl Iterator<Item = Edit<'t>> {
    let editors = [
        Some(&route.filters().response_headers),
        route.response_headers_from(to),
    ];
    let editors = editors.into_iter().flatten();
    editors
        .filter(|editor| !editor.is_empty())
        .map(Edit::Headers)
}
