//! The gate between analysis and emission: only a mesh without errors passes, and only if every slice
//! is one that a proxy would take.

use mesh_bundle::slice::Slice;
use mesh_engine::Snapshot;
use mesh_syntax::{Diagnostic, Level, code};
use rayon::prelude::*;

use crate::Analysed;
use crate::emit::{self, Emitted};
use crate::linked::LinkedMesh;
use crate::progress::{Observer, Stage};

/// A mesh without errors, the only thing that can be emitted.
#[derive(Clone, Debug)]
pub struct CheckedMesh {
    mesh: LinkedMesh,
    emitted: Emitted,
}

impl CheckedMesh {
    /// The mesh.
    pub fn mesh(&self) -> &LinkedMesh {
        &self.mesh
    }

    /// Its slices, ascending by identity.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.emitted.slices.values()
    }

    pub(crate) fn emitted(&self) -> &Emitted {
        &self.emitted
    }
}

/// Why a mesh was not checked: every finding, at least one of them an error.
#[derive(Clone, Debug)]
pub struct Refused {
    /// In the order of outputs.
    pub diagnostics: Vec<Diagnostic>,
    /// The mesh, as far as it could be understood.
    pub mesh: Option<Box<LinkedMesh>>,
}

/// Passes a mesh on if neither its analysis nor the lints found an error.
///
/// `findings` are those of the lints, without the suppressed ones.
pub fn check(analysed: Analysed, findings: &[Diagnostic]) -> Result<CheckedMesh, Refused> {
    check_again(analysed, findings, None, &mut ())
}

/// [`check`] for somebody who watches, or who has checked an earlier state: a slice that is what it was is not looked
/// at again.
pub fn check_again(
    analysed: Analysed,
    findings: &[Diagnostic],
    earlier: Option<&CheckedMesh>,
    observer: &mut dyn Observer,
) -> Result<CheckedMesh, Refused> {
    let mut diagnostics = analysed.diagnostics;
    diagnostics.extend_from_slice(findings);
    let clean = diagnostics
        .iter()
        .all(|finding| finding.level != Level::Error);
    let mesh = match analysed.mesh {
        Some(mesh) if clean => mesh,
        mesh => return Err(refused(diagnostics, mesh)),
    };
    observer.begin(Stage::Emit);
    let Some(emitted) = emit::emit(&mesh) else {
        return Err(refused(diagnostics, Some(mesh)));
    };
    observer.begin(Stage::Verify);
    let is_known = |slice: &&Slice| {
        let known = earlier.and_then(|earlier| earlier.emitted.slices.get(&slice.identity));
        known == Some(*slice)
    };
    let slices: Vec<&Slice> = emitted.slices.values().collect();
    let refusals: Vec<Diagnostic> = slices
        .into_par_iter()
        .filter(|slice| !is_known(slice))
        .filter_map(|slice| refusal(&mesh, slice))
        .collect();
    if refusals.is_empty() {
        return Ok(CheckedMesh { mesh, emitted });
    }
    diagnostics.extend(refusals);
    Err(refused(diagnostics, Some(mesh)))
}

fn refused(mut diagnostics: Vec<Diagnostic>, mesh: Option<LinkedMesh>) -> Refused {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Refused {
        diagnostics,
        mesh: mesh.map(Box::new),
    }
}

/// A slice that no proxy would take is found here, not in the fleet: bounds of the format and of the
/// engine that no keyword enforces by itself.
fn refusal(mesh: &LinkedMesh, slice: &Slice) -> Option<Diagnostic> {
    // What a feature asks of a proxy is for the proxy to judge: one that lacks it keeps its last good
    // slice, and a later release of it will not.
    let needed: Vec<&str> = slice.required_features.iter().map(String::as_str).collect();
    let why = match Slice::decode_with(&slice.encode(), &needed) {
        Err(rejection) => rejection.to_string(),
        Ok(decoded) => chain(&Snapshot::build(&decoded).err()?),
    };
    let owner = mesh
        .services
        .iter()
        .find(|service| service.identities.contains(&slice.identity))?;
    Some(
        Diagnostic::error(
            code::LIMIT_EXCEEDED,
            owner.name.span,
            format!(
                "the configuration of `{}` is one that no proxy takes: {why}",
                owner.name.value
            ),
        )
        .help("make it smaller"),
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
