//! `meshc test`: every test through the engine, in every environment, on the slices that would be served.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::model::{Expect, Test as PolicyTest};
use mesh_compiler::trial::{Expectation, Outcome};
use mesh_compiler::{Analysed, Earlier, Input, LinkedMesh, Trial};
use mesh_syntax::Span;

use super::{Failure, folder};
use crate::args::{Place, Test, TestFormat};
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::load::{Loaded, load};
use crate::output;
use crate::render::shown::escaped;
use crate::render::{human, json, tests};

mod coverage;
mod generate;

pub(crate) use coverage::{Coverage, Item, What};

/// What became of a test, in each environment that has it.
#[derive(Debug)]
pub(crate) struct Tested {
    /// Its name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) span: Span,
    /// What it expects.
    pub(crate) expect: Vec<Expect>,
    /// At least one, in the order in which environments are run.
    pub(crate) runs: Vec<Run>,
}

/// A test in one environment.
#[derive(Debug)]
pub(crate) struct Run {
    /// The environment.
    pub(crate) environment: String,
    /// What became of its request.
    pub(crate) outcome: Outcome,
    /// What is otherwise than expected; nothing: it passed.
    pub(crate) failures: Vec<Expectation>,
}

impl Tested {
    /// Whether it passed everywhere.
    pub(crate) fn passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Where it failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| !run.failures.is_empty())
    }

    /// The run to show: the first that failed, else the first.
    pub(crate) fn shown(&self) -> Option<&Run> {
        self.failed().next().or(self.runs.first())
    }
}

/// All tests, and what they touched.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Ascending by name.
    pub(crate) tests: Vec<Tested>,
    /// In all environments together.
    pub(crate) coverage: Coverage,
    /// The environments that were run.
    pub(crate) environments: Vec<String>,
}

/// The meshes of the environments that are asked for, by their names.
pub(super) type Meshes = Vec<(String, LinkedMesh)>;

pub(super) fn run(args: &Test, place: &Place) -> Result<Exit, Failure> {
    let folder = folder(place, args.folder.as_deref());
    let loaded = load(&folder)?;
    let meshes = match meshes(&loaded, place) {
        Ok(meshes) => meshes,
        Err(environment) => return refused(args, place, &loaded, &environment),
    };
    let results = results(&meshes)?;
    if args.generate {
        return generate::run(args, &folder, &meshes, &results);
    }
    let text = match args.format {
        TestFormat::Human => {
            let text = tests::human(&loaded.sources, &results, args.coverage);
            escaped(&text).into_owned()
        }
        TestFormat::Json => tests::json(&loaded.sources, &results)?,
        TestFormat::Junit => tests::junit(&loaded.sources, &results),
    };
    output::data(&text)?;
    let passed = results.tests.iter().all(Tested::passed);
    let covered = args
        .min_coverage
        .is_none_or(|minimum| results.coverage.reaches(minimum));
    if let Some(minimum) = args.min_coverage.filter(|_| !covered) {
        output::note(&results.coverage.too_low(minimum));
    }
    Ok(Exit::from_clean(passed && covered))
}

/// The mesh of every environment that is asked for; an error is the first that has none.
fn meshes(loaded: &Loaded, place: &Place) -> Result<Meshes, String> {
    let mut earlier = Earlier::default();
    let mut names = vec![place.environment().to_owned()];
    let mut meshes = Meshes::new();
    while let Some(environment) = names.pop() {
        let input = Input {
            sources: &loaded.sources,
            environment: &environment,
            root_path: &loaded.root_path,
        };
        let Analysed {
            mesh, environments, ..
        } = mesh_compiler::load_again(input, &mut earlier, &mut ());
        if meshes.is_empty() && place.environment.is_none() {
            names = environments;
            names.reverse();
        }
        match mesh {
            Some(mesh) => meshes.push((environment, mesh)),
            None => return Err(environment),
        }
    }
    Ok(meshes)
}

/// Nothing can be tested; what is wrong is the answer, as `check` would give it.
fn refused(
    args: &Test,
    place: &Place,
    loaded: &Loaded,
    environment: &str,
) -> Result<Exit, Failure> {
    let compiled = compile(Subject {
        environment,
        ..Subject::new(loaded, place)
    });
    compiled.has_environment(environment)?;
    match args.format {
        TestFormat::Json => output::data(&json::check(&loaded.sources, &compiled)?)?,
        TestFormat::Human | TestFormat::Junit => {
            output::note(human::check(&loaded.sources, &compiled).trim_end());
            output::note(&format!(
                "no test was run: the environment `{environment}` can't be understood"
            ));
        }
    }
    Ok(Exit::from_findings(false, &compiled.findings))
}

/// Runs every test in every environment that has it.
fn results(meshes: &Meshes) -> Result<Results, Failure> {
    let mut tested: BTreeMap<(String, Span), Tested> = BTreeMap::new();
    let mut coverage = Coverage::default();
    for (environment, mesh) in meshes {
        let mut trial = Trial::new(mesh);
        let mut outcomes = Vec::new();
        for test in &mesh.tests {
            let report = trial.test(test);
            let run = Run {
                environment: environment.clone(),
                outcome: report.outcome?,
                failures: report.failures,
            };
            outcomes.push(run.outcome.touched.clone());
            let key = (test.name.value.clone(), test.span);
            let tested = tested.entry(key).or_insert_with(|| Tested::of(test));
            tested.runs.push(run);
        }
        coverage.add(mesh, &outcomes);
    }
    Ok(Results {
        tests: tested.into_values().collect(),
        coverage,
        environments: meshes.iter().map(|(name, _)| name.clone()).collect(),
    })
}

impl Tested {
    fn of(test: &PolicyTest) -> Self {
        Self {
            name: test.name.value.clone(),
            span: test.span,
            expect: test.expect.clone(),
            runs: Vec::new(),
        }
    }
}

impl Results {
    /// Names that tests have.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.tests.iter().map(|test| test.name.as_str()).collect()
    }
}
