//! A request of a client that is no mesh peer, from a gateway's listener into the mesh:
//!
//! listener by host → who the client is → tokens → authorise → the gateway's route, and its tokens → authorizers → how many
//!   → once the callee's route
//!
//! The client is `unauthenticated`, whatever it says of itself. From here on the gateway is the caller,
//! with its own identity.

use std::sync::Arc;

use mesh_bundle::slice::{Destination, Target};
use mesh_daemon::telemetry::Reason;
use mesh_engine::Peer;
use mesh_engine::gateway::{Onward, OnwardError};

use super::super::sanitise::{Rule, Sanitised};
use super::super::server::Entrance;
use super::access::Arrival;
use super::filters::{Edit, Seen, edits_of_answers};
use super::forward::Way;
use super::{Exchanging, OutgoingBody, Refusal, Reply};
use crate::gateway::client;
use crate::tables::Tables;
use crate::tcp;

impl Exchanging<'_> {
    /// Lets a client's request in, and sends it on its way.
    pub(super) async fn enter(
        mut self,
        tables: &Arc<Tables>,
        entrance: &Entrance,
        sanitised: &Sanitised,
        body: OutgoingBody,
    ) -> Reply {
        let host = sanitised.authority.host();
        // A swap may have taken the listener away while its connections live.
        let Some(listeners) = tables.entries().port(entrance.port) else {
            return self.reply(Reason::NoRoute);
        };
        let asks_more = listeners.asks_more(host, entrance.met.as_deref());
        if asks_more || listeners.is_misdirected(host, entrance.name.as_deref()) {
            return self.refuse(Refusal::Rule(Rule::Misdirected));
        }
        let Some(entry) = listeners.entry(host) else {
            return self.reply(Reason::NoRoute);
        };
        match client::establish(
            &mut self.head.headers,
            entrance.client_ip,
            entry.hops,
            entrance.tls,
            &self.authority,
        ) {
            Ok(client_ip) => self.client_ip = client_ip,
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        let snapshot = tables.snapshot();
        let Some(table) = snapshot.inbound(entrance.port) else {
            return self.reply(Reason::AuthzDenied);
        };
        let (Some(gateway), Some(state)) = (
            snapshot.gateway(table.service()),
            tables.gateway(table.service()),
        ) else {
            return self.reply(Reason::NoRoute);
        };
        self.record.edge = Some(Arc::clone(&state.no_route));
        let peer = Peer::Unauthenticated;
        let arrival = Arrival {
            table,
            host,
            port: entrance.port,
            peer,
        };
        if let Err(refusal) = self.authorise(tables, arrival) {
            return self.refuse(refusal);
        }
        let route = match self.ask(host, entrance.port, peer, |request| gateway.route(request)) {
            Ok(Some(route)) => route,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        self.record.edge = Some(state.edge(route));
        if let Err(refusal) = self.require_token(arrival, Some(route.name())) {
            return self.refuse(refusal);
        }
        if let Err(rule) = self.narrow_path(route.filters().path_accepts) {
            return self.refuse(Refusal::Rule(rule));
        }
        if let Err(why) = self.consult(tables, arrival, Some(route.name())).await {
            return self.turn_away(why);
        }
        self.record.gateway_route(route.name());
        let seen = Seen {
            host,
            port: entrance.port,
            peer,
            tls: entrance.tls,
        };
        let mut of_gateway = Vec::new();
        let filtered = self.filter(route, sanitised, seen, &mut of_gateway).await;
        if let Err(ending) = filtered {
            return self.end(ending);
        }
        let to = match self.pick_destination(route, seen, &mut of_gateway) {
            Ok(Some(to)) => to,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        of_gateway.splice(0..0, edits_of_answers(route, to));
        let onward = match self.ask(host, entrance.port, peer, |request| {
            snapshot.onward(route, to, request)
        }) {
            Ok(Ok(onward)) => onward,
            Ok(Err(OnwardError::Path(error))) => return self.end(error.into()),
            Ok(Err(OnwardError::Denied)) => {
                tables.authz(&to.target.service).denied();
                return self.reply(Reason::AuthzDenied);
            }
            Ok(Err(OnwardError::NoCallee)) => return self.reply(Reason::NoHealthyUpstream),
            Ok(Err(OnwardError::NoPort | OnwardError::NoRoute)) => {
                return self.reply(Reason::NoRoute);
            }
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        if tcp::carries_bytes(Some(onward.port)) {
            return self.reply(Reason::NoRoute);
        }
        for route in [route, onward.route] {
            let policy = route.filters().upgrade;
            if let Err(refusal) = self.narrow_upgrade(policy, onward.port.protocol) {
                return self.refuse(refusal);
            }
        }
        let streaming = route.filters().streaming || onward.route.filters().streaming;
        self.edit(route, to);
        self.pass_through(tables, sanitised, body, (onward, of_gateway), streaming)
            .await
    }

    /// Takes the callee's own route, once, with the gateway as the caller.
    async fn pass_through<'t>(
        mut self,
        tables: &'t Arc<Tables>,
        sanitised: &Sanitised,
        mut body: OutgoingBody,
        (onward, of_gateway): (Onward<'t>, Vec<Edit<'t>>),
        streaming: bool,
    ) -> Reply {
        let Onward { callee, route, .. } = onward;
        let Some(state) = tables.state(callee) else {
            return self.reply(Reason::NoRoute);
        };
        let edge = state.edge(route);
        self.record.edge = Some(Arc::clone(&edge));
        let seen = Seen {
            host: onward.host.unwrap_or(sanitised.authority.host()),
            port: onward.port.number,
            peer: Peer::Identity(tables.snapshot().identity()),
            tls: false,
        };
        let mut edits = Vec::new();
        let filtered = self.filter(route, sanitised, seen, &mut edits).await;
        if let Err(ending) = filtered {
            return self.end(ending);
        }
        let to = match self.pick_destination(route, seen, &mut edits) {
            Ok(Some(to)) => to,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        if let Err(ending) = self.readdress(onward.path, onward.host) {
            return self.end(ending);
        }
        self.edit(route, to);
        edits.splice(0..0, edits_of_answers(route, to));
        // The client is nearer to the gateway's route.
        edits.extend(of_gateway);
        // `to productpage subset=v2` has chosen already.
        let named = onward.subset.map(|subset| {
            Destination::only(Target {
                service: callee.service().to_owned(),
                subset: Some(subset.to_owned()),
                port: Some(onward.port.number),
            })
        });
        let destination = named.as_ref().unwrap_or(to);
        let hash = match self.affinity(tables, &destination.target, seen, &mut edits) {
            Ok(hash) => hash,
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        let mirrored = self.mirror(tables, (callee, route), onward.exchange, seen, &mut body);
        if let Err(rule) = mirrored {
            return self.refuse(Refusal::Rule(rule));
        }
        let subset = destination.target.subset.as_deref();
        self.record.subset = subset.and_then(|name| edge.subset(name));
        let way = Way {
            destination,
            pinned: None,
            port: onward.port.number,
            exchange: onward.exchange,
            retry: onward.retry,
            budget: state.budget.as_ref(),
            hash,
            streaming,
            edits,
        };
        self.forward(tables, sanitised, body, way).await
    }
}
