//! Copies of a request, sent elsewhere while it goes its own way; nobody waits for their answers.

use std::sync::Arc;

use http::HeaderValue;
use http_body_util::{BodyExt as _, Limited};
use mesh_bundle::slice::{Destination, Exchange};
use mesh_engine::breaker::Counted;
use mesh_engine::{CalleeTable, RouteTable};
use tokio::time::timeout;

use super::super::sanitise::{MIRRORED_HEADER, Rule};
use super::super::timeout::Deadlines;
use super::attempt::Attempt;
use super::filters::Seen;
use super::forward::take;
use super::{Exchanging, OutgoingBody};
use crate::limits;
use crate::tables::Tables;

impl Exchanging<'_> {
    /// Sends the copies that a route wants of this request.
    pub(super) fn mirror(
        &mut self,
        tables: &Arc<Tables>,
        (callee, route): (&CalleeTable, &RouteTable),
        exchange: &Exchange,
        seen: Seen<'_>,
        body: &mut OutgoingBody,
    ) -> Result<(), Rule> {
        // What becomes another protocol is nothing to be copied.
        if route.filters().mirror.mirrors().is_empty() || self.upgrade.is_some() {
            return Ok(());
        }
        for target in route.filters().mirror.choose(&mut rand::rng()) {
            let to = Destination::only(target.clone());
            let snapshot = tables.snapshot();
            let may_go = self.ask(seen.host, seen.port, seen.peer, |request| {
                snapshot.may_go(callee, route, &to, request)
            })?;
            let sent = may_go && self.copy(tables, &to, exchange, seen.port, body);
            let outcome = if sent { "sent" } else { "dropped" };
            self.connection.plane.mirrors.count(outcome);
        }
        Ok(())
    }

    /// Whether there was somebody to send a copy to, and room for it.
    fn copy(
        &mut self,
        tables: &Arc<Tables>,
        to: &Destination,
        exchange: &Exchange,
        port: u16,
        body: &mut OutgoingBody,
    ) -> bool {
        let Some((picked, _)) = tables.pick(to, port, &[], None) else {
            return false;
        };
        let plane = Arc::clone(&self.connection.plane);
        let Some(running) = plane.mirrors.room() else {
            return false;
        };
        let Ok(held) = take(&picked, Counted::Requests) else {
            return false;
        };
        let bytes_max = picked.body_bytes_max();
        let Some(copy) = body.copy(bytes_max) else {
            return false;
        };
        let limit = exchange.timeout.unwrap_or(limits::MIRROR_TIMEOUT);
        let leaves = !picked.endpoint.is_meshed();
        let now = self.record.started().into_std();
        let deadlines = Deadlines {
            exchange: now.checked_add(limit),
            ..Deadlines::default()
        };
        let mut request = self.next_hop(copy, deadlines, true, leaves);
        let headers = request.headers_mut();
        headers.insert(MIRRORED_HEADER, HeaderValue::from_static("1"));
        let attempt = Attempt {
            request,
            version: self.version(leaves),
            times: exchange.into(),
            limit: None,
            transfer: None,
            deadline: None,
            picked,
            held,
            permit: None,
        };
        // Bounded in number and in time; nobody waits for it, and it ends with the runtime.
        tokio::spawn(async move {
            // Whatever comes of it, nobody is told.
            drop(timeout(limit, unheard(attempt)).await);
            drop(running);
        });
        true
    }
}

/// Sends a copy and reads its answer, so that its connection can be used again.
async fn unheard(attempt: Attempt) {
    let Some(answer) = attempt.run().await.into_answer() else {
        return;
    };
    let body = Limited::new(answer.response.into_body(), limits::MIRROR_BYTES_MAX);
    if body.collect().await.is_ok() {
        answer.slot.give_back();
    }
}
