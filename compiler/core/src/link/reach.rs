//! How services and externals are reached: addresses, ways of dialling, and gateways on the way out.

use std::collections::BTreeMap;

use mesh_bundle::slice::{DeclaredEndpoint, EndpointAddress, Protocol};
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use crate::code;
use crate::linked::{Endpoints, External, Service, ServiceId};
use crate::model::{self, Kind, Port, Spanned};

impl Linker<'_, '_> {
    /// What only an external has.
    pub(super) fn external(&mut self, declared: &model::External) -> External {
        let via = declared.via.as_ref().and_then(|name| {
            let gateway = |kind: &Kind| matches!(kind, Kind::Gateway(_));
            let id = self.find_kind(name, "gateway", gateway)?;
            Some(Spanned::new(id, name.span))
        });
        External { via }
    }

    /// An external without `endpoints` is found by its hosts.
    pub(super) fn endpoints_of_hosts(
        &mut self,
        service: &model::Service,
        ports: &[Port],
    ) -> Endpoints {
        let mut endpoints = Vec::new();
        for host in &service.hosts {
            if host.value.contains('*') {
                self.report(
                    Diagnostic::error(
                        code::MISSING,
                        host.span,
                        format!("\"{}\" is no name to resolve", host.value),
                    )
                    .help("say where it is: `endpoints { dns \"NAME:PORT\" }`"),
                );
                continue;
            }
            for port in ports {
                let number = port.number.value;
                let endpoint = DeclaredEndpoint {
                    address: EndpointAddress::Dns {
                        name: host.value.clone(),
                        port: dialled(service, number),
                    },
                    port: number,
                    labels: Vec::new(),
                };
                endpoints.push(Spanned::new(endpoint, host.span));
            }
        }
        endpoints.sort_by_key(|endpoint| address_key(&endpoint.value));
        endpoints.dedup_by(|a, b| address_key(&a.value) == address_key(&b.value));
        Endpoints::Declared(endpoints)
    }

    /// An external without an identity is nobody's peer.
    pub(super) fn check_calls(&mut self, name: &Spanned<String>) {
        let Some(declared) = self.scope.declared(&name.value) else {
            return;
        };
        if matches!(declared.kind, Kind::External(_)) && declared.identities.is_empty() {
            let span = declared.name.span;
            self.report(
                Diagnostic::error(
                    code::WRONG_KIND,
                    name.span,
                    format!("`{}` is an external, which calls nobody in the mesh", name.value),
                )
                .label(span, "the external")
                .help("requests from outside come in by a gateway; name that, or give the external its `identity`"),
            );
        }
    }

    /// What says how a service is reached, where that can't be.
    pub(super) fn check_reach(&mut self, service: &model::Service) {
        let is_meshed = matches!(service.kind, Kind::Service) && service.reach.unmeshed.is_none();
        if is_meshed && let Some(dial) = service.reach.dials.first() {
            let what = dial
                .dial
                .map(|dial| ("dial=", dial.span))
                .or(dial.tls.as_ref().map(|tls| ("tls", tls.span)));
            if let Some((what, span)) = what {
                self.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        span,
                        format!("`{what}` says how to dial what has no proxy of the mesh"),
                    )
                    .label(
                        service.name.span,
                        "a service of the mesh, dialled with mutual TLS always",
                    )
                    .help("remove it, or write `unmeshed` if no proxy stands beside this service"),
                );
            }
        }
    }

    /// Addresses that two services claim.
    pub(super) fn check_addresses(&mut self, services: &[Service]) {
        let mut taken: BTreeMap<(ipnet::IpNet, u16), (ServiceId, Span)> = BTreeMap::new();
        for service in services {
            for address in &service.reach.addresses {
                for port in &service.ports {
                    let key = (address.value, port.number.value);
                    let Some((other, span)) = taken.insert(key, (service.id, address.span)) else {
                        continue;
                    };
                    let other = &services[other.index()].name.value;
                    self.report(
                        Diagnostic::error(
                            code::HOST_CLAIMED_TWICE,
                            address.span,
                            format!(
                                "`{}` and `{other}` both have the address {}",
                                service.name.value, address.value
                            ),
                        )
                        .label(span, "the other one")
                        .help("an address on a port names one service"),
                    );
                }
            }
        }
    }

    /// The port that a caller's `listen` stands for.
    pub(super) fn listen_port(&mut self, callee: &Service, listen: Span) -> Option<u16> {
        let is_l4 = |port: &&Port| matches!(port.protocol, Protocol::Tcp | Protocol::Tls);
        let l4: Vec<u16> = callee
            .ports
            .iter()
            .filter(is_l4)
            .map(|port| port.number.value)
            .collect();
        match l4.as_slice() {
            [only] => Some(*only),
            [] => {
                self.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        listen,
                        format!("`{}` is found by its host", callee.name.value),
                    )
                    .label(callee.name.span, "no port of `protocol=tcp` or `protocol=tls`")
                    .help("remove `listen`: only bytes that name no host need an address of their own"),
                );
                None
            }
            _ => {
                self.report(
                    Diagnostic::error(
                        code::PORT_REQUIRED,
                        listen,
                        format!(
                            "it is not clear which port of `{}` this stands for",
                            callee.name.value
                        ),
                    )
                    .help("give the service one port of bytes, or split it"),
                );
                None
            }
        }
    }
}

/// The port that is really dialled for a port of an external.
fn dialled(service: &model::Service, port: u16) -> u16 {
    service
        .reach
        .dials
        .iter()
        .filter(|dial| dial.ports.iter().any(|own| own.value == port))
        .find_map(|dial| dial.dial)
        .map_or(port, |dial| dial.value)
}

fn address_key(endpoint: &DeclaredEndpoint) -> (String, u16, u16) {
    match &endpoint.address {
        EndpointAddress::Static(address) => {
            (address.ip().to_string(), address.port(), endpoint.port)
        }
        EndpointAddress::Dns { name, port } => (name.clone(), *port, endpoint.port),
    }
}
