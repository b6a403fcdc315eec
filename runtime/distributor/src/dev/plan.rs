//! What `meshd dev` starts for a mesh: pure, from the linked mesh and its slices to instances and
//! traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use mesh_bundle::slice::{ClientAddress, Gateway, Label, Protocol, Slice};
use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::Trial;
use mesh_compiler::linked::{self, Endpoints, Kind, LinkedMesh, Service};
use mesh_compiler::model::Port;
use mesh_compiler::trial::{Call, Decision};
use mesh_syntax::Witness;

/// Instances of one subset, at most: enough to see balancing and a failover on a laptop.
const INSTANCES_MAX: usize = 3;

/// All services of a mesh, and the traffic between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By name.
    pub(super) services: BTreeMap<String, PlannedService>,
    /// By caller and callee.
    pub(super) edges: BTreeMap<(String, String), PlannedCall>,
}

/// A request that demo traffic sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedCall {
    pub(super) request: Witness,
    /// The listener of the gateway that it enters by; none: its caller's proxy sends it.
    pub(super) entry: Option<Entry>,
}

/// A listener of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) port: u16,
    /// Name of the certificate that it shows; none: plaintext.
    pub(super) certificate: Option<String>,
    /// Whether connections begin with the header of the PROXY protocol.
    pub(super) is_proxied: bool,
}

/// One service or gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PlannedService {
    pub(super) identity: String,
    /// None of a gateway: what it opens comes with its slice.
    pub(super) ports: Vec<u16>,
    pub(super) instances: Vec<PlannedInstance>,
    pub(super) is_gateway: bool,
    /// Whether clients of some listener are who the PROXY protocol says.
    pub(super) is_proxied: bool,
    /// Certificates that it shows, and the hosts that they are for.
    pub(super) certificates: BTreeMap<String, Vec<String>>,
    /// Names of other key material that its policy uses.
    pub(super) other_secrets: BTreeSet<String>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedInstance {
    /// Unique in the mesh.
    pub(super) id: String,
    pub(super) subset: Option<String>,
    pub(super) labels: Vec<Label>,
    /// Where its proxy opens what policy says with `calls … { listen }`, there and nowhere else: on one machine only
    /// one can.
    pub(super) listen: Vec<SocketAddr>,
}

/// One instance per subset, or as many as policy declares static endpoints; one edge per call that
/// is declared and permitted.
pub(super) fn plan(mesh: &LinkedMesh, slices: &BTreeMap<SpiffeId, Slice>) -> Plan {
    let services = mesh
        .services
        .iter()
        .filter(|service| matches!(service.kind, Kind::Service))
        .filter_map(|service| {
            let identity = service.identities.first()?;
            let planned = PlannedService {
                identity: identity.to_string(),
                ports: service.ports.iter().map(|port| port.number.value).collect(),
                instances: instances(service),
                other_secrets: slices.get(identity).map(dialled_with).unwrap_or_default(),
                ..PlannedService::default()
            };
            Some((service.name.value.clone(), planned))
        });
    let gateways = slices.iter().flat_map(|(identity, slice)| {
        let gateway = |gateway: &Gateway| {
            let planned = planned_gateway(identity, slice, gateway);
            (gateway.name.clone(), planned)
        };
        slice.gateways.iter().map(gateway)
    });
    let mut services = services.chain(gateways).collect();
    share_out(&mut services, slices);
    // What is sent are requests.
    let takes_requests = |port: &Port| matches!(port.protocol, Protocol::Http | Protocol::Grpc);
    let edges = mesh
        .edges
        .iter()
        .filter(|edge| !edge.declared.is_empty() && !edge.permitted.is_empty())
        .filter(|edge| matches!(mesh.service(edge.caller).kind, Kind::Service))
        .filter(|edge| mesh.service(edge.callee).ports.iter().any(takes_requests))
        .filter_map(|edge| {
            let request = mesh_compiler::sample_request(mesh, edge.caller, edge.callee)?;
            let name = |id| mesh.service(id).name.value.clone();
            let call = PlannedCall {
                request,
                entry: None,
            };
            Some(((name(edge.caller), name(edge.callee)), call))
        });
    let edges = edges.chain(entering(mesh)).collect();
    Plan { services, edges }
}

/// Gives each address at which callers listen for callees to the first instance that wants it.
fn share_out(services: &mut BTreeMap<String, PlannedService>, slices: &BTreeMap<SpiffeId, Slice>) {
    let mut taken = BTreeSet::new();
    for service in services.values_mut() {
        let wanted = slices
            .iter()
            .filter(|(identity, _)| identity.as_str() == service.identity)
            .flat_map(|(_, slice)| &slice.callees)
            .flat_map(|callee| &callee.listeners)
            .map(|listener| listener.address);
        if let Some(first) = service.instances.first_mut() {
            first.listen = wanted.filter(|address| taken.insert(*address)).collect();
        }
    }
}

