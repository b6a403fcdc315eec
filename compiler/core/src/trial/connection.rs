//! Connections of bytes: who comes, from where, to which port is all that anybody knows of them.

use mesh_bundle::slice::Protocol;
use mesh_engine::path;
use mesh_engine::request::Request;

use super::{Call, Decision, Outcome, Refusal, Sender, Trial, TrialError, judge, losers, taken};
use crate::analysis::entrance;
use crate::analysis::request_space::ORDINARY_IP;
use crate::linked::ServiceId;
use crate::model::Port;

impl Trial<'_> {
    /// What becomes of a connection: the caller's slice says where it goes, the callee's who may enter.
    pub(super) fn connect(
        &mut self,
        call: &Call,
        sender: &Sender,
        callee: ServiceId,
    ) -> Result<Outcome, TrialError> {
        let mesh = self.mesh;
        let Ok(path) = path::normalise("/") else {
            return Ok(Outcome::refused(Refusal::no_method()));
        };
        let Some(port) = self.port(callee, call.port) else {
            return Ok(Outcome::denied());
        };
        // Only TLS names a host.
        let ports = &mesh.service(callee).ports;
        let is_tls = |own: &Port| own.number.value == port && own.protocol == Protocol::Tls;
        let host = call.host.as_deref().filter(|_| ports.iter().any(is_tls));
        let connection = Request {
            port,
            peer: sender.peer(),
            peer_ip: Some(call.peer_ip.unwrap_or(ORDINARY_IP)),
            client_ip: Some(call.client_ip.unwrap_or(ORDINARY_IP)),
            ..Request::new("", host.unwrap_or_default(), &path)
        };
        let mut outcome = Outcome {
            is_connection: true,
            ..Outcome::denied()
        };
        if let Some(caller) = sender.service {
            let snapshot = self.snapshot(caller)?;
            let table = snapshot.callee(&call.to);
            let Some(table) = table.filter(|table| table.port(Some(port)).is_some()) else {
                return Ok(outcome.over());
            };
            let explanation = table.explain(&connection);
            outcome.losers = losers(mesh, callee, &explanation);
            let Some(winner) = explanation.winner else {
                return Ok(outcome.ending(Decision::NoRoute).over());
            };
            outcome.route = taken(mesh, (caller, callee), winner);
            let id = outcome.route.as_ref().map(|taken| taken.id);
            outcome.touched.routes.extend(id);
            if let Some(rules) = snapshot.external(table.service()) {
                let verdict = (Some(rules), rules.authorise_connection(&connection));
                let judged = judge::judged(mesh, callee, verdict, &connection, outcome);
                return Ok(judged.over());
            }
        }
        if entrance::is_unguarded(mesh.service(callee)) {
            return Ok(outcome.ending(Decision::Allowed));
        }
        if mesh.service(callee).is_external() {
            return Ok(outcome.over());
        }
        let snapshot = self.snapshot(callee)?;
        let Some(table) = snapshot.inbound(port) else {
            return Ok(outcome.over());
        };
        let verdict = (Some(table.rules()), table.authorise_connection(&connection));
        let judged = judge::judged(mesh, callee, verdict, &connection, outcome);
        Ok(judged.over())
    }
}

impl Outcome {
    /// A connection that is refused is closed: nobody is answered.
    fn over(mut self) -> Self {
        if let Some(refusal) = &mut self.refusal {
            refusal.status = None;
        }
        self
    }
}
