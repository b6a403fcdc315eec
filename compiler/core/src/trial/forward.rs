//! What becomes of a request once a route has taken it: the proxy answers it, or sends it on with
//! another path, host and headers, and whoever gets it judges what it got.

use std::collections::BTreeSet;

use mesh_bundle::slice::Destination;
use mesh_engine::Snapshot;
use mesh_engine::filter::redirect::Received;
use mesh_engine::filter::{Action, CorsDecision};
use mesh_engine::request::Request;
use mesh_engine::route::RouteTable;

use super::{Arrival, Behind, Decision, FaultMet, Outcome, Refusal, Trial, TrialError, judge};
use crate::linked::{LinkedMesh, RouteId, ServiceId};

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

/// What a browser is answered that asks before it sends.
const PREFLIGHT: u16 = 204;

/// The fault of a route, if it has one.
pub(super) fn fault(mesh: &LinkedMesh, id: RouteId) -> Option<FaultMet> {
    let route = mesh.route(id);
    let fault = route.actions.fault.as_ref()?;
    Some(FaultMet {
        service: mesh.service(id.service).name.value.clone(),
        route: route.name.value.clone(),
        delay: fault.delay.map(|delay| (delay.value.by, delay.value.share)),
        abort: fault
            .abort
            .map(|abort| (abort.value.status, abort.value.share)),
        until: fault.until.map(|until| until.value),
        span: fault.span,
    })
}

/// The answer of a route that sends nothing on. The scheme and port are those that the client used.
pub(super) fn answer(
    route: &RouteTable,
    request: &Request<'_>,
    scheme: &str,
    port: Option<u16>,
) -> Result<Option<Answered>, Refusal> {
    let cors = route.filters().cors.as_ref();
    if let Some(CorsDecision::Preflight(_)) = cors.map(|cors| cors.decide(request)) {
        return Ok(Some(Answered {
            status: PREFLIGHT,
            location: None,
            body: String::new(),
        }));
    }
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
    /// What becomes of a request at the services that a service's route sends it to: mostly its own.
    pub(super) fn arrive(
        &mut self,
        id: RouteId,
        (sender, table): (&Snapshot, &RouteTable),
        request: &Request<'_>,
        mut outcome: Outcome,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        // Who judges what arrives, with which headers: the same is judged once.
        let mut judged: Vec<(ServiceId, u16)> = Vec::new();
        for to in table.split().destinations() {
            let Some(service) = mesh.service_named(&to.target.service) else {
                continue;
            };
            if to.weight == 0 {
                continue;
            }
            let port = to.target.port.unwrap_or(request.port);
            let edits = table.request_headers_to(to);
            let plain = edits.is_none_or(mesh_engine::filter::HeaderEditor::is_empty);
            let again = plain && judged.contains(&(service, port));
            let first = judged.is_empty();
            judged.push((service, port));
            let names = self.names(table, to);
            let arrived = table.forwarded(request, Some(to), |request| {
                let request = Request { port, ..*request };
                let mut there = Outcome::denied();
                let callee = sender.callee(&to.target.service);
                match callee.and_then(|callee| sender.leave(callee, &request)) {
                    _ if again => {}
                    // Nobody stands there that would judge: the proxy that sends it does.
                    Some(verdict) => {
                        let rules = (sender.external(&to.target.service), verdict);
                        there = judge::judged(mesh, service, rules, &request, there);
                    }
                    None => there = self.authorise(service, &request, None, there)?,
                }
                there.arrivals.push(arrival(table, to, &request, &names));
                Ok::<_, TrialError>(there)
            });
            let mut there = match arrived {
                Ok(there) => there?,
                Err(error) => Outcome::refused(Refusal::bad_request(error.rule())),
            };
            outcome.absorb(&mut there);
            if again {
                continue;
            }
            // One branch that ends otherwise is enough for some requests to end so.
            if first
                || (outcome.decision == Decision::Allowed && there.decision != Decision::Allowed)
            {
                outcome.decision = there.decision;
                outcome.refusal.clone_from(&there.refusal);
                outcome.rule.clone_from(&there.rule);
            }
            if service != id.service {
                outcome.behind.push(Behind {
                    service: mesh.service(service).name.value.clone(),
                    decision: there.decision,
                    rule: there.rule,
                    route: None,
                    losers: Vec::new(),
                    refusal: there.refusal,
                });
            }
        }
        Ok(outcome)
    }

    /// Notes how a request arrives outside of the mesh, where nobody of it judges.
    pub(super) fn leave(
        &self,
        table: &RouteTable,
        request: &Request<'_>,
        mut outcome: Outcome,
    ) -> Outcome {
        for to in table
            .split()
            .destinations()
            .iter()
            .filter(|to| to.weight > 0)
        {
            let port = to.target.port.unwrap_or(request.port);
            let names = self.names(table, to);
            let arrived = table.forwarded(request, Some(to), |request| {
                arrival(table, to, &Request { port, ..*request }, &names)
            });
            match arrived {
                Ok(arrived) => outcome.arrivals.push(arrived),
                Err(error) => return Outcome::refused(Refusal::bad_request(error.rule())),
            }
        }
        outcome
    }

    /// The headers that are worth telling of a request that takes a route.
    pub(super) fn names(&self, table: &RouteTable, to: &Destination) -> BTreeSet<String> {
        let edits = std::iter::once(&table.filters().request_headers)
            .chain(table.request_headers_to(to))
            .flat_map(mesh_engine::filter::HeaderEditor::names);
        let mut names = self.names.clone();
        names.extend(edits.map(str::to_owned));
        names
    }
}

/// A request as it arrives, and the edits that its answer meets on the way back.
fn arrival(
    table: &RouteTable,
    to: &Destination,
    request: &Request<'_>,
    names: &BTreeSet<String>,
) -> Arrival {
    let mut headers = Vec::new();
    for name in names {
        request.headers.visit(name, &mut |line| {
            headers.push((name.clone(), String::from_utf8_lossy(line).into_owned()));
        });
    }
    let edits = std::iter::once(&table.filters().response_headers);
    let edits = edits.chain(table.response_headers_from(to));
    Arrival {
        service: to.target.service.clone(),
        subset: to.target.subset.clone(),
        port: request.port,
        host: request.host.to_owned(),
        path: request.path.as_str().to_owned(),
        headers,
        edits: edits.filter(|edits| !edits.is_empty()).cloned().collect(),
    }
}
