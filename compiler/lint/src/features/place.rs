//! Where policy says what needs a feature.

use mesh_bundle::feature;
use mesh_bundle::slice::{
    Answer, Balance as Algorithm, ClientAddress, Condition, Enforcement, Jwks, Principal, Protocol,
};
use mesh_compiler::LinkedMesh;
use mesh_compiler::linked::{
    Balance, Effective, Exchange, Gateway, Kind, Pool, Requirement, Route, Service, Source,
};
use mesh_compiler::model::{RequirementKind, Spanned};
use mesh_syntax::Span;

/// The first place where policy asks for something that needs a feature; none where no single word does.
pub(super) fn of(mesh: &LinkedMesh, name: &str) -> Option<Span> {
    let places = mesh
        .services
        .iter()
        .flat_map(|service| of_service(service, name));
    let calls = mesh.edges.iter().flat_map(|edge| {
        let routed = edge.routed.iter().flat_map(|routed| &routed.exchanges);
        let exchanges = edge.exchanges.iter().chain(routed);
        exchanges.filter_map(|exchange| of_exchange(exchange, name))
    });
    let keys = mesh.jwts.iter().filter_map(|jwt| {
        let fetched = matches!(jwt.provider.jwks, Jwks::Url(_));
        (name == feature::ACCESS_JWT_URL && fetched).then_some(jwt.span)
    });
    places.chain(calls).chain(keys).min()
}

fn of_service(service: &Service, name: &str) -> Vec<Span> {
    let mut places = Vec::new();
    places.extend(of_kind(service, name));
    places.extend(of_ports(service, name));
    places.extend(of_entrance(service, name));
    if let Some(gateway) = service.gateway() {
        places.extend(of_gateway(gateway, name));
    }
    places.extend(of_pool(&service.pool, name));
    for subset in &service.subsets {
        if name == feature::POOL_SUBSET && subset.has_own_pool {
            places.push(subset.name.span);
        }
        places.extend(of_pool(&subset.pool, name));
    }
    for route in &service.routes {
        places.extend(of_route(route, name));
        places.extend(of_exchange(&route.exchange, name));
    }
    places
}

fn of_kind(service: &Service, name: &str) -> Option<Span> {
    match (name, &service.kind) {
        (feature::GATEWAY, Kind::Gateway(_)) | (feature::CALLEE_EXTERNAL, Kind::External(_)) => {
            Some(service.name.span)
        }
        (feature::CALLEE_EXTERNAL_VIA, Kind::External(external)) => {
            external.via.as_ref().map(|via| via.span)
        }
        (feature::CALLEE_UNMESHED, _) => service.reach.unmeshed,
        (feature::CALLEE_ADDRESS, _) => service.reach.addresses.first().map(|own| own.span),
        (feature::CALLEE_DIAL, _) => {
            let mut dials = service.reach.dials.iter();
            dials.find_map(|dial| dial.dial.map(|port| port.span))
        }
        (feature::CALLEE_TLS, _) => {
            let mut dials = service.reach.dials.iter();
            dials.find(|dial| dial.tls.is_some()).map(|dial| dial.span)
        }
        (feature::CALLEE_LISTEN, _) => {
            let mut calls = service.calls.iter();
            calls.find_map(|call| Some(call.listen.as_ref()?.0.span))
        }
        (feature::RETRY_BUDGET_REQUESTS | feature::RETRY_BUDGET_ACTIVE, _) => {
            given(&service.retry_budget)
        }
        (feature::TELEMETRY_ACCESS_LOG, _) => {
            service.telemetry.access_log.as_ref().map(|log| log.span)
        }
        (feature::TELEMETRY_TRACES, _) => service.telemetry.traces.as_ref().map(|own| own.span),
        _ => None,
    }
}

