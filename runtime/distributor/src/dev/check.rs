//! What the arguments name, held against what the mesh has.

use std::path::PathBuf;

use super::plan::Plan;
use super::{App, DevError};

/// The applications of the user's, if the mesh has their services.
pub(super) fn apps(apps: &[App], plan: &Plan) -> Result<Vec<App>, DevError> {
    for app in apps {
        let services = || plan.services.iter().filter(|(_, it)| !it.is_gateway);
        let Some((_, service)) = services().find(|(name, _)| **name == app.service) else {
            let names: Vec<&str> = services().map(|(name, _)| name.as_str()).collect();
            return Err(DevError::Arguments(format!(
                "--app names {}, which is no service of this mesh; it has {}",
                app.service,
                names.join(", ")
            )));
        };
        let has_subset = |subset: &String| {
            service
                .instances
                .iter()
                .any(|instance| instance.subset.as_ref() == Some(subset))
        };
        if app
            .subset
            .as_ref()
            .is_some_and(|subset| !has_subset(subset))
        {
            return Err(DevError::Arguments(format!(
                "--app names {}/{}, which is no subset of that service",
                app.service,
                app.subset.as_deref().unwrap_or_default()
            )));
        }
    }
    Ok(apps.to_vec())
}

/// A file that is not there is a slip, and a name that no policy uses may be one.
pub(super) fn secrets(secrets: &[(String, PathBuf)], plan: &Plan) -> Result<(), DevError> {
    for (name, file) in secrets {
        std::fs::metadata(file).map_err(|error| {
            DevError::Arguments(format!("--secret {name}: {}: {error}", file.display()))
        })?;
        let used = plan.services.values().any(|service| {
            service.certificates.contains_key(name) || service.other_secrets.contains(name)
        });
        if !used {
            crate::output::message(&format!(
                "warning: no policy refers to the secret {name}; it is not used"
            ));
        }
    }
    Ok(())
}
