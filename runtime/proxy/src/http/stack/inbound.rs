//! A request of a mesh peer, or of whoever a port takes in plaintext, to the local application:
//!
//! service by port → tokens → authorise → authorizers → how many → application → answer

use std::sync::Arc;
use std::time::Duration;

use mesh_bundle::slice::{Exchange, Protocol};
use mesh_daemon::telemetry::Reason;
use mesh_engine::{Peer, retry};
use tokio::time::Instant;

use super::super::sanitise::{PEER_HEADER, Sanitised};
use super::super::server::Inbound;
use super::super::timeout::{self, Deadlines};
use super::access::Arrival;
use super::forward::failed;
use super::{Exchanging, OutgoingBody, Reply};
use crate::limits;
use crate::tables::Tables;
use crate::tcp;
use crate::upstream::pool::Times;

impl Exchanging<'_> {
    /// Lets a peer's request in.
    pub(super) async fn inbound(
        mut self,
        tables: &Arc<Tables>,
        inbound: &Inbound,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        let identity = inbound.peer.as_ref().map(|peer| &peer.identity);
        self.record.src = identity.map(Arc::clone);
        let Some(table) = tables.snapshot().inbound(inbound.port) else {
            return self.reply(Reason::AuthzDenied);
        };
        self.record.edge = Some(self.connection.inbound_edge(
            inbound,
            table.service(),
            tables.snapshot().identity(),
        ));
        // Its rules are about connections, and are not asked about requests.
        let protocol = table.port(inbound.port).map(|port| port.protocol);
        if tcp::carries_bytes(table.port(inbound.port)) {
            return self.reply(Reason::NoRoute);
        }
        if let Err(refusal) = self.narrow_upgrade(None, protocol.unwrap_or(Protocol::Grpc)) {
            return self.refuse(refusal);
        }
        let peer = identity.map_or(Peer::Unauthenticated, |identity| Peer::Identity(identity));
        let arrival = Arrival {
            table,
            host: sanitised.authority.host(),
            port: inbound.port,
            peer,
        };
        if let Err(refusal) = self.authorise(tables, arrival) {
            return self.refuse(refusal);
        }
        if let Err(why) = self.consult(tables, arrival, None).await {
            return self.turn_away(why);
        }
        if let Some(peer) = &inbound.peer {
            let headers = &mut self.head.headers;
            headers.insert(PEER_HEADER, peer.header.clone());
        }

        let now = self.record.started().into_std();
        let asked = sanitised
            .grpc
            .then(|| timeout::grpc_timeout(&self.head.headers))
            .flatten();
        let deadline = retry::deadline(now, sanitised.time_left, asked);
        let deadlines = Deadlines {
            exchange: deadline,
            asked: asked.and_then(|asked| now.checked_add(asked)),
            streaming: sanitised.streaming,
        };
        let exchange = to_application();
        let transfer = Arc::clone(&body.transfer);
        let mut spare = self.spare(body.is_empty());
        let (mut sending, replay) = body.start(spare.keeps_body());
        self.record.upstream = Some(inbound.application.address());
        loop {
            self.record.attempts += 1;
            let request = self.next_hop(sending, deadlines, spare.is_left(), false);
            let limit = deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now().into_std()));
            let sent = timeout::within(
                limit,
                inbound.application.send(
                    request,
                    self.version(false),
                    Times::from(&exchange),
                    None,
                ),
            );
            let waiting = Instant::now();
            let sent = sent.await;
            self.record.waited(waiting);
            self.record.tried(
                waiting,
                match &sent {
                    Ok(Ok(answer)) => Ok(answer.response.status()),
                    Ok(Err(failure)) => Err(failed(*failure).reason),
                    Err(_elapsed) => Err(Reason::RequestTimeout),
                },
            );
            let mut spared = |failure| spare.again(failure, replay.as_ref(), &transfer);
            if let Some(body) = sent
                .as_ref()
                .ok()
                .and_then(|sent| spared(*sent.as_ref().err()?))
            {
                sending = body;
                continue;
            }
            match sent {
                Ok(Ok(answer)) => {
                    self.record.connect = answer.connect;
                    return self.pass_on(answer, &exchange, deadlines, &[], None);
                }
                Ok(Err(_)) if transfer.is_broken() => return self.broken_body(&transfer),
                Ok(Err(failure)) => return self.reply(failed(failure).reason),
                Err(_elapsed) => {
                    self.record.count_timeout("request");
                    return self.reply(Reason::RequestTimeout);
                }
            }
        }
    }
}

/// How this proxy waits for its own application: as long as the caller does.
fn to_application() -> Exchange {
    Exchange {
        timeout: None,
        connect_timeout: limits::APPLICATION_CONNECT_TIMEOUT,
        retry: mesh_bundle::slice::Retry {
            attempts: 1,
            causes: Vec::new(),
            per_try: None,
            any_method: false,
            backoff_base: Duration::ZERO,
            backoff_max: Duration::ZERO,
        },
        stream_idle: None,
        max_duration: None,
        ..Exchange::default()
    }
}
