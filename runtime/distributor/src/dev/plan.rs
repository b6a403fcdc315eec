//! What `meshd dev` starts for a mesh: pure, from the linked mesh to instances and traffic.

use std::collections::BTreeMap;

use mesh_bundle::slice::Label;
use mesh_compiler::linked::{Endpoints, LinkedMesh, Service};
use mesh_syntax::Witness;

/// Instances of one subset, at most: enough to see balancing and a failover on a laptop.
const INSTANCES_MAX: usize = 3;

/// All services of a mesh, and the traffic between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By name.
    pub(super) services: BTreeMap<String, PlannedService>,
    /// By caller and callee.
    pub(super) edges: BTreeMap<(String, String), Witness>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedService {
    pub(super) identity: String,
    pub(super) ports: Vec<u16>,
    pub(super) instances: Vec<PlannedInstance>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedInstance {
    /// Unique in the mesh.
    pub(super) id: String,
    pub(super) subset: Option<String>,
    pub(super) labels: Vec<Label>,
}

/// One instance per subset, or as many as policy declares static endpoints; one edge per call that
/// is declared and permitted.
pub(super) fn plan(mesh: &LinkedMesh) -> Plan {
    let services = mesh
        .services
        .iter()
        .filter_map(|service| {
            let planned = PlannedService {
                identity: service.identities.first()?.to_string(),
                ports: service.ports.iter().map(|port| port.number.value).collect(),
                instances: instances(service),
            };
            Some((service.name.value.clone(), planned))
        })
        .collect();
    let edges = mesh
        .edges
        .iter()
        .filter(|edge| !edge.declared.is_empty() && !edge.permitted.is_empty())
        .filter_map(|edge| {
            let request = mesh_compiler::sample_request(mesh, edge.caller, edge.callee)?;
            let name = |id| mesh.service(id).name.value.clone();
            Some(((name(edge.caller), name(edge.callee)), request))
        })
        .collect();
    Plan { services, edges }
}

fn instances(service: &Service) -> Vec<PlannedInstance> {
    let name = &service.name.value;
    if service.subsets.is_empty() {
        return (1..=count(service, &[]))
            .map(|number| PlannedInstance {
                id: format!("{name}-{number}"),
                subset: None,
                labels: Vec::new(),
            })
            .collect();
    }
    let of_subset = |subset: &mesh_compiler::linked::Subset| {
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
