//! From trees to the declared mesh.

use mesh_syntax::{Diagnostic, Node, SourceSet, Span, Tree};
use rayon::prelude::*;

use super::{
    Entry, Place, Reader, authorizer, external, gateway, invariant, inventory, jwt, mesh, policy,
    route, service, suppress, test,
};
use crate::code;
use crate::limits;
use crate::model::{Mesh, Policy};

/// What could be decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) mesh: Mesh,
    pub(crate) findings: Vec<Diagnostic>,
    /// A definition is missing because of a finding, so a name that nothing has may be its.
    pub(crate) incomplete: bool,
}

/// Whether a file holds what was found in the fleet, and no policy.
pub fn is_inventory(path: &str) -> bool {
    path.rsplit('/').next() == Some("inventory.kdl")
}

/// Decodes the files of a root.
pub(crate) fn decode<'t>(
    sources: &SourceSet,
    trees: impl IntoIterator<Item = &'t Tree>,
) -> Decoded {
    let trees: Vec<&Tree> = trees.into_iter().collect();
    let parts: Vec<Decoded> = trees
        .into_par_iter()
        .map(|tree| decode_tree(sources, tree))
        .collect();
    let mut whole = Decoded {
        mesh: Mesh::default(),
        findings: Vec::new(),
        incomplete: false,
    };
    for part in parts {
        let first = whole.mesh.root.as_ref().map(|root| root.name_span);
        if let (Some(second), Some(first)) = (whole.mesh.add(part.mesh), first) {
            whole.findings.push(second_root(second.name_span, first));
        }
        whole.findings.extend(part.findings);
        whole.incomplete |= part.incomplete;
    }
    whole.findings.truncate(limits::FINDINGS_MAX + 1);
    whole
}

/// Decodes a policy of the standard library, in which a test finds no mistake.
pub(crate) fn decode_library(node: &Node) -> Option<Policy> {
    let sources = SourceSet::new();
    let mut reader = Reader::new(&sources);
    let entries = reader.entries(std::slice::from_ref(node), Place::Root);
    policy::decode(&mut reader, *entries.first()?)
}

fn decode_tree(sources: &SourceSet, tree: &Tree) -> Decoded {
    let mut reader = Reader::new(sources);
    let mut mesh = Mesh::default();
    let path = sources.path(tree.file);
    let place = if path.ends_with(".test.kdl") {
        Place::TestFile
    } else if is_inventory(path) {
        Place::InventoryFile
    } else {
        Place::Root
    };
    let entries = reader.entries(&tree.nodes, place);
    let mut incomplete = entries.len() < tree.nodes.len();
    for entry in entries {
        incomplete |= definition(&mut reader, entry, &mut mesh).is_none();
    }
    Decoded {
        mesh,
        findings: reader.into_findings(),
        incomplete,
    }
}

fn definition(reader: &mut Reader<'_>, entry: Entry<'_>, mesh: &mut Mesh) -> Option<()> {
    match entry.word() {
        "gateway" => mesh.services.push(gateway::decode(reader, entry)?),
        "route" => mesh
            .gateway_routes
            .push(route::decode_of_gateway(reader, entry)?),
        "service" => mesh.services.push(service::decode(reader, entry)?),
        "invariant" => mesh.invariants.push(invariant::decode(reader, entry)?),
        "jwt" => mesh.jwts.push(jwt::decode(reader, entry)?),
        "authorizer" => mesh.authorizers.push(authorizer::decode(reader, entry)?),
        "external" => mesh.services.push(external::decode(reader, entry)?),
        "policy" => mesh.policies.push(policy::decode(reader, entry)?),
        "test" => mesh.tests.push(test::decode(reader, entry)?),
        "suppress" => mesh.suppressions.push(suppress::decode(reader, entry)?),
        "inventory" => mesh.inventories.push(inventory::decode(reader, entry)?),
        _ => {
            let root = mesh::decode(reader, entry)?;
            match &mesh.root {
                Some(first) => reader.report(second_root(root.name_span, first.name_span)),
                None => mesh.root = Some(root),
            }
        }
    }
    Some(())
}

fn second_root(span: Span, first: Span) -> Diagnostic {
    Diagnostic::error(code::DUPLICATE_DEFINITION, span, "a second `mesh`")
        .label(first, "the first one")
        .help("one folder holds one mesh; a command takes one of several folders")
}
