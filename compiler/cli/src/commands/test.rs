//! `meshc test`: every test through the engine, on the slices that would be served.

use std::collections::BTreeSet;

use mesh_compiler::Trial;
use mesh_compiler::model::Test as PolicyTest;
use mesh_compiler::trial::{Expectation, Outcome};

use super::{Failure, folder};
use crate::args::{Format, Place, Test};
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::shown::escaped;
use crate::render::{human, json};

/// What became of a test.
#[derive(Debug)]
pub(crate) struct Tested<'a> {
    /// The test.
    pub(crate) test: &'a PolicyTest,
    /// What became of its request.
    pub(crate) outcome: Outcome,
    /// What is otherwise than expected; nothing: it passed.
    pub(crate) failures: Vec<Expectation>,
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
    let compiled = compile(Subject::new(&loaded, place));
    let Some(checked) = &compiled.checked else {
        // Nothing can be tested; what is wrong is the answer, as `check` would give it.
        match args.format {
            Format::Human => output::note(human::check(&loaded.sources, &compiled).trim_end()),
            Format::Json => output::data(&json::check(&loaded.sources, &compiled)?)?,
        }
        return Ok(Exit::Findings);
    };
    let mesh = checked.mesh();
    let mut trial = Trial::new(mesh);
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
    let mut tested = Vec::new();
    for test in &mesh.tests {
        let report = trial.test(test);
        let outcome = report.outcome?;
        let to = &test.request.to.value;
        let route = outcome.route.as_ref();
        let rule = outcome.rule.as_ref();
        routes
            .covered
            .extend(route.map(|route| format!("{to}/{}", route.name)));
        for behind in &outcome.behind {
            let service = &behind.service;
            routes.covered.extend(
                behind
                    .route
                    .iter()
                    .map(|route| format!("{service}/{}", route.name)),
            );
            rules.covered.extend(
                behind
                    .rule
                    .iter()
                    .map(|rule| format!("{service}: {}", rule.name)),
            );
        }
        rules
            .covered
            .extend(rule.map(|rule| format!("{to}: {}", rule.name)));
        tested.push(Tested {
            test,
            outcome,
            failures: report.failures,
        });
    }
    let text = match args.format {
        Format::Human => {
            escaped(&human::tests(&loaded.sources, &tested, &routes, &rules)).into_owned()
        }
        Format::Json => json::tests(&loaded.sources, &tested, &routes, &rules)?,
    };
    output::data(&text)?;
    Ok(Exit::from_clean(
        tested.iter().all(|tested| tested.failures.is_empty()),
    ))
}
