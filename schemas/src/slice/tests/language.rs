//! Arbitrary values of what slices carry beyond services, rules, routes and endpoints.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{conditions, distinct, durations, exchanges, names, nets, routes, targets};
use crate::slice::*;

fn shares() -> impl Strategy<Value = u32> {
    0_u32..=10_000
}

fn values() -> impl Strategy<Value = String> {
    "[ -~]{0,5}"
}

pub(super) fn versions() -> impl Strategy<Value = TlsVersion> {
    prop_oneof![Just(TlsVersion::V1_2), Just(TlsVersion::V1_3)]
}

fn server_tls() -> impl Strategy<Value = ServerTls> {
    let client = prop_oneof![
        Just((ClientCertificate::None, None)),
        Just((ClientCertificate::Optional, Some("ca".to_owned()))),
        Just((ClientCertificate::Required, Some("ca".to_owned()))),
        Just((ClientCertificate::None, Some("ca".to_owned()))),
    ];
    (names(), client, versions()).prop_map(|(certificate, (client, trust), min)| ServerTls {
        certificate,
        trust,
        client,
        min,
    })
}

fn client_tls() -> impl Strategy<Value = ClientTls> {
    (
        option::of(names()),
        vec(names(), 0..3),
        option::of(names()),
        option::of(names()),
        versions(),
    )
        .prop_map(|(sni, sans, trust, certificate, min)| ClientTls {
            sni,
            sans,
            trust,
            certificate,
            min,
        })
}

fn request_keys() -> impl Strategy<Value = RequestKey> {
    prop_oneof![
        Just(RequestKey::ClientIp),
        Just(RequestKey::Caller),
        Just(RequestKey::Path),
        "[a-z-]{1,4}".prop_map(RequestKey::Header),
        names().prop_map(RequestKey::Query),
        (names(), option::of(durations())).prop_map(|(name, ttl)| RequestKey::Cookie { name, ttl }),
        names().prop_map(RequestKey::Claim),
    ]
}

fn header_lines() -> impl Strategy<Value = HeaderLine> {
    ("[a-z-]{1,4}", values()).prop_map(|(name, value)| HeaderLine { name, value })
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    (
        distinct(vec(header_lines(), 0..3), |line| line.name.clone()),
        vec(header_lines(), 0..3),
        vec("[a-z-]{1,4}", 0..3),
    )
        .prop_map(|(set, add, remove)| HeaderEdits { set, add, remove })
}

fn responds() -> impl Strategy<Value = Respond> {
    (200_u16..600, ".{0,5}\n?", vec(header_lines(), 0..3)).prop_map(|(status, body, headers)| {
        Respond {
            status,
            body,
            headers,
        }
    })
}

fn accepts() -> impl Strategy<Value = Vec<PathAccepts>> {
    let accepts = prop_oneof![
        Just(PathAccepts::EncodedSlash),
        Just(PathAccepts::EncodedBackslash),
        Just(PathAccepts::Semicolon),
    ];
    vec(accepts, 0..3)
}

fn on_failures() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Allow), Just(OnFailure::Deny)]
}

