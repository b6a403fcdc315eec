//! From what the files declare to a mesh whose names are resolved and whose values are effective.
//! What can't be resolved is reported, once and where it must change; the order of files and
//! definitions decides nothing.

use std::collections::BTreeSet;

use mesh_bundle::spiffe::TrustDomain;
use mesh_syntax::{Diagnostic, SourceSet, Span};
use rayon::prelude::*;

use crate::code;
use crate::limits;
use crate::linked::{self, Effective, LinkedMesh, ServiceId, Source};
use crate::model::{self, Spanned};
use crate::ownership::Ownership;
use crate::suggest;
use crate::value;

mod action;
mod again;
mod claim;
mod edge;
mod endpoint;
mod entry;
mod gateway;
mod governance;
mod invariant;
mod key_set;
mod merge;
mod opaque;
mod reach;
mod resolve;
mod route;
mod scope;
mod team;
mod telemetry;
mod test;
mod tighten;

pub(crate) use again::Before;
pub(crate) use route::IMPLICIT_ROUTE;
use scope::Scope;

/// A mesh as far as it could be linked.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) mesh: Option<LinkedMesh>,
    pub(crate) findings: Vec<Diagnostic>,
    /// What a later state of the mesh may take over.
    pub(crate) before: Option<Before>,
}

/// What linking needs to know besides the mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The environment that is compiled.
    pub(crate) environment: &'a str,
    /// Findings of decoding: where one lies inside a service, its parts may be missing.
    pub(crate) earlier: &'a [Diagnostic],
    /// The files.
    pub(crate) sources: &'a SourceSet,
    /// Folder of the root.
    pub(crate) root_path: &'a str,
    /// A whole definition may be missing, so a name that nothing has may be its.
    pub(crate) incomplete: bool,
}

/// Links a mesh.
pub(crate) fn link(mesh: &model::Mesh, context: Context<'_>, before: Option<&Before>) -> Linked {
    let mut findings = Vec::new();
    let Some(root) = &mesh.root else {
        return Linked {
            mesh: None,
            findings,
            before: None,
        };
    };
    let linked = link_below((mesh, root), context, before, &mut findings);
    let again = linked
        .as_ref()
        .and_then(|linked| Before::of(mesh, linked, context, findings.is_empty()));
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    // A value that several edges inherit is wrong once.
    findings.dedup_by(|a, b| a.sort_key() == b.sort_key());
    crate::keep_gravest(&mut findings);
    Linked {
        mesh: linked,
        findings,
        before: again,
    }
}

fn link_below(
    (mesh, root): (&model::Mesh, &model::Root),
    context: Context<'_>,
    before: Option<&Before>,
    findings: &mut Vec<Diagnostic>,
) -> Option<LinkedMesh> {
    check_environment(root, context.environment, findings);
    let declared_domain = root.trust_domain.clone()?;
    let trust_domain = TrustDomain::parse(&declared_domain.value).ok()?;
    if let Some(extra) = mesh.services.get(limits::SERVICES_MAX) {
        let message = format!("more than {} services", limits::SERVICES_MAX);
        findings.push(Diagnostic::error(
            mesh_syntax::code::LIMIT_EXCEEDED,
            extra.name.span,
            message,
        ));
        return None;
    }
    let scope = Scope::new(mesh, findings);
    let mut linker = Linker {
        root,
        trust_domain,
        refuse: refuse(root),
        scope: &scope,
        gateway_routes: &mesh.gateway_routes,
        context,
        findings,
        suggesting_max: 32 * SUGGESTIONS_MAX,
    };
    let teams = linker.teams();
    linker.check_gateway_routes();
    let jwts = linker.jwts();
    let authorizers = linker.authorizers();
    let invariants = linker.invariants(&mesh.invariants);
    let mut services = linker.services(mesh, before);
    linker.check_claims(&services);
    linker.check_endpoints(&services);
    linker.check_addresses(&services);
    for service in &services {
        linker.check_opaque(service);
    }
    linker.check_inherited_denies(&services);
    let edges = linker.edges(&mut services, &authorizers)?;
    linker.check_shared_identities(&services, &edges);
    let inventory = linker.inventory(&mesh.inventories, &mut services);
    let suppressions = linker.suppressions(&mesh.suppressions, &services);
    let tests = linker.tests(&mesh.tests, &services);
    Some(LinkedMesh {
        name: root.name.clone(),
        trust_domain: declared_domain,
        mtls: root.mtls,
        environment: context.environment.to_owned(),
        environments: environments(root),
        refuse: linker.refuse,
        teams,
        invariants,
        jwts,
        authorizers,
        policies: policies(mesh, root, &scope),
        rollout: root.rollout.clone(),
        federates: federates(root),
        services,
        edges: linked::Edges::new(edges),
        tests,
        suppressions,
        overridings: mesh.overridings.clone(),
        inventory,
        ownership: Ownership::default(),
    })
}

