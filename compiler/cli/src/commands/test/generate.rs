//! `meshc test --generate`: a test for every route and rule that none touches, from a request that the engine has
//! confirmed. Deterministic, and nothing is written twice: what was written covers what it was written for.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mesh_compiler::Trial;
use mesh_compiler::trial::{
    Call, Coverable, Outcome, Touched, coarse_expect_text, expect_text, laid_out, quoted, sent_text,
};
use mesh_syntax::Witness;

use super::{Item, Meshes, Results, What};
use crate::args::Test;
use crate::commands::Failure;
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;

/// Why tests can't be written where it was asked for.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    #[error("{}: tests are read from files called `*.test.kdl`", .0.display())]
    Name(PathBuf),
    #[error("could not write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

const HEAD: &str = "// Written by `meshc test --generate`: what the policies do, not what they should do. Read each before you rely on it.\n";

pub(super) fn run(
    args: &Test,
    folder: &Path,
    meshes: &Meshes,
    results: &Results,
) -> Result<Exit, Failure> {
    if let Some(out) = &args.out
        && !out.to_string_lossy().ends_with(".test.kdl")
    {
        return Err(GenerateError::Name(out.clone()).into());
    }
    let written = write(meshes, results);
    let added = written.tests.len();
    match &args.out {
        None => output::data(&written.tests.join("\n"))?,
        Some(_) if added == 0 => {}
        Some(out) => append(out, &written.tests)?,
    }
    let where_to = match &args.out {
        Some(out) if added > 0 => format!(" to {}", out.display()),
        _ => String::new(),
    };
    let tests = if added == 1 { "test" } else { "tests" };
    output::note(&format!("{added} {tests} written{where_to}"));
    if let Some(out) = args.out.as_ref().filter(|_| added > 0)
        && !is_read(out, folder)
    {
        output::note("the file is outside of the policy root, where `meshc test` does not see it");
    }
    for item in &written.missing {
        output::note(&format!("no request was found for {}", item.shown()));
    }
    Ok(Exit::Clean)
}

/// Whether a file is read as part of the policies.
fn is_read(file: &Path, folder: &Path) -> bool {
    let (Ok(text), Ok(loaded)) = (fs::read_to_string(file), load(folder)) else {
        return false;
    };
    let mut files = loaded.sources.files();
    files.any(|id| loaded.sources.text(id) == Some(text.as_str()))
}

fn append(out: &Path, tests: &[String]) -> Result<(), GenerateError> {
    let failed = |source| GenerateError::Write {
        path: out.to_owned(),
        source,
    };
    let is_new = fs::metadata(out).map_or(true, |found| found.len() == 0);
    let mut text = if is_new {
        HEAD.to_owned()
    } else {
        String::new()
    };
    for test in tests {
        text.push('\n');
        text.push_str(test);
    }
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// New tests, and what there is none for.
#[derive(Debug, Default)]
struct Written {
    tests: Vec<String>,
    missing: Vec<Item>,
}

fn write(meshes: &Meshes, results: &Results) -> Written {
    let mut trials: Vec<Trial<'_>> = meshes.iter().map(|(_, mesh)| Trial::new(mesh)).collect();
    let mut names: BTreeSet<String> = results.names().into_iter().map(str::to_owned).collect();
    let mut written = Written::default();
    // What a new test touches besides needs none of its own.
    let mut touched: Vec<Touched> = meshes.iter().map(|_| Touched::default()).collect();
    let mut done: BTreeSet<Item> = BTreeSet::new();
    let mut missing: BTreeSet<Item> = BTreeSet::new();
    for (index, (_, mesh)) in meshes.iter().enumerate() {
        for what in Coverable::all(mesh) {
            let item = Item::of(mesh, what);
            if results.coverage.covers(&item)
                || done.contains(&item)
                || covers(&touched[index], what)
            {
                continue;
            }
            let witness = trials.get_mut(index).and_then(|trial| trial.covering(what));
            let Some(found) = witness.and_then(|witness| Found::of(&mut trials, index, witness))
            else {
                missing.insert(item);
                continue;
            };
            for (environment, outcome) in &found.holds {
                if let Some(touched) = touched.get_mut(*environment) {
                    touched.routes.extend(&outcome.touched.routes);
                    touched.rules.extend(&outcome.touched.rules);
                }
            }
            let name = unused(&mut names, &called(&item));
            written.tests.push(found.text(&name, meshes));
            done.insert(item);
        }
    }
    // One environment may have found what another did not.
    written.missing = missing.difference(&done).cloned().collect();
    written
}

/// A request, and what becomes of it in the environments that a test can speak of.
struct Found {
    witness: Witness,
    expect: String,
    /// By the position of the environment.
    holds: Vec<(usize, Outcome)>,
}

impl Found {
    /// As much as all environments agree on; where they agree on nothing, what holds in that of this position, and
    /// which others are like it. None: one can't try it.
    fn of(trials: &mut [Trial<'_>], index: usize, witness: Witness) -> Option<Self> {
        let call = Call::from(&witness);
        let tried = trials.iter_mut().enumerate();
        let tried = tried.map(|(position, trial)| Some((position, trial.run(&call).ok()?)));
        let tried: Vec<Option<(usize, Outcome)>> = tried.collect();
        let exact = |outcome: &Outcome| expect_text(&witness, outcome);
        let own = tried.get(index)?.as_ref().map(|(_, outcome)| outcome)?;
        let (own_exact, own_coarse) = (exact(own), coarse_expect_text(own));
        let holds: Vec<(usize, Outcome)> = tried
            .into_iter()
            .flatten()
            .filter(|(_, outcome)| coarse_expect_text(outcome) == own_coarse)
            .collect();
        let is_exact = holds.iter().all(|(_, outcome)| exact(outcome) == own_exact);
        Some(Self {
            witness,
            expect: if is_exact { own_exact } else { own_coarse },
            holds,
        })
    }

    /// The whole test, laid out as `meshc fmt` does.
    fn text(&self, name: &str, meshes: &Meshes) -> String {
        let sent = self.holds.first();
        let sent = sent.map(|(_, outcome)| sent_text(&self.witness, outcome));
        let (name, sent, expect) = (quoted(name), sent.unwrap_or_default(), &self.expect);
        let only = if self.holds.len() == meshes.len() {
            String::new()
        } else {
            let named = self.holds.iter().filter_map(|(position, _)| {
                let (name, _) = meshes.get(*position)?;
                Some(name.as_str())
            });
            format!("    environment {}\n", named.collect::<Vec<_>>().join(" "))
        };
        laid_out(format!(
            "test {name} {{\n{only}    {sent}\n    {expect}\n}}\n"
        ))
    }
}

fn covers(touched: &Touched, what: Coverable) -> bool {
    match what {
        Coverable::Route(id) => touched.routes.contains(&id),
        Coverable::Rule(service, rule) => touched.rules.contains(&(service, rule)),
    }
}

fn called(item: &Item) -> String {
    let (service, name) = (&item.service, &item.name);
    match item.what {
        What::Route => format!("{service}: route {name}"),
        What::Rule => format!("{service}: {name}"),
    }
}

/// Tests are told apart by their names.
fn unused(names: &mut BTreeSet<String>, wanted: &str) -> String {
    let numbered = (2..).map(|number| format!("{wanted} ({number})"));
    let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
    let name = candidates
        .find(|name| !names.contains(name))
        .unwrap_or_else(|| wanted.to_owned());
    names.insert(name.clone());
    name
}