/// What a service lets in, besides rules.
pub(super) fn gated() -> impl Strategy<Value = InboundService> {
    let address = prop_oneof![
        Just(ClientAddress::Peer),
        Just(ClientAddress::ProxyProtocol),
        (1_u32..5).prop_map(|hops| ClientAddress::ForwardedFor { hops }),
    ];
    let listener = (
        1_u16..,
        vec(names(), 0..3),
        option::of(server_tls()),
        address,
    )
        .prop_map(|(port, hosts, tls, client_address)| Listener {
            port,
            hosts,
            tls,
            client_address,
        });
    let mode = prop_oneof![Just(MtlsMode::Permissive), Just(MtlsMode::Off)];
    let mtls = (1_u16.., mode).prop_map(|(port, mode)| PortMtls { port, mode });
    let kind = prop_oneof![
        names().prop_map(RequirementKind::RequireJwt),
        names().prop_map(RequirementKind::AcceptJwt),
        names().prop_map(RequirementKind::RequireAuthorizer),
    ];
    let requirement = (kind, option::of(names()), vec(conditions(), 0..2)).prop_map(
        |(kind, route, conditions)| Requirement {
            kind,
            route,
            conditions,
        },
    );
    let limit = (
        (1_u64..99, durations(), 1_u64..99),
        vec(request_keys(), 0..3),
        option::of((targets(), on_failures())),
        option::of(names()),
        vec(conditions(), 0..2),
        option::of(responds()),
    )
        .prop_map(
            |((count, per, burst), keys, via, route, conditions, respond)| RateLimit {
                count,
                per,
                burst,
                keys,
                via,
                route,
                conditions,
                respond,
            },
        );
    let path = names().prop_map(|name| PathPattern {
        kind: PathPatternKind::Template(format!("/{name}")),
        ignore_case: false,
    });
    let peers = prop_oneof![Just(Vec::new()), nets()];
    let probe = (vec(path, 1..3), peers).prop_map(|(paths, peer_ip)| Probe { paths, peer_ip });
    (
        vec(listener, 0..3),
        distinct(vec(mtls, 0..3), |port| port.port),
        vec(requirement, 0..3),
        vec(limit, 0..2),
        vec(probe, 0..2),
        accepts(),
    )
        .prop_map(
            |(listeners, mtls, requirements, rate_limits, probes, path_accepts)| InboundService {
                listeners,
                mtls,
                requirements,
                rate_limits,
                probes,
                path_accepts,
                ..InboundService::default()
            },
        )
}

pub(super) fn jwts() -> impl Strategy<Value = JwtProvider> {
    let jwks = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Jwks::Inline),
        names().prop_map(Jwks::Url)
    ];
    let location = prop_oneof![
        "[a-z-]{1,4}".prop_map(TokenLocation::Header),
        names().prop_map(TokenLocation::Query),
        names().prop_map(TokenLocation::Cookie),
    ];
    let forward =
        (names(), "[a-z-]{1,4}").prop_map(|(claim, header)| ClaimHeader { claim, header });
    (
        names(),
        names(),
        vec(names(), 0..3),
        jwks,
        vec(location, 0..3),
        distinct(vec(forward, 0..3), |forward| forward.header.clone()),
    )
        .prop_map(
            |(name, issuer, audiences, jwks, locations, forwards)| JwtProvider {
                name,
                issuer,
                audiences,
                jwks,
                locations,
                forwards,
            },
        )
}

pub(super) fn authorizers() -> impl Strategy<Value = Authorizer> {
    let protocol = prop_oneof![
        Just(AuthorizerProtocol::Http),
        Just(AuthorizerProtocol::Grpc)
    ];
    let headers = || vec("[a-z-]{1,4}", 0..3);
    (
        (names(), targets(), protocol, durations(), on_failures()),
        (headers(), headers(), headers()),
        0_u64..9000,
    )
        .prop_map(
            |(
                (name, to, protocol, timeout, on_failure),
                (send_headers, keep_headers, return_headers),
                body_bytes,
            )| Authorizer {
                name,
                to,
                protocol,
                timeout,
                on_failure,
                send_headers,
                keep_headers,
                return_headers,
                body_bytes,
            },
        )
}

pub(super) fn balances() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastRequest),
        Just(Balance::Random),
        Just(Balance::PeakEwma),
        Just(Balance::RingHash),
        Just(Balance::Maglev),
    ]
}

