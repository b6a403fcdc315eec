//! Who calls whom, or may: declared by `calls` of the caller, permitted by `allow` of the callee. The
//! effective exchange of each route is resolved here, once for each edge.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_bundle::slice::Principal;
use mesh_bundle::spiffe::SpiffeId;
use mesh_syntax::{Diagnostic, Span};
use rayon::prelude::*;

use super::merge::shared;
use super::tighten::Callee;
use super::{Linker, dangling};
use crate::limits;
use crate::linked::{
    Asked, AskedPurpose, Authorizer, Call, Edge, Exchange, Kind, RouteId, Routed, Service,
    ServiceId,
};
use crate::model::{self, Effect, Enforcement, RequirementKind, Spanned};
use crate::suggest;

type Pair = (ServiceId, ServiceId);

/// Pairs that one thread links in a row.
const PAIRS_AT_ONCE: usize = 64;

#[derive(Default)]
struct Reasons {
    declared: Vec<usize>,
    permitted: Vec<usize>,
    /// Routes of the calling gateway, and where each names the callee.
    routed: Vec<(usize, Span)>,
    /// Routes of services that the caller calls and that lead to the callee.
    led: Vec<RouteId>,
    asked: Vec<Asked>,
}

impl<'m> Linker<'m, '_> {
    /// Every edge, ascending; fills in the calls of each service. Nothing when there are too many.
    pub(super) fn edges(
        &mut self,
        services: &mut [Service],
        authorizers: &[Authorizer],
    ) -> Option<Vec<Edge>> {
        let declared = self.calls(services);
        let mut pairs: BTreeMap<Pair, Reasons> = BTreeMap::new();
        for service in services.iter() {
            for (index, call) in service.calls.iter().enumerate() {
                let reasons = pairs.entry((service.id, call.callee.value)).or_default();
                reasons.declared.push(index);
            }
        }
        routed(services, &mut pairs);
        asked(services, authorizers, &mut pairs);
        // Only then are all callers of a service known; a gateway calls where its routes lead, whoever lets it in.
        let onward = led(services, &pairs, true);
        if !self.permitted(services, &mut pairs, &onward) {
            return None;
        }
        let others = led(services, &pairs, false);
        for (pair, routes) in onward.into_iter().chain(others) {
            let reasons = pairs.entry(pair).or_default();
            reasons.led.extend(routes);
            reasons.led.sort_unstable();
            reasons.led.dedup();
        }
        leaving(services, &mut pairs);
        let exchanges = |(pair, reasons): (&Pair, &Reasons)| {
            services[pair.1.index()].routes.len() * (1 + reasons.routed.len())
        };
        if pairs.iter().map(exchanges).sum::<usize>() > limits::EXCHANGES_MAX {
            self.too_many(
                "routes over all pairs of caller and callee",
                limits::EXCHANGES_MAX,
            );
            return None;
        }
        let pairs: Vec<(Pair, Reasons)> = pairs.into_iter().collect();
        let services = &*services;
        // Each by itself, with findings of its own: their order is that of the pairs.
        let Self {
            root,
            ref trust_domain,
            ref refuse,
            scope,
            gateway_routes,
            context,
            ..
        } = *self;
        let linked: Vec<(Vec<Edge>, Vec<Diagnostic>)> = pairs
            .into_par_iter()
            .fold_chunks(
                PAIRS_AT_ONCE,
                Default::default,
                |(mut edges, mut findings): (Vec<Edge>, Vec<Diagnostic>), pair| {
                    let mut linker = Linker {
                        root,
                        trust_domain: trust_domain.clone(),
                        refuse: refuse.clone(),
                        scope,
                        gateway_routes,
                        context,
                        findings: &mut findings,
                        suggesting_max: 0,
                    };
                    edges.push(linker.edge(services, pair, &declared));
                    (edges, findings)
                },
            )
            .collect();
        let mut edges = Vec::new();
        for (some, findings) in linked {
            edges.extend(some);
            self.findings.extend(findings);
        }
        Some(edges)
    }

    fn edge(
        &mut self,
        services: &[Service],
        ((caller, callee), reasons): (Pair, Reasons),
        declared: &[Vec<&'m model::Call>],
    ) -> Edge {
        let exchanges = self.exchanges(services, (caller, callee), &reasons, declared);
        let routed = self.routed_exchanges(services, (caller, callee), &reasons.routed);
        let Reasons {
            declared,
            permitted,
            led,
            asked,
            ..
        } = reasons;
        Edge {
            caller,
            callee,
            declared,
            permitted,
            routed,
            led,
            asked,
            exchanges,
        }
    }

    /// Resolves the calls of every service; returns them as declared, in the same order.
    fn calls(&mut self, services: &mut [Service]) -> Vec<Vec<&'m model::Call>> {
        let declared: Vec<&'m model::Service> = self.scope.services().collect();
        let mut all = Vec::new();
        for (index, service) in declared.into_iter().enumerate() {
            let mut resolved: BTreeMap<(ServiceId, Option<RouteId>), (Call, &'m model::Call)> =
                BTreeMap::new();
            for call in &service.calls {
                let Some(callee) = self.find_callee(&call.callee) else {
                    continue;
                };
                let Some(route) = self.called_route(&services[callee.index()], call) else {
                    continue;
                };
                if let Some((first, _)) = resolved.get(&(callee, route)) {
                    let first = first.span;
                    self.report(called_twice(call, first));
                    continue;
                }
                let callee = Spanned::new(callee, call.callee.span);
                let linked = Call {
                    callee,
                    route,
                    per_request: call.per_request,
                    share: call.share,
                    mode: call.mode,
                    listen: call.listen.and_then(|listen| {
                        let callee = &services[callee.value.index()];
                        Some((listen, self.listen_port(callee, listen.span)?))
                    }),
                    span: call.span,
                };
                resolved.insert((callee.value, route), (linked, call));
            }
            let (linked, as_declared) = resolved.into_values().unzip();
            services[index].calls = linked;
            all.push(as_declared);
        }
        all
    }

    /// The route that a call names, if it names one; nothing if there is no such route.
    #[expect(
        clippy::option_option,
        reason = "outside: found or not; inside: named or not"
    )]
    fn called_route(&mut self, callee: &Service, call: &model::Call) -> Option<Option<RouteId>> {
        let Some(name) = &call.route else {
            return Some(None);
        };
        let found = callee
            .routes
            .iter()
            .position(|route| route.name.value == name.value);
        if found.is_none() && !self.is_incomplete(callee.span) {
            let near = suggest::nearest(
                &name.value,
                callee.routes.iter().map(|r| r.name.value.as_str()),
            );
            let finding = dangling(name, "route", near);
            let finding = match near {
                Some(_) => finding,
                None => finding.help(format!("it names a route of `{}`", callee.name.value)),
            };
            self.report(finding);
        }
        found.map(|index| {
            Some(RouteId {
                service: callee.id,
                index,
            })
        })
    }

    /// Adds the pairs that an `allow` admits; false when there are too many. Those of gateways that go `onward` are not
    /// there yet.
    fn permitted(
        &mut self,
        services: &[Service],
        pairs: &mut BTreeMap<Pair, Reasons>,
        onward: &BTreeMap<Pair, Vec<RouteId>>,
    ) -> bool {
        let mut owners: BTreeMap<&SpiffeId, Vec<ServiceId>> = BTreeMap::new();
        for service in services.iter().filter(|service| !service.is_external()) {
            for identity in &service.identities {
                owners.entry(identity).or_default().push(service.id);
            }
        }
        // Whoever enters a gateway comes from outside, as its client and not through its own proxy.
        let callees = services.iter().filter(|callee| callee.gateway().is_none());
        for callee in callees {
            for (index, rule) in callee.access.iter().enumerate() {
                if rule.implied
                    || rule.effect != Effect::Allow
                    || rule.enforcement != Enforcement::Enforce
                {
                    continue;
                }
                for caller in admitted(&rule.who, &owners) {
                    // A service that only everyone's `allow` covers has no need to call itself, unless it says so.
                    if caller == callee.id
                        && !rule.named.contains(&caller)
                        && !pairs.contains_key(&(caller, callee.id))
                    {
                        continue;
                    }
                    // A gateway sends requests where its routes lead and nowhere else.
                    if services[caller.index()].gateway().is_some()
                        && !pairs.contains_key(&(caller, callee.id))
                        && !onward.contains_key(&(caller, callee.id))
                    {
                        continue;
                    }
                    let reasons = pairs.entry((caller, callee.id)).or_default();
                    if reasons.permitted.last() != Some(&index) {
                        reasons.permitted.push(index);
                    }
                }
                if pairs.len() > limits::EDGES_MAX {
                    self.too_many("pairs of caller and callee", limits::EDGES_MAX);
                    return false;
                }
            }
        }
        true
    }

    fn too_many(&mut self, what: &str, limit: usize) {
        let span = self.root.name.span;
        self.report(
            Diagnostic::error(
                mesh_syntax::code::LIMIT_EXCEEDED,
                span,
                format!("more than {limit} {what}"),
            )
            .help("`allow any` makes a pair with every service; name the callers instead"),
        );
    }

    /// The exchanges of a gateway's routes with the routes of one service behind it.
    fn routed_exchanges(
        &mut self,
        services: &[Service],
        (caller, callee): Pair,
        routed: &[(usize, Span)],
    ) -> Vec<Routed> {
        let gateway = &services[caller.index()];
        let callee = &services[callee.index()];
        let limits = Callee {
            name: &callee.name.value,
            may_extend: &callee.callers_may_extend,
        };
        let mut all = Vec::new();
        for (index, span) in routed {
            let name = gateway.routes[*index].name.span;
            let Some(declared) = self.declared_route(&gateway.name.value, name) else {
                continue;
            };
            let mut exchanges = Vec::new();
            for route in &callee.routes {
                let exchange = self.tighten(&route.exchange, &declared.exchange, limits);
                self.check_exchange(&exchange);
                exchanges.push(shared(exchange, &route.exchange));
            }
            all.push(Routed {
                route: RouteId {
                    service: gateway.id,
                    index: *index,
                },
                span: *span,
                exchanges,
            });
        }
        all
    }

    /// A route of a gateway as declared, by the place of its name.
    pub(super) fn declared_route(&self, gateway: &str, name: Span) -> Option<&'m model::Route> {
        let own = self.scope.declared(gateway)?.routes.iter();
        own.chain(self.gateway_routes(gateway))
            .find(|route| route.name.span == name)
    }

    fn exchanges(
        &mut self,
        services: &[Service],
        (caller, callee): Pair,
        reasons: &Reasons,
        declared: &[Vec<&'m model::Call>],
    ) -> Vec<Arc<Exchange>> {
        let callee = &services[callee.index()];
        let limits = Callee {
            name: &callee.name.value,
            may_extend: &callee.callers_may_extend,
        };
        let calls = &services[caller.index()].calls;
        let mut exchanges = Vec::new();
        // Routes that say nothing of their own share an exchange, and a call makes the same of each of them.
        let mut last: Option<(usize, &Arc<Exchange>, Arc<Exchange>)> = None;
        for (index, route) in callee.routes.iter().enumerate() {
            let id = RouteId {
                service: callee.id,
                index,
            };
            // A call that names the route beats one that names none.
            let call = reasons
                .declared
                .iter()
                .filter(|call| calls[**call].route.is_none_or(|named| named == id))
                .max_by_key(|call| calls[**call].route);
            exchanges.push(match call {
                Some(call) => {
                    let known = last
                        .as_ref()
                        .filter(|(by, of, _)| by == call && Arc::ptr_eq(of, &route.exchange));
                    if let Some((_, _, known)) = known {
                        Arc::clone(known)
                    } else {
                        let by = declared[caller.index()][*call];
                        let exchange = self.tighten(&route.exchange, &by.exchange, limits);
                        self.check_exchange(&exchange);
                        let exchange = shared(exchange, &route.exchange);
                        last = Some((*call, &route.exchange, Arc::clone(&exchange)));
                        exchange
                    }
                }
                None => Arc::clone(&route.exchange),
            });
        }
        exchanges
    }
}

