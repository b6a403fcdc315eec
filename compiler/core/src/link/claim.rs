//! What only one service can have: a host, an identity's inbound port, and for each identity one
//! way of calling a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_bundle::slice::EndpointAddress;
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use super::endpoint::address_text;
use crate::code;
use crate::linked::{Edge, Endpoints, Exchange, Kind, Service, ServiceId};

impl Linker<'_, '_> {
    /// Hosts and inbound ports that two services claim.
    pub(super) fn check_claims(&mut self, services: &[Service]) {
        let mut hosts: BTreeMap<(&str, u16), &Service> = BTreeMap::new();
        let mut inbound: BTreeMap<(&SpiffeId, u16), &Service> = BTreeMap::new();
        for service in services {
            for port in &service.ports {
                let number = port.number.value;
                // Clients outside reach a gateway by addresses of their own, so hosts are not shared.
                let answers_to = match service.kind {
                    Kind::Gateway(_) => &[][..],
                    Kind::Service | Kind::External(_) => &service.hosts,
                };
                for host in answers_to {
                    // Two services may share a host and differ in port.
                    if let Some(other) = hosts.insert((host, number), service) {
                        self.host_claimed(host, service, other);
                    }
                }
                for identity in &service.identities {
                    if let Some(other) = inbound.insert((identity, number), service)
                        && !is_taken(identity, service, other)
                    {
                        self.port_claimed(identity, number, service, other);
                    }
                }
            }
        }
    }

    /// An address at which two services are dialled has one proxy, which shows one identity and tells services apart by
    /// its port alone. What has no proxy may share an address: there `Host` says who is meant.
    pub(super) fn check_endpoints(&mut self, services: &[Service]) {
        let mut taken: BTreeMap<EndpointKey<'_>, (&Service, Span)> = BTreeMap::new();
        for service in services {
            let Endpoints::Declared(endpoints) = &service.endpoints else {
                continue;
            };
            let has_proxy =
                matches!(service.kind, Kind::Service) && service.reach.unmeshed.is_none();
            // One for each of its ports is one service all the same.
            for endpoint in endpoints.iter().filter(|_| has_proxy) {
                let key = endpoint_key(&endpoint.value.address);
                let (first, span) = *taken.entry(key).or_insert((service, endpoint.span));
                if first.id == service.id {
                    continue;
                }
                let (name, other) = (&service.name.value, &first.name.value);
                self.report(
                    Diagnostic::error(
                        code::HOST_CLAIMED_TWICE,
                        endpoint.span,
                        format!(
                            "`{name}` and `{other}` have the same endpoint {}",
                            address_text(&endpoint.value.address)
                        ),
                    )
                    .label(span, format!("an endpoint of `{other}`"))
                    .help("one proxy answers at an address, for one service: give each an address or a port of its own"),
                );
            }
        }
    }

    fn host_claimed(&mut self, host: &str, service: &Service, other: &Service) {
        let (name, first) = (&service.name.value, &other.name.value);
        // Whoever wrote the host must change it; a service answers to its own name unasked.
        let (span, other_span) = match self.host_span(host, service) {
            Some(span) => (span, self.host_span(host, other).unwrap_or(other.name.span)),
            None => match self.host_span(host, other) {
                Some(span) => (span, service.name.span),
                None => (service.name.span, other.name.span),
            },
        };
        self.report(
            Diagnostic::error(
                code::HOST_CLAIMED_TWICE,
                span,
                format!("`{name}` and `{first}` both answer to the host \"{host}\""),
            )
            .label(other_span, "the other one")
            .help("a host on a port names one service; give one of them another `host` or `port`"),
        );
    }

    fn host_span(&self, host: &str, service: &Service) -> Option<Span> {
        let declared = self.scope.declared(&service.name.value)?;
        let written = declared
            .hosts
            .iter()
            .find(|written| written.value == host)?;
        Some(written.span)
    }

    fn port_claimed(&mut self, identity: &SpiffeId, port: u16, service: &Service, other: &Service) {
        let (name, first) = (&service.name.value, &other.name.value);
        self.report(
            Diagnostic::error(
                code::DUPLICATE_DEFINITION,
                service.name.span,
                format!(
                    "`{name}` and `{first}` share the identity {} and the port {port}",
                    identity.as_str()
                ),
            )
            .label(other.name.span, format!("`{first}`"))
            .help(
                "the inbound port tells services of one identity apart; give one of them another",
            ),
        );
    }

    /// Services of one identity have one slice, so they call others in one way.
    pub(super) fn check_shared_identities(&mut self, services: &[Service], edges: &[Edge]) {
        let mut calls: BTreeMap<(&SpiffeId, ServiceId), &Edge> = BTreeMap::new();
        for edge in edges {
            for identity in &services[edge.caller.index()].identities {
                let Some(other) = calls.insert((identity, edge.callee), edge) else {
                    continue;
                };
                let same = |(a, b): (&Arc<Exchange>, &Arc<Exchange>)| {
                    Arc::ptr_eq(a, b) || crate::emit::exchange(a) == crate::emit::exchange(b)
                };
                if edge.exchanges.iter().zip(&other.exchanges).all(same) {
                    continue;
                }
                let caller = &services[edge.caller.index()].name;
                let first = &services[other.caller.index()].name;
                let callee = &services[edge.callee.index()].name.value;
                self.report(
                    Diagnostic::error(
                        code::TWO_SOURCES,
                        caller.span,
                        format!(
                            "`{}` and `{}` share an identity but call `{callee}` differently",
                            caller.value, first.value
                        ),
                    )
                    .label(first.span, format!("`{}`", first.value))
                    .help("one proxy can't tell their calls apart; make both `calls` the same"),
                );
            }
        }
    }
}

/// What makes two endpoints one: the address, however it is written.
type EndpointKey<'a> = (Option<std::net::IpAddr>, &'a str, u16);

fn endpoint_key(address: &EndpointAddress) -> EndpointKey<'_> {
    match address {
        EndpointAddress::Static(address) => (Some(address.ip()), "", address.port()),
        EndpointAddress::Dns { name, port } => (None, name, *port),
    }
}

/// Whether one of the services has taken the other's own identity, which is reported by itself.
fn is_taken(identity: &SpiffeId, service: &Service, other: &Service) -> bool {
    let path = identity.path().trim_start_matches('/');
    let owner = path.split_once('/').map(|(_, name)| name);
    [service, other]
        .iter()
        .any(|either| owner == Some(either.name.value.as_str()))
}