pub(super) fn pools() -> impl Strategy<Value = Pool> {
    let fallback = (
        distinct(vec(names(), 1..3), Clone::clone),
        option::of(names()),
    )
        .prop_map(|(values, from)| LocalityFallback { values, from });
    let locality = (
        distinct(vec(names(), 1..3), Clone::clone),
        shares(),
        vec(fallback, 0..3),
        any::<bool>(),
    )
        .prop_map(|(labels, min_healthy, otherwise, confined)| Locality {
            labels,
            min_healthy,
            otherwise,
            confined,
        });
    let count = || option::of(1_u32..999);
    let limits = (
        count(),
        count(),
        count(),
        count(),
        count(),
        (option::of(0_u64..9999), option::of(1_u32..10_000)),
    )
        .prop_map(
            |(
                connections,
                pending,
                requests,
                retries,
                requests_per_connection,
                (body_bytes, adaptive),
            )| {
                Limits {
                    connections,
                    pending,
                    requests,
                    retries,
                    requests_per_connection,
                    body_bytes,
                    adaptive,
                }
            },
        );
    let rates = (
        1_u32..9_999,
        option::of(1_u32..10_000),
        any::<bool>(),
        1_u32..9,
        1_u32..99,
    );
    let rates = rates.prop_map(
        |(deviations, failure_percentage, both, min_hosts, min_requests)| OutlierRates {
            success_rate_deviations: (both || failure_percentage.is_none()).then_some(deviations),
            failure_percentage,
            min_hosts,
            min_requests,
        },
    );
    let outlier = (
        count(),
        count(),
        count(),
        option::of(rates),
        durations(),
        durations(),
        shares(),
    )
        .prop_map(
            |(
                consecutive_5xx,
                consecutive_gateway,
                consecutive_local,
                rates,
                every,
                eject,
                max_ejected,
            )| Outlier {
                consecutive_5xx,
                consecutive_gateway,
                consecutive_local,
                rates,
                every,
                eject,
                max_ejected,
            },
        );
    let kind = prop_oneof![
        names().prop_map(|name| HealthCheckKind::Http(format!("/{name}"))),
        Just(HealthCheckKind::Tcp),
        Just(HealthCheckKind::Grpc),
    ];
    let check = (kind, durations(), durations(), 1_u32..9, 1_u32..9).prop_map(
        |(kind, every, timeout, healthy, unhealthy)| HealthCheck {
            kind,
            every,
            timeout,
            healthy,
            unhealthy,
        },
    );
    (
        vec(request_keys(), 0..3),
        option::of(1_u32..9),
        option::of(durations()),
        option::of(locality),
        limits,
        option::of(outlier),
        vec(check, 0..3),
    )
        .prop_map(
            |(hash_keys, choices, slow_start, locality, limits, outlier, health_checks)| Pool {
                hash_keys,
                choices,
                slow_start,
                locality,
                limits,
                outlier,
                health_checks,
            },
        )
}

pub(super) fn subset_pools() -> impl Strategy<Value = SubsetPool> {
    (balances(), pools()).prop_map(|(balance, pool)| SubsetPool { balance, pool })
}

/// What a callee is, besides where its endpoints are.
pub(super) fn dialled() -> impl Strategy<Value = Callee> {
    let kind = prop_oneof![
        Just(CalleeKind::Meshed),
        Just(CalleeKind::Unmeshed),
        option::of(names()).prop_map(|via| CalleeKind::External { via }),
    ];
    let dial = (1_u16.., option::of(1_u16..), option::of(client_tls()))
        .prop_map(|(port, dial, tls)| PortDial { port, dial, tls });
    let listener = (1_u16.., 1_u16..).prop_map(|(at, port)| CalleeListener {
        address: ([127, 0, 0, 1], at).into(),
        port,
    });
    let addresses = prop_oneof![Just(Vec::new()), nets()];
    (
        kind,
        distinct(vec(dial, 0..3), |dial| dial.port),
        distinct(vec(listener, 0..3), |listener| listener.address),
        addresses,
        pools(),
        balances(),
    )
        .prop_map(
            |(kind, dials, listeners, addresses, pool, balance)| Callee {
                balance,
                kind,
                addresses,
                dials,
                listeners,
                pool,
                ..Callee::default()
            },
        )
}

pub(super) fn hedges() -> impl Strategy<Value = Hedge> {
    (durations(), 2_u32..9).prop_map(|(delay, attempts)| Hedge { delay, attempts })
}

pub(super) fn answers() -> impl Strategy<Value = Answer> {
    let scheme = prop_oneof![Just("http".to_owned()), Just("https".to_owned())];
    let status = prop_oneof![Just(301_u16), Just(302), Just(303), Just(307), Just(308)];
    let redirect = (
        option::of(scheme),
        option::of(names()),
        option::of(1_u16..),
        option::of("/[a-z]{0,3}"),
        status,
    )
        .prop_map(|(scheme, host, port, path, status)| Redirect {
            scheme,
            host,
            port,
            path,
            status,
        });
    prop_oneof![
        redirect.prop_map(Answer::Redirect),
        responds().prop_map(Answer::Respond)
    ]
}