/// Adds the pairs that proxies make by asking others about their requests.
fn asked(services: &[Service], authorizers: &[Authorizer], pairs: &mut BTreeMap<Pair, Reasons>) {
    for service in services {
        let authorize = service.requirements.iter().filter_map(|requirement| {
            let RequirementKind::RequireAuthorizer = requirement.kind else {
                return None;
            };
            let authorizer = authorizers.get(requirement.provider)?;
            let asked = Asked {
                purpose: AskedPurpose::Authorize,
                timeout: Some(authorizer.timeout),
                span: requirement.source.span().unwrap_or(authorizer.span),
            };
            Some((authorizer.to.value.service, asked))
        });
        let count = service.rate_limits.iter().filter_map(|limit| {
            let (target, _) = limit.via.as_ref()?;
            let asked = Asked {
                purpose: AskedPurpose::RateLimit,
                timeout: None,
                span: target.span,
            };
            Some((target.value.service, asked))
        });
        for (callee, asked) in authorize.chain(count) {
            let reasons = pairs.entry((service.id, callee)).or_default();
            if !reasons.asked.contains(&asked) {
                reasons.asked.push(asked);
            }
        }
    }
}

/// Adds the pairs that routes of gateways make.
fn routed(services: &[Service], pairs: &mut BTreeMap<Pair, Reasons>) {
    for gateway in services
        .iter()
        .filter(|service| service.gateway().is_some())
    {
        for (index, route) in gateway.routes.iter().enumerate() {
            for to in &route.destinations {
                for target in std::iter::once(&to.target).chain(&to.otherwise) {
                    let reasons = pairs.entry((gateway.id, target.service)).or_default();
                    if reasons.routed.last().is_none_or(|(last, _)| *last != index) {
                        reasons.routed.push((index, to.span));
                    }
                }
            }
            let id = RouteId {
                service: gateway.id,
                index,
            };
            for mirror in &route.actions.mirrors {
                let pair = (gateway.id, mirror.target.service);
                pairs.entry(pair).or_default().led.push(id);
            }
        }
    }
}

