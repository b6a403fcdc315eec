//! The gate between analysis and emission: only a mesh without errors passes, and only if every slice
//! is one that a proxy would take.

use mesh_bundle::slice::Slice;
use mesh_engine::Snapshot;
use mesh_syntax::{Diagnostic, Level, code};

use crate::Analysed;
use crate::emit::{self, Emitted};
use crate::linked::LinkedMesh;

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

    pub(crate) fn emitted(&self) -> &Emitted {
        &self.emitted
    }
}

/// Why a mesh was not checked: every finding, at least one of them an error.
#[derive(Clone, Debug)]
pub struct Refused {
    /// In the order of outputs.
    pub diagnostics: Vec<Diagnostic>,
}

/// Passes a mesh on if neither its analysis nor the lints found an error.
///
/// `findings` are those of the lints, without the suppressed ones.
pub fn check(analysed: Analysed, findings: &[Diagnostic]) -> Result<CheckedMesh, Refused> {
    let mut diagnostics = analysed.diagnostics;
    diagnostics.extend_from_slice(findings);
    let clean = diagnostics
        .iter()
        .all(|finding| finding.level != Level::Error);
    let Some(mesh) = analysed.mesh.filter(|_| clean) else {
        diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        return Err(Refused { diagnostics });
    };
    let refusals = |emitted: &Emitted| -> Vec<Diagnostic> {
        emitted
            .slices
            .values()
            .filter_map(|slice| refusal(&mesh, slice))
            .collect()
    };
    let emitted = emit::emit(&mesh).ok_or_else(|| Refused {
        diagnostics: diagnostics.clone(),
    })?;
    let refusals = refusals(&emitted);
    if refusals.is_empty() {
        return Ok(CheckedMesh { mesh, emitted });
    }
    diagnostics.extend(refusals);
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Err(Refused { diagnostics })
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
