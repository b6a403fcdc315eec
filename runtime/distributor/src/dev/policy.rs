//! The policies of a repository's tip, compiled for the plan alone: the distributor compiles them
//! again, and what it says counts.

use std::path::{Path, PathBuf};

use mesh_compiler::Input;
use mesh_syntax::{Diagnostic, Level};

use super::DevError;
use super::plan::{Plan, plan};

/// What `meshd dev` needs to know of the policies.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) mesh: String,
    pub(super) environment: String,
    pub(super) trust_domain: String,
    pub(super) root_path: String,
    pub(super) plan: Plan,
    /// A file that a newcomer might edit: the first with a weighted split, or the mesh's own.
    pub(super) edit: String,
}

/// Compiles the tip of a ref.
pub(super) async fn at_tip(
    repository: &Path,
    reference: &str,
    environment: &str,
) -> Result<Policy, DevError> {
    let repository: PathBuf = repository.to_path_buf();
    let (reference, environment) = (reference.to_owned(), environment.to_owned());
    let compiling = move || compile(&repository, &reference, &environment);
    let compiled = tokio::task::spawn_blocking(compiling).await;
    compiled.unwrap_or_else(|error| Err(DevError::Policy(error.to_string())))
}

fn compile(repository: &Path, reference: &str, environment: &str) -> Result<Policy, DevError> {
    let unreadable = |error: &dyn std::error::Error| DevError::Policy(crate::output::chain(error));
    let repository = mesh_repo::Repository::open(repository).map_err(|error| unreadable(&error))?;
    let commit = repository
        .resolve(reference)
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| DevError::Policy(format!("{reference} has no commit yet")))?;
    let root_path = repository
        .find_root(commit)
        .map_err(|error| unreadable(&error))?;
    let sources = repository
        .policy_files(commit, &root_path)
        .map_err(|error| unreadable(&error))?;
    let analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment,
        root_path: &root_path,
    });
    let findings = |diagnostics: &[Diagnostic]| {
        let errors = diagnostics
            .iter()
            .filter(|finding| finding.level == Level::Error);
        let messages: Vec<&str> = errors.map(|finding| finding.message.as_str()).collect();
        DevError::Policy(messages.join("\n"))
    };
    let Some(mesh) = analysed.mesh.clone() else {
        return Err(findings(&analysed.diagnostics));
    };
    // What the lints say, the distributor says; here only the slices are wanted.
    let checked =
        mesh_compiler::check(analysed, &[]).map_err(|refused| findings(&refused.diagnostics))?;
    let slices = mesh_compiler::emit(&checked).slices;
    let weighted = mesh
        .services
        .iter()
        .flat_map(|service| &service.routes)
        .find(|route| route.destinations.len() > 1);
    let edited = weighted.map_or(mesh.name.span, |route| route.span);
    Ok(Policy {
        edit: sources.path(edited.file).to_owned(),
        mesh: mesh.name.value.clone(),
        environment: environment.to_owned(),
        trust_domain: mesh.trust_domain.value.clone(),
        plan: plan(&mesh, &slices),
        root_path,
    })
}
