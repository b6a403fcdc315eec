//! The routes of a service: destinations, weights and the exchange of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_bundle::slice::HeaderEdits;
use mesh_syntax::{Diagnostic, Edit, Span};

use super::merge::{Layers, apply, shared};
use super::scope::duplicate;
use super::{Linker, dangling};
use crate::code;
use crate::linked::{Destination, Exchange, Match, Route, ServiceId, Source, Subset, Target};
use crate::model::{self, Actions, Port, Spanned};
use crate::suggest;

/// Name of the route that a service without routes has.
pub(crate) const IMPLICIT_ROUTE: &str = "default";

impl<'m> Linker<'m, '_> {
    pub(super) fn routes(
        &mut self,
        service: (&'m model::Service, ServiceId),
        layers: &Layers<'m>,
        subsets: &[Subset],
        ports: &[Port],
    ) -> Vec<Route> {
        let (service, id) = service;
        let base = match service.kind {
            // What a gateway asks for tightens what the service behind it grants, route by route.
            model::Kind::Gateway(_) => Exchange::built_in(),
            model::Kind::Service | model::Kind::External(_) => layers.exchange(),
        };
        let base = Arc::new(base);
        let is_gateway = matches!(service.kind, model::Kind::Gateway(_));
        if service.routes.is_empty() && !is_gateway {
            self.check_exchange(&base);
            let span = service.name.span;
            return vec![Route {
                name: Spanned::new(IMPLICIT_ROUTE.to_owned(), span),
                implicit: true,
                matches: Vec::new(),
                destinations: vec![everything(id, span)],
                actions: Actions::default(),
                exchange: base,
                span,
            }];
        }
        self.unique_routes(service)
            .into_iter()
            .map(|declared| {
                let mut exchange = Exchange::clone(&base);
                apply(&mut exchange, &declared.exchange, Source::Route);
                if !is_gateway {
                    self.check_exchange(&exchange);
                }
                let matches = declared.matches.iter().map(|block| Match {
                    conditions: self.conditions(&block.conditions, Some(ports)),
                    span: block.span,
                });
                let route = Route {
                    name: declared.name.clone(),
                    implicit: false,
                    matches: matches.collect(),
                    destinations: self.destinations((service, id), declared, subsets),
                    actions: self.actions((service, id), declared, subsets),
                    exchange: shared(exchange, &base),
                    span: declared.span,
                };
                self.check_actions(&route);
                route
            })
            .collect()
    }

    fn unique_routes(&mut self, service: &'m model::Service) -> Vec<&'m model::Route> {
        let mut sorted: Vec<&model::Route> = service.routes.iter().collect();
        if matches!(service.kind, model::Kind::Gateway(_)) {
            sorted.extend(self.gateway_routes(&service.name.value));
        }
        sorted.sort_by_key(|route| route.span);
        let mut routes: BTreeMap<&str, &model::Route> = BTreeMap::new();
        for route in sorted {
            let Spanned { value, span } = &route.name;
            if let Some(first) = routes.get(value.as_str()) {
                let first = first.name.span;
                self.report(duplicate("route", value, *span, first));
            } else {
                routes.insert(value, route);
            }
        }
        routes.into_values().collect()
    }

    fn destinations(
        &mut self,
        service: (&model::Service, ServiceId),
        route: &model::Route,
        subsets: &[Subset],
    ) -> Vec<Destination> {
        if route.actions.answer.is_some() {
            return Vec::new();
        }
        if route.destinations.is_empty() && is_gateway(service.0) {
            self.report(
                Diagnostic::error(
                    code::MISSING,
                    route.name.span,
                    "a gateway's route needs a `to`, `redirect` or `respond`",
                )
                .help("a gateway has no endpoints of its own; name the service: `to SERVICE`"),
            );
            return Vec::new();
        }
        if route.destinations.is_empty() {
            return vec![everything(service.1, route.span)];
        }
        self.check_weights(&route.destinations);
        let mut destinations = Vec::new();
        for to in &route.destinations {
            let otherwise = to
                .otherwise
                .iter()
                .filter_map(|other| self.target(service, other, subsets))
                .collect();
            let Some(target) = self.target(service, &to.target, subsets) else {
                continue;
            };
            destinations.push(Destination {
                target,
                weight: to.weight.map_or(1, |weight| weight.value),
                otherwise,
                request_headers: to.request_headers.clone(),
                response_headers: to.response_headers.clone(),
                span: to.span,
            });
        }
        if destinations.len() == 1 {
            // One branch takes everything, whatever its weight; what that weight says is reported.
            destinations[0].weight = 1;
        }
        self.check_repetition(&route.destinations, is_gateway(service.0));
        destinations.sort_by_key(|to| to.target);
        destinations
    }

    pub(super) fn target(
        &mut self,
        (service, id): (&model::Service, ServiceId),
        target: &model::Target,
        subsets: &[Subset],
    ) -> Option<Target> {
        self.check_names(target, is_gateway(service));
        if is_gateway(service) {
            return self.other_target(target.name.as_ref().or(target.service.as_ref()), target);
        }
        if target
            .service
            .as_ref()
            .is_some_and(|name| name.value != service.name.value)
        {
            return self.other_target(target.service.as_ref(), target);
        }
        let name = subset_named(target);
        Some(Target {
            service: id,
            subset: name.and_then(|name| self.subset(service, name, subsets)),
            port: target
                .port
                .and_then(|port| self.target_port(&service.name, service, Some(port))),
        })
    }

    /// What a target says in two ways.
    fn check_names(&mut self, target: &model::Target, is_gateway: bool) {
        let Some(name) = &target.name else {
            return;
        };
        let (other, help) = match (&target.service, &target.subset) {
            (Some(service), _) if is_gateway => {
                (service, "in a gateway the argument is the service")
            }
            (Some(service), None) => (
                service,
                "the argument is a subset of this service; a subset of the other is `subset=`",
            ),
            (_, Some(subset)) if !is_gateway => (subset, "in a service the argument is the subset"),
            _ => return,
        };
        self.report(
            Diagnostic::error(
                code::EXCLUSIVE,
                name.span,
                format!("both `{}` and `{}` are named", name.value, other.value),
            )
            .label(other.span, "the other one")
            .help(help),
        );
    }

    /// A target that is another service, whose subsets may not be linked yet.
    pub(super) fn other_target(
        &mut self,
        name: Option<&Spanned<String>>,
        target: &model::Target,
    ) -> Option<Target> {
        let Some(name) = name else {
            self.report(
                Diagnostic::error(
                    code::MISSING,
                    target.span,
                    "a gateway's `to` names a service",
                )
                .help("write `to SERVICE`, and `subset=` for a part of its endpoints"),
            );
            return None;
        };
        let service = self.find_callee(name)?;
        let declared = self.scope.declared(&name.value)?;
        let subset = target.subset.as_ref().and_then(|subset| {
            let mut names: Vec<&str> = declared
                .subsets
                .iter()
                .map(|subset| subset.name.value.as_str())
                .collect();
            names.sort_unstable();
            names.dedup();
            let found = names.iter().position(|name| *name == subset.value);
            if found.is_none() && !self.is_incomplete(declared.span) {
                self.unknown_subset(subset, &names);
            }
            found
        });
        Some(Target {
            service,
            subset,
            port: self.target_port(name, declared, target.port),
        })
    }

    /// The port of a service that a gateway sends requests to, which is none of the gateway's own.
    fn target_port(
        &mut self,
        name: &Spanned<String>,
        declared: &model::Service,
        port: Option<Spanned<u16>>,
    ) -> Option<u16> {
        let mut known: Vec<u16> = declared
            .ports
            .iter()
            .map(|port| port.number.value)
            .collect();
        known.sort_unstable();
        known.dedup();
        let texts: Vec<String> = known.iter().map(ToString::to_string).collect();
        let has = format!("it has {}", texts.join(", "));
        match (port, known.as_slice()) {
            (Some(port), known) if known.contains(&port.value) => return Some(port.value),
            (None, [only]) => return Some(*only),
            _ if self.is_incomplete(declared.span) => {}
            (Some(port), _) => self.report(
                Diagnostic::error(
                    code::DANGLING_REFERENCE,
                    port.span,
                    format!("`{}` has no port {}", name.value, port.value),
                )
                .help(has),
            ),
            (None, _) => self.report(
                Diagnostic::error(
                    code::PORT_REQUIRED,
                    name.span,
                    format!("`{}` has several ports", name.value),
                )
                .help(format!("say which one with `port=`: {has}")),
            ),
        }
        None
    }

    fn unknown_subset(&mut self, name: &Spanned<String>, names: &[&str]) {
        let near = suggest::nearest(&name.value, names.iter().copied());
        let finding = dangling(name, "subset", near);
        let (code, text) = (code::UNKNOWN_SUBSET.code, code::UNKNOWN_SUBSET.name);
        let mut finding = Diagnostic {
            code,
            name: text,
            ..finding
        };
        // Another version is not a slip of the keyboard, and its endpoints are others.
        if near.is_some_and(|near| letters(near) == letters(&name.value)) {
            for fix in &mut finding.fixes {
                fix.safe = false;
            }
        }
        self.report(finding);
    }

    fn subset(
        &mut self,
        service: &model::Service,
        name: &Spanned<String>,
        subsets: &[Subset],
    ) -> Option<usize> {
        let found = subsets
            .iter()
            .position(|subset| subset.name.value == name.value);
        if found.is_none() && !self.is_incomplete(service.span) {
            if self.scope.service(&name.value).is_some() {
                self.other_service(name);
            } else {
                let names: Vec<&str> = subsets.iter().map(|s| s.name.value.as_str()).collect();
                self.unknown_subset(name, &names);
            }
        }
        found
    }

    fn other_service(&mut self, name: &Spanned<String>) {
        self.report(
            Diagnostic::error(
                code::WRONG_KIND,
                name.span,
                format!("`{}` is a service, not a subset", name.value),
            )
            .at("expected a subset of this service")
            .help(format!(
                "to send requests on to it, write `to service={}`",
                name.value
            ))
            .fix(
                format!("write `service={}`", name.value),
                vec![Edit::new(name.span, format!("service={}", name.value))],
            ),
        );
    }

    fn check_weights(&mut self, destinations: &[model::Destination]) {
        let weights: Vec<_> = destinations.iter().filter_map(|to| to.weight).collect();
        if let ([only], [weight]) = (destinations, weights.as_slice()) {
            self.report(needless_weight(only, *weight));
            return;
        }
        if !weights.is_empty() && weights.len() < destinations.len() {
            let with = weights[0].span;
            for to in destinations.iter().filter(|to| to.weight.is_none()) {
                self.report(
                    Diagnostic::error(code::WEIGHTS_ON_SOME, to.span, "this branch has no weight")
                        .label(with, "another branch has one")
                        .help("give every branch a weight, or none: then they share equally"),
                );
            }
        }
        if weights.len() == destinations.len() && weights.iter().all(|weight| weight.value == 0) {
            let span = weights
                .iter()
                .fold(weights[0].span, |span, weight| span.to(weight.span));
            self.report(
                Diagnostic::error(code::NO_WEIGHT, span, "the weights add up to 0")
                    .help("no branch would take a request; give one of them a weight"),
            );
        }
    }

    fn check_repetition(&mut self, destinations: &[model::Destination], is_gateway: bool) {
        let mut seen: BTreeMap<_, Span> = BTreeMap::new();
        for to in destinations {
            let target = &to.target;
            // In a gateway the argument is the service.
            let (service, subset) = match (is_gateway, &target.name) {
                (true, Some(name)) => (Some(name), target.subset.as_ref()),
                _ => (target.service.as_ref(), subset_named(target)),
            };
            let named = service.or(subset);
            let name = named.map(|named| named.value.as_str());
            let span = named.map_or(to.span, |named| named.span);
            let key = (
                service.map(|service| service.value.as_str()),
                subset.map(|subset| subset.value.as_str()),
                target.port.map(|port| port.value),
            );
            let Some(first) = seen.insert(key, span) else {
                continue;
            };
            let what = name.map_or("all endpoints".to_owned(), |name| format!("`{name}`"));
            self.report(
                Diagnostic::error(
                    code::DESTINATION_TWICE,
                    span,
                    format!("{what} is a destination of this route twice"),
                )
                .label(first, "the first time")
                .help("add the weights up in one `to`"),
            );
        }
    }
}

fn needless_weight(to: &model::Destination, weight: Spanned<u32>) -> Diagnostic {
    let whole = Span {
        start: subset_named(&to.target).map_or(to.span.start, |name| name.span.end),
        ..weight.span
    };
    if weight.value == 0 {
        return Diagnostic::error(
            code::NO_WEIGHT,
            weight.span,
            "the only branch has the weight 0",
        )
        .help("it would take no request; remove the weight, or the route");
    }
    let finding = Diagnostic::warning(
        code::NEEDLESS_WEIGHT,
        weight.span,
        "the only branch takes everything, whatever its weight",
    );
    // Without a name before it, where the property begins is not known.
    match subset_named(&to.target) {
        Some(_) if to.otherwise.is_empty() => {
            finding.fix("remove the weight", vec![Edit::new(whole, "")])
        }
        _ => finding.help("remove the weight"),
    }
}

const fn is_gateway(service: &model::Service) -> bool {
    matches!(service.kind, model::Kind::Gateway(_))
}

fn subset_named(target: &model::Target) -> Option<&Spanned<String>> {
    target.name.as_ref().or(target.subset.as_ref())
}

fn everything(service: ServiceId, span: Span) -> Destination {
    Destination {
        target: Target {
            service,
            subset: None,
            port: None,
        },
        weight: 1,
        otherwise: Vec::new(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        span,
    }
}

/// A name without its number: `v1` and `v2` are as near as words can be, and mean two things.
fn letters(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}