/// The pairs of a caller, a gateway or another, and a service that a route of someone it calls leads to.
/// Such routes do not chain, so once is enough.
fn led(
    services: &[Service],
    pairs: &BTreeMap<Pair, Reasons>,
    of_gateways: bool,
) -> BTreeMap<Pair, Vec<RouteId>> {
    let mut led: BTreeMap<Pair, Vec<RouteId>> = BTreeMap::new();
    let leading: BTreeMap<ServiceId, Vec<(RouteId, ServiceId)>> = services
        .iter()
        .filter(|service| service.gateway().is_none())
        .map(|service| (service.id, elsewhere(service)))
        .filter(|(_, routes)| !routes.is_empty())
        .collect();
    if leading.is_empty() {
        return led;
    }
    let is_meant = |caller: ServiceId| services[caller.index()].gateway().is_some() == of_gateways;
    for (caller, callee) in pairs.keys().filter(|(caller, _)| is_meant(*caller)) {
        for (route, target) in leading.get(callee).into_iter().flatten() {
            led.entry((*caller, *target)).or_default().push(*route);
        }
    }
    led
}

/// Adds the pairs of a caller and the gateway by which its requests to an external leave.
fn leaving(services: &[Service], pairs: &mut BTreeMap<Pair, Reasons>) {
    let by: BTreeMap<ServiceId, ServiceId> = services
        .iter()
        .filter_map(|service| match &service.kind {
            Kind::External(external) => Some((service.id, external.via?.value)),
            Kind::Service | Kind::Gateway(_) => None,
        })
        .collect();
    if by.is_empty() {
        return;
    }
    let callers: Vec<Pair> = pairs.keys().copied().collect();
    for (caller, callee) in callers {
        if let Some(gateway) = by.get(&callee)
            && *gateway != caller
        {
            pairs.entry((caller, *gateway)).or_default();
        }
    }
}

