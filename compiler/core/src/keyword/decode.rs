//! From trees to the declared mesh.

use std::borrow::Cow;
use std::sync::Arc;

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
#[derive(Clone, Debug, Default)]
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

/// What was decoded of each file of some sources, by its position; none: not known, or not to be relied on.
pub(crate) type Known = Vec<Option<Arc<Decoded>>>;

/// Decodes the files of a root. A tree that is a file's own and known is not decoded again, and what is decoded of the
/// others is known then.
pub(crate) fn decode(
    sources: &SourceSet,
    trees: &[Cow<'_, Tree>],
    mut known: Option<&mut Known>,
) -> Decoded {
    let before = known.as_deref();
    let parts: Vec<Arc<Decoded>> = trees
        .par_iter()
        .map(|tree| {
            let known = match tree {
                Cow::Borrowed(tree) => before.and_then(|known| known.get(tree.file.index())),
                // An environment has changed it.
                Cow::Owned(_) => None,
            };
            let known = known.and_then(Option::as_ref).map(Arc::clone);
            known.unwrap_or_else(|| Arc::new(decode_tree(sources, tree)))
        })
        .collect();
    if let Some(known) = &mut known {
        for (tree, part) in trees.iter().zip(&parts) {
            let place = known.get_mut(tree.file.index());
            if let (Cow::Borrowed(_), Some(known)) = (tree, place) {
                *known = Some(Arc::clone(part));
            }
        }
    }
    let mut whole = Decoded::default();
    for part in parts {
        let part = Arc::unwrap_or_clone(part);
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
        "gateway" => mesh
            .services
            .push(Arc::new(gateway::decode(reader, entry)?)),
        "route" => mesh
            .gateway_routes
            .push(route::decode_of_gateway(reader, entry)?),
        "service" => mesh
            .services
            .push(Arc::new(service::decode(reader, entry)?)),
        "invariant" => mesh.invariants.push(invariant::decode(reader, entry)?),
        "jwt" => mesh.jwts.push(jwt::decode(reader, entry)?),
        "authorizer" => mesh.authorizers.push(authorizer::decode(reader, entry)?),
        "external" => mesh
            .services
            .push(Arc::new(external::decode(reader, entry)?)),
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
