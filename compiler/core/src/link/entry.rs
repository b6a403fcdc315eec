//! Tokens, authorizers, limits and probes: their names become positions, their levels one list.

use std::time::Duration;

use mesh_bundle::slice::{
    self, AuthorizerProtocol, ClaimHeader, JwtProvider, OnFailure, PathPattern, PathPatternKind,
};
use mesh_syntax::{Diagnostic, Span};

use super::merge::Layers;
use super::{Linker, dangling, key_set};
use crate::code;
use crate::linked::{Authorizer, Jwt, Probe, RateLimit, Requirement, Route, Source, Target};
use crate::model::{self, JwksSource, Port, RequirementKind, Spanned};
use crate::suggest;

/// How long an authorizer may take where nothing is said.
const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a service or gateway asks of whoever enters.
pub(super) struct Entry {
    pub(super) requirements: Vec<Requirement>,
    pub(super) rate_limits: Vec<RateLimit>,
    pub(super) probes: Vec<Probe>,
}

impl<'m> Linker<'m, '_> {
    /// Every provider of tokens, ascending by name. One whose keys are wrong is reported and kept, so
    /// that its name is not missed.
    pub(super) fn jwts(&mut self) -> Vec<Jwt> {
        let declared: Vec<&'m model::Jwt> = self.scope.jwts().collect();
        declared
            .into_iter()
            .map(|jwt| Jwt {
                name: jwt.name.clone(),
                provider: self.provider(jwt),
                span: jwt.span,
            })
            .collect()
    }

    fn provider(&mut self, jwt: &model::Jwt) -> JwtProvider {
        let mut audiences: Vec<String> = jwt
            .audiences
            .iter()
            .map(|audience| audience.value.clone())
            .collect();
        audiences.sort_unstable();
        audiences.dedup();
        let jwks = match &jwt.jwks {
            JwksSource::Url(url) => slice::Jwks::Url(url.value.clone()),
            JwksSource::File(file) => slice::Jwks::Inline(self.key_set(file)),
        };
        let forwards = jwt.forwards.iter().map(|(claim, header)| ClaimHeader {
            claim: claim.value.clone(),
            header: header.value.clone(),
        });
        JwtProvider {
            name: jwt.name.value.clone(),
            issuer: jwt.issuer.value.clone(),
            audiences,
            jwks,
            locations: jwt.locations.clone(),
            forwards: forwards.collect(),
        }
    }

    /// The keys of a file of the repository; reports what is wrong with them.
    fn key_set(&mut self, file: &Spanned<String>) -> Vec<u8> {
        let path = match self.context.root_path {
            "" => file.value.clone(),
            root => format!("{root}/{}", file.value),
        };
        let sources = self.context.sources;
        let found = sources.files().find(|id| sources.path(*id) == path);
        let Some(found) = found else {
            let names = sources.files().map(|id| sources.path(id));
            let near = suggest::nearest(
                &path,
                names.filter(|name| name.ends_with(mesh_syntax::KEY_SET_SUFFIX)),
            );
            let finding = Diagnostic::error(
                code::DANGLING_REFERENCE,
                file.span,
                format!("there is no file `{path}`"),
            );
            self.report(match near {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding.help("it is looked for below the folder of the `mesh` node"),
            });
            return Vec::new();
        };
        // A file that could not be read was reported as such.
        let Some(text) = sources.text(found) else {
            return Vec::new();
        };
        for problem in key_set::problems(text) {
            self.report(key_set::finding(&problem, file.span, found, text));
        }
        text.as_bytes().to_vec()
    }

    /// Every authorizer, ascending by name.
    pub(super) fn authorizers(&mut self) -> Vec<Authorizer> {
        let declared: Vec<&'m model::Authorizer> = self.scope.authorizers().collect();
        declared
            .into_iter()
            .filter_map(|authorizer| {
                let to = self.service_target(&authorizer.to)?;
                let names = |headers: &[Spanned<String>]| {
                    let mut names: Vec<String> =
                        headers.iter().map(|header| header.value.clone()).collect();
                    names.sort_unstable();
                    names.dedup();
                    names
                };
                Some(Authorizer {
                    name: authorizer.name.clone(),
                    to: Spanned::new(to, authorizer.to.span),
                    protocol: authorizer
                        .protocol
                        .map_or(AuthorizerProtocol::Http, |protocol| protocol.value),
                    timeout: authorizer
                        .timeout
                        .map_or(AUTHORIZER_TIMEOUT, |timeout| timeout.value),
                    on_failure: authorizer
                        .on_failure
                        .unwrap_or(Spanned::new(OnFailure::Deny, authorizer.name.span)),
                    send_headers: names(&authorizer.send_headers),
                    keep_headers: names(&authorizer.keep_headers),
                    return_headers: names(&authorizer.return_headers),
                    body_bytes: authorizer.body.map_or(0, |body| body.value),
                    span: authorizer.span,
                })
            })
            .collect()
    }

    /// What every level of a service asks, and each route of a gateway; own first.
    pub(super) fn entry(
        &mut self,
        service: &'m model::Service,
        layers: &Layers<'m>,
        routes: &[Route],
        ports: &[Port],
    ) -> Entry {
        let mut entry = Entry {
            requirements: Vec::new(),
            rate_limits: Vec::new(),
            probes: Vec::new(),
        };
        for (level, settings) in layers.iter() {
            let own = matches!(level(service.span), Source::Service(_)).then_some(ports);
            for requirement in &settings.requirements {
                let source = level(requirement.head);
                entry
                    .requirements
                    .extend(self.requirement(requirement, None, source, own));
            }
            for limit in &settings.rate_limits {
                let source = level(limit.head);
                entry
                    .rate_limits
                    .extend(self.rate_limit(limit, None, source, own));
            }
            entry.probes.extend(settings.probes.iter().map(|declared| {
                let mut peer_ip: Vec<_> =
                    declared.peer_ip.iter().map(|range| range.value).collect();
                peer_ip.sort_unstable();
                peer_ip.dedup();
                Probe {
                    paths: declared
                        .paths
                        .iter()
                        .map(|path| template(&path.value))
                        .collect(),
                    peer_ip,
                    source: level(declared.head),
                }
            }));
        }
        entry.requirements.reverse();
        entry.rate_limits.reverse();
        entry.probes.reverse();
        for (index, route) in routes.iter().enumerate() {
            let Some(declared) = self.declared_route(&service.name.value, route.name.span) else {
                continue;
            };
            if !matches!(service.kind, model::Kind::Gateway(_)) {
                self.only_in_gateways(declared);
                continue;
            }
            for requirement in &declared.requirements {
                let source = Source::Route(requirement.head);
                entry.requirements.extend(self.requirement(
                    requirement,
                    Some(index),
                    source,
                    Some(ports),
                ));
            }
            for limit in &declared.rate_limits {
                let source = Source::Route(limit.head);
                entry
                    .rate_limits
                    .extend(self.rate_limit(limit, Some(index), source, Some(ports)));
            }
        }
        entry
    }

    /// A service's routes run in its callers' proxies, where nothing about entering is decided.
    fn only_in_gateways(&mut self, route: &model::Route) {
        let heads = route
            .requirements
            .iter()
            .map(|requirement| requirement.head);
        let limits = route.rate_limits.iter().map(|limit| limit.head);
        let heads: Vec<Span> = heads.chain(limits).collect();
        for head in heads {
            self.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    head,
                    "only a gateway's route decides who enters",
                )
                .help("routes of a service run in its callers' proxies; write this in the service itself, with conditions"),
            );
        }
    }

    fn requirement(
        &mut self,
        declared: &model::Requirement,
        route: Option<usize>,
        source: Source,
        ports: Option<&[Port]>,
    ) -> Option<Requirement> {
        let (word, names): (&str, Vec<&str>) = match declared.kind {
            RequirementKind::RequireAuthorizer => (
                "authorizer",
                self.scope
                    .authorizers()
                    .map(|each| each.name.value.as_str())
                    .collect(),
            ),
            RequirementKind::RequireJwt | RequirementKind::AcceptJwt => (
                "jwt",
                self.scope
                    .jwts()
                    .map(|each| each.name.value.as_str())
                    .collect(),
            ),
        };
        let name = &declared.name;
        let provider = names.iter().position(|known| *known == name.value);
        if provider.is_none() && !self.context.incomplete {
            let finding = dangling(name, word, suggest::nearest(&name.value, names));
            self.report(finding);
        }
        Some(Requirement {
            kind: declared.kind,
            provider: provider?,
            route,
            conditions: self.conditions(&declared.conditions, ports),
            source,
        })
    }

    fn rate_limit(
        &mut self,
        declared: &model::RateLimit,
        route: Option<usize>,
        source: Source,
        ports: Option<&[Port]>,
    ) -> Option<RateLimit> {
        let via = match &declared.via {
            Some(name) => {
                let target = model::Target {
                    name: Some(name.clone()),
                    service: None,
                    subset: None,
                    port: declared.port,
                    span: name.span,
                };
                let target = Spanned::new(self.service_target(&target)?, name.span);
                let on_failure = declared
                    .on_failure
                    .map_or(OnFailure::Allow, |given| given.value);
                Some((target, on_failure))
            }
            None => None,
        };
        let mut keys = declared.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        Some(RateLimit {
            rate: declared.rate,
            burst: declared
                .burst
                .map_or(declared.rate.value.0, |burst| u64::from(burst.value)),
            via,
            keys,
            respond: declared.respond.clone(),
            route,
            conditions: self.conditions(&declared.conditions, ports),
            source,
        })
    }

    /// A service that the proxy itself asks.
    fn service_target(&mut self, target: &model::Target) -> Option<Target> {
        self.other_target(target.name.as_ref(), target)
    }
}

fn template(text: &str) -> PathPattern {
    PathPattern {
        kind: PathPatternKind::Template(text.to_owned()),
        ignore_case: false,
    }
}
