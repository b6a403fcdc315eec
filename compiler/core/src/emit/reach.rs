//! How callees are reached that no proxy of the mesh stands beside, and who may leave for externals.

use mesh_bundle::slice::{CalleeKind, CalleeListener, ClientTls, OutboundService, PortDial};

use crate::linked::{Edge, Kind, LinkedMesh, Service};
use crate::model::Tls;

pub(super) fn kind(mesh: &LinkedMesh, service: &Service) -> CalleeKind {
    match &service.kind {
        Kind::External(external) => CalleeKind::External {
            via: external
                .via
                .map(|via| mesh.service(via.value).name.value.clone()),
        },
        Kind::Service | Kind::Gateway(_) if service.reach.unmeshed.is_some() => {
            CalleeKind::Unmeshed
        }
        Kind::Service | Kind::Gateway(_) => CalleeKind::Meshed,
    }
}

pub(super) fn addresses(service: &Service) -> Vec<ipnet::IpNet> {
    let mut addresses: Vec<_> = service
        .reach
        .addresses
        .iter()
        .map(|address| address.value)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub(super) fn dials(service: &Service) -> Vec<PortDial> {
    let mut dials: Vec<PortDial> = service
        .reach
        .dials
        .iter()
        .flat_map(|dial| {
            dial.ports.iter().map(|port| PortDial {
                port: port.value,
                dial: dial.dial.map(|dial| dial.value),
                tls: dial.tls.as_ref().map(client_tls),
            })
        })
        .collect();
    dials.sort_by_key(|dial| dial.port);
    dials
}

fn client_tls(tls: &Tls) -> ClientTls {
    let value =
        |name: &Option<crate::model::Spanned<String>>| name.as_ref().map(|name| name.value.clone());
    ClientTls {
        sni: value(&tls.sni),
        sans: value(&tls.san).into_iter().collect(),
        trust: value(&tls.trust),
        certificate: value(&tls.certificate),
        min: tls.min.map(|min| min.value).unwrap_or_default(),
    }
}

/// Where the caller's proxy listens for a callee of bytes.
pub(super) fn listeners(mesh: &LinkedMesh, edge: &Edge) -> Vec<CalleeListener> {
    let calls = &mesh.service(edge.caller).calls;
    let mut listeners: Vec<CalleeListener> = edge
        .declared
        .iter()
        .filter_map(|call| calls.get(*call)?.listen)
        .map(|(address, port)| CalleeListener {
            address: address.value,
            port,
        })
        .collect();
    listeners.sort_by_key(|listener| (listener.address, listener.port));
    listeners.dedup();
    listeners
}

/// The rules of the externals among the callees; they are enforced at the caller.
pub(super) fn externals<'m>(
    mesh: &LinkedMesh,
    callees: impl Iterator<Item = &'m Edge>,
) -> Vec<OutboundService> {
    callees
        .map(|edge| mesh.service(edge.callee))
        .filter(|service| service.is_external())
        .map(|service| OutboundService {
            service: service.name.value.clone(),
            rules: service.access.iter().map(super::rule).collect(),
        })
        .collect()
}
