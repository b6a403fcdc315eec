//! What the content of a slice asks of a proxy. Every field beside those of the first release's
//! core is named here.

use std::collections::BTreeSet;

use crate::feature;
use crate::slice::{
    Access, AccessRule, Answer, Balance, Callee, CalleeKind, ClientAddress, ClientCertificate,
    Condition, Destination, EndpointAddress, EndpointSource, Enforcement, Exchange, HeaderEdits,
    InboundService, Jwks, Pool, Port, Principal, Protocol, RequirementKind, RetryBudgetKind, Route,
    RouteFilters, Slice, Target,
};

type Needed = BTreeSet<&'static str>;

pub(super) fn by(slice: &Slice) -> Vec<String> {
    let mut needed = Needed::new();
    of_access(&slice.access, &mut needed);
    for callee in &slice.callees {
        of_callee(callee, &mut needed);
    }
    for gateway in &slice.gateways {
        needed.insert(feature::GATEWAY);
        for route in &gateway.routes {
            of_route(route, &mut needed);
        }
    }
    for telemetry in &slice.telemetry {
        if let Some(log) = &telemetry.access_log {
            needed.insert(feature::TELEMETRY_ACCESS_LOG);
            for only in &log.only {
                conditions(&only.conditions, &mut needed);
            }
        }
        when(
            telemetry.traces.is_some(),
            feature::TELEMETRY_TRACES,
            &mut needed,
        );
    }
    needed.into_iter().map(str::to_owned).collect()
}

pub(super) fn by_callee(callee: &Callee) -> Vec<&'static str> {
    let mut needed = Needed::new();
    of_callee(callee, &mut needed);
    needed.into_iter().collect()
}

fn when(holds: bool, feature: &'static str, needed: &mut Needed) {
    if holds {
        needed.insert(feature);
    }
}

fn of_access(access: &Access, needed: &mut Needed) {
    for service in &access.services {
        of_inbound(service, needed);
    }
    for external in &access.externals {
        of_rules(&external.rules, needed);
    }
    for jwt in &access.jwts {
        needed.insert(feature::ACCESS_JWT);
        when(
            matches!(jwt.jwks, Jwks::Url(_)),
            feature::ACCESS_JWT_URL,
            needed,
        );
    }
    when(
        !access.authorizers.is_empty(),
        feature::ACCESS_AUTHORIZER,
        needed,
    );
    let mut authorizers = access.authorizers.iter();
    when(
        authorizers.any(|authorizer| authorizer.body_bytes > 0),
        feature::ACCESS_AUTHORIZER_BODY,
        needed,
    );
}

fn of_inbound(service: &InboundService, needed: &mut Needed) {
    ports(&service.ports, needed);
    of_rules(&service.rules, needed);
    for listener in &service.listeners {
        if let Some(tls) = &listener.tls {
            needed.insert(feature::LISTENER_TLS);
            let asks = tls.client != ClientCertificate::None;
            when(asks, feature::LISTENER_CLIENT_CERTIFICATE, needed);
        }
        match listener.client_address {
            ClientAddress::Peer => {}
            ClientAddress::ProxyProtocol => {
                needed.insert(feature::LISTENER_PROXY_PROTOCOL);
            }
            ClientAddress::ForwardedFor { .. } => {
                needed.insert(feature::LISTENER_FORWARDED_FOR);
            }
        }
    }
    when(!service.mtls.is_empty(), feature::ACCESS_MTLS, needed);
    let accepts = !service.path_accepts.is_empty();
    when(accepts, feature::ROUTE_PATH_ACCEPTS, needed);
    for requirement in &service.requirements {
        needed.insert(match requirement.kind {
            RequirementKind::RequireJwt(_) | RequirementKind::AcceptJwt(_) => feature::ACCESS_JWT,
            RequirementKind::RequireAuthorizer(_) => feature::ACCESS_AUTHORIZER,
        });
        conditions(&requirement.conditions, needed);
    }
    for limit in &service.rate_limits {
        needed.insert(match limit.via {
            Some(_) => feature::ACCESS_RATE_LIMIT_VIA,
            None => feature::ACCESS_RATE_LIMIT,
        });
        conditions(&limit.conditions, needed);
    }
    when(!service.probes.is_empty(), feature::ACCESS_PROBE, needed);
}

