//! Policies that are checked again and again, by an editor or while somebody watches: what did not change since the
//! last time is not looked at again. What comes out is what a check from nothing would say.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::date::Date;
use mesh_compiler::progress::Observer;
use mesh_compiler::{CheckedMesh, Earlier, Input, LinkedMesh, Slices, Unchanged};
use mesh_syntax::Diagnostic;

use crate::facts::ServiceFacts;
use crate::{Judged, Judgement, Skipped, Suppressed, judge_since, not_carried};

/// What is checked, and as of when.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The policies, and for which environment.
    pub input: Input<'a>,
    /// What is deployed, to compare with.
    pub base: Option<&'a LinkedMesh>,
    /// The day on which suppressions are judged.
    pub today: Date,
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Files read.
    pub files: usize,
    /// Declared environments, ascending; `default` is always there and not among them.
    pub environments: Vec<String>,
    /// What counts, in the order of outputs: by file and position.
    pub findings: Vec<Diagnostic>,
    /// What somebody answers for, in the same order.
    pub suppressed: Vec<Suppressed>,
    /// Checks that could not be made, ascending by code.
    pub skipped: Vec<Skipped>,
    /// The mesh as something that may be emitted; nothing if there is an error among the findings.
    pub checked: Option<Arc<CheckedMesh>>,
    /// What could be understood in spite of an error; nothing if there is none.
    pub understood: Option<Arc<LinkedMesh>>,
}

impl Checked {
    /// The mesh, as far as it could be understood.
    pub fn mesh(&self) -> Option<&LinkedMesh> {
        let checked = self.checked.as_deref().map(CheckedMesh::mesh);
        checked.or(self.understood.as_deref())
    }
}

/// Checks the policies of one root, and remembers what it needs to check them sooner the next time.
#[derive(Debug, Default)]
pub struct Checker {
    keeps: bool,
    parsed: Earlier,
    environments: BTreeMap<String, Known>,
    retired: Retired,
}

/// What checks have left behind. Letting go of a large mesh takes a while, which nobody who waits for findings needs to
/// wait for.
#[derive(Debug, Default)]
pub struct Retired {
    known: Vec<Known>,
    graphs: Vec<CallGraph>,
}

/// What is known of one environment.
#[derive(Debug, Default)]
struct Known {
    /// The last state that could be understood, and what was found out about it.
    understood: Option<(Arc<LinkedMesh>, ServiceFacts)>,
    /// The last state without an error, every slice of which a proxy would take.
    checked: Option<Arc<CheckedMesh>>,
}

impl Checker {
    /// For who checks the same policies again and again.
    pub fn new() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// For who checks them once, though perhaps for several environments: of what takes much memory nothing is kept.
    pub fn once() -> Self {
        Self {
            parsed: Earlier::once(),
            ..Self::default()
        }
    }

    /// What checks have left behind since this was asked last, for whoever lets go of it once the findings are shown.
    pub fn retired(&mut self) -> Retired {
        std::mem::take(&mut self.retired)
    }

    /// Checks the policies as they are now.
    pub fn check(&mut self, subject: Subject<'_>, observer: &mut dyn Observer) -> Checked {
        // For who never asks for it, no more is left than one check of each environment leaves.
        if self.retired.known.len() > self.environments.len() {
            drop(self.retired());
        }
        let input = subject.input;
        let mut analysed = mesh_compiler::load_again(input, &mut self.parsed, observer);
        let (files, environments) = (analysed.files, analysed.environments.clone());
        let known = self.environments.remove(input.environment);
        let Known {
            understood: before,
            checked: good,
        } = known.unwrap_or_default();
        let unchanged = before.as_ref().zip(analysed.mesh.as_ref());
        let unchanged = unchanged.map(|((before, _), mesh)| Unchanged::between(before, mesh));
        let earlier = before.as_ref().map(|(_, facts)| facts);
        let earlier = unchanged.as_ref().zip(earlier);
        let (base, today) = (subject.base, subject.today);
        let Judged {
            judgement,
            facts,
            graphs,
        } = judge_since(&mut analysed, earlier, base, today, observer);
        let Judgement {
            mut findings,
            suppressed,
            skipped,
        } = judgement;
        // Whoever keeps nothing gives back the memory before slices are made.
        let facts = self.keeps.then_some(facts);
        let graphs = self.keeps.then_some(graphs);
        let slices = good.as_deref().map_or(Slices::Dropped, |good| {
            let same = before
                .as_ref()
                .is_some_and(|(before, _)| Arc::ptr_eq(before, good.shared_mesh()));
            Slices::Since(good, unchanged.as_ref().filter(|_| same))
        });
        let result = mesh_compiler::check_again(analysed, &findings, slices, observer);
        let (checked, understood) = match result {
            Ok(checked) => (Some(Arc::new(checked)), None),
            Err(refused) => {
                findings = refused.diagnostics;
                (None, refused.mesh)
            }
        };
        findings.extend(checked.as_deref().map(not_carried).unwrap_or_default());
        findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        if let Some(facts) = facts {
            let mesh = checked.as_deref().map(CheckedMesh::shared_mesh);
            let now = mesh
                .or(understood.as_ref())
                .map(|mesh| (Arc::clone(mesh), facts));
            // After an error what was known before is still worth comparing with.
            let mut known = Known {
                understood: before,
                checked: good,
            };
            let replaced = Known {
                understood: now.and_then(|now| known.understood.replace(now)),
                checked: checked
                    .clone()
                    .and_then(|checked| known.checked.replace(checked)),
            };
            self.environments
                .insert(input.environment.to_owned(), known);
            self.retired.known.push(replaced);
            let graphs = graphs.into_iter().flatten().flatten();
            self.retired.graphs.extend(graphs);
        }
        Checked {
            files,
            environments,
            findings,
            suppressed,
            skipped,
            checked,
            understood,
        }
    }
}

#[cfg(test)]
mod tests;
