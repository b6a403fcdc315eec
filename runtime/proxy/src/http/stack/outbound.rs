//! A request of the local application, into the mesh or out of it:
//!
//! callee by host or destination → may it leave → route → destination → `forward.rs`

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HeaderValue;
use mesh_bundle::slice::{Destination, Target};
use mesh_daemon::telemetry::Reason;
use mesh_engine::Peer;

use super::super::sanitise::Sanitised;
use super::filters::{Seen, edits_of_answers};
use super::forward::Way;
use super::{Exchanging, OutgoingBody, Refusal, Reply};
use crate::tables::{Meant, Tables};
use crate::tcp;

impl Exchanging<'_> {
    /// Calls out on behalf of the application. `destination` is where it was going, if it does not know of
    /// the proxy: that says what is called, and the host only matches within it.
    pub(super) async fn outbound(
        mut self,
        tables: &Arc<Tables>,
        destination: Option<SocketAddr>,
        sanitised: &Sanitised,
        mut body: OutgoingBody,
    ) -> Reply {
        let (host, named) = (sanitised.authority.host(), sanitised.authority.port());
        let meant = match destination {
            Some(address) => tables.meant(address, Some(host)),
            None => tables.snapshot().outbound(host, named).map(|callee| Meant {
                callee,
                port: callee.port(named),
                pinned: None,
            }),
        };
        let Some(Meant {
            callee,
            port,
            pinned,
        }) = meant
        else {
            return self.reply(Reason::AuthzDenied);
        };
        let (Some(port), Some(state)) = (port, tables.state(callee)) else {
            return self.reply(Reason::NoRoute);
        };
        self.record.edge = Some(Arc::clone(&state.no_route));
        if let Err(rule) = self.narrow_path(callee.path_accepts()) {
            return self.refuse(Refusal::Rule(rule));
        }
        if tcp::carries_bytes(Some(port)) {
            return self.reply(Reason::NoRoute);
        }
        let peer = Peer::Identity(tables.snapshot().identity());
        self.consider_logging(tables, host, port.number, peer);
        let leaving = self.ask(host, port.number, peer, |request| {
            let verdict = tables.snapshot().leave(callee, request)?;
            tables.authz(callee.service()).decided(verdict);
            Some(verdict.is_allowed())
        });
        match leaving {
            Ok(None) => {}
            Ok(Some(allowed)) => {
                if !allowed {
                    return self.reply(Reason::AuthzDenied);
                }
                self.remember(Some(callee.service()), host, port.number, peer);
            }
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        let route = match self.ask(host, port.number, peer, |request| callee.route(request)) {
            Ok(Some(route)) => route,
            Ok(None) => return self.reply(Reason::NoRoute),
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        if let Err(rule) = self.narrow_path(route.filters().path_accepts) {
            return self.refuse(Refusal::Rule(rule));
        }
        if state.dialling.leaves() {
            self.address_outside(host, state.dialling.really(port.number));
        }
        if let Err(refusal) = self.narrow_upgrade(route.filters().upgrade, port.protocol) {
            return self.refuse(refusal);
        }
        let edge = state.edge(route);
        self.record.edge = Some(Arc::clone(&edge));
        let seen = Seen {
            host,
            port: port.number,
            peer,
            tls: false,
        };
        let mut edits = Vec::new();
        let filtered = self.filter(route, sanitised, seen, &mut edits).await;
        if let Err(ending) = filtered {
            return self.end(ending);
        }
        // An endpoint that is called by its own address is not one of a choice.
        let itself = pinned.as_ref().map(|_| {
            Destination::only(Target {
                service: callee.service().to_owned(),
                subset: None,
                port: Some(port.number),
            })
        });
        let to = match &itself {
            Some(itself) => itself,
            None => match self.pick_destination(route, seen, &mut edits) {
                Ok(Some(picked)) => picked,
                Ok(None) => return self.reply(Reason::NoRoute),
                Err(rule) => return self.refuse(Refusal::Rule(rule)),
            },
        };
        let snapshot = tables.snapshot();
        match self.ask(host, port.number, peer, |request| {
            snapshot.may_go(callee, route, to, request)
        }) {
            Ok(true) => {}
            Ok(false) => {
                tables.authz(&to.target.service).denied();
                return self.reply(Reason::AuthzDenied);
            }
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        }
        if let Err(ending) = self.rewrite(route, seen) {
            return self.end(ending);
        }
        self.edit(route, to);
        edits.splice(0..0, edits_of_answers(route, to));
        let hash = match self.affinity(tables, &to.target, seen, &mut edits) {
            Ok(hash) => hash,
            Err(rule) => return self.refuse(Refusal::Rule(rule)),
        };
        let mirrored = self.mirror(tables, (callee, route), route.exchange(), seen, &mut body);
        if let Err(rule) = mirrored {
            return self.refuse(Refusal::Rule(rule));
        }
        let subset = to.target.subset.as_deref();
        self.record.subset = subset.and_then(|name| edge.subset(name));
        let way = Way {
            destination: to,
            pinned,
            port: port.number,
            exchange: route.exchange(),
            retry: route.retry(),
            budget: state.budget.as_ref(),
            hash,
            streaming: route.filters().streaming,
            edits,
        };
        self.forward(tables, sanitised, body, way).await
    }

    /// The host as a server outside the mesh expects it: with the port that is really dialled, unless
    /// that is the one of the scheme (RFC 9110 section 7.2).
    fn address_outside(&mut self, host: &str, (port, tls): (u16, bool)) {
        let usual = if tls { 443 } else { 80 };
        let text = if port == usual {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        if let Ok(authority) = HeaderValue::try_from(text) {
            self.authority = authority;
        }
    }
}