fn of_rules(rules: &[AccessRule], needed: &mut Needed) {
    for rule in rules {
        when(
            rule.enforcement == Enforcement::Audit,
            feature::ACCESS_AUDIT,
            needed,
        );
        when(
            rule.who.contains(&Principal::Unauthenticated),
            feature::ACCESS_UNAUTHENTICATED,
            needed,
        );
        conditions(&rule.conditions, needed);
    }
}

fn of_callee(callee: &Callee, needed: &mut Needed) {
    ports(&callee.ports, needed);
    match &callee.endpoints {
        EndpointSource::Discovered => {
            needed.insert(feature::ENDPOINTS_DISCOVERED);
        }
        EndpointSource::Declared(endpoints) => {
            needed.extend(endpoints.iter().map(|endpoint| match endpoint.address {
                EndpointAddress::Static(_) => feature::ENDPOINTS_STATIC,
                EndpointAddress::Dns { .. } => feature::ENDPOINTS_DNS,
            }));
        }
    }
    for route in &callee.routes {
        of_route(route, needed);
    }
    if let Some(budget) = &callee.retry_budget {
        needed.insert(match budget.kind {
            RetryBudgetKind::Requests { .. } => feature::RETRY_BUDGET_REQUESTS,
            RetryBudgetKind::Active { .. } => feature::RETRY_BUDGET_ACTIVE,
        });
    }
    match &callee.kind {
        CalleeKind::Meshed => {}
        CalleeKind::Unmeshed => {
            needed.insert(feature::CALLEE_UNMESHED);
        }
        CalleeKind::External { via } => {
            needed.insert(feature::CALLEE_EXTERNAL);
            when(via.is_some(), feature::CALLEE_EXTERNAL_VIA, needed);
        }
    }
    when(
        !callee.addresses.is_empty(),
        feature::CALLEE_ADDRESS,
        needed,
    );
    when(!callee.listeners.is_empty(), feature::CALLEE_LISTEN, needed);
    for dial in &callee.dials {
        when(dial.dial.is_some(), feature::CALLEE_DIAL, needed);
        when(dial.tls.is_some(), feature::CALLEE_TLS, needed);
    }
    needed.insert(balance(callee.balance));
    of_pool(&callee.pool, needed);
    for pool in callee
        .subsets
        .iter()
        .filter_map(|subset| subset.pool.as_ref())
    {
        needed.insert(feature::POOL_SUBSET);
        needed.insert(balance(pool.balance));
        of_pool(&pool.pool, needed);
    }
}

fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => feature::BALANCE_ROUND_ROBIN,
        Balance::LeastRequest => feature::BALANCE_LEAST_REQUEST,
        Balance::Random => feature::BALANCE_RANDOM,
        Balance::PeakEwma => feature::BALANCE_PEAK_EWMA,
        Balance::RingHash => feature::BALANCE_RING_HASH,
        Balance::Maglev => feature::BALANCE_MAGLEV,
    }
}

fn of_pool(pool: &Pool, needed: &mut Needed) {
    let Pool {
        // Only hashing balancers have them, which have features of their own.
        hash_keys: _,
        choices,
        slow_start,
        locality,
        limits,
        outlier,
        health_checks,
    } = pool;
    when(choices.is_some(), feature::BALANCE_CHOICES, needed);
    when(slow_start.is_some(), feature::BALANCE_SLOW_START, needed);
    when(locality.is_some(), feature::POOL_LOCALITY, needed);
    let counts = [
        limits.connections,
        limits.pending,
        limits.requests,
        limits.retries,
        limits.requests_per_connection,
    ];
    when(
        counts.iter().any(Option::is_some),
        feature::POOL_LIMITS,
        needed,
    );
    when(
        limits.body_bytes.is_some(),
        feature::POOL_LIMITS_BODY,
        needed,
    );
    when(
        limits.adaptive.is_some(),
        feature::POOL_LIMITS_ADAPTIVE,
        needed,
    );
    when(outlier.is_some(), feature::POOL_OUTLIER, needed);
    if let Some(outlier) = outlier {
        let local = outlier.consecutive_local.is_some();
        when(local, feature::POOL_OUTLIER_LOCAL, needed);
        when(outlier.rates.is_some(), feature::POOL_OUTLIER_RATES, needed);
    }
    when(
        !health_checks.is_empty(),
        feature::POOL_HEALTH_CHECK,
        needed,
    );
}

