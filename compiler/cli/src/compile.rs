//! From sources to findings and, where there is no error, to slices: what every command starts with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_compiler::date::Date;
use mesh_compiler::progress::Observer;
use mesh_compiler::{CheckedMesh, Input, LinkedMesh};
use mesh_lint::{Checked, Checker, Skipped, Suppressed};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::args::Place;
use crate::base::{Base, NotCompared};
use crate::baseline::Compared;
use crate::load::Loaded;

mod environments;

pub(crate) use environments::together;

/// What is known about the policies of one root.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// How many files were read.
    pub(crate) files: usize,
    /// Declared environments.
    pub(crate) environments: Vec<String>,
    /// The environments that were checked.
    pub(crate) checked_in: Vec<String>,
    /// Everything found, in the order of outputs.
    pub(crate) findings: Vec<Diagnostic>,
    /// By index of a finding, the environments that alone have it; others are found in all.
    only_in: BTreeMap<usize, Vec<String>>,
    /// The mesh as something that may be emitted; nothing if there is an error among the findings.
    pub(crate) checked: Option<Arc<CheckedMesh>>,
    /// What could be understood in spite of an error; nothing if there is none.
    understood: Option<Arc<LinkedMesh>>,
    /// What somebody answers for, in the order of outputs.
    pub(crate) suppressed: Vec<Suppressed>,
    /// Checks that could not be made for want of data.
    pub(crate) skipped: Vec<Skipped>,
    /// Why nothing was compared with what is deployed, where that was asked for; once for each reason, with the
    /// environments that alone have it.
    pub(crate) not_compared: Vec<(NotCompared, Vec<String>)>,
    /// What is to be known of where the base lies.
    pub(crate) base_note: Option<String>,
    /// What a baseline made of the findings.
    pub(crate) compared: Option<Compared>,
}

/// What is compiled, and as of when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The files.
    pub(crate) sources: &'a SourceSet,
    /// The environment.
    pub(crate) environment: &'a str,
    /// Folder of the root in the repository.
    pub(crate) root_path: &'a str,
    /// The day on which suppressions are judged.
    pub(crate) today: Date,
}

impl<'a> Subject<'a> {
    /// The policies of the work tree, for the environment and the day that a command was given.
    pub(crate) fn new(loaded: &'a Loaded, place: &'a Place) -> Self {
        Self {
            sources: &loaded.sources,
            environment: place.environment(),
            root_path: &loaded.root_path,
            today: place.today(),
        }
    }
}

/// Reads, links, lints and, without an error among the findings, compiles.
pub(crate) fn compile(subject: Subject<'_>) -> Compiled {
    compile_observed(&mut Checker::once(), None, subject, &mut ())
}

/// The same, with what changes from what is deployed, for somebody who watches.
pub(crate) fn compile_observed(
    checker: &mut Checker,
    base: Option<&Base>,
    subject: Subject<'_>,
    observer: &mut dyn Observer,
) -> Compiled {
    let input = Input {
        sources: subject.sources,
        environment: subject.environment,
        root_path: subject.root_path,
    };
    let checked_in = vec![subject.environment.to_owned()];
    let subject = mesh_lint::Subject {
        input,
        base: base.and_then(Base::mesh),
        today: subject.today,
    };
    let Checked {
        files,
        environments,
        findings,
        suppressed,
        mut skipped,
        checked,
        understood,
    } = checker.check(subject, observer);
    let mesh = checked.as_deref().map(CheckedMesh::mesh);
    let mesh = mesh.or(understood.as_deref());
    let not_compared = base.and_then(|base| base.why_not_compared(mesh));
    let not_compared = not_compared.map(|not| (not, Vec::new()));
    let compared = base.map(|base| base.skipped(mesh));
    skipped.extend(compared.unwrap_or_default());
    Compiled {
        files,
        environments,
        checked_in,
        findings,
        only_in: BTreeMap::new(),
        checked,
        understood,
        suppressed,
        skipped,
        not_compared: not_compared.into_iter().collect(),
        base_note: base.and_then(|base| base.note.clone()),
        compared: None,
    }
}

/// The environment that a command was given is not one of the mesh: the command can't run.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default())]
pub(crate) struct NoEnvironment {
    message: String,
    help: Option<String>,
}

impl Compiled {
    /// Whether policy has the environment that was asked for. Where `mesh` can't be read nobody knows, and what is wrong
    /// with it is said instead.
    pub(crate) fn has_environment(&self, asked: &str) -> Result<(), NoEnvironment> {
        let message = mesh_compiler::no_environment(asked);
        let mut findings = self.findings.iter();
        match findings.find(|finding| finding.message == message) {
            Some(finding) => Err(NoEnvironment {
                message,
                help: finding.help.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Why nothing was compared, in words.
    pub(crate) fn not_compared(&self) -> impl Iterator<Item = String> {
        self.not_compared.iter().map(|(not, environments)| {
            let names = environments.join(", ");
            match environments.as_slice() {
                [] => not.why.clone(),
                _ => format!("{} (in {names})", not.why),
            }
        })
    }

    /// Every finding in the order of outputs, saying in its text where only some environments have it.
    pub(crate) fn shown(&self) -> impl Iterator<Item = Cow<'_, Diagnostic>> {
        self.findings.iter().enumerate().map(|(index, finding)| {
            let environments = self.only_in(index);
            if environments.is_empty() {
                return Cow::Borrowed(finding);
            }
            let names = environments.join(", ");
            let message = format!("{} (only in {names})", finding.message);
            Cow::Owned(Diagnostic {
                message,
                ..finding.clone()
            })
        })
    }

    /// The environments that alone have a finding; none: all that were checked.
    pub(crate) fn only_in(&self, index: usize) -> &[String] {
        self.only_in.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Adds findings that all environments have.
    pub(crate) fn add(&mut self, findings: Vec<Diagnostic>) {
        let mut all = self.take_findings();
        all.extend(findings.into_iter().map(|finding| (finding, Vec::new())));
        all.sort_by(|(a, _), (b, _)| a.sort_key().cmp(&b.sort_key()));
        self.put_findings(all);
    }

    /// Every finding, with the environments that alone have it.
    pub(crate) fn take_findings(&mut self) -> Vec<(Diagnostic, Vec<String>)> {
        let mut only_in = std::mem::take(&mut self.only_in);
        let findings = std::mem::take(&mut self.findings).into_iter().enumerate();
        findings
            .map(|(index, finding)| (finding, only_in.remove(&index).unwrap_or_default()))
            .collect()
    }

    /// The opposite of [`Compiled::take_findings`].
    pub(crate) fn put_findings(&mut self, findings: Vec<(Diagnostic, Vec<String>)>) {
        for (index, (finding, environments)) in findings.into_iter().enumerate() {
            self.findings.push(finding);
            if !environments.is_empty() {
                self.only_in.insert(index, environments);
            }
        }
    }

    /// The mesh, as far as it could be understood.
    pub(crate) fn mesh(&self) -> Option<&LinkedMesh> {
        let checked = self.checked.as_deref().map(CheckedMesh::mesh);
        checked.or(self.understood.as_deref())
    }

    /// Gives back the memory of what findings don't need.
    pub(crate) fn forget_mesh(&mut self) {
        self.checked = None;
        self.understood = None;
    }

    /// How many findings there are of a level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}
