//! Gateways: how they are entered, and where their routes lead.

use mesh_bundle::slice::{self, CalleeExchange, Listener, ServerTls};

use crate::linked::{self, LinkedMesh, RouteId, Service};
use crate::model::Tls;

/// The routes of a gateway. Each says what holds with every route of the services that it leads to, so
/// that a proxy need only look it up.
pub(super) fn gateway(mesh: &LinkedMesh, service: &Service) -> slice::Gateway {
    let routes = service.routes.iter().enumerate().map(|(index, route)| {
        let id = RouteId {
            service: service.id,
            index,
        };
        slice::Route {
            exchanges: exchanges(mesh, id),
            ..super::route(mesh, route, &route.exchange)
        }
    });
    slice::Gateway {
        name: service.name.value.clone(),
        routes: routes.collect(),
    }
}

fn exchanges(mesh: &LinkedMesh, route: RouteId) -> Vec<CalleeExchange> {
    let mut all = Vec::new();
    for edge in mesh.edges_of(route.service) {
        let callee = mesh.service(edge.callee);
        for routed in edge.routed.iter().filter(|routed| routed.route == route) {
            let both = callee.routes.iter().zip(&routed.exchanges);
            all.extend(both.map(|(of_callee, exchange)| CalleeExchange {
                service: callee.name.value.clone(),
                route: of_callee.name.value.clone(),
                exchange: super::exchange(exchange),
            }));
        }
    }
    all
}

/// How connections to a gateway are taken.
pub(super) fn listeners(gateway: &linked::Gateway) -> Vec<Listener> {
    gateway
        .listeners
        .iter()
        .map(|listener| Listener {
            port: listener.port.value,
            hosts: listener.hosts.clone(),
            tls: listener.tls.as_ref().and_then(server_tls),
            client_address: listener.client_address,
        })
        .collect()
}

/// Nothing without a certificate, which decoding has reported.
fn server_tls(tls: &Tls) -> Option<ServerTls> {
    Some(ServerTls {
        certificate: tls.certificate.as_ref()?.value.clone(),
        trust: tls.trust.as_ref().map(|trust| trust.value.clone()),
        client: tls.client.map(|client| client.value).unwrap_or_default(),
        min: tls.min.map(|min| min.value).unwrap_or_default(),
    })
}
