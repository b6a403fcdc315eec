//! From sources to findings and, where there is no error, to slices: what every command starts with.

use mesh_compiler::{Analysed, CheckedMesh, Input};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::base::Base;

/// What is known about the policies of one root.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// As far as they could be understood.
    pub(crate) analysed: Analysed,
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
    compile_against(None, sources, environment, root_path)
}

/// The same, with what changes from what is deployed.
pub(crate) fn compile_against(
    base: Option<&Base>,
    sources: &SourceSet,
    environment: &str,
    root_path: &str,
) -> Compiled {
    let analysed = mesh_compiler::load(Input {
        sources,
        environment,
        root_path,
    });
    let mut lints = analysed
        .mesh
        .as_ref()
        .map(mesh_lint::lint)
        .unwrap_or_default();
    let (changes, skipped) = base
        .map(|base| base.compare(analysed.mesh.as_ref()))
        .unwrap_or_default();
    lints.extend(changes);
    let (checked, mut findings) = match mesh_compiler::check(analysed.clone(), &lints) {
        Ok(checked) => (
            Some(checked),
            [analysed.diagnostics.as_slice(), &lints].concat(),
        ),
        Err(refused) => (None, refused.diagnostics),
    };
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Compiled {
        analysed,
        findings,
        checked,
        skipped,
    }
}

impl Compiled {
    /// How many findings there are of a level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}