/// What every step of linking shares.
struct Linker<'m, 'f> {
    root: &'m model::Root,
    trust_domain: TrustDomain,
    refuse: linked::Refuse,
    scope: &'f Scope<'m>,
    gateway_routes: &'m [model::GatewayRoute],
    context: Context<'m>,
    findings: &'f mut Vec<Diagnostic>,
    /// Findings after which names are no longer suggested.
    suggesting_max: usize,
}

/// Suggestions for one service.
const SUGGESTIONS_MAX: usize = 8;

impl<'m> Linker<'m, '_> {
    fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// Whether something inside this definition could not be decoded, so that a part that is missed
    /// may be there.
    fn is_incomplete(&self, definition: Span) -> bool {
        self.context.earlier.iter().any(|finding| {
            finding.span.file == definition.file
                && definition.start <= finding.span.start
                && finding.span.end <= definition.end
        })
    }

    fn services(&mut self, mesh: &model::Mesh, before: Option<&Before>) -> Vec<linked::Service> {
        let declared: Vec<&'m model::Service> = self.scope.services().collect();
        let before = before.filter(|before| before.is_frame_of(mesh, &declared));
        let Self {
            root,
            ref trust_domain,
            ref refuse,
            scope,
            gateway_routes,
            context,
            ..
        } = *self;
        // Each service by itself, with findings of its own: their order is that of the services.
        let linked: Vec<(linked::Service, Vec<Diagnostic>)> = declared
            .into_par_iter()
            .enumerate()
            .map(|(index, service)| {
                let mut findings = Vec::new();
                let mut linker = Linker {
                    root,
                    trust_domain: trust_domain.clone(),
                    refuse: refuse.clone(),
                    scope,
                    gateway_routes,
                    context,
                    findings: &mut findings,
                    suggesting_max: SUGGESTIONS_MAX,
                };
                let id = ServiceId(u32::try_from(index).unwrap_or(u32::MAX));
                let routes = before.and_then(|before| before.routes(index, service));
                let linked = linker.service(service, id, routes);
                (linked, findings)
            })
            .collect();
        let mut services = Vec::with_capacity(linked.len());
        for (service, findings) in linked {
            services.push(service);
            self.findings.extend(findings);
        }
        services
    }

    /// The service of this name; otherwise reports that there is none.
    fn find_service(&mut self, name: &Spanned<String>) -> Option<ServiceId> {
        self.find_service_or(name, &[])
    }

    /// The service of this name, where a rule says who; otherwise reports that there is none.
    fn find_caller(&mut self, name: &Spanned<String>) -> Option<ServiceId> {
        self.find_service_or(name, &["any", "unauthenticated"])
    }

    /// The service of this name; otherwise reports that there is none, or that one of these words may
    /// be meant.
    fn find_service_or(&mut self, name: &Spanned<String>, words: &[&str]) -> Option<ServiceId> {
        if let Some(id) = self.scope.service(&name.value) {
            return Some(id);
        }
        if let Some(policy) = self.scope.policy(name) {
            let other = policy.name.span;
            self.wrong_kind(name, "policy", "service", other);
            return None;
        }
        if !self.context.incomplete {
            let names = self.scope.service_names().chain(words.iter().copied());
            // Every name of the mesh is compared: whoever has many mistakes is told so without it.
            let few = self.findings.len() < self.suggesting_max;
            let near = few.then(|| suggest::nearest(&name.value, names)).flatten();
            let finding = dangling(name, "service", near);
            self.report(finding);
        }
        None
    }

    /// The definition of this name, if it is of this kind; otherwise reports that it is none.
    fn find_kind(
        &mut self,
        name: &Spanned<String>,
        wanted: &str,
        is: impl Fn(&model::Kind) -> bool,
    ) -> Option<ServiceId> {
        let Some(declared) = self.scope.declared(&name.value) else {
            let of_kind = self.scope.services().filter(|service| is(&service.kind));
            let near = suggest::nearest(
                &name.value,
                of_kind.map(|service| service.name.value.as_str()),
            );
            if let Some(policy) = self.scope.policy(name) {
                let other = policy.name.span;
                self.wrong_kind(name, "policy", wanted, other);
            } else if !self.context.incomplete {
                let finding = dangling(name, wanted, near);
                self.report(finding);
            }
            return None;
        };
        if is(&declared.kind) {
            return self.scope.service(&name.value);
        }
        let (word, other) = (declared.kind.word(), declared.name.span);
        self.wrong_kind(name, word, wanted, other);
        None
    }

    /// The service or external of this name, which requests can be sent to.
    fn find_callee(&mut self, name: &Spanned<String>) -> Option<ServiceId> {
        self.find_kind(name, "service", |kind| {
            !matches!(kind, model::Kind::Gateway(_))
        })
    }

    /// The policy of this name; otherwise reports that there is none.
    fn find_policy(&mut self, name: &Spanned<String>) -> Option<&'m model::Policy> {
        if let Some(policy) = self.scope.policy(name) {
            return Some(policy);
        }
        if let Some(declared) = self.scope.declared(&name.value) {
            let (word, other) = (declared.kind.word(), declared.name.span);
            self.wrong_kind(name, word, "policy", other);
            return None;
        }
        // Of a name that only the library could have, it was said that it has not.
        if !self.context.incomplete && !name.value.starts_with(crate::library::PREFIX) {
            let near = suggest::nearest(&name.value, self.scope.policy_names());
            let finding = dangling(name, "policy", near);
            self.report(finding);
        }
        None
    }

    fn wrong_kind(&mut self, name: &Spanned<String>, is: &str, wanted: &str, other: Span) {
        self.report(
            Diagnostic::error(
                code::WRONG_KIND,
                name.span,
                format!("`{}` is a {is}, not a {wanted}", name.value),
            )
            .at(format!("expected a {wanted}"))
            .label(other, format!("the {is}")),
        );
    }
}

