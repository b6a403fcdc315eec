//! The policies that we publish compile clean and pass their own tests.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use std::path::{Path, PathBuf};

use mesh_compiler::test_util::{load, render};
use mesh_compiler::{Trial, sample_request};
use mesh_syntax::SourceSet;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "kdl") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn bookshop() -> SourceSet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples/bookshop");
    let mut sources = SourceSet::new();
    for path in files(&root) {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        sources.add(name, std::fs::read(&path).unwrap());
    }
    sources
}

#[test]
fn the_bookshop_is_clean_and_passes_its_tests() {
    let sources = bookshop();
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    let mesh = analysed.mesh.clone().unwrap();
    let mut trial = Trial::new(&mesh);
    assert!(mesh.tests.len() > 5, "the tests were read");
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(report.passed(), "{}: {report:#?}", test.name.value);
    }
    let checked = mesh_compiler::check(analysed, &[]).unwrap();
    assert_eq!(mesh_compiler::emit(&checked).slices.len(), 6);
}

#[test]
fn every_edge_of_the_bookshop_has_a_request() {
    let sources = bookshop();
    let mesh = load(&sources).mesh.unwrap();
    let mut requests = Vec::new();
    for edge in &mesh.edges {
        let request = sample_request(&mesh, edge.caller, edge.callee).unwrap();
        requests.push(format!(
            "{} {} from {} to {} {:?}",
            request.method,
            request.path,
            request.from.unwrap(),
            request.to,
            request.headers
        ));
    }
    assert_eq!(
        requests,
        [
            "POST /v1/charges from orders to payments []",
            "GET /details/1 from productpage to details []",
            "GET /reviews/1 from productpage to reviews []",
            "POST /orders/1 from public to orders []",
            "GET /books from public to productpage []",
            "GET /ratings/1 from reviews to ratings []",
        ]
    );
}

#[test]
fn every_environment_of_the_bookshop_is_clean_and_passes_its_tests() {
    let sources = bookshop();
    let shared = load(&sources).mesh.unwrap().tests.len();
    for environment in ["staging", "prod"] {
        let analysed = mesh_compiler::load(mesh_compiler::Input {
            sources: &sources,
            environment,
            root_path: "",
        });
        assert_eq!(render(&sources, &analysed.diagnostics), "", "{environment}");
        assert_eq!(analysed.environments, ["prod", "staging"]);
        let mesh = analysed.mesh.clone().unwrap();
        assert_eq!(mesh.tests.len(), shared + 1, "{environment} adds a test");
        let mut trial = Trial::new(&mesh);
        for test in &mesh.tests {
            let report = trial.test(test);
            assert!(
                report.passed(),
                "{environment}: {}: {report:#?}",
                test.name.value
            );
        }
        mesh_compiler::check(analysed, &[]).unwrap();
    }
}
