//! From a commit to a generation that may be served, with the key that this distributor holds. A
//! user's mistake is a finding, never an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mesh_bundle::digest::Digest;
use mesh_bundle::generation::{Generation, ObjectId, ObjectIdError};
use mesh_bundle::merkle::{Tree, TreeError};
use mesh_bundle::order::Order;
use mesh_bundle::reject::RejectReason;
use mesh_bundle::scope::Scope;
use mesh_bundle::spiffe::SpiffeId;
use mesh_bundle::trust_root::TrustRoot;
use mesh_compiler::date::Date;
use mesh_compiler::{Emitted, Input};
use mesh_repo::{CommitId, HistoryError, ReadError, Repository};
use mesh_syntax::{Diagnostic, Level, SourceSet};

use crate::events::Events;
use crate::finding::Finding;
use crate::generation::{Served, ServedError};
use crate::git::Attempt;
use crate::keys::Keys;
use crate::output::chain;
use crate::publish::{PublishError, Publisher};

/// Compiles, signs and publishes commits.
#[derive(Debug)]
pub(crate) struct Builder {
    root: TrustRoot,
    keys: Arc<Keys>,
    publisher: Arc<Publisher>,
    events: Events,
}

/// Why a commit could not be judged; not a fault of the commit.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    ObjectId(#[from] ObjectIdError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("what was compiled here is not believed")]
    Own(#[from] ServedError),
}

impl Builder {
    /// Works under a trust root, with the keys that it names.
    pub(crate) fn new(
        root: TrustRoot,
        keys: Arc<Keys>,
        publisher: Arc<Publisher>,
        events: Events,
    ) -> Self {
        Self {
            root,
            keys,
            publisher,
            events,
        }
    }

    /// Compiles a commit and, if it has no errors, serves it.
    pub(crate) fn judge(&self, repository: &Repository, commit: CommitId) -> Attempt {
        let attempt = match self.build(repository, commit) {
            Ok(Ok(served)) => self.publish(commit, served),
            Ok(Err(findings)) => Attempt::Refused(findings),
            // The commit has no such folder, too many files or too large ones: it will never do.
            Err(BuildError::Read(
                error @ (ReadError::NoFolder(_)
                | ReadError::TooMany(_)
                | ReadError::TooLarge { .. }),
            )) => Attempt::Refused(vec![Finding::whole(
                RejectReason::PolicyInvalid.as_str(),
                chain(&error),
            )]),
            Err(error) => Attempt::Failed(chain(&error)),
        };
        if let Attempt::Refused(findings) = &attempt {
            self.events
                .commit_refused(&commit.to_string(), findings.len());
        }
        attempt
    }

    fn build(
        &self,
        repository: &Repository,
        commit: CommitId,
    ) -> Result<Result<Served, Vec<Finding>>, BuildError> {
        let sources = repository.policy_files(commit, &self.root.root_path)?;
        let today = Date::from_unix_seconds(repository.commit_time(commit)?);
        let emitted = match compile(&sources, &self.root, today) {
            Ok(emitted) => emitted,
            Err(findings) => return Ok(Err(findings)),
        };
        let slices: BTreeMap<SpiffeId, Bytes> = emitted
            .slices
            .iter()
            .map(|(identity, slice)| (identity.clone(), Bytes::from(slice.encode())))
            .collect();
        let leaves = slices
            .iter()
            .map(|(identity, bytes)| {
                (
                    identity.clone(),
                    Digest::of(bytes),
                    u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                )
            })
            .collect();
        let tree = Tree::build(leaves)?;
        let generation = Generation {
            order: Order {
                epoch: self.root.epoch,
                sequence: repository.sequence(commit)?,
                emit: mesh_compiler::EMIT,
            },
            reference: self.root.reference.clone(),
            root_path: self.root.root_path.clone(),
            root: tree.root(),
            leaf_count: tree.leaf_count(),
            commit: ObjectId::from_bytes(commit.as_bytes())?,
            tree: ObjectId::from_bytes(repository.tree_id(commit)?.as_bytes())?,
            input_digest: Digest::from_bytes(mesh_repo::input_digest(&sources)),
            compiler: mesh_compiler::RELEASE.to_owned(),
        };
        let envelope = generation.seal(&self.root.scope, &[&self.keys.compile]);
        // What is signed here is verified like what a stranger sent, before a head names it.
        Ok(Ok(Served::verify(&self.root, envelope, slices)?))
    }

    fn publish(&self, commit: CommitId, served: Served) -> Attempt {
        let order = served.statement().order;
        let slices = served.slices().len();
        match self.publisher.accept(served) {
            Ok(()) => {
                self.events
                    .commit_accepted(&commit.to_string(), order, slices);
                Attempt::Accepted(order)
            }
            Err(PublishError::Order(rejection)) => {
                Attempt::Refused(vec![Finding::whole(rejection.as_str(), rejection.detail())])
            }
            Err(error) => Attempt::Failed(chain(&error)),
        }
    }
}

/// Everything up to the slices; errors, and nothing else, refuse. Suppressions are judged on the day of the
/// commit, so that what a commit compiles to never depends on when.
fn compile(sources: &SourceSet, root: &TrustRoot, today: Date) -> Result<Emitted, Vec<Finding>> {
    let input = Input {
        sources,
        environment: &root.scope.environment,
        root_path: &root.root_path,
    };
    let mut analysed = mesh_compiler::load(input);
    let judgement = mesh_lint::judge(&mut analysed, None, today);
    let checked = mesh_compiler::check(analysed, &judgement.findings)
        .map_err(|refused| errors(&refused.diagnostics, sources))?;
    let emitted = mesh_compiler::emit(&checked);
    same_scope(&root.scope, &emitted.scope)?;
    Ok(emitted)
}

/// A policy for another mesh must not become one of this: the trust root says which this is.
fn same_scope(pinned: &Scope, found: &Scope) -> Result<(), Vec<Finding>> {
    pinned
        .expect(found)
        .map_err(|rejection| vec![Finding::whole(rejection.as_str(), rejection.detail())])
}

/// The errors among findings, as the status shows them.
pub(crate) fn errors(diagnostics: &[Diagnostic], sources: &SourceSet) -> Vec<Finding> {
    diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.level == Level::Error)
        .map(|diagnostic| {
            let (line, column) = sources.line_column(diagnostic.span);
            Finding {
                code: diagnostic.code.to_owned(),
                name: Some(diagnostic.name.to_owned()),
                level: diagnostic.level.as_str().to_owned(),
                message: diagnostic.message.clone(),
                file: Some(sources.path(diagnostic.span.file).to_owned()),
                line: Some(line),
                column: Some(column),
            }
        })
        .collect()
}