/// A finding about a name that nothing has.
fn dangling(name: &Spanned<String>, kind: &str, near: Option<&str>) -> Diagnostic {
    let finding = Diagnostic::error(
        code::DANGLING_REFERENCE,
        name.span,
        format!("there is no {kind} `{}`", name.value),
    );
    match near {
        Some(near) => finding.help(format!("did you mean `{near}`?")).fix(
            format!("write `{near}`"),
            vec![mesh_syntax::Edit::new(name.span, near)],
        ),
        None => finding.help(format!("declare it: `{kind} {} {{ … }}`", name.value)),
    }
}

/// What is said of a command that asks for an environment that `mesh` does not declare.
pub fn no_environment(environment: &str) -> String {
    format!("the environment `{environment}` is not declared")
}

fn check_environment(root: &model::Root, environment: &str, findings: &mut Vec<Diagnostic>) {
    let declared = || root.environments.iter().map(|name| name.value.as_str());
    if environment == crate::DEFAULT_ENVIRONMENT || declared().any(|name| name == environment) {
        return;
    }
    let message = no_environment(environment);
    let finding = Diagnostic::error(code::DANGLING_REFERENCE, root.name.span, message);
    findings.push(match suggest::nearest(environment, declared()) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None if value::is_name(environment) => {
            finding.help(format!("write `environment {environment}` in `mesh`"))
        }
        None => finding.help(match root.environments.as_slice() {
            [] => "the mesh has no environments; leave it out".to_owned(),
            declared => {
                let names: Vec<&str> = declared.iter().map(|name| name.value.as_str()).collect();
                format!("the mesh has {}", names.join(", "))
            }
        }),
    });
}

/// The named policies, and whether anything uses them.
fn policies(mesh: &model::Mesh, root: &model::Root, scope: &Scope<'_>) -> Vec<linked::PolicyUse> {
    let services = mesh.services.iter();
    let used: BTreeSet<&str> = services
        .flat_map(|service| &service.settings.uses)
        .chain(&root.defaults.uses)
        .map(|name| name.value.as_str())
        .collect();
    let policies = scope.policies().map(|policy| linked::PolicyUse {
        name: policy.name.clone(),
        used: used.contains(policy.name.value.as_str()),
        span: policy.span,
    });
    policies.collect()
}

fn federates(root: &model::Root) -> Vec<String> {
    let mut domains: Vec<String> = root
        .federates
        .iter()
        .map(|domain| domain.value.clone())
        .collect();
    domains.sort_unstable();
    domains.dedup();
    domains
}

fn environments(root: &model::Root) -> Vec<String> {
    let mut names: Vec<String> = root
        .environments
        .iter()
        .map(|name| name.value.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn refuse(root: &model::Root) -> linked::Refuse {
    let effective = |given: Option<Spanned<u32>>, built_in| match given {
        Some(given) => Effective {
            value: given.value,
            source: Source::Defaults(given.span),
        },
        None => Effective::built_in(built_in),
    };
    linked::Refuse {
        amplification: effective(
            root.refuse.amplification,
            limits::AMPLIFICATION_REFUSED_ABOVE,
        ),
        attempts: effective(root.refuse.attempts, limits::ATTEMPTS_REFUSED_ABOVE),
        canary_step: root.refuse.canary_step,
        blast_radius: root.refuse.blast_radius,
    }
}