fn of_ports(service: &Service, name: &str) -> Option<Span> {
    let protocol = match name {
        feature::PROTOCOL_HTTP => Protocol::Http,
        feature::PROTOCOL_GRPC => Protocol::Grpc,
        feature::PROTOCOL_TCP => Protocol::Tcp,
        feature::PROTOCOL_TLS => Protocol::Tls,
        feature::ACCESS_MTLS => {
            let own = service.ports.iter().find_map(|port| port.mtls);
            let own = own.filter(|mode| mode.value.is_some());
            let of_all = service.mtls.source.span();
            let of_all = of_all.filter(|_| service.mtls.value.is_some());
            return own.map(|mode| mode.span).or(of_all);
        }
        _ => return None,
    };
    let mut ports = service.ports.iter();
    let port = ports.find(|port| port.protocol == protocol)?;
    Some(port.number.span)
}

fn of_entrance(service: &Service, name: &str) -> Vec<Span> {
    let span = |source: Source| source.span();
    let required = |wanted: fn(&Requirement) -> bool| {
        let own = service.requirements.iter().filter(|one| wanted(one));
        own.filter_map(|one| span(one.source)).collect()
    };
    let audit = Enforcement::Audit;
    let limits = |is_asked: bool| {
        let own = service.rate_limits.iter();
        let own = own.filter(|limit| limit.via.is_some() == is_asked);
        own.map(|limit| limit.rate.span).collect()
    };
    match name {
        feature::ACCESS_AUTHORIZER | feature::ACCESS_AUTHORIZER_BODY => {
            required(|one| one.kind == RequirementKind::RequireAuthorizer)
        }
        feature::ACCESS_JWT => required(|one| one.kind != RequirementKind::RequireAuthorizer),
        feature::ACCESS_RATE_LIMIT => limits(false),
        feature::ACCESS_RATE_LIMIT_VIA => limits(true),
        feature::ACCESS_PROBE => {
            let own = service.probes.iter();
            own.filter_map(|probe| span(probe.source)).collect()
        }
        feature::ACCESS_AUDIT => {
            let own = service
                .access
                .iter()
                .filter(|rule| rule.enforcement == audit);
            own.filter_map(|rule| span(rule.source)).collect()
        }
        feature::ACCESS_UNAUTHENTICATED => {
            let nobody = Principal::Unauthenticated;
            let own = service
                .access
                .iter()
                .filter(|rule| rule.who.contains(&nobody));
            own.filter_map(|rule| span(rule.source)).collect()
        }
        _ => {
            let rules = service.access.iter().flat_map(|rule| &rule.conditions);
            let required = service.requirements.iter().flat_map(|one| &one.conditions);
            let limited = service.rate_limits.iter().flat_map(|one| &one.conditions);
            of_conditions(rules.chain(required).chain(limited), name)
        }
    }
}

fn of_gateway(gateway: &Gateway, name: &str) -> Option<Span> {
    let mut listeners = gateway.listeners.iter();
    let wanted = listeners.find(|listener| match name {
        feature::LISTENER_TLS => listener.tls.is_some(),
        feature::LISTENER_CLIENT_CERTIFICATE => listener
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client.is_some()),
        feature::LISTENER_PROXY_PROTOCOL => listener.client_address == ClientAddress::ProxyProtocol,
        feature::LISTENER_FORWARDED_FOR => {
            matches!(listener.client_address, ClientAddress::ForwardedFor { .. })
        }
        _ => false,
    });
    wanted.map(|listener| listener.span)
}

fn of_pool(pool: &Pool, name: &str) -> Option<Span> {
    let algorithm = match name {
        feature::BALANCE_CHOICES => {
            let method = &pool.balance.method;
            return set(method, method.value.choices.is_some());
        }
        feature::BALANCE_SLOW_START => return given(&pool.balance.slow_start),
        feature::POOL_LOCALITY => return given(&pool.locality.nearness),
        feature::POOL_HEALTH_CHECK => return given(&pool.health_check.probe),
        feature::POOL_LIMITS_BODY => return given(&pool.limits.body),
        feature::POOL_LIMITS => {
            let limits = &pool.limits;
            return [
                &limits.connections,
                &limits.pending,
                &limits.requests,
                &limits.retries,
                &limits.requests_per_connection,
            ]
            .into_iter()
            .find_map(given);
        }
        feature::POOL_OUTLIER => {
            let outlier = &pool.outlier;
            return outlier.counted_by().into_iter().find_map(Source::span);
        }
        feature::POOL_OUTLIER_LOCAL => return given(&pool.outlier.consecutive_local),
        feature::POOL_OUTLIER_RATES => {
            let outlier = &pool.outlier;
            let rates = [
                outlier.success_rate_deviations.source,
                outlier.failure_percentage.source,
            ];
            return rates.into_iter().find_map(Source::span);
        }
        feature::POOL_LIMITS_ADAPTIVE => return pool.limits.adaptive.source.span(),
        feature::BALANCE_ROUND_ROBIN => Algorithm::RoundRobin,
        feature::BALANCE_LEAST_REQUEST => Algorithm::LeastRequest,
        feature::BALANCE_RANDOM => Algorithm::Random,
        feature::BALANCE_PEAK_EWMA => Algorithm::PeakEwma,
        feature::BALANCE_RING_HASH => Algorithm::RingHash,
        feature::BALANCE_MAGLEV => Algorithm::Maglev,
        _ => return None,
    };
    let Balance { method, .. } = &pool.balance;
    set(method, method.value.algorithm == algorithm)
}

