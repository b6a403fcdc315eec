//! Suppressions and the inventory: their names become ids.

use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, FileId};

use super::Linker;
use crate::code;
use crate::linked::{Inventoried, Inventory, Observed, Service, ServiceId};
use crate::model::{self, Certificate, Facts, Spanned, SuppressedAt, Suppression};
use crate::suggest;

impl Linker<'_, '_> {
    /// Suppressions in the order of outputs; reports what they name and nothing has.
    pub(super) fn suppressions(
        &mut self,
        declared: &[Suppression],
        services: &[Service],
    ) -> Vec<Suppression> {
        let mut suppressions = declared.to_vec();
        suppressions.sort_by_key(|suppression| suppression.span);
        for suppression in &mut suppressions {
            self.find_team(&suppression.owner);
            let Some(at) = &mut suppression.at else {
                continue;
            };
            let at = match &mut at.value {
                SuppressedAt::Definition(name) => Spanned::new(name.clone(), at.span),
                SuppressedAt::File { path, file } => {
                    *file = self.file(path);
                    if file.is_none() {
                        let message = format!("there is no policy file \"{path}\"");
                        let finding = Diagnostic::error(code::DANGLING_REFERENCE, at.span, message);
                        self.report(
                            finding.help("it is looked for below the folder of the `mesh` node"),
                        );
                    }
                    continue;
                }
            };
            let service = self.find_service(&at);
            let (Some(route), Some(service)) = (&suppression.route, service) else {
                continue;
            };
            let routes = &services[service.index()].routes;
            let names = || routes.iter().map(|route| route.name.value.as_str());
            if names().any(|name| name == route.value)
                || self.is_incomplete(services[service.index()].span)
            {
                continue;
            }
            let message = format!("`{}` has no route `{}`", at.value, route.value);
            let finding = Diagnostic::error(code::DANGLING_REFERENCE, route.span, message);
            let near = suggest::nearest(&route.value, names());
            self.report(match near {
                Some(near) => finding.help(format!("did you mean `{near}`?")).fix(
                    format!("write `{near}`"),
                    vec![mesh_syntax::Edit::new(route.span, near)],
                ),
                None => finding.help("name one of its routes, or leave `route=` out"),
            });
        }
        suppressions
    }

    /// The file of this path below the mesh's folder.
    fn file(&self, path: &str) -> Option<FileId> {
        let path = match self.context.root_path {
            "" => path.to_owned(),
            root => format!("{root}/{path}"),
        };
        let sources = self.context.sources;
        sources.files().find(|file| sources.path(*file) == path)
    }

    /// What was found in the fleet. Facts that a service's team does not declare are taken from it.
    pub(super) fn inventory(
        &mut self,
        declared: &[model::Inventory],
        services: &mut [Service],
    ) -> Option<Inventory> {
        let mut sorted: Vec<&model::Inventory> = declared.iter().collect();
        sorted.sort_by_key(|inventory| inventory.span);
        let (declared, others) = sorted.split_first()?;
        for other in others {
            self.report(
                Diagnostic::error(code::DUPLICATE_DEFINITION, other.span, "a second inventory")
                    .label(declared.span, "the first one")
                    .help("an environment has one inventory: its own, or the one that all share"),
            );
        }
        let mut known: BTreeMap<ServiceId, Inventoried> = BTreeMap::new();
        for found in &declared.services {
            let Some(id) = self.scope.service(&found.name.value) else {
                self.unknown_to_policy(&found.name);
                continue;
            };
            if let Some(first) = known.get(&id) {
                let first = first.span;
                let message = format!("the service `{}` is listed twice", found.name.value);
                self.report(
                    Diagnostic::error(code::DUPLICATE_DEFINITION, found.name.span, message)
                        .label(first, "the first time")
                        .help("put both together"),
                );
                continue;
            }
            known.insert(
                id,
                Inventoried {
                    instances: found.instances.clone(),
                    span: found.span,
                },
            );
            measured(&mut services[id.index()].facts, found);
        }
        let named = |name: &Spanned<String>| match self.scope.service(&name.value) {
            Some(id) => Ok(id),
            None => services
                .iter()
                .find(|service| {
                    service
                        .identities
                        .iter()
                        .any(|own| own.as_str() == name.value)
                })
                .map(|service| service.id)
                .ok_or_else(|| name.value.clone()),
        };
        let observed = declared.observed.iter().map(|call| Observed {
            from: named(&call.from),
            to: named(&call.to),
            rate: call.rate.map(|rate| rate.value),
            span: call.span,
        });
        let observed = observed.collect();
        let mut identities = declared.identities.clone();
        identities.sort_by(|a, b| (&a.value, a.span).cmp(&(&b.value, b.span)));
        let certificates = self.certificates(&declared.certificates);
        Some(Inventory {
            date: declared.date,
            services: known,
            observed,
            identities,
            certificates,
            span: declared.span,
        })
    }

    fn certificates(&mut self, declared: &[Certificate]) -> Vec<Certificate> {
        let mut certificates = declared.to_vec();
        certificates
            .sort_by(|a, b| (&a.name.value, a.name.span).cmp(&(&b.name.value, b.name.span)));
        for pair in certificates.windows(2) {
            if let [first, second] = pair
                && first.name.value == second.name.value
            {
                let message = format!("the certificate `{}` is listed twice", second.name.value);
                self.report(
                    Diagnostic::error(code::DUPLICATE_DEFINITION, second.name.span, message)
                        .label(first.name.span, "the first time")
                        .help("leave one of them: a name stands for one certificate"),
                );
            }
        }
        certificates
    }

    /// A fleet may hold what policy does not know; a name with a typo looks the same.
    fn unknown_to_policy(&mut self, name: &Spanned<String>) {
        if self.context.incomplete {
            return;
        }
        let message = format!(
            "the inventory knows a service `{}` that policy does not declare",
            name.value
        );
        let finding = Diagnostic::warning(code::DANGLING_REFERENCE, name.span, message);
        let near = suggest::nearest(&name.value, self.scope.service_names());
        self.report(match near {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => {
                finding.help("declare it, or leave it out: what is said of it here has no effect")
            }
        });
    }
}

/// What policy declares is an intention and stands; what it leaves open is filled in.
fn measured(facts: &mut Facts, found: &model::Inventoried) {
    let Facts {
        replicas,
        capacity,
        load,
        handling,
    } = &found.facts;
    let counted = found.instances.iter().map(|one| one.count.value);
    let counted = (!found.instances.is_empty())
        .then(|| Spanned::new(counted.fold(0, u32::saturating_add), found.name.span))
        .filter(|count| count.value > 0);
    facts.replicas = facts.replicas.or(*replicas).or(counted);
    facts.capacity = facts.capacity.or(*capacity);
    facts.load = facts.load.or(*load);
    facts.handling = facts.handling.or(*handling);
}
