//! From sources to findings and, where there is no error, to slices: what every command starts with.

use mesh_compiler::{Analysed, CheckedMesh, Input};
use mesh_syntax::{Diagnostic, Level, SourceSet};

/// What is known about the policies of one root.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// As far as they could be understood.
    pub(crate) analysed: Analysed,
    /// Everything found, in the order of outputs.
    pub(crate) findings: Vec<Diagnostic>,
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

/// Reads, links and lints.
pub(crate) fn compile(sources: &SourceSet, environment: &str, root_path: &str) -> Compiled {
    let analysed = mesh_compiler::load(Input {
        sources,
        environment,
        root_path,
    });
    let mut findings = analysed.diagnostics.clone();
    findings.extend(
        analysed
            .mesh
            .as_ref()
            .map(mesh_lint::lint)
            .unwrap_or_default(),
    );
    if findings.iter().all(|finding| finding.level != Level::Error)
        && let Err(refused) = mesh_compiler::check(analysed.clone(), &findings)
    {
        findings = refused.diagnostics;
    }
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    findings.dedup();
    // Every check of this release works on what policy itself declares.
    Compiled {
        analysed,
        findings,
        skipped: Vec::new(),
    }
}

impl Compiled {
    /// The mesh as something that may be emitted, or nothing if there is an error among the findings.
    pub(crate) fn checked(&self) -> Option<CheckedMesh> {
        let clean = self
            .findings
            .iter()
            .all(|finding| finding.level != Level::Error);
        if !clean {
            return None;
        }
        mesh_compiler::check(self.analysed.clone(), &[]).ok()
    }

    /// How many findings there are of a level.
    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }
}