/// The routes of a service that lead to others, and to whom.
fn elsewhere(service: &Service) -> Vec<(RouteId, ServiceId)> {
    let mut found = Vec::new();
    for (index, route) in service.routes.iter().enumerate() {
        let id = RouteId {
            service: service.id,
            index,
        };
        let to = route
            .destinations
            .iter()
            .flat_map(|to| std::iter::once(&to.target).chain(&to.otherwise));
        let mirrored = route.actions.mirrors.iter().map(|mirror| &mirror.target);
        for target in to.chain(mirrored) {
            if target.service != service.id {
                found.push((id, target.service));
            }
        }
    }
    found
}

/// Services that one of the principals admits, ascending and without repetition.
fn admitted(who: &[Principal], owners: &BTreeMap<&SpiffeId, Vec<ServiceId>>) -> Vec<ServiceId> {
    let mut services: Vec<ServiceId> = Vec::new();
    for principal in who {
        match principal {
            Principal::SpiffeId(id) => services.extend(owners.get(id).into_iter().flatten()),
            Principal::SpiffePrefix(prefix) => {
                let below = owners
                    .iter()
                    .filter(|(id, _)| id.as_str().starts_with(prefix.as_str()));
                services.extend(below.flat_map(|(_, services)| services));
            }
            Principal::Any => services.extend(owners.values().flatten()),
            Principal::Unauthenticated => {}
        }
    }
    services.sort_unstable();
    services.dedup();
    services
}

fn called_twice(call: &model::Call, first: Span) -> Diagnostic {
    Diagnostic::error(
        mesh_syntax::code::DUPLICATE_SETTING,
        call.callee.span,
        format!("the call of `{}` is declared twice", call.callee.value),
    )
    .label(first, "the first time")
    .help("put both together, or tell them apart by `route=`")
}
