//! From sources to findings and, where there is no error, to slices: what every command starts with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mesh_compiler::date::Date;
use mesh_compiler::progress::Observer;
use mesh_compiler::{CheckedMesh, Earlier, Input, LinkedMesh, Slices};
use mesh_lint::{Skipped, Suppressed};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::args::Place;
use crate::base::Base;
use crate::load::Loaded;

mod environments;

pub(crate) use environments::together;

/// What is known about the policies of one root.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// How many files were read.
    pub(crate) files: usize,
    /// What could be understood in spite of an error; nothing if there is none.
    understood: Option<Box<LinkedMesh>>,
    /// Declared environments.
    pub(crate) environments: Vec<String>,
    /// Everything found, in the order of outputs.
    pub(crate) findings: Vec<Diagnostic>,
    /// By index of a finding, the environments that alone have it; others are found in all.
    only_in: BTreeMap<usize, Vec<String>>,
    /// The mesh as something that may be emitted; nothing if there is an error among the findings.
    pub(crate) checked: Option<CheckedMesh>,
    /// What somebody answers for, in the order of outputs.
    pub(crate) suppressed: Vec<Suppressed>,
    /// Checks that could not be made for want of data.
    pub(crate) skipped: Vec<Skipped>,
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

impl Again {
    /// After an error what was good before is still worth comparing with.
    pub(crate) fn keep(&mut self, checked: Option<CheckedMesh>) {
        if checked.is_some() {
            self.checked = checked;
        }
    }
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
    compile_observed(None, subject, None, &mut ())
}

/// What an earlier state of the same policies was, for who compiles them again and again.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// As parsed.
    pub(crate) earlier: Earlier,
    /// The last without an error.
    pub(crate) checked: Option<CheckedMesh>,
}

/// The same, with what changes from what is deployed, for somebody who watches.
pub(crate) fn compile_observed(
    base: Option<&Base>,
    subject: Subject<'_>,
    mut again: Option<&mut Again>,
    observer: &mut dyn Observer,
) -> Compiled {
    let input = Input {
        sources: subject.sources,
        environment: subject.environment,
        root_path: subject.root_path,
    };
    let mut analysed = match &mut again {
        Some(again) => mesh_compiler::load_again(input, &mut again.earlier, observer),
        None => mesh_compiler::load_observed(input, observer),
    };
    let (files, environments) = (analysed.files, analysed.environments.clone());
    let compared = base.map(|base| base.skipped(analysed.mesh.as_ref()));
    let deployed = base.and_then(Base::mesh);
    let judgement = mesh_lint::judge_observed(&mut analysed, deployed, subject.today, observer);
    let mut findings = judgement.findings;
    let slices = match &again {
        Some(again) => Slices::Kept(again.checked.as_ref()),
        None => Slices::Dropped,
    };
    let result = mesh_compiler::check_again(analysed, &findings, slices, observer);
    let (checked, understood) = match result {
        Ok(checked) => (Some(checked), None),
        Err(refused) => {
            findings = refused.diagnostics;
            (None, refused.mesh)
        }
    };
    findings.extend(checked.as_ref().and_then(mesh_lint::not_carried));
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let skipped = judgement
        .skipped
        .into_iter()
        .chain(compared.unwrap_or_default());
    Compiled {
        files,
        environments,
        understood,
        findings,
        only_in: BTreeMap::new(),
        checked,
        suppressed: judgement.suppressed,
        skipped: skipped.collect(),
    }
}

impl Compiled {
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

    /// The mesh, as far as it could be understood.
    pub(crate) fn mesh(&self) -> Option<&LinkedMesh> {
        let checked = self.checked.as_ref().map(CheckedMesh::mesh);
        checked.or(self.understood.as_deref())
    }

    /// How many findings there are of a level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}