pub(super) fn header_edits() -> impl Strategy<Value = (HeaderEdits, HeaderEdits)> {
    let some = || prop_oneof![3 => Just(HeaderEdits::default()), 1 => edits()];
    (some(), some())
}

pub(super) fn filters() -> impl Strategy<Value = RouteFilters> {
    let rewrite = prop_oneof![
        "/[a-z]{0,3}".prop_map(|path| Rewrite {
            path: Some(path),
            host: None
        }),
        ("/[a-z]{0,3}", names()).prop_map(|(path, host)| Rewrite {
            path: Some(path),
            host: Some(host)
        }),
    ];
    let mirror = (targets(), shares()).prop_map(|(target, share)| Mirror { target, share });
    let delay = (durations(), shares()).prop_map(|(by, share)| FaultDelay { by, share });
    let abort = (200_u16..600, shares()).prop_map(|(status, share)| FaultAbort { status, share });
    let fault =
        (delay, option::of(abort), option::of(1_u64..)).prop_map(|(delay, abort, until)| Fault {
            delay: Some(delay),
            abort,
            until,
        });
    let headers = || vec("[a-z-]{1,4}", 0..3);
    let cors = (
        vec(names(), 1..3),
        vec("[A-Z]{1,4}", 0..3),
        headers(),
        headers(),
        any::<bool>(),
        option::of(durations()),
    )
        .prop_map(
            |(origins, methods, headers, expose, credentials, max_age)| Cors {
                origins,
                methods,
                headers,
                expose,
                credentials,
                max_age,
            },
        );
    let upgrade = prop_oneof![Just(Upgrade::None), Just(Upgrade::Websocket)];
    (
        option::of(rewrite),
        distinct(vec(mirror, 0..3), |mirror| mirror.target.clone()),
        option::of(fault),
        header_edits(),
        option::of(cors),
        option::of(upgrade),
        accepts(),
        (
            any::<bool>(),
            distinct(vec(request_keys(), 0..3), Clone::clone),
        ),
    )
        .prop_map(
            |(
                rewrite,
                mirrors,
                fault,
                (request, response),
                cors,
                upgrade,
                path_accepts,
                (streaming, sticky),
            )| {
                RouteFilters {
                    rewrite,
                    mirrors,
                    fault,
                    request_headers: request,
                    response_headers: response,
                    cors,
                    upgrade,
                    path_accepts,
                    streaming,
                    sticky,
                }
            },
        )
}

pub(super) fn gateways() -> impl Strategy<Value = Gateway> {
    let exchange =
        (names(), names(), exchanges()).prop_map(|(service, route, exchange)| CalleeExchange {
            service,
            route,
            exchange,
        });
    let exchanges = distinct(vec(exchange, 0..3), |exchange| {
        (exchange.service.clone(), exchange.route.clone())
    });
    let route = (routes(), exchanges).prop_map(|(route, exchanges)| Route { exchanges, ..route });
    let routes = distinct(vec(route, 0..3), |route| route.name.clone());
    (names(), routes).prop_map(|(name, routes)| Gateway { name, routes })
}

pub(super) fn telemetry() -> impl Strategy<Value = Telemetry> {
    let range = (100_u16..600, 0_u16..600).prop_map(|(from, to)| StatusRange {
        from,
        to: to.max(from),
    });
    let filter = (
        vec(range, 0..3),
        option::of(durations()),
        vec(conditions(), 0..2),
    )
        .prop_map(|(statuses, slower_than, conditions)| AccessLogFilter {
            statuses,
            slower_than,
            conditions,
        });
    let format = prop_oneof![
        Just(AccessLogFormat::None),
        Just(AccessLogFormat::Json),
        Just(AccessLogFormat::Text),
    ];
    let log = (format, vec(filter, 0..3)).prop_map(|(format, only)| AccessLog { format, only });
    let traces = (shares(), names()).prop_map(|(share, otlp)| Traces { share, otlp });
    (names(), option::of(log), option::of(traces)).prop_map(|(service, access_log, traces)| {
        Telemetry {
            service,
            access_log,
            traces,
        }
    })
}
