//! The policies of a repository's tip, compiled for the plan alone: the distributor compiles them
//! again, and what it says counts.

use std::path::{Path, PathBuf};

use mesh_compiler::Input;
use mesh_repo::RootError;
use mesh_syntax::Diagnostic;

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
    root: Option<&str>,
    environment: &str,
) -> Result<Policy, DevError> {
    let repository: PathBuf = repository.to_path_buf();
    let (reference, environment) = (reference.to_owned(), environment.to_owned());
    let root = root.map(str::to_owned);
    let compiling = move || compile(&repository, &reference, root.as_deref(), &environment);
    let compiled = tokio::task::spawn_blocking(compiling).await;
    compiled.unwrap_or_else(|error| Err(DevError::Policy(error.to_string())))
}

fn compile(
    repository: &Path,
    reference: &str,
    root: Option<&str>,
    environment: &str,
) -> Result<Policy, DevError> {
    let unreadable = |error: &dyn std::error::Error| DevError::Policy(crate::output::chain(error));
    let repository = mesh_repo::Repository::open(repository).map_err(|error| unreadable(&error))?;
    let commit = repository
        .resolve(reference)
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| DevError::Policy(format!("{reference} has no commit yet")))?;
    let root_path = match repository.find_root(commit) {
        Ok(root) => root,
        Err(RootError::Several(roots)) => match meant(&roots, root) {
            Some(root) => root.to_owned(),
            None => {
                return Err(DevError::Arguments(format!(
                    "the repository has several policy roots; give the folder of one of them: {}",
                    roots.join(", ")
                )));
            }
        },
        Err(error) => return Err(unreadable(&error)),
    };
    let sources = repository
        .policy_files(commit, &root_path)
        .map_err(|error| unreadable(&error))?;
    let mut analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment,
        root_path: &root_path,
    });
    let findings = |diagnostics: &[Diagnostic]| {
        let lines: Vec<String> = crate::build::errors(diagnostics, &sources)
            .iter()
            .map(|finding| format!("  {}", finding.line()))
            .collect();
        DevError::Policy(lines.join("\n"))
    };
    if environment != mesh_compiler::DEFAULT_ENVIRONMENT
        && !analysed.environments.is_empty()
        && !analysed.environments.iter().any(|it| it == environment)
    {
        let declared = std::iter::once(mesh_compiler::DEFAULT_ENVIRONMENT)
            .chain(analysed.environments.iter().map(String::as_str));
        return Err(DevError::Arguments(format!(
            "--env {environment}: the mesh has no such environment; it has {}",
            declared.collect::<Vec<_>>().join(", ")
        )));
    }
    let Some(mesh) = analysed.mesh.clone() else {
        return Err(findings(&analysed.diagnostics));
    };
    // The distributor judges again, on the same day; here its errors come before any process.
    let commit_time = repository
        .commit_time(commit)
        .map_err(|error| unreadable(&error))?;
    let today = mesh_compiler::date::Date::from_unix_seconds(commit_time);
    let judgement = mesh_lint::judge(&mut analysed, None, today);
    let checked = mesh_compiler::check(analysed, &judgement.findings)
        .map_err(|refused| findings(&refused.diagnostics))?;
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

/// Of several roots the one that holds the folder that the user named, or the only one in it.
fn meant<'r>(roots: &'r [String], named: Option<&str>) -> Option<&'r str> {
    let named = Path::new(named?);
    let top = |root: &'r str| if root == "." { "" } else { root };
    let holding = roots
        .iter()
        .map(|root| top(root))
        .filter(|root| named.starts_with(root));
    if let Some(root) = holding.max_by_key(|root| root.len()) {
        return Some(root);
    }
    let mut inside = roots
        .iter()
        .filter(|root| Path::new(root).starts_with(named));
    inside
        .next()
        .filter(|_| inside.next().is_none())
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_is_named_says_which_root_is_meant() {
        let roots = ["shop", "shop/trial", "bank/policies"].map(str::to_owned);
        let meant = |named| meant(&roots, named);
        assert_eq!(meant(None), None);
        assert_eq!(meant(Some("shop/teams")), Some("shop"));
        assert_eq!(meant(Some("shop/trial")), Some("shop/trial"));
        assert_eq!(meant(Some("bank")), Some("bank/policies"));
        assert_eq!(meant(Some("shopping")), None);
    }
}
