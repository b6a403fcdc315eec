//! `meshc diff`: what a change means, read from git.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mesh_compiler::diff::Change;
use mesh_compiler::{DEFAULT_ENVIRONMENT, Earlier, LinkedMesh};
use mesh_repo::{Repository, input_digest};

use super::{Failure, folder};
use crate::args::{Diff, DiffFormat, Place};
use crate::base;
use crate::difference::Difference;
use crate::difference::collect::{Meshes, difference};
use crate::difference::proof::Proofs;
use crate::difference::version::{
    Understood, Version, VersionError, empty_like, folder_in, merge_base,
};
use crate::exit_code::Exit;
use crate::output;
use crate::render::shown::escaped;
use crate::render::{difference as render, human, json};

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
enum DiffError {
    /// Its findings were told.
    #[error(
        "the policies of the {0} have errors, and so mean nothing yet; mend them, or name a commit that compiles"
    )]
    Broken(String),
    /// Neither side has it.
    #[error("neither `{base}` nor `{head}` has the environment `{name}`")]
    NoEnvironment {
        name: String,
        base: String,
        head: String,
    },
    /// Only commits can be compared there.
    #[error(
        "{} is a bare repository, without a work tree to compare with `{base}`; name two commits: `meshc diff {base} HEAD`", folder.display()
    )]
    Bare { folder: PathBuf, base: String },
    /// Git's way to name two commits.
    #[error("`{0}` names two commits at once; name them one after the other: `meshc diff {1}`")]
    Range(String, String),
    /// It would not be read as tests.
    #[error(
        "{} would not be read as tests; name a file that ends in .test.kdl, or `-` for the standard output", .0.display()
    )]
    NoTests(PathBuf),
    /// Nothing is overwritten.
    #[error("could not write the tests to {}; name a file that is not there yet", path.display())]
    Tests {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What writes tests to the standard output.
const STANDARD_OUTPUT: &str = "-";

/// What can be asked at all.
fn refused(args: &Diff) -> Result<(), DiffError> {
    for name in std::iter::once(&args.base).chain(&args.head) {
        if let Some((base, head)) = name.split_once("..") {
            let (merge, head) = match head.strip_prefix('.') {
                Some(head) => ("--merge-base ", head),
                None => ("", head),
            };
            let or_head = |name: &str| if name.is_empty() { "HEAD" } else { name }.to_owned();
            let instead = format!("{merge}{} {}", or_head(base), or_head(head));
            return Err(DiffError::Range(name.clone(), instead));
        }
    }
    match &args.write_tests {
        Some(path)
            if path.as_os_str() != STANDARD_OUTPUT
                && !path.to_string_lossy().ends_with(".test.kdl") =>
        {
            Err(DiffError::NoTests(path.clone()))
        }
        _ => Ok(()),
    }
}

pub(super) fn run(args: &Diff, place: &Place) -> Result<Exit, Failure> {
    refused(args)?;
    let (old, new) = versions(args, &folder(place, None))?;
    if old.root.is_none() && new.root.is_none() {
        return Err(Box::new(VersionError::NoPolicies(old.name, new.name)));
    }
    let same_files =
        old.root == new.root && input_digest(&old.sources) == input_digest(&new.sources);
    let mut compared = Compared {
        old,
        new,
        earlier: Earlier::default(),
        proofs: Proofs::default(),
    };
    let mut found = if same_files {
        compared.has_environment(place.environment.as_deref())?;
        Difference::default()
    } else {
        compared.in_environments(place.environment.as_deref(), args.write_tests.is_some())?
    };
    let slices = [found.base.slices, found.head.slices];
    (found.base, found.head) = (compared.old.side(), compared.new.side());
    [found.base.slices, found.head.slices] = slices;
    found.same_files = same_files;
    found.no_change = found.is_nothing();
    let text = match args.format {
        DiffFormat::Human => escaped(&render::human(&found)).into_owned(),
        DiffFormat::Json => json::line(&found)?,
        DiffFormat::Markdown => render::markdown(&found),
    };
    let is_told = match &args.write_tests {
        Some(path) => {
            write_tests(path, &compared.tests())?;
            path.as_os_str() != STANDARD_OUTPUT
        }
        None => true,
    };
    // Tests and what they are about would be neither.
    if is_told {
        output::data(&text)?;
    }
    if let Some(note) = &compared.new.note {
        output::note(note);
    }
    Ok(Exit::from_clean(!args.exit_code || found.no_change))
}

fn versions(args: &Diff, folder: &Path) -> Result<(Version, Version), Failure> {
    let repository = Repository::discover(folder)?;
    if repository.is_bare() && args.head.is_none() {
        let (folder, base) = (folder.to_path_buf(), args.base.clone());
        return Err(Box::new(DiffError::Bare { folder, base }));
    }
    let inside = folder_in(&repository, folder);
    let head = match &args.head {
        Some(name) => Some((name.as_str(), base::commit(&repository, name)?)),
        None => None,
    };
    let mut base = base::commit(&repository, &args.base)?;
    if args.merge_base {
        let with = match head {
            Some(head) => head,
            None => ("HEAD", base::commit(&repository, "HEAD")?),
        };
        base = merge_base(&repository, (&args.base, base), with)?;
    }
    let new = match head {
        Some(head) => Version::of_commit(&repository, head, &inside, None)?,
        None => Version::of_work_tree(folder)?,
    };
    let old = (args.base.as_str(), base);
    let old = Version::of_commit(&repository, old, &inside, new.root.as_deref())?;
    Ok((old, new))
}

struct Compared {
    old: Version,
    new: Version,
    earlier: Earlier,
    proofs: Proofs,
}

impl Compared {
    /// Whether there is such an environment, where both sides are the same.
    fn has_environment(&mut self, asked: Option<&str>) -> Result<(), Failure> {
        let Some(asked) = asked.filter(|asked| *asked != DEFAULT_ENVIRONMENT) else {
            return Ok(());
        };
        let side = self.read(asked, false);
        let names = side.iter().flat_map(|side| &side.environments);
        if names.into_iter().any(|name| name == asked) {
            return Ok(());
        }
        Err(Box::new(self.no_environment(asked)))
    }

    fn no_environment(&self, name: &str) -> DiffError {
        DiffError::NoEnvironment {
            name: name.to_owned(),
            base: self.old.name.clone(),
            head: self.new.name.clone(),
        }
    }

    /// Compares in one environment, or in each that either version has.
    fn in_environments(&mut self, asked: Option<&str>, tests: bool) -> Result<Difference, Failure> {
        let first = asked.unwrap_or(DEFAULT_ENVIRONMENT);
        let (old, new) = (self.read(first, true), self.read(first, false));
        let names = |side: &Option<Understood>| -> BTreeSet<String> {
            let names = side.iter().flat_map(|side| &side.environments);
            names.cloned().collect()
        };
        let (was, is) = (names(&old), names(&new));
        if first != DEFAULT_ENVIRONMENT && !was.contains(first) && !is.contains(first) {
            return Err(Box::new(self.no_environment(first)));
        }
        let both = old.is_some() && new.is_some();
        let (old, new) = (self.mesh(old, true)?, self.mesh(new, false)?);
        let mut runs = Vec::new();
        let mut slices = [&old, &new].map(|mesh| mesh.as_ref().map_or(0, slices_of));
        runs.extend(self.compare(first, (old, new), tests));
        if asked.is_none() {
            for name in was.union(&is) {
                let (old, new) = (self.read(name, true), self.read(name, false));
                let meshes = (self.mesh(old, true)?, self.mesh(new, false)?);
                slices[0] += meshes.0.as_ref().map_or(0, slices_of);
                slices[1] += meshes.1.as_ref().map_or(0, slices_of);
                runs.extend(self.compare(name, meshes, tests));
            }
        }
        let mut found = Difference::together(runs);
        [found.base.slices, found.head.slices] = slices;
        if both && asked.is_none() {
            found.environments_added = is.difference(&was).cloned().collect();
            found.environments_removed = was.difference(&is).cloned().collect();
        }
        Ok(found)
    }

    /// One side in an environment; none where it has no policies, or not this environment.
    fn read(&mut self, environment: &str, old: bool) -> Option<Understood> {
        let version = if old { &self.old } else { &self.new };
        version.root.as_ref()?;
        let understood = version.understood(environment, &mut self.earlier);
        let is_there = environment == DEFAULT_ENVIRONMENT
            || understood
                .environments
                .iter()
                .any(|name| name == environment);
        if is_there {
            return Some(understood);
        }
        // The environments of a version that lacks this one are still those that it has.
        let mut other = version.understood(DEFAULT_ENVIRONMENT, &mut self.earlier);
        other.mesh = None;
        other.errors.clear();
        Some(other)
    }

    fn mesh(
        &self,
        understood: Option<Understood>,
        old: bool,
    ) -> Result<Option<LinkedMesh>, Failure> {
        let Some(understood) = understood else {
            return Ok(None);
        };
        if understood.mesh.is_none() && !understood.errors.is_empty() {
            let version = if old { &self.old } else { &self.new };
            output::note(human::findings(&version.sources, &understood.errors).trim_end());
            return Err(Box::new(DiffError::Broken(version.named())));
        }
        Ok(understood.mesh)
    }

    /// Tests of what is new, which say where they hold where that is not everywhere.
    fn tests(&mut self) -> String {
        let mut meshes = Vec::new();
        let mut names = vec![DEFAULT_ENVIRONMENT.to_owned()];
        while let Some(name) = names.pop() {
            let Some(side) = self.read(&name, false) else {
                break;
            };
            if meshes.is_empty() && name == DEFAULT_ENVIRONMENT {
                names.extend(side.environments.iter().rev().cloned());
            }
            // An environment that nobody asked for may have errors; no test is said to pass there.
            meshes.extend(side.mesh.map(|mesh| (name, mesh)));
        }
        self.proofs.text(&meshes)
    }

    /// What is not there is compared as a mesh without anything in it.
    fn compare(
        &mut self,
        environment: &str,
        meshes: (Option<LinkedMesh>, Option<LinkedMesh>),
        tests: bool,
    ) -> Option<(String, Difference)> {
        let one_side = meshes.0.is_some() != meshes.1.is_some();
        let (base, head) = match meshes {
            (Some(base), Some(head)) => (base, head),
            (Some(base), None) => {
                let head = empty_like(&base)?;
                (base, head)
            }
            (None, Some(head)) => (empty_like(&head)?, head),
            (None, None) => return None,
        };
        let meshes = Meshes {
            change: Change::new(&base, &head),
            old: &self.old.sources,
            new: &self.new.sources,
        };
        let mut found = difference(&meshes);
        if one_side && self.old.root.is_some() && self.new.root.is_some() {
            // What guards the mesh guards the environments that there are; nobody took it away or added it.
            found.guards.clear();
        }
        if tests {
            self.proofs.add(environment, meshes.change, &found);
        }
        Some((environment.to_owned(), found))
    }
}

/// Identities that get a slice.
fn slices_of(mesh: &LinkedMesh) -> usize {
    let own = mesh
        .services
        .iter()
        .filter(|service| !service.is_external());
    let identities: BTreeSet<_> = own.flat_map(|service| &service.identities).collect();
    identities.len()
}

fn write_tests(path: &Path, text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        output::note("no request ends otherwise than before, so there is no test to write");
        return Ok(());
    }
    if path.as_os_str() == STANDARD_OUTPUT {
        return Ok(output::data(text)?);
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| {
        let path = path.to_path_buf();
        DiffError::Tests { path, source }
    })?;
    Ok(())
}
