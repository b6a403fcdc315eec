//! The policies in `every_word` use every word of the language with every property, and each is read, linked and, where
//! proxies act on it, carried to them.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_compiler::keyword::{KEYWORDS, Place, is_inventory, words_in};
use mesh_compiler::linked::LinkedMesh;
use mesh_compiler::{Analysed, Input};
use mesh_syntax::{Node, SourceSet};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> SourceSet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/every_word");
    let mut sources = SourceSet::new();
    for path in files(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        sources.add(name.to_owned(), std::fs::read(&path).unwrap());
    }
    sources
}

fn load(sources: &SourceSet, environment: &str) -> Analysed {
    mesh_compiler::load(Input {
        sources,
        environment,
        root_path: "",
    })
}

/// Notes the words of a block, and of the blocks below it.
fn see(nodes: &[Node], place: Place, seen: &mut BTreeSet<String>) {
    for node in nodes {
        // What an `override` holds is what its target holds, which is seen there.
        let Some(keyword) = words_in(place).find(|word| word.name == node.name.text) else {
            assert_eq!(
                place,
                Place::Override,
                "`{}` in {}",
                node.name.text,
                place.describe()
            );
            continue;
        };
        let word = format!("{} ({})", keyword.name, keyword.summary);
        seen.extend(
            node.props
                .iter()
                .map(|prop| format!("{} of {word}", prop.name.text)),
        );
        seen.insert(word);
        if let Some(block) = keyword.block {
            see(&node.children, block, seen);
        }
    }
}

#[test]
fn every_word_and_property_is_there() {
    let sources = sources();
    let mut seen = BTreeSet::new();
    for file in sources.files() {
        let path = sources.path(file);
        if Path::new(path)
            .extension()
            .is_none_or(|extension| extension != "kdl")
        {
            continue;
        }
        let place = match path {
            path if path.ends_with(".test.kdl") => Place::TestFile,
            path if is_inventory(path) => Place::InventoryFile,
            path if path.starts_with("environments/") => Place::Environment,
            _ => Place::Root,
        };
        let parsed = mesh_syntax::parse_file(&sources, file);
        see(&parsed.0, place, &mut seen);
    }
    let mut missing = Vec::new();
    for keyword in KEYWORDS {
        let word = format!("{} ({})", keyword.name, keyword.summary);
        let props = keyword
            .props
            .iter()
            .map(|prop| format!("{} of {word}", prop.name));
        missing.extend(props.filter(|prop| !seen.contains(prop)));
        missing.extend(Some(word.clone()).filter(|word| !seen.contains(word)));
    }
    assert_eq!(missing, Vec::<String>::new());
}

fn mesh(sources: &SourceSet, environment: &str) -> LinkedMesh {
    let analysed = load(sources, environment);
    let found = mesh_compiler::test_util::render(sources, &analysed.diagnostics);
    assert_eq!(found, "", "{environment}");
    analysed.mesh.unwrap()
}

#[test]
fn every_word_is_read_and_linked() {
    let sources = sources();
    let shared = mesh(&sources, mesh_compiler::DEFAULT_ENVIRONMENT);
    let prod = mesh(&sources, "prod");
    let edge = |mesh: &LinkedMesh| {
        let edge = mesh.service(mesh.service_named("edge").unwrap());
        (edge.routes.iter())
            .map(|route| (route.name.value.clone(), route.destinations.len()))
            .collect::<Vec<_>>()
    };
    let named = |routes: &[(&str, usize)]| -> Vec<(String, usize)> {
        routes
            .iter()
            .map(|(name, to)| ((*name).to_owned(), *to))
            .collect()
    };
    // A route in a file of its own is changed whole and removed by its name and its gateway's.
    let find = |routes: Vec<(String, usize)>, name: &str| {
        routes
            .into_iter()
            .filter(|route| route.0 == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(find(edge(&shared), "shop"), named(&[("shop", 2)]));
    assert_eq!(find(edge(&prod), "shop"), named(&[("shop", 1)]));
    assert_eq!(find(edge(&shared), "gone").len(), 1);
    assert_eq!(find(edge(&prod), "gone").len(), 0);
    // `none` is what holds when nobody says anything.
    let other = shared.service(shared.service_named("other").unwrap());
    let exchange = &other.routes[0].exchange;
    assert_eq!(exchange.attempts.value, 1);
    assert_eq!(
        exchange.connect.value,
        mesh_compiler::linked::Exchange::built_in().connect.value
    );
    // The port that counts, where the service has several.
    let via = other
        .rate_limits
        .iter()
        .find_map(|limit| limit.via.as_ref())
        .unwrap();
    assert_eq!(via.0.value.port, Some(9090));
    let built = mesh_compiler::emit(&mesh_compiler::check(load(&sources, "prod"), &[]).unwrap());
    // One for each service and gateway; nobody stands at the door of an external.
    assert_eq!(built.slices.len(), 10);
}
