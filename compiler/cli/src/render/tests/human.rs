//! Results of tests for people: what failed, with what was expected beside what is so.

use mesh_syntax::SourceSet;

use super::{only_in, place, reasons};
use crate::commands::test::{Results, Run, Tested, What};
use crate::render::counted;
use crate::render::human::{frame, verdict};

/// Passed tests are named as long as there are no more than this.
const PASSED_SHOWN_MAX: usize = 60;
/// Failed tests that are shown whole; of the others only the names.
const FAILED_SHOWN_MAX: usize = 100;

/// Failed tests with what went otherwise, and lines that count.
pub(crate) fn human(sources: &SourceSet, results: &Results, lists_uncovered: bool) -> String {
    let tests = &results.tests;
    let passed = tests.iter().filter(|test| test.passed()).count();
    let mut text = String::new();
    if passed <= PASSED_SHOWN_MAX {
        for test in tests.iter().filter(|test| test.passed()) {
            text.push_str("ok   ");
            text.push_str(&test.name);
            text.push('\n');
        }
    }
    for (index, test) in tests.iter().filter(|test| !test.passed()).enumerate() {
        let shown = if index < FAILED_SHOWN_MAX {
            failed(sources, test)
        } else {
            let (only_in, place) = (only_in(test), place(sources, test));
            format!("FAIL {}{only_in} ({place})\n", test.name)
        };
        text.push_str(&shown);
    }
    text.push_str(&summary(results, passed));
    text.push_str(&coverage(sources, results, lists_uncovered));
    text
}

fn failed(sources: &SourceSet, test: &Tested) -> String {
    let mut text = format!("FAIL {}{}\n", test.name, only_in(test));
    let Some(run) = test.shown() else {
        return text;
    };
    let labels: Vec<_> = run
        .failures
        .iter()
        .map(|failure| (failure.span, format!("this is {}", failure.actual)))
        .collect();
    text.push_str(&frame(sources, &labels).unwrap_or_default());
    text.push_str(&table(run));
    let mut said: Vec<String> = Vec::new();
    for reason in run
        .failures
        .iter()
        .flat_map(|failure| reasons(sources, failure))
    {
        if !said.contains(&reason) {
            said.push(reason);
        }
    }
    for (index, reason) in said.iter().enumerate() {
        text.push_str(if index == 0 {
            "     because "
        } else {
            "             "
        });
        text.push_str(reason);
        text.push('\n');
    }
    text.push_str("     the request is ");
    text.push_str(&verdict(sources, &run.outcome));
    if let Some(route) = &run.outcome.route {
        text.push_str(", by route ");
        text.push_str(&route.name);
    }
    text.push_str("\n\n");
    text
}

/// What was expected beside what is so.
fn table(run: &Run) -> String {
    let mut rows = vec![["", "expected", "actual"].map(str::to_owned)];
    rows.extend(run.failures.iter().map(|failure| {
        [
            failure.field.to_owned(),
            failure.expected.clone(),
            failure.actual.clone(),
        ]
    }));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    let lines = rows.iter().map(|[field, expected, actual]| {
        format!("     {field:<first$}  {expected:<second$}  {actual}\n")
    });
    lines.collect::<Vec<_>>().concat()
}

fn summary(results: &Results, passed: usize) -> String {
    let total = results.tests.len();
    let environments = match results.environments.as_slice() {
        [_] => String::new(),
        several => format!(
            " in {} ({})",
            counted(several.len(), "environment"),
            several.join(", ")
        ),
    };
    if total == 0 {
        return "no tests: files called `*.test.kdl` hold them, and `meshc test --generate` writes the first\n".to_owned();
    }
    format!(
        "{}{environments}, {} failed\n",
        counted(total, "test"),
        total - passed
    )
}

fn coverage(sources: &SourceSet, results: &Results, lists_uncovered: bool) -> String {
    let mut text = String::new();
    let mut left = 0;
    for (what, name) in [(What::Route, "routes"), (What::Rule, "rules")] {
        let (covered, total) = results.coverage.counts(what);
        left += total - covered;
        let share = share(covered, total);
        let line = format!("{name} covered: {covered} of {total}{share}\n");
        text.push_str(&line);
        if !lists_uncovered {
            continue;
        }
        let uncovered: Vec<_> = results
            .coverage
            .uncovered(what)
            .map(|(item, span)| {
                let place = span.map(|span| crate::render::effective::place_of(sources, span));
                (item.shown(), place.unwrap_or_default())
            })
            .collect();
        let width = uncovered
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, place) in uncovered {
            text.push_str(format!("  {name:<width$}  {place}").trim_end());
            text.push('\n');
        }
    }
    if left > 0 && !lists_uncovered {
        text.push_str(
            "`--coverage` lists what no test touches, `--generate` writes tests for it\n",
        );
    }
    text
}

fn share(covered: usize, total: usize) -> String {
    match (covered * 100).checked_div(total) {
        Some(share) => format!(" ({share}%)"),
        None => String::new(),
    }
}
