//! Gateways: their listeners, and the routes that teams' own files add to them.

use mesh_syntax::Diagnostic;

use super::Linker;
use crate::code;
use crate::linked::{Delegate, DelegatedRoute, Gateway, Listener};
use crate::model::{self, Kind, Spanned};

impl<'m> Linker<'m, '_> {
    /// What only a gateway has, without the routes of others' files.
    pub(super) fn gateway(&mut self, declared: &model::Gateway) -> Gateway {
        let mut listeners: Vec<&model::Listener> = declared.listeners.iter().collect();
        listeners.sort_by_key(|listener| listener.span);
        for (index, listener) in listeners.iter().enumerate() {
            let mut earlier = listeners[..index].iter();
            if let Some(first) = earlier.find(|first| first.port.value == listener.port.value) {
                self.check_shared_port(first, listener);
            }
        }
        let mut delegates: Vec<Delegate> = Vec::new();
        for delegate in &declared.delegates {
            if self.find_team(&delegate.team).is_some() {
                delegates.push(Delegate {
                    team: delegate.team.clone(),
                    conditions: self.conditions(&delegate.conditions, None),
                    span: delegate.span,
                });
            }
        }
        let mut listeners: Vec<Listener> = listeners.into_iter().map(listener).collect();
        listeners.sort_by(|a, b| (a.port.value, &a.hosts).cmp(&(b.port.value, &b.hosts)));
        delegates.sort_by(|a, b| (&a.team.value, a.span).cmp(&(&b.team.value, b.span)));
        Gateway {
            listeners,
            delegates,
            delegated: Vec::new(),
        }
    }

    fn check_shared_port(&mut self, first: &model::Listener, second: &model::Listener) {
        let port = second.port.value;
        let problem = if first.protocol != second.protocol {
            Some(("speak different protocols", "give both the same `protocol`"))
        } else if first.tls.is_some() != second.tls.is_some() {
            Some((
                "differ in TLS",
                "give both `tls`, or neither: what a client says first is one or the other",
            ))
        } else if client_address(first) != client_address(second) {
            Some((
                "take the client's address from different places",
                "give both the same `client-ip`: it is read before the host is known",
            ))
        } else if min_version(first) != min_version(second) {
            Some((
                "differ in the lowest version of TLS",
                "give both the same `min=`",
            ))
        } else {
            None
        };
        if let Some((what, help)) = problem {
            self.report(
                Diagnostic::error(
                    code::LISTENERS_DISAGREE,
                    second.head,
                    format!("two listeners share the port {port} and {what}"),
                )
                .label(first.head, "the other one")
                .help(help),
            );
            return;
        }
        let both =
            |host: &&Spanned<String>| first.hosts.iter().any(|other| other.value == host.value);
        let shared = second.hosts.iter().find(both);
        if shared.is_some() || (first.hosts.is_empty() && second.hosts.is_empty()) {
            let (span, host) = shared.map_or((second.head, "every host".to_owned()), |host| {
                (host.span, format!("\"{}\"", host.value))
            });
            self.report(
                Diagnostic::error(
                    code::LISTENERS_DISAGREE,
                    span,
                    format!("two listeners of the port {port} serve {host}"),
                )
                .label(first.head, "the other one")
                .help("a host on a port has one listener; keep one, or give them different hosts"),
            );
        }
    }

    /// The routes of a gateway: its own, and those in teams' files.
    pub(super) fn gateway_routes(&self, name: &str) -> Vec<&'m model::Route> {
        self.gateway_routes
            .iter()
            .filter(|route| route.gateway.value == name)
            .map(|route| &route.route)
            .collect()
    }

    /// Routes that name a gateway that is none.
    pub(super) fn check_gateway_routes(&mut self) {
        for route in self.gateway_routes {
            self.find_kind(&route.gateway, "gateway", |kind| {
                matches!(kind, Kind::Gateway(_))
            });
        }
    }

    /// Which of a gateway's routes stand in files of their own.
    pub(super) fn delegated(
        &mut self,
        gateway: &Spanned<String>,
        routes: &[crate::linked::Route],
    ) -> Vec<DelegatedRoute> {
        let mut delegated = Vec::new();
        for declared in self.gateway_routes {
            let span = declared.route.name.span;
            let position = routes.iter().position(|route| route.name.span == span);
            if declared.gateway.value == gateway.value
                && let Some(route) = position
            {
                delegated.push(DelegatedRoute {
                    route,
                    gateway_span: declared.gateway.span,
                });
            }
        }
        delegated.sort_by_key(|delegated| delegated.route);
        delegated
    }
}

fn client_address(listener: &model::Listener) -> model::ClientAddress {
    listener
        .client_address
        .map_or_else(Default::default, |address| address.value)
}

fn min_version(listener: &model::Listener) -> Option<model::TlsVersion> {
    let tls = listener.tls.as_ref()?;
    Some(tls.min.map_or_else(Default::default, |min| min.value))
}

fn listener(declared: &model::Listener) -> Listener {
    let mut hosts: Vec<String> = declared
        .hosts
        .iter()
        .map(|host| host.value.clone())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    Listener {
        port: declared.port,
        hosts,
        tls: declared.tls.clone(),
        client_address: client_address(declared),
        span: declared.head,
    }
}
