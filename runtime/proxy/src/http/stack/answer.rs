//! An answer on its way back: made safe, edited, and passed on under its clocks, or the beginning of a tunnel.

use http::{HeaderMap, Response, Version, header, response};
use hyper::upgrade::OnUpgrade;
use mesh_bundle::slice::Exchange;
use mesh_daemon::telemetry::Reason;
use tokio::time::Instant;

use super::super::body::{ResponseBody, Upstream};
use super::super::sanitise::{self, Sender};
use super::super::stream;
use super::super::timeout::{BodyClock, Deadlines};
use super::super::upgrade::{Disagreed, Wanted};
use super::filters::Edit;
use super::{Exchanging, Reply};
use crate::upstream::pool::{Answer, Slot};

impl Exchanging<'_> {
    /// Passes an answer on; the exchange is over when its body is.
    pub(super) fn pass_on(
        mut self,
        answer: Answer,
        exchange: &Exchange,
        deadlines: Deadlines,
        edits: &[Edit<'_>],
        reason: Option<Reason>,
    ) -> Reply {
        let Answer {
            mut response,
            mut slot,
            peer,
            ..
        } = answer;
        let upstream = hyper::upgrade::on(&mut response);
        let (mut head, body) = response.into_parts();
        let agreed = match self.upgrade.take() {
            None => None,
            Some(wanted) => {
                // A server that was asked may think that it has agreed (bad-inputs 19).
                slot.spoil();
                match wanted.is_agreed(self.asked.version, &head) {
                    Ok(agreed) => agreed.then_some(wanted),
                    Err(Disagreed) => return self.reply(Reason::UpstreamProtocolError),
                }
            }
        };
        // What is not of the mesh says nothing in its name.
        let from = match peer {
            Some(_) => Sender::MeshPeer,
            None => Sender::Application,
        };
        if sanitise::sanitise_answer(&mut head, from, agreed.is_some()).is_err() {
            return self.reply(Reason::UpstreamProtocolError);
        }
        head.extensions.clear();
        for edit in edits {
            edit.apply(&mut head.headers);
        }
        if let Some(wanted) = agreed {
            wanted.agree(self.asked.version, &mut head);
            return self.become_tunnel(wanted, upstream, head, slot, exchange);
        }
        self.close_unless_read(&mut head.headers);
        let (grpc, mut record) = (self.asked.grpc, self.record);
        record.answered(head.status, &head.headers);
        if let Some(reason) = reason {
            record.end(Some(reason));
        }
        let clock = if deadlines.streaming || is_stream(&head.headers, grpc) {
            let until = exchange.max_duration.map(|max| record.started() + max);
            BodyClock::new(until, exchange.stream_idle)
        } else {
            BodyClock::new(deadlines.exchange.map(Instant::from_std), None)
        };
        if self.asked.version != Version::HTTP_2 {
            self.connection.wire.answer(clock.until());
        } else if let Some(until) = clock.until() {
            stream::end_at(until);
        }
        let body = Upstream::new(body, clock, slot, record);
        Response::from_parts(head, ResponseBody::Upstream(body))
    }

    /// Answers that client and endpoint have each other's bytes from here on; the exchange is over when these are.
    fn become_tunnel(
        mut self,
        wanted: Wanted,
        upstream: OnUpgrade,
        head: response::Parts,
        slot: Slot,
        exchange: &Exchange,
    ) -> Reply {
        self.record.answered(head.status, &head.headers);
        if self.asked.version != Version::HTTP_2 {
            self.connection.wire.upgrade();
        }
        let times = (exchange.stream_idle, exchange.max_duration);
        let record = (self.record, slot);
        let tunnel = wanted.tunnel(self.connection, upstream, record, times, self.entry);
        self.connection.tunnels.begin(tunnel);
        Response::from_parts(head, ResponseBody::Local(None))
    }
}

/// Streams are not bound by the timeout once they have begun (design.md, Time).
fn is_stream(headers: &HeaderMap, grpc: bool) -> bool {
    grpc || headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}