/// What clients of the gateways would send, one request for each service behind.
fn entering(mesh: &LinkedMesh) -> Vec<((String, String), PlannedCall)> {
    let mut trial = Trial::new(mesh);
    let mut calls = Vec::new();
    for edge in &mesh.edges {
        let Kind::Gateway(gateway) = &mesh.service(edge.caller).kind else {
            continue;
        };
        let name = |id| mesh.service(id).name.value.clone();
        let names = (name(edge.caller), name(edge.callee));
        let Some(sample) = mesh_compiler::sample_request(mesh, edge.caller, edge.callee) else {
            continue;
        };
        let found = gateway_requests(gateway, &sample).find(|call| {
            let asked = Call {
                from: None,
                to: names.0.clone(),
                port: call.entry.as_ref().map(|entry| entry.port),
                ..Call::from(&call.request)
            };
            let outcome = trial.run(&asked);
            outcome.is_ok_and(|outcome| {
                outcome.decision == Decision::Allowed
                    && outcome.behind.iter().any(|at| at.service == names.1)
            })
        });
        calls.extend(found.map(|call| (names, call)));
    }
    calls
}

/// Requests that may get through a gateway to where the sample goes; over TLS first.
fn gateway_requests(
    gateway: &linked::Gateway,
    sample: &Witness,
) -> impl Iterator<Item = PlannedCall> {
    let mut listeners: Vec<_> = gateway.listeners.iter().collect();
    listeners.sort_by_key(|listener| listener.tls.is_none());
    listeners.into_iter().flat_map(move |listener| {
        let host = listener.hosts.first().map_or("localhost", String::as_str);
        let host = host.replace("**", "www").replace('*', "www");
        let certificate = listener
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate.clone());
        let entry = Entry {
            port: listener.port.value,
            certificate: certificate.map(|name| name.value),
            is_proxied: listener.client_address == ClientAddress::ProxyProtocol,
        };
        let paths = [sample.path.clone(), "/".to_owned()];
        paths.into_iter().map(move |path| PlannedCall {
            request: Witness {
                path,
                host: host.clone(),
                ..sample.clone()
            },
            entry: Some(entry.clone()),
        })
    })
}

/// Names of the key material that calls to services outside the mesh take.
fn dialled_with(slice: &Slice) -> BTreeSet<String> {
    let dials = slice.callees.iter().flat_map(|callee| &callee.dials);
    dials
        .filter_map(|dial| dial.tls.as_ref())
        .flat_map(|tls| tls.trust.iter().chain(&tls.certificate).cloned())
        .collect()
}

/// One instance; what it opens, its slice says.
fn planned_gateway(identity: &SpiffeId, slice: &Slice, gateway: &Gateway) -> PlannedService {
    let entered = slice.access.services.iter();
    let listeners = entered
        .filter(|service| service.service == gateway.name)
        .flat_map(|service| &service.listeners);
    let mut certificates: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut other_secrets = BTreeSet::new();
    let mut is_proxied = false;
    for listener in listeners {
        is_proxied |= listener.client_address == ClientAddress::ProxyProtocol;
        let Some(tls) = &listener.tls else { continue };
        let hosts = certificates.entry(tls.certificate.clone()).or_default();
        hosts.extend(listener.hosts.iter().cloned());
        hosts.sort_unstable();
        hosts.dedup();
        other_secrets.extend(tls.trust.clone());
    }
    PlannedService {
        identity: identity.to_string(),
        instances: vec![PlannedInstance {
            id: format!("{}-1", gateway.name),
            subset: None,
            labels: Vec::new(),
            listen: Vec::new(),
        }],
        is_gateway: true,
        is_proxied,
        certificates,
        other_secrets,
        ..PlannedService::default()
    }
}

fn instances(service: &Service) -> Vec<PlannedInstance> {
    let name = &service.name.value;
    if service.subsets.is_empty() {
        return (1..=count(service, &[]))
            .map(|number| PlannedInstance {
                id: format!("{name}-{number}"),
                subset: None,
                labels: Vec::new(),
                listen: Vec::new(),
            })
            .collect();
    }
    let of_subset = |subset: &linked::Subset| {
        let labels: Vec<Label> = subset
            .labels
            .iter()
            .map(|label| label.value.clone())
            .collect();
        let subset = subset.name.value.clone();
        (1..=count(service, &labels))
            .map(|number| PlannedInstance {
                id: format!("{name}-{subset}-{number}"),
                subset: Some(subset.clone()),
                labels: labels.clone(),
                listen: Vec::new(),
            })
            .collect::<Vec<_>>()
    };
    service.subsets.iter().flat_map(of_subset).collect()
}

/// Declared endpoints that carry these labels, within reason.
fn count(service: &Service, labels: &[Label]) -> usize {
    let declared = match &service.endpoints {
        Endpoints::Declared(endpoints) => endpoints
            .iter()
            .filter(|endpoint| {
                labels
                    .iter()
                    .all(|label| endpoint.value.labels.contains(label))
            })
            .count(),
        Endpoints::Discovered => 0,
    };
    declared.clamp(1, INSTANCES_MAX)
}
