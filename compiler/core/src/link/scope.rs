//! Every name of the mesh, and the definitions that share one.

use std::collections::BTreeMap;

use mesh_syntax::{Diagnostic, Span};

use crate::code;
use crate::library::Used;
use crate::linked::ServiceId;
use crate::model::{Authorizer, Jwt, Mesh, Policy, Service, Spanned, Team};

/// The definitions by name. Of two with one name, which is an error, the first in the files.
pub(super) struct Scope<'m> {
    services: BTreeMap<&'m str, (ServiceId, &'m Service)>,
    policies: BTreeMap<&'m str, &'m Policy>,
    teams: BTreeMap<&'m str, &'m Team>,
    jwts: BTreeMap<&'m str, &'m Jwt>,
    authorizers: BTreeMap<&'m str, &'m Authorizer>,
    library: &'m Used,
}

impl<'m> Scope<'m> {
    pub(super) fn new(mesh: &'m Mesh, findings: &mut Vec<Diagnostic>) -> Self {
        let teams = mesh.root.as_ref().map_or(&[][..], |root| &root.teams);
        let services = by_name(
            |service| service.kind.word(),
            mesh.services.iter().map(AsRef::as_ref),
            |service: &Service| &service.name,
            findings,
        );
        let services = services
            .into_iter()
            .zip(0..)
            .map(|((name, service), id)| (name, (ServiceId(id), service)));
        Self {
            services: services.collect(),
            policies: by_name(
                |_| "policy",
                mesh.policies.iter(),
                |policy| &policy.name,
                findings,
            ),
            teams: by_name(|_| "team", teams.iter(), |team| &team.name, findings),
            jwts: by_name(|_| "jwt", mesh.jwts.iter(), |jwt| &jwt.name, findings),
            authorizers: by_name(
                |_| "authorizer",
                mesh.authorizers.iter(),
                |authorizer| &authorizer.name,
                findings,
            ),
            library: &mesh.library,
        }
    }

    /// Ascending by name, which is the order of their ids.
    pub(super) fn services(&self) -> impl Iterator<Item = &'m Service> + '_ {
        self.services.values().map(|(_, service)| *service)
    }

    pub(super) fn service(&self, name: &str) -> Option<ServiceId> {
        self.services.get(name).map(|(id, _)| *id)
    }

    pub(super) fn declared(&self, name: &str) -> Option<&'m Service> {
        self.services.get(name).map(|(_, service)| *service)
    }

    pub(super) fn service_span(&self, name: &str) -> Option<Span> {
        self.services
            .get(name)
            .map(|(_, service)| service.name.span)
    }

    pub(super) fn service_names(&self) -> impl Iterator<Item = &'m str> + '_ {
        self.services.keys().copied()
    }

    /// The policy that a `use` names, of the mesh or of the standard library.
    pub(super) fn policy(&self, name: &Spanned<String>) -> Option<&'m Policy> {
        let own = self.policies.get(name.value.as_str()).copied();
        own.or_else(|| self.library.get(&name.span))
    }

    /// Ascending by name.
    pub(super) fn jwts(&self) -> impl Iterator<Item = &'m Jwt> + '_ {
        self.jwts.values().copied()
    }

    /// Ascending by name.
    pub(super) fn authorizers(&self) -> impl Iterator<Item = &'m Authorizer> + '_ {
        self.authorizers.values().copied()
    }

    /// Ascending by name.
    pub(super) fn teams(&self) -> impl Iterator<Item = &'m Team> + '_ {
        self.teams.values().copied()
    }

    pub(super) fn team(&self, name: &str) -> Option<&'m Team> {
        self.teams.get(name).copied()
    }

    /// Ascending by name.
    pub(super) fn policies(&self) -> impl Iterator<Item = &'m Policy> + '_ {
        self.policies.values().copied()
    }

    pub(super) fn policy_names(&self) -> impl Iterator<Item = &'m str> + '_ {
        self.policies.keys().copied()
    }
}

fn by_name<'m, T>(
    kind: fn(&T) -> &'static str,
    definitions: impl Iterator<Item = &'m T>,
    name: fn(&T) -> &Spanned<String>,
    findings: &mut Vec<Diagnostic>,
) -> BTreeMap<&'m str, &'m T> {
    let mut sorted: Vec<&T> = definitions.collect();
    sorted.sort_by_key(|definition| name(definition).span);
    let mut by_name: BTreeMap<&str, &T> = BTreeMap::new();
    for definition in sorted {
        let Spanned { value, span } = name(definition);
        if let Some(first) = by_name.get(value.as_str()) {
            let finding = duplicate(kind(definition), value, *span, name(first).span);
            findings.push(if kind(definition) == kind(first) {
                finding
            } else {
                Diagnostic {
                    message: format!("the name `{value}` is taken by a {}", kind(first)),
                    ..finding
                }
            });
        } else {
            by_name.insert(value, definition);
        }
    }
    by_name
}

/// A finding about a second definition of one name.
pub(super) fn duplicate(kind: &str, name: &str, span: Span, first: Span) -> Diagnostic {
    Diagnostic::error(
        code::DUPLICATE_DEFINITION,
        span,
        format!("the {kind} `{name}` is declared twice"),
    )
    .at("the second one")
    .label(first, "the first one")
    .help("a definition stands in one place; rename one, or put both together")
}
