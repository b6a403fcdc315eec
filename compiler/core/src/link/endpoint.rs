//! Endpoints: one source, and for each address the port of the service that it serves.

use std::collections::BTreeMap;

use mesh_bundle::slice::{DeclaredEndpoint, EndpointAddress};
use mesh_syntax::{Diagnostic, Span};

use super::Linker;
use crate::code;
use crate::linked::Endpoints;
use crate::model::{self, EndpointSource, Port, Spanned};

impl Linker<'_, '_> {
    pub(super) fn endpoints(&mut self, service: &model::Service, ports: &[Port]) -> Endpoints {
        let discovered = service
            .endpoints
            .iter()
            .find(|source| matches!(source.source, EndpointSource::Kubernetes { .. }));
        let declared = service
            .endpoints
            .iter()
            .find(|source| matches!(source.source, EndpointSource::Declared(_)));
        match (discovered, declared) {
            (Some(discovered), Some(declared)) => {
                self.report(
                    Diagnostic::error(
                        code::EXCLUSIVE,
                        discovered.span,
                        "endpoints are either discovered or written down",
                    )
                    .label(declared.span, "written down here")
                    .help("a service has one source of endpoints; keep one"),
                );
                Endpoints::Discovered
            }
            (None, None) if matches!(service.kind, model::Kind::External(_)) => {
                self.endpoints_of_hosts(service, ports)
            }
            (_, None) => Endpoints::Discovered,
            (None, Some(_)) => Endpoints::Declared(self.addresses(service, ports)),
        }
    }

    fn addresses(
        &mut self,
        service: &model::Service,
        ports: &[Port],
    ) -> Vec<Spanned<DeclaredEndpoint>> {
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        let mut endpoints = Vec::new();
        for source in &service.endpoints {
            let EndpointSource::Declared(addresses) = &source.source else {
                continue;
            };
            for Spanned {
                value: address,
                span,
            } in addresses
            {
                if let Some(first) = seen.insert(address_text(address), *span) {
                    self.report(
                        Diagnostic::error(
                            code::DUPLICATE_DEFINITION,
                            *span,
                            format!("\"{}\" is an endpoint twice", address_text(address)),
                        )
                        .label(first, "the first time"),
                    );
                    continue;
                }
                let Some(port) = self.port_of(address, ports, *span) else {
                    continue;
                };
                let labels = source
                    .labels
                    .iter()
                    .map(|label| label.value.clone())
                    .collect();
                let endpoint = DeclaredEndpoint {
                    address: address.clone(),
                    port,
                    labels,
                };
                endpoints.push(Spanned::new(endpoint, *span));
            }
        }
        endpoints
    }

    /// The port of the service that an address serves: the only one, or the one of the same number.
    fn port_of(&mut self, address: &EndpointAddress, ports: &[Port], span: Span) -> Option<u16> {
        let dialled = match address {
            EndpointAddress::Static(address) => address.port(),
            EndpointAddress::Dns { port, .. } => *port,
        };
        match ports {
            [] => None,
            [only] => Some(only.number.value),
            several if several.iter().any(|port| port.number.value == dialled) => Some(dialled),
            several => {
                let known: Vec<String> = several
                    .iter()
                    .map(|port| port.number.value.to_string())
                    .collect();
                self.report(
                    Diagnostic::error(
                        code::PORT_REQUIRED,
                        span,
                        format!("it is not clear which port of the service {dialled} serves"),
                    )
                    .help(format!(
                        "with several ports an address uses one of them: {}",
                        known.join(", ")
                    )),
                );
                None
            }
        }
    }
}

pub(super) fn address_text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Static(address) => address.to_string(),
        EndpointAddress::Dns { name, port } => format!("{name}:{port}"),
    }
}