fn of_route(route: &Route, needed: &mut Needed) {
    for route_match in &route.matches {
        conditions(&route_match.conditions, needed);
    }
    of_exchange(&route.exchange, needed);
    for exchange in &route.exchanges {
        of_exchange(&exchange.exchange, needed);
    }
    match &route.answer {
        None => {}
        Some(Answer::Redirect(_)) => {
            needed.insert(feature::ROUTE_REDIRECT);
        }
        Some(Answer::Respond(_)) => {
            needed.insert(feature::ROUTE_RESPOND);
        }
    }
    let port = targets(route).any(|target| target.port.is_some());
    when(port, feature::ROUTE_DESTINATION_PORT, needed);
    for to in &route.destinations {
        of_edits(&to.request_headers, needed);
        of_edits(&to.response_headers, needed);
    }
    of_filters(&route.filters, needed);
}

/// Where requests of the route may go.
fn targets(route: &Route) -> impl Iterator<Item = &Target> {
    let mirrors = route.filters.mirrors.iter().map(|mirror| &mirror.target);
    route.destinations.iter().flat_map(all_of).chain(mirrors)
}

fn all_of(to: &Destination) -> impl Iterator<Item = &Target> {
    std::iter::once(&to.target).chain(&to.otherwise)
}

fn of_exchange(exchange: &Exchange, needed: &mut Needed) {
    when(exchange.retry.attempts > 1, feature::RETRY, needed);
    when(exchange.idle.is_some(), feature::TIMEOUT_IDLE, needed);
    when(exchange.hedge.is_some(), feature::HEDGE, needed);
}

fn of_filters(filters: &RouteFilters, needed: &mut Needed) {
    let RouteFilters {
        rewrite,
        mirrors,
        fault,
        request_headers,
        response_headers,
        cors,
        upgrade,
        path_accepts,
        streaming,
        sticky,
    } = filters;
    when(rewrite.is_some(), feature::ROUTE_REWRITE, needed);
    when(!mirrors.is_empty(), feature::ROUTE_MIRROR, needed);
    when(fault.is_some(), feature::ROUTE_FAULT, needed);
    of_edits(request_headers, needed);
    of_edits(response_headers, needed);
    when(cors.is_some(), feature::ROUTE_CORS, needed);
    when(upgrade.is_some(), feature::ROUTE_UPGRADE, needed);
    when(
        !path_accepts.is_empty(),
        feature::ROUTE_PATH_ACCEPTS,
        needed,
    );
    when(*streaming, feature::ROUTE_STREAMING, needed);
    when(!sticky.is_empty(), feature::ROUTE_STICKY, needed);
}

fn of_edits(edits: &HeaderEdits, needed: &mut Needed) {
    when(!edits.is_empty(), feature::ROUTE_HEADERS, needed);
}

fn ports(ports: &[Port], needed: &mut Needed) {
    needed.extend(ports.iter().map(|port| match port.protocol {
        Protocol::Http => feature::PROTOCOL_HTTP,
        Protocol::Grpc => feature::PROTOCOL_GRPC,
        Protocol::Tcp => feature::PROTOCOL_TCP,
        Protocol::Tls => feature::PROTOCOL_TLS,
    }));
}

fn conditions(conditions: &[Condition], needed: &mut Needed) {
    for condition in conditions {
        // `not` holds one condition, so this loop ends.
        let mut inner = condition;
        while let Condition::Not(next) = inner {
            inner = next;
        }
        match inner {
            Condition::Claim(_) => needed.insert(feature::CONDITION_CLAIM),
            Condition::ClientIp(_) => needed.insert(feature::CONDITION_CLIENT_IP),
            Condition::PeerIp(_) => needed.insert(feature::CONDITION_PEER_IP),
            Condition::From(who) if who.contains(&Principal::Unauthenticated) => {
                needed.insert(feature::ACCESS_UNAUTHENTICATED)
            }
            _ => false,
        };
    }
}
