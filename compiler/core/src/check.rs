//! The gate between analysis and emission: only a mesh without errors passes, and only if every slice
//! is one that a proxy would take.

use std::sync::{Arc, OnceLock};

use mesh_bundle::scope::Scope;
use mesh_bundle::slice::Slice;
use mesh_bundle::spiffe::SpiffeId;
use mesh_engine::Snapshot;
use mesh_syntax::{Diagnostic, Level, code};
use rayon::prelude::*;

use crate::Analysed;
use crate::emit::{self, Emitted};
use crate::linked::LinkedMesh;
use crate::progress::{Observer, Stage};
use crate::unchanged::Unchanged;

/// A mesh without errors, the only thing that can be emitted.
#[derive(Clone, Debug)]
pub struct CheckedMesh {
    mesh: Arc<LinkedMesh>,
    scope: Scope,
    /// For each identity the features that its slice requires.
    needs: Vec<(SpiffeId, Vec<String>)>,
    /// Made when first asked for, where checking did not keep them.
    emitted: OnceLock<Emitted>,
}

/// What becomes of the slices that are made to be checked.
#[derive(Clone, Copy, Debug)]
pub enum Slices<'a> {
    /// They are kept, for whoever emits them.
    Kept,
    /// They are dropped one by one: together they are several times the mesh.
    Dropped,
    /// The same, and one that is as it was in an earlier mesh is not even made; with what is as it was, where that is
    /// known.
    Since(&'a CheckedMesh, Option<&'a Unchanged>),
}

impl CheckedMesh {
    /// The mesh.
    pub fn mesh(&self) -> &LinkedMesh {
        &self.mesh
    }

    /// The mesh, for who keeps it.
    pub fn shared_mesh(&self) -> &Arc<LinkedMesh> {
        &self.mesh
    }

    /// What a proxy must be able to do for each workload, ascending by identity.
    pub fn required_features(&self) -> impl Iterator<Item = (&SpiffeId, &[String])> {
        self.needs
            .iter()
            .map(|(identity, features)| (identity, features.as_slice()))
    }

    pub(crate) fn emitted(&self) -> &Emitted {
        self.emitted
            .get_or_init(|| emit::emit(&self.mesh, self.scope.clone()))
    }
}

/// Why a mesh was not checked: every finding, at least one of them an error.
#[derive(Clone, Debug)]
pub struct Refused {
    /// In the order of outputs.
    pub diagnostics: Vec<Diagnostic>,
    /// The mesh, as far as it could be understood.
    pub mesh: Option<Arc<LinkedMesh>>,
}

/// Passes a mesh on if neither its analysis nor the lints found an error.
///
/// `findings` are those of the lints, without the suppressed ones.
pub fn check(analysed: Analysed, findings: &[Diagnostic]) -> Result<CheckedMesh, Refused> {
    check_again(analysed, findings, Slices::Kept, &mut ())
}

/// [`check`] for somebody who watches, or who has checked an earlier state.
pub fn check_again(
    analysed: Analysed,
    findings: &[Diagnostic],
    slices: Slices<'_>,
    observer: &mut dyn Observer,
) -> Result<CheckedMesh, Refused> {
    let mut diagnostics = analysed.diagnostics;
    diagnostics.extend_from_slice(findings);
    let clean = diagnostics
        .iter()
        .all(|finding| finding.level != Level::Error);
    let mesh = match analysed.mesh.map(Arc::new) {
        Some(mesh) if clean => mesh,
        mesh => return Err(refused(diagnostics, mesh)),
    };
    let Some(scope) = emit::scope(&mesh) else {
        return Err(refused(diagnostics, Some(mesh)));
    };
    let emitted = OnceLock::new();
    let needs = |slice: &Slice| (slice.identity.clone(), slice.required_features.clone());
    let looked_at: Vec<_> = match slices {
        Slices::Kept => {
            observer.begin(Stage::Emit);
            let made = emitted.get_or_init(|| emit::emit(&mesh, scope.clone()));
            observer.begin(Stage::Verify);
            let slices: Vec<&Slice> = made.slices.values().collect();
            slices
                .into_par_iter()
                .map(|slice| (needs(slice), refusal(&mesh, slice)))
                .collect()
        }
        Slices::Dropped => {
            observer.begin(Stage::Verify);
            emit::each_slice(&mesh)
                .map(|(_, slice)| {
                    let slice = slice();
                    (needs(&slice), refusal(&mesh, &slice))
                })
                .collect()
        }
        Slices::Since(earlier, unchanged) => {
            observer.begin(Stage::Verify);
            let compared = unchanged
                .is_none()
                .then(|| Unchanged::between(&earlier.mesh, &mesh));
            let unchanged = unchanged.or(compared.as_ref());
            let known = |identity: &SpiffeId| {
                let found = earlier
                    .needs
                    .binary_search_by(|(known, _)| known.cmp(identity));
                earlier
                    .needs
                    .get(found.ok()?)
                    .filter(|_| unchanged.is_some_and(|unchanged| unchanged.identity(identity)))
            };
            emit::each_slice(&mesh)
                .map(|(identity, slice)| match known(identity) {
                    Some(known) => (known.clone(), None),
                    None => {
                        let slice = slice();
                        (needs(&slice), refusal(&mesh, &slice))
                    }
                })
                .collect()
        }
    };
    let (needs, refusals): (Vec<_>, Vec<_>) = looked_at.into_iter().unzip();
    let refusals: Vec<Diagnostic> = refusals.into_iter().flatten().collect();
    if refusals.is_empty() {
        return Ok(CheckedMesh {
            mesh,
            scope,
            needs,
            emitted,
        });
    }
    diagnostics.extend(refusals);
    Err(refused(diagnostics, Some(mesh)))
}

fn refused(mut diagnostics: Vec<Diagnostic>, mesh: Option<Arc<LinkedMesh>>) -> Refused {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Refused { diagnostics, mesh }
}

/// A slice that no proxy would take is found here, not in the fleet: bounds of the format and of the
/// engine that no keyword enforces by itself.
fn refusal(mesh: &LinkedMesh, slice: &Slice) -> Option<Diagnostic> {
    // What a feature asks of a proxy is for the proxy to judge: one that lacks it keeps its last good
    // slice, and a later release of it will not.
    let needed: Vec<&str> = slice.required_features.iter().map(String::as_str).collect();
    let why = match slice.recode_with(&needed) {
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
