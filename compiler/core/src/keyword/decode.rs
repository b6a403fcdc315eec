//! From trees to the declared mesh.

use mesh_syntax::{Diagnostic, SourceSet, Span, Tree};

use super::{Entry, Place, Reader, gateway, mesh, policy, route, service, test};
use crate::code;
use crate::model::Mesh;

/// What could be decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) mesh: Mesh,
    pub(crate) findings: Vec<Diagnostic>,
    /// A definition is missing because of a finding, so a name that nothing has may be its.
    pub(crate) incomplete: bool,
}

/// Decodes the files of a root.
pub(crate) fn decode<'t>(
    sources: &SourceSet,
    trees: impl IntoIterator<Item = &'t Tree>,
) -> Decoded {
    let mut reader = Reader::new(sources);
    let mut mesh = Mesh::default();
    let mut incomplete = false;
    for tree in trees {
        let path = sources.path(tree.file);
        let place = if path.ends_with(".test.kdl") {
            Place::TestFile
        } else {
            Place::Root
        };
        let entries = reader.entries(&tree.nodes, place);
        incomplete |= entries.len() < tree.nodes.len();
        for entry in entries {
            incomplete |= definition(&mut reader, entry, &mut mesh).is_none();
        }
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
        "policy" => mesh.policies.push(policy::decode(reader, entry)?),
        "test" => mesh.tests.push(test::decode(reader, entry)?),
        _ => {
            let root = mesh::decode(reader, entry)?;
            match &mesh.root {
                Some(first) => second_root(reader, root.name_span, first.name_span),
                None => mesh.root = Some(root),
            }
        }
    }
    Some(())
}

fn second_root(reader: &mut Reader<'_>, span: Span, first: Span) {
    reader.report(
        Diagnostic::error(code::DUPLICATE_DEFINITION, span, "a second `mesh`")
            .label(first, "the first one")
            .help("one folder holds one mesh; a command takes one of several folders"),
    );
}
