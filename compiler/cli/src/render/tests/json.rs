//! `meshc test --format json`. Field names are a contract: fields are added, never renamed or dropped.

use mesh_compiler::trial;
use mesh_syntax::SourceSet;
use serde::Serialize;
use serde_json::Value;

use super::because;
use crate::commands::test::{Results, Run, Tested, What};
use crate::render::effective::place_of;
use crate::render::expectation::{self, Expected};
use crate::render::json::line;

#[derive(Serialize)]
struct Out<'a> {
    tests: Vec<TestOut<'a>>,
    coverage: CoverageBoth,
    environments: &'a [String],
}

#[derive(Serialize)]
struct TestOut<'a> {
    name: &'a str,
    file: &'a str,
    line: u32,
    passed: bool,
    because: Option<String>,
    expected: Value,
    /// Of the first environment in which it failed, else of the first.
    actual: Value,
    failures: Vec<FailureOut<'a>>,
    /// The environments that have the test.
    environments: Vec<&'a str>,
    failed_in: Vec<&'a str>,
}

#[derive(Serialize)]
struct FailureOut<'a> {
    field: &'a str,
    expected: &'a str,
    actual: &'a str,
    line: u32,
    column: u32,
    because: Vec<ReasonOut<'a>>,
}

#[derive(Serialize)]
struct ReasonOut<'a> {
    text: &'a str,
    source: Option<String>,
}

#[derive(Serialize)]
struct CoverageBoth {
    routes: CoverageOut,
    rules: CoverageOut,
}

#[derive(Serialize)]
struct CoverageOut {
    covered: usize,
    total: usize,
    uncovered: Vec<String>,
}

/// The results as one line of JSON.
pub(crate) fn json(sources: &SourceSet, results: &Results) -> serde_json::Result<String> {
    line(&Out {
        tests: results
            .tests
            .iter()
            .map(|test| out(sources, test))
            .collect(),
        coverage: CoverageBoth {
            routes: coverage(results, What::Route),
            rules: coverage(results, What::Rule),
        },
        environments: &results.environments,
    })
}

fn out<'a>(sources: &'a SourceSet, test: &'a Tested) -> TestOut<'a> {
    let expected = test
        .expect
        .iter()
        .map(|expect| object(&expectation::expected(expect)));
    let expected: Vec<Value> = expected.collect();
    let shown = test.shown();
    let name = |run: &'a Run| run.environment.as_str();
    TestOut {
        name: &test.name,
        file: sources.path(test.span.file),
        line: sources.line_column(test.span).0,
        passed: test.passed(),
        because: shown.and_then(|run| because(&run.outcome, &run.failures)),
        expected: match expected.as_slice() {
            [one] => one.clone(),
            _ => Value::from(expected),
        },
        actual: shown.map_or(Value::Null, |run| {
            object(&expectation::actual(&run.outcome))
        }),
        failures: failures(sources, shown),
        environments: test.runs.iter().map(name).collect(),
        failed_in: test.failed().map(name).collect(),
    }
}

fn failures<'a>(sources: &SourceSet, run: Option<&'a Run>) -> Vec<FailureOut<'a>> {
    let failures = run.into_iter().flat_map(|run| &run.failures);
    let failures = failures.map(|failure| {
        let (line, column) = sources.line_column(failure.span);
        FailureOut {
            field: failure.field,
            expected: &failure.expected,
            actual: &failure.actual,
            line,
            column,
            because: failure
                .because
                .iter()
                .map(|reason| ReasonOut {
                    text: &reason.text,
                    source: reason.span.map(|span| place_of(sources, span)),
                })
                .collect(),
        }
    });
    failures.collect()
}

/// Only what was said: an absent field is not compared.
fn object(expected: &Expected) -> Value {
    let mut fields = serde_json::Map::new();
    fields.insert("decision".to_owned(), expected.decision.into());
    fields.extend(
        expected
            .fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    if !expected.shares.is_empty() {
        let share = |(subset, share): &(Option<String>, u32)| serde_json::json!({ "to": subset, "share": trial::percent(*share) });
        fields.insert(
            "split".to_owned(),
            expected.shares.iter().map(share).collect(),
        );
    }
    Value::Object(fields)
}

fn coverage(results: &Results, what: What) -> CoverageOut {
    let (covered, total) = results.coverage.counts(what);
    CoverageOut {
        covered,
        total,
        uncovered: results
            .coverage
            .uncovered(what)
            .map(|(item, _)| item.shown())
            .collect(),
    }
}
