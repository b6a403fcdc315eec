//! `meshc test`: every test through the engine, on the slices that would be served.

use std::collections::BTreeSet;

use mesh_compiler::model::Test as PolicyTest;

use super::{Failure, folder};
use crate::args::{Format, Place, Test};
use crate::compile::compile;
use crate::evaluate::{Evaluator, Expected, Outcome, RequestSpec, expected, mismatch};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::{human, json};

/// What became of a test.
#[derive(Debug)]
pub(crate) struct Tested<'a> {
    /// The test.
    pub(crate) test: &'a PolicyTest,
    /// What its author expects.
    pub(crate) expected: Vec<Expected>,
    /// What the engine decided.
    pub(crate) actual: Outcome,
    /// Why it failed; nothing if it passed.
    pub(crate) mismatch: Option<String>,
}

/// What the tests touch.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// Names of what a test took, …
    pub(crate) covered: BTreeSet<String>,
    /// … of all of these.
    pub(crate) all: BTreeSet<String>,
}

pub(super) fn run(args: &Test, place: &Place) -> Result<Exit, Failure> {
    let loaded = load(&folder(place, args.folder.as_deref()))?;
    let compiled = compile(&loaded.sources, &place.environment, &loaded.root_path);
    let Some(checked) = &compiled.checked else {
        // Nothing can be tested; what is wrong is the answer, as `check` would give it.
        match args.format {
            Format::Human => output::note(human::check(&loaded.sources, &compiled).trim_end()),
            Format::Json => output::data(&json::check(&loaded.sources, &compiled)?)?,
        }
        return Ok(Exit::Findings);
    };
    let mesh = checked.mesh();
    let emitted = mesh_compiler::emit(checked);
    let evaluator = Evaluator::new(mesh, &emitted, &loaded.sources);
    let (mut routes, mut rules) = (Coverage::default(), Coverage::default());
    for service in &mesh.services {
        let name = &service.name.value;
        routes.all.extend(
            service
                .routes
                .iter()
                .filter(|route| !route.implicit)
                .map(|route| format!("{name}/{}", route.name.value)),
        );
        rules.all.extend(
            service
                .access
                .iter()
                .map(|rule| format!("{name}: {}", rule.name)),
        );
    }
    let tested: Vec<Tested<'_>> = mesh
        .tests
        .iter()
        .map(|test| {
            let actual = evaluator.evaluate(&RequestSpec::of_test(&test.request));
            routes.covered.extend(
                actual
                    .route
                    .iter()
                    .map(|route| format!("{}/{route}", actual.to_service)),
            );
            rules.covered.extend(
                actual
                    .rule
                    .iter()
                    .map(|rule| format!("{}: {}", actual.to_service, rule.name)),
            );
            let mismatch = test
                .expect
                .iter()
                .find_map(|expect| mismatch(expect, &actual));
            Tested {
                test,
                expected: test.expect.iter().map(expected).collect(),
                actual,
                mismatch,
            }
        })
        .collect();
    let text = match args.format {
        Format::Human => human::tests(&loaded.sources, &tested, &routes, &rules),
        Format::Json => json::tests(&loaded.sources, &tested, &routes, &rules)?,
    };
    output::data(&text)?;
    Ok(Exit::from_clean(
        tested.iter().all(|tested| tested.mismatch.is_none()),
    ))
}
