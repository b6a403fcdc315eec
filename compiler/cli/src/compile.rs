//! From sources to findings and, where there is no error, to slices: what every command starts with.

use mesh_compiler::progress::Observer;
use mesh_compiler::{CheckedMesh, Earlier, Input, LinkedMesh};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::base::Base;

/// What is known about the policies of one root.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// How many files were read.
    pub(crate) files: usize,
    /// What could be understood in spite of an error; nothing if there is none.
    understood: Option<Box<LinkedMesh>>,
    /// Everything found, in the order of outputs.
    pub(crate) findings: Vec<Diagnostic>,
    /// The mesh as something that may be emitted; nothing if there is an error among the findings.
    pub(crate) checked: Option<CheckedMesh>,
    /// Checks that could not be made for want of data.
    pub(crate) skipped: Vec<Skipped>,
}

/// A check that could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Its code.
    pub(crate) code: &'static str,
    /// What it needs.
    pub(crate) reason: String,
}

/// Reads, links, lints and, without an error among the findings, compiles.
pub(crate) fn compile(sources: &SourceSet, environment: &str, root_path: &str) -> Compiled {
    compile_observed(None, sources, environment, root_path, None, &mut ())
}

/// What an earlier state of the same policies was, for who compiles them again and again.
#[derive(Debug)]
pub(crate) struct Again {
    /// As parsed.
    pub(crate) earlier: Earlier,
    /// The last without an error.
    pub(crate) checked: Option<CheckedMesh>,
}

/// The same, with what changes from what is deployed, for somebody who watches.
pub(crate) fn compile_observed(
    base: Option<&Base>,
    sources: &SourceSet,
    environment: &str,
    root_path: &str,
    mut again: Option<&mut Again>,
    observer: &mut dyn Observer,
) -> Compiled {
    let input = Input {
        sources,
        environment,
        root_path,
    };
    let analysed = match &mut again {
        Some(again) => mesh_compiler::load_again(input, &mut again.earlier, observer),
        None => mesh_compiler::load_observed(input, observer),
    };
    let mut lints = analysed
        .mesh
        .as_ref()
        .map(|mesh| mesh_lint::lint_observed(mesh, observer))
        .unwrap_or_default();
    let (changes, mut skipped) = base
        .map(|base| base.compare(analysed.mesh.as_ref()))
        .unwrap_or_default();
    lints.extend(changes);
    let lacking = analysed.mesh.as_ref().map(mesh_lint::skipped);
    skipped.extend(lacking.into_iter().flatten().map(|lacking| Skipped {
        code: lacking.code,
        reason: lacking.reason.to_owned(),
    }));
    let files = analysed.files;
    let mut findings = [analysed.diagnostics.as_slice(), &lints].concat();
    let earlier = again.as_ref().and_then(|again| again.checked.as_ref());
    let result = mesh_compiler::check_again(analysed, &lints, earlier, observer);
    let (checked, understood) = match result {
        Ok(checked) => (Some(checked), None),
        Err(refused) => {
            findings = refused.diagnostics;
            (None, refused.mesh)
        }
    };
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Compiled {
        files,
        understood,
        findings,
        checked,
        skipped,
    }
}

impl Compiled {
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
