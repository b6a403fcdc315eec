//! The published schema is itself a KDL schema.

#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::{BTreeMap, BTreeSet};

use mesh_syntax::{Node, SourceSet};

/// What may stand in which node of a schema, after the specification of the KDL Schema Language 2.0.0: for each
/// node its properties and its children.
fn grammar() -> BTreeMap<&'static str, (&'static [&'static str], &'static [&'static str])> {
    const CHECKS: &[&str] = &["min", "max", "required", "type", "enum"];
    BTreeMap::from([
        ("document", (&[][..], &["info", "node", "definitions"][..])),
        ("info", (&[], &["title", "version"])),
        ("title", (&["lang"], &[])),
        ("version", (&[], &[])),
        ("definitions", (&[], &["node", "children"])),
        (
            "node",
            (
                &["description", "id", "ref"],
                &[
                    "min",
                    "max",
                    "other-props-allowed",
                    "prop",
                    "value",
                    "children",
                ],
            ),
        ),
        ("prop", (&["description"], CHECKS)),
        ("value", (&["description"], CHECKS)),
        ("children", (&["id", "ref"], &["node"])),
        ("min", (&[], &[])),
        ("max", (&[], &[])),
        ("required", (&[], &[])),
        ("type", (&[], &[])),
        ("enum", (&[], &[])),
        ("other-props-allowed", (&[], &[])),
    ])
}

fn walk(node: &Node, ids: &mut BTreeSet<String>, refs: &mut Vec<String>) {
    let grammar = grammar();
    let (props, children) = grammar[node.name.text.as_str()];
    for prop in &node.props {
        assert!(
            props.contains(&prop.name.text.as_str()),
            "{}",
            prop.name.text
        );
    }
    let text = |name: &str| {
        node.prop(name)
            .map(|prop| prop.value.as_str().unwrap().to_owned())
    };
    if let Some(id) = text("id") {
        assert!(ids.insert(id.clone()), "{id} is there twice");
    }
    refs.extend(text("ref"));
    for child in &node.children {
        let name = child.name.text.as_str();
        assert!(children.contains(&name), "{name} in {}", node.name.text);
        walk(child, ids, refs);
    }
}

#[test]
fn the_schema_is_a_schema_whose_references_lead_somewhere() {
    let mut sources = SourceSet::new();
    sources.add(
        "mesh.schema.kdl",
        mesh_compiler::keyword::schema().into_bytes(),
    );
    let (trees, findings) = mesh_syntax::parse(&sources);
    assert!(findings.is_empty(), "{findings:?}");
    let [document] = trees[0].nodes.as_slice() else {
        panic!("one document");
    };
    let (mut ids, mut refs) = (BTreeSet::new(), Vec::new());
    walk(document, &mut ids, &mut refs);
    assert!(!refs.is_empty());
    for reference in refs {
        let id = reference
            .strip_prefix("[id=\"")
            .and_then(|rest| rest.strip_suffix("\"]"));
        assert!(ids.contains(id.unwrap()), "{reference}");
    }
    let names: BTreeSet<&str> = document
        .children_named("definitions")
        .flat_map(|definitions| definitions.children_named("node"))
        .map(|node| node.first_arg().unwrap().value.as_str().unwrap())
        .collect();
    for keyword in mesh_compiler::keyword::KEYWORDS {
        assert!(names.contains(keyword.name));
    }
}