fn of_route(route: &Route, name: &str) -> Vec<Span> {
    let actions = &route.actions;
    let answer = |wanted: fn(&Answer) -> bool| {
        let own = actions
            .answer
            .as_ref()
            .filter(|answer| wanted(&answer.value));
        own.map(|answer| answer.span)
    };
    let one = match name {
        feature::ROUTE_REDIRECT => answer(|answer| matches!(answer, Answer::Redirect(_))),
        feature::ROUTE_RESPOND => answer(|answer| matches!(answer, Answer::Respond(_))),
        feature::ROUTE_REWRITE => actions.rewrite.as_ref().map(|own| own.span),
        feature::ROUTE_MIRROR => actions.mirrors.first().map(|own| own.span),
        feature::ROUTE_FAULT => actions.fault.as_ref().map(|own| own.span),
        feature::ROUTE_CORS => actions.cors.as_ref().map(|own| own.span),
        feature::ROUTE_UPGRADE => actions.upgrade.as_ref().map(|own| own.span),
        feature::ROUTE_STREAMING => actions.streaming,
        feature::ROUTE_STICKY => actions.sticky.as_ref().map(|own| own.span),
        feature::ROUTE_HEADERS => {
            let edits = [&actions.request_headers, &actions.response_headers];
            edits.into_iter().flatten().map(|own| own.span).next()
        }
        // The words have no place of their own here.
        feature::ROUTE_PATH_ACCEPTS => {
            (!actions.path_accepts.is_empty()).then_some(route.name.span)
        }
        feature::ROUTE_DESTINATION_PORT => {
            let mut branches = route.destinations.iter();
            let branch = branches.find(|to| to.target.port.is_some());
            branch.map(|to| to.span)
        }
        _ => {
            let matches = route.matches.iter().flat_map(|each| &each.conditions);
            return of_conditions(matches, name);
        }
    };
    one.into_iter().collect()
}

fn of_exchange(exchange: &Exchange, name: &str) -> Option<Span> {
    match name {
        feature::HEDGE => given(&exchange.hedge),
        feature::TIMEOUT_IDLE => given(&exchange.idle),
        feature::RETRY => set(&exchange.attempts, exchange.attempts.value > 1),
        _ => None,
    }
}

fn of_conditions<'c>(
    conditions: impl Iterator<Item = &'c Spanned<Condition>>,
    name: &str,
) -> Vec<Span> {
    fn needs(condition: &Condition, name: &str) -> bool {
        match condition {
            Condition::Not(inner) => needs(inner, name),
            Condition::Claim(_) => name == feature::CONDITION_CLAIM,
            Condition::ClientIp(_) => name == feature::CONDITION_CLIENT_IP,
            Condition::PeerIp(_) => name == feature::CONDITION_PEER_IP,
            _ => false,
        }
    }
    let needing = conditions.filter(|condition| needs(&condition.value, name));
    needing.map(|condition| condition.span).collect()
}

fn given<T>(field: &Effective<Option<T>>) -> Option<Span> {
    set(field, field.value.is_some())
}

fn set<T>(field: &Effective<T>, is_set: bool) -> Option<Span> {
    field.source.span().filter(|_| is_set)
}
