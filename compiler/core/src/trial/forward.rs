//! What becomes of a request once a route has taken it: the proxy answers it, or sends it on with
//! another path, host and headers, and whoever gets it judges what it got.

use mesh_engine::filter::Action;
use mesh_engine::filter::redirect::Received;
use mesh_engine::request::Request;
use mesh_engine::route::RouteTable;

use super::{Behind, Decision, Outcome, Refusal, Trial, TrialError};
use crate::linked::{RouteId, ServiceId};

/// An answer that the proxy gives instead of sending a request on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// What it says.
    pub body: String,
}

/// The answer of a route that sends nothing on. The scheme and port are those that the client used.
pub(super) fn answer(
    route: &RouteTable,
    request: &Request<'_>,
    scheme: &str,
    port: Option<u16>,
) -> Result<Option<Answered>, Refusal> {
    Ok(match route.action() {
        Action::Forward => None,
        Action::Respond(respond) => Some(Answered {
            status: respond.status(),
            location: None,
            body: respond.body().to_owned(),
        }),
        Action::Redirect(redirect) => {
            let received = Received {
                scheme,
                host: request.host,
                port,
                path: request.path,
                query: request.query,
            };
            let location = redirect
                .location(&received, &route.captures(request))
                .map_err(|error| Refusal::bad_request(error.rule()))?;
            Some(Answered {
                status: redirect.status(),
                location: Some(location),
                body: String::new(),
            })
        }
    })
}

impl Trial<'_> {
    /// Whether a route's requests arrive otherwise than at its own service, as they were received.
    pub(super) fn leads_elsewhere(&self, id: RouteId) -> bool {
        let route = self.mesh.route(id);
        let elsewhere =
            |target: crate::linked::Target| target.service != id.service || target.port.is_some();
        route.destinations.iter().any(|to| elsewhere(to.target))
    }

    /// What becomes of a request at the services that a service's route sends it to: mostly its own.
    pub(super) fn arrive(
        &mut self,
        id: RouteId,
        table: &RouteTable,
        request: &Request<'_>,
        mut outcome: Outcome,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let mut seen: Vec<(ServiceId, u16)> = Vec::new();
        for to in table.split().destinations() {
            let Some(service) = mesh.service_named(&to.target.service) else {
                continue;
            };
            let port = to.target.port.unwrap_or(request.port);
            let edits = table.request_headers_to(to);
            let plain = edits.is_none_or(mesh_engine::filter::HeaderEditor::is_empty);
            if to.weight == 0 || (plain && seen.contains(&(service, port))) {
                continue;
            }
            let first = seen.is_empty();
            seen.push((service, port));
            let arrived = table.forwarded(request, Some(to), |request| {
                let request = Request { port, ..*request };
                self.authorise(service, &request, Outcome::denied())
            });
            let there = match arrived {
                Ok(there) => there?,
                Err(error) => Outcome::refused(Refusal::bad_request(error.rule())),
            };
            // One branch that ends otherwise is enough for some requests to end so.
            if first
                || (outcome.decision == Decision::Allowed && there.decision != Decision::Allowed)
            {
                outcome.decision = there.decision;
                outcome.refusal = there.refusal;
                outcome.rule.clone_from(&there.rule);
            }
            if service != id.service {
                outcome.behind.push(Behind {
                    service: mesh.service(service).name.value.clone(),
                    decision: there.decision,
                    rule: there.rule,
                    route: None,
                });
            }
        }
        Ok(outcome)
    }
}
