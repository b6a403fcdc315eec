//! The gate between analysis and emission: only a mesh without errors passes, and only if every slice
//! is one that a proxy would take.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{Diagnostic, Level};

use crate::Analysed;
use crate::emit::{self, Emitted, Workload};
use crate::linked::LinkedMesh;
use crate::progress::{Observer, Stage};
use crate::unchanged::Unchanged;

mod judge;

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
    if matches!(slices, Slices::Kept) {
        observer.begin(Stage::Emit);
        emitted.get_or_init(|| emit::emit(&mesh, scope.clone()));
    }
    observer.begin(Stage::Verify);
    let workloads = emit::workloads(&mesh);
    let mut known = known(slices, &mesh, &workloads);
    let new: Vec<Workload<'_>> = workloads
        .into_iter()
        .filter(|workload| !known.contains_key(workload.identity))
        .collect();
    let judged = judge::judge(&mesh, &new);
    let mut refusals = Vec::new();
    for (workload, judged) in new.iter().zip(judged) {
        known.insert(workload.identity.clone(), judged.required_features);
        refusals.extend(judged.refusal);
    }
    let needs = known.into_iter().collect();
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

/// What the slices require that are as they were in an earlier mesh, which were judged then.
fn known(
    slices: Slices<'_>,
    mesh: &LinkedMesh,
    workloads: &[Workload<'_>],
) -> BTreeMap<SpiffeId, Vec<String>> {
    let Slices::Since(earlier, unchanged) = slices else {
        return BTreeMap::new();
    };
    let compared = unchanged
        .is_none()
        .then(|| Unchanged::between(&earlier.mesh, mesh));
    let unchanged = unchanged.or(compared.as_ref());
    let known = |workload: &Workload<'_>| {
        let needs = &earlier.needs;
        let found = needs.binary_search_by(|(known, _)| known.cmp(workload.identity));
        let is_same = unchanged.is_some_and(|unchanged| unchanged.identity(workload.identity));
        needs.get(found.ok()?).filter(|_| is_same).cloned()
    };
    workloads.iter().filter_map(known).collect()
}

fn refused(mut diagnostics: Vec<Diagnostic>, mesh: Option<Arc<LinkedMesh>>) -> Refused {
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Refused { diagnostics, mesh }
}
