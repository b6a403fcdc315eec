//! The standard library: policies that every mesh can `use` as `std.NAME`, embedded in the compiler.
//!
//! A policy of the library has no file in anybody's repository. Its values therefore point at the `use` that took them,
//! which is the line that somebody wrote and can change. The prefix `std.` is nobody else's, so the two can't collide.

use std::collections::BTreeMap;

use mesh_syntax::{Arg, Diagnostic, Node, Prop, SourceSet, Span};

use crate::code;
use crate::keyword;
use crate::model::{Mesh, Policy, Spanned};
use crate::suggest;

/// A file of the library.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name below `std.`.
    pub name: &'static str,
    /// The file: comments that say what it is for, and one policy.
    pub text: &'static str,
}

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        &[$(Entry {
            name: $name,
            text: include_str!(concat!("../../../policies/std/", $name, ".kdl")),
        }),*]
    };
}

/// Every policy of the library, ascending by name.
pub const LIBRARY: &[Entry] = library![
    "canary",
    "circuit-breaking",
    "no-retries",
    "rate-limit",
    "retries",
    "strict-identity",
    "timeouts",
];

/// What names of the library begin with.
pub(crate) const PREFIX: &str = "std.";

/// The policies that a mesh takes from the library, by the place of the `use`.
pub(crate) type Used = BTreeMap<Span, Policy>;

/// Fills in what a mesh uses of the library.
pub(crate) fn fill(mesh: &mut Mesh) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for policy in &mesh.policies {
        if policy.name.value.starts_with(PREFIX) {
            findings.push(
                Diagnostic::error(
                    code::DUPLICATE_DEFINITION,
                    policy.name.span,
                    format!("names that begin with `{PREFIX}` are those of the standard library"),
                )
                .help("choose another name; the library's policy can be used as it is"),
            );
        }
    }
    let defaults = mesh.root.iter().flat_map(|root| &root.defaults.uses);
    let services = mesh
        .services
        .iter()
        .flat_map(|service| &service.settings.uses);
    let mut parsed: BTreeMap<&'static str, Option<Node>> = BTreeMap::new();
    let mut used = Used::new();
    for site in defaults.chain(services) {
        let Some(name) = site.value.strip_prefix(PREFIX) else {
            continue;
        };
        let Some(entry) = LIBRARY.iter().find(|entry| entry.name == name) else {
            findings.push(unknown(site));
            continue;
        };
        let node = parsed.entry(entry.name).or_insert_with(|| parse(*entry));
        if let Some(policy) = node.as_ref().and_then(|node| policy(node, site)) {
            used.insert(site.span, policy);
        }
    }
    mesh.library = used;
    findings
}

fn unknown(site: &Spanned<String>) -> Diagnostic {
    let names: Vec<String> = LIBRARY
        .iter()
        .map(|entry| format!("{PREFIX}{}", entry.name))
        .collect();
    let message = format!("the standard library has no policy `{}`", site.value);
    let finding = Diagnostic::error(code::DANGLING_REFERENCE, site.span, message);
    match suggest::nearest(&site.value, names.iter().map(String::as_str)) {
        Some(near) => finding.help(format!("did you mean `{near}`?")).fix(
            format!("write `{near}`"),
            vec![mesh_syntax::Edit::new(site.span, near)],
        ),
        None => finding.help(format!("it has {}", names.join(", "))),
    }
}

fn parse(entry: Entry) -> Option<Node> {
    let mut sources = SourceSet::new();
    sources.add(entry.name, entry.text.as_bytes().to_vec());
    let (trees, _) = mesh_syntax::parse(&sources);
    trees.into_iter().next()?.nodes.into_iter().next()
}

fn policy(node: &Node, site: &Spanned<String>) -> Option<Policy> {
    let policy = keyword::decode_library(&placed(node, site.span))?;
    Some(Policy {
        name: site.clone(),
        ..policy
    })
}

/// The same node with every place in it the one of the `use`.
fn placed(node: &Node, span: Span) -> Node {
    let name = |name: &mesh_syntax::Name| mesh_syntax::Name {
        text: name.text.clone(),
        span,
    };
    Node {
        name: name(&node.name),
        args: node
            .args
            .iter()
            .map(|arg| Arg {
                value: arg.value.clone(),
                span,
            })
            .collect(),
        props: node
            .props
            .iter()
            .map(|prop| Prop {
                name: name(&prop.name),
                value: prop.value.clone(),
                span,
                value_span: span,
            })
            .collect(),
        children: node
            .children
            .iter()
            .map(|child| placed(child, span))
            .collect(),
        has_block: node.has_block,
        span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util;

    #[test]
    fn every_file_is_one_documented_policy_of_its_name() {
        assert!(LIBRARY.is_sorted_by(|a, b| a.name < b.name));
        for entry in LIBRARY {
            let node = parse(*entry).unwrap();
            assert_eq!(node.name.text, "policy");
            assert_eq!(node.first_arg().unwrap().value.as_str(), Some(entry.name));
            let first = format!("// use std.{}\n//\n// ", entry.name);
            assert!(entry.text.starts_with(&first), "{}", entry.name);
            assert!(entry.text.ends_with("}\n") && !entry.text.contains('\t'));
            assert!(
                entry.text.lines().all(|line| line.len() <= 120),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn the_folder_holds_what_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/std");
        #[expect(
            clippy::disallowed_methods,
            reason = "a test of what is in the repository"
        )]
        let files = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let embedded: Vec<String> = LIBRARY
            .iter()
            .map(|entry| format!("{}.kdl", entry.name))
            .collect();
        assert_eq!(names, embedded);
    }

    #[test]
    fn every_policy_can_be_used() {
        for entry in LIBRARY {
            let found = test_util::findings(&format!(
                "service a {{ port 80; endpoints {{ static \"10.0.0.1:80\" }}; use std.{} }}\n",
                entry.name
            ));
            assert!(found.is_empty(), "{found}");
        }
    }

    #[test]
    fn values_point_at_the_use_that_took_them() {
        let sources = test_util::sources(&[
            (
                "a.kdl",
                "service a { port 80; use std.timeouts }\nservice b {\n port 80\n use std.timeouts\n}",
            ),
            ("mesh.kdl", test_util::MESH),
        ]);
        let mesh = test_util::load(&sources).mesh.unwrap();
        let line = |index: usize| {
            let timeout = &mesh.services[index].routes[0].exchange.timeout;
            assert_eq!(timeout.value.unwrap().as_secs(), 5);
            sources.line_column(timeout.source.span().unwrap()).0
        };
        assert_eq!((line(0), line(1)), (1, 4));
    }

    #[test]
    fn the_library_s_names_are_its_own() {
        insta::assert_snapshot!(test_util::findings(
            "policy std.retries { retry none }
service a { port 80; use std.retrys }
service b { port 80; use std.timeouts std.timeouts }
service c { port 80; use std.retries std.no-retries }
"
        ));
    }
}
