//! What slices say otherwise and no other section names: the fields, so that a change is never only another digest.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::diff::slices::Record;

use super::{Difference, Setting};

/// A setting for each field that differs where nothing that was found speaks of it.
pub(super) fn unnamed<'r>(
    records: impl Iterator<Item = &'r Record>,
    found: &Difference,
) -> Vec<Setting> {
    let named = Named::of(found);
    let mut fields: BTreeMap<(Option<&str>, &str), usize> = BTreeMap::new();
    for record in records {
        let mut told = record.fields.iter();
        // What proxies must be able to do follows from what else they are told.
        let alone = record.fields.len() == 1;
        for field in told.by_ref().filter(|field| alone || field.name.is_some()) {
            if !named.has(field.name.as_deref(), &field.path) {
                *fields
                    .entry((field.name.as_deref(), &field.path))
                    .or_default() += 1;
            }
        }
    }
    let settings = fields.into_iter().map(|((name, path), slices)| Setting {
        service: name.map(str::to_owned),
        name: format!("slice field {path}"),
        // Whom rules let in is compared by meaning; of the rest of what decides, nobody knows which way it went.
        may_widen: path.starts_with("access.") && path != "access.services.rules",
        before: None,
        after: Some(match slices {
            1 => "another value in 1 slice".to_owned(),
            _ => format!("another value in {slices} slices"),
        }),
        source: None,
        environments: Vec::new(),
    });
    settings.collect()
}

/// What was found, by whose it is.
struct Named<'d> {
    /// Settings of services.
    settings: BTreeSet<(&'d str, &'d str)>,
    /// Settings of the mesh.
    mesh: BTreeSet<&'d str>,
    /// Services of which anything is said.
    services: BTreeSet<&'d str>,
    /// Those whose callers gain or lose access.
    access: BTreeSet<&'d str>,
}

impl<'d> Named<'d> {
    fn of(found: &'d Difference) -> Self {
        let mut settings = BTreeSet::new();
        let mut mesh = BTreeSet::new();
        let mut services: BTreeSet<&str> = BTreeSet::new();
        for setting in &found.settings {
            match &setting.service {
                Some(service) => {
                    settings.insert((service.as_str(), setting.name.as_str()));
                    services.insert(service);
                }
                None => {
                    mesh.insert(setting.name.as_str());
                }
            }
        }
        let access: BTreeSet<&str> = found.access.iter().map(|each| each.to.as_str()).collect();
        services.extend(&access);
        services.extend(found.routes.iter().map(|each| each.service.as_str()));
        services.extend(found.services.iter().map(|each| each.name.as_str()));
        services.extend(found.calls.iter().map(|each| each.to.as_str()));
        let edges = found.timeouts.iter().flat_map(|each| &each.edges);
        for edge in edges {
            services.extend([edge.to.as_str(), edge.from.as_str()]);
        }
        Self {
            settings,
            mesh,
            services,
            access,
        }
    }

    fn has(&self, name: Option<&str>, path: &str) -> bool {
        let Some(name) = name else {
            return false;
        };
        let setting = |setting| self.settings.contains(&(name, setting));
        match path {
            "access.jwts" => {
                let of = format!("jwt {name} ");
                self.mesh.iter().any(|setting| setting.starts_with(&of))
            }
            "access.authorizers" => self.mesh.contains("authorizer"),
            "access.services.rules" => {
                self.access.contains(name)
                    || setting("audited rules")
                    || self
                        .settings
                        .iter()
                        .any(|(_, setting)| *setting == "identity")
            }
            "access.services.requirements" => setting("require"),
            "access.services.rate_limits" => setting("rate-limit"),
            "access.services.probes" => setting("probe"),
            "access.services.listeners" => setting("listen"),
            "access.services.mtls" => setting("mtls") || setting("port"),
            "callees.dials" => setting("dial"),
            // Where a caller takes connections is its own to say.
            "callees.listeners" => self.settings.iter().any(|(_, setting)| *setting == "calls"),
            _ => self.services.contains(name),
        }
    }
}
