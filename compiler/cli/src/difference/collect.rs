//! From two linked meshes to what changes between them. Facts come from the compiler; here they get names and places.

use std::collections::BTreeSet;

use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::diff::{Change, slices};
use mesh_compiler::linked::ServiceId;
use mesh_syntax::{SourceSet, Witness};

use super::amplification::amplification;
use super::settings::settings;
use super::unnamed::unnamed;
use super::written::place;
use super::{Called, Difference, Service, Slice, Unknown};

mod access;
mod routes;
mod skews;
mod timeouts;

use access::access;
use routes::routes;
use skews::skews;
use timeouts::timeouts;

/// Two meshes with the files that they were made from.
#[derive(Clone, Copy)]
pub(crate) struct Meshes<'m> {
    pub(crate) change: Change<'m>,
    pub(crate) old: &'m SourceSet,
    pub(crate) new: &'m SourceSet,
}

/// Compares two meshes.
pub(crate) fn difference(meshes: &Meshes<'_>) -> Difference {
    let change = meshes.change;
    let mut found = Difference::default();
    let records = slices::records(change);
    let touched: BTreeSet<&SpiffeId> = records.iter().flatten().map(|one| &one.identity).collect();
    found.services = services(meshes);
    (found.settings, found.guards) = settings(meshes, &touched);
    found.slices = records.iter().flatten().map(slice).collect();
    found.calls = calls(change);
    skews(meshes, &mut found);
    access(meshes, &mut found);
    routes(meshes, &mut found);
    found.timeouts = timeouts(meshes);
    found.amplification = amplification(change);
    let unnamed = unnamed(records.iter().flatten(), &found);
    found.settings.extend(unnamed);
    if records.is_none() {
        found.unknown.push(Unknown {
            what: "slices",
            service: None,
            reason: "a trust domain is none".to_owned(),
            environments: Vec::new(),
        });
    }
    found
}

fn slice(record: &slices::Record) -> Slice {
    let text = |of: Option<(mesh_bundle::digest::Digest, usize)>| of.map(|of| of.0.to_string());
    let bytes = record.after.or(record.before).map_or(0, |of| of.1);
    Slice {
        workload: record.identity.to_string(),
        before: text(record.before),
        after: text(record.after),
        bytes,
        bytes_before: record.before.map(|of| of.1),
        environments: Vec::new(),
    }
}

fn services(meshes: &Meshes<'_>) -> Vec<Service> {
    let change = meshes.change;
    let pairs = change.pairs().into_iter();
    let found = pairs.filter_map(|pair| {
        let (change, (service, sources)) = match (pair.base, pair.head) {
            (None, Some(id)) => ("added", (change.head.service(id), meshes.new)),
            (Some(id), None) => ("removed", (change.base.service(id), meshes.old)),
            _ => return None,
        };
        Some(Service {
            change,
            name: service.name.value.clone(),
            kind: service.kind.word(),
            source: place(sources, service.name.span),
            environments: Vec::new(),
        })
    });
    found.collect()
}

fn calls(change: Change<'_>) -> Vec<Called> {
    let used = |mesh: &'_ LinkedMesh| -> BTreeSet<(String, String)> {
        let name = |id: ServiceId| mesh.service(id).name.value.clone();
        let edges = mesh.edges.iter().filter(|edge| edge.is_used());
        edges
            .map(|edge| (name(edge.caller), name(edge.callee)))
            .collect()
    };
    let (before, after) = (used(change.base), used(change.head));
    let called = |change, (from, to): &(String, String)| Called {
        change,
        from: from.clone(),
        to: to.clone(),
        environments: Vec::new(),
    };
    let added = after.difference(&before).map(|ends| called("added", ends));
    let removed = before
        .difference(&after)
        .map(|ends| called("removed", ends));
    added.chain(removed).collect()
}

/// Whether a service has several ports.
fn has_several_ports(mesh: &LinkedMesh, name: &str) -> bool {
    let service = mesh.service_named(name).map(|id| mesh.service(id));
    service.is_some_and(|service| service.ports.len() > 1)
}

/// A request as outputs show it, with the name of whoever sends it.
fn shown(mesh: &LinkedMesh, point: &Point, to: &str, names_port: bool) -> Witness {
    let named = |identity: &String| {
        let mut services = mesh.services.iter();
        let owner = services.find(|service| {
            let mut own = service.identities.iter();
            own.any(|own| own.as_str() == identity)
        });
        owner.map_or_else(|| identity.clone(), |owner| owner.name.value.clone())
    };
    point.to_witness(point.from.as_ref().map(named), to.to_owned(), names_port)
}
