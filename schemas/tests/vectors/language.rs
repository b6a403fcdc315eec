//! A gateway's slice that says something in every field beyond those of `everything`.

use std::time::Duration;

use mesh_bundle::feature;
use mesh_bundle::slice::*;

use super::identity;

fn line(name: &str, value: &str) -> HeaderLine {
    HeaderLine {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn strings<const N: usize>(values: [&str; N]) -> Vec<String> {
    values.map(str::to_owned).to_vec()
}

fn edits(prefix: &str) -> HeaderEdits {
    HeaderEdits {
        set: vec![
            line(&format!("{prefix}-a"), "1"),
            line(&format!("{prefix}-b"), ""),
        ],
        add: vec![line("x", "2"), line("x", "1")],
        remove: strings(["via", "x-debug"]),
    }
}

fn target(service: &str, subset: Option<&str>, port: Option<u16>) -> Target {
    Target {
        service: service.to_owned(),
        subset: subset.map(str::to_owned),
        port,
    }
}

fn path(template: &str) -> Condition {
    Condition::Path(vec![PathPattern {
        kind: PathPatternKind::Template(template.to_owned()),
        ignore_case: false,
    }])
}

fn rule(name: &str) -> AccessRule {
    AccessRule {
        name: name.to_owned(),
        effect: Effect::Allow,
        enforcement: Enforcement::Enforce,
        who: vec![Principal::Unauthenticated],
        conditions: Vec::new(),
    }
}

fn respond(status: u16) -> Respond {
    Respond {
        status,
        body: "two\nlines".to_owned(),
        headers: vec![line("x-b", "2"), line("x-a", "1")],
    }
}

/// Every list is in the order that decoding gives.
pub(super) fn slice() -> Slice {
    let mut slice = Slice {
        access: access(),
        callees: vec![shop(), stripe()],
        gateways: vec![Gateway {
            name: "public".to_owned(),
            routes: routes(),
        }],
        telemetry: vec![Telemetry {
            service: "public".to_owned(),
            access_log: Some(AccessLog {
                format: AccessLogFormat::Json,
                only: vec![AccessLogFilter {
                    statuses: vec![
                        StatusRange { from: 429, to: 429 },
                        StatusRange { from: 500, to: 599 },
                    ],
                    slower_than: Some(Duration::from_secs(1)),
                    conditions: vec![path("/pay")],
                }],
            }),
            traces: Some(Traces {
                share: 100,
                otlp: "http://127.0.0.1:4317".to_owned(),
            }),
        }],
        ..Slice::new(identity("public"))
    };
    slice.required_features = feature::required_by(&slice);
    slice
}

fn access() -> Access {
    let tls = ServerTls {
        certificate: "shop-cert".to_owned(),
        trust: Some("partners".to_owned()),
        client: ClientCertificate::Optional,
        min: TlsVersion::V1_3,
    };
    let listener = |port, hops, tls| Listener {
        port,
        hosts: strings(["*.shop.example", "shop.example"]),
        tls,
        client_address: hops,
    };
    let service = InboundService {
        service: "public".to_owned(),
        ports: [8080, 8443]
            .map(|number| Port {
                number,
                protocol: Protocol::Http,
            })
            .to_vec(),
        rules: vec![rule("allow unauthenticated")],
        listeners: vec![
            listener(8080, ClientAddress::ProxyProtocol, None),
            listener(8443, ClientAddress::ForwardedFor { hops: 1 }, Some(tls)),
        ],
        mtls: vec![
            PortMtls {
                port: 8080,
                mode: MtlsMode::Permissive,
            },
            PortMtls {
                port: 8443,
                mode: MtlsMode::Off,
            },
        ],
        requirements: vec![
            Requirement {
                kind: RequirementKind::RequireJwt("shop".to_owned()),
                route: None,
                conditions: vec![Condition::Not(Box::new(path("/login")))],
            },
            Requirement {
                kind: RequirementKind::AcceptJwt("shop".to_owned()),
                route: Some("shop".to_owned()),
                conditions: Vec::new(),
            },
            Requirement {
                kind: RequirementKind::RequireAuthorizer("opa".to_owned()),
                route: None,
                conditions: Vec::new(),
            },
        ],
        rate_limits: vec![
            RateLimit {
                count: 5,
                per: Duration::from_mins(1),
                burst: 5,
                keys: Vec::new(),
                via: None,
                route: None,
                conditions: Vec::new(),
                respond: None,
            },
            RateLimit {
                count: 100,
                per: Duration::from_secs(1),
                burst: 200,
                keys: vec![
                    RequestKey::ClientIp,
                    RequestKey::Caller,
                    RequestKey::Path,
                    RequestKey::Header("x-key".to_owned()),
                    RequestKey::Query("key".to_owned()),
                    RequestKey::Cookie {
                        name: "session".to_owned(),
                        ttl: Some(Duration::from_hours(1)),
                    },
                    RequestKey::Claim("sub".to_owned()),
                ],
                via: Some((target("limits", None, Some(9090)), OnFailure::Allow)),
                route: Some("shop".to_owned()),
                conditions: vec![
                    path("/search"),
                    Condition::Claim(FieldMatch {
                        name: "plan".to_owned(),
                        values: Vec::new(),
                    }),
                ],
                respond: Some(respond(429)),
            },
        ],
        path_accepts: vec![PathAccepts::EncodedSlash, PathAccepts::Semicolon],
        probes: vec![Probe {
            paths: vec![PathPattern {
                kind: PathPatternKind::Template("/healthz".to_owned()),
                ignore_case: false,
            }],
            peer_ip: vec!["10.0.0.0/8".parse().expect("a network")],
        }],
    };
    Access {
        services: vec![service],
        externals: vec![OutboundService {
            service: "stripe".to_owned(),
            rules: vec![rule("allow payments")],
        }],
        jwts: jwts(),
        authorizers: vec![Authorizer {
            name: "opa".to_owned(),
            to: target("opa", Some("v1"), None),
            protocol: AuthorizerProtocol::Grpc,
            timeout: Duration::from_millis(250),
            on_failure: OnFailure::Deny,
            send_headers: strings(["authorization", "cookie"]),
            keep_headers: strings(["x-user"]),
            return_headers: strings(["location"]),
            body_bytes: 8192,
        }],
    }
}

fn jwts() -> Vec<JwtProvider> {
    vec![
        JwtProvider {
            name: "partner".to_owned(),
            issuer: "https://partner.example".to_owned(),
            audiences: Vec::new(),
            jwks: Jwks::Url("https://partner.example/jwks".to_owned()),
            locations: Vec::new(),
            forwards: Vec::new(),
        },
        JwtProvider {
            name: "shop".to_owned(),
            issuer: "https://id.example".to_owned(),
            audiences: strings(["shop", "tills"]),
            jwks: Jwks::Inline(b"{\"keys\":[]}".to_vec()),
            locations: vec![
                TokenLocation::Header("x-token".to_owned()),
                TokenLocation::Query("token".to_owned()),
                TokenLocation::Cookie("token".to_owned()),
            ],
            forwards: vec![ClaimHeader {
                claim: "sub".to_owned(),
                header: "x-user".to_owned(),
            }],
        },
    ]
}

fn pool() -> Pool {
    Pool {
        hash_keys: vec![RequestKey::Cookie {
            name: "session".to_owned(),
            ttl: None,
        }],
        choices: Some(3),
        slow_start: Some(Duration::from_secs(30)),
        locality: Some(Locality {
            labels: strings(["zone", "region"]),
            min_healthy: 7_000,
            otherwise: vec![LocalityFallback {
                values: strings(["b", "a"]),
                from: Some("c".to_owned()),
            }],
            confined: true,
        }),
        limits: Limits {
            connections: Some(100),
            pending: Some(64),
            requests: Some(1_000),
            retries: Some(3),
            requests_per_connection: Some(10_000),
            body_bytes: Some(1 << 20),
            adaptive: Some(2_500),
        },
        outlier: Some(Outlier {
            consecutive_5xx: Some(5),
            consecutive_gateway: Some(3),
            consecutive_local: Some(4),
            rates: Some(OutlierRates {
                success_rate_deviations: Some(1_900),
                failure_percentage: Some(8_500),
                min_hosts: 5,
                min_requests: 100,
            }),
            every: Duration::from_secs(10),
            eject: Duration::from_secs(30),
            max_ejected: 5_000,
        }),
        health_checks: [
            HealthCheckKind::Http("/healthz".to_owned()),
            HealthCheckKind::Tcp,
            HealthCheckKind::Grpc,
        ]
        .map(|kind| HealthCheck {
            kind,
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        })
        .to_vec(),
    }
}

fn shop() -> Callee {
    Callee {
        service: "shop".to_owned(),
        ports: vec![
            Port {
                number: 5432,
                protocol: Protocol::Tcp,
            },
            Port {
                number: 8443,
                protocol: Protocol::Tls,
            },
        ],
        subsets: vec![
            Subset {
                name: "v1".to_owned(),
                labels: Vec::new(),
                pool: Some(SubsetPool {
                    balance: Balance::RingHash,
                    pool: pool(),
                }),
            },
            Subset {
                name: "v2".to_owned(),
                labels: Vec::new(),
                pool: Some(SubsetPool {
                    balance: Balance::Random,
                    ..SubsetPool::default()
                }),
            },
        ],
        routes: vec![Route {
            name: "default".to_owned(),
            destinations: vec![Destination::only(target("shop", None, None))],
            ..Route::default()
        }],
        balance: Balance::Maglev,
        kind: CalleeKind::Unmeshed,
        addresses: vec!["10.96.0.7/32".parse().expect("a network")],
        listeners: vec![CalleeListener {
            address: ([127, 0, 0, 1], 15432).into(),
            port: 5432,
        }],
        pool: pool(),
        ..Callee::default()
    }
}

fn stripe() -> Callee {
    Callee {
        service: "stripe".to_owned(),
        hosts: strings(["api.stripe.com"]),
        routes: vec![Route {
            name: "default".to_owned(),
            destinations: vec![Destination::only(target("stripe", None, None))],
            ..Route::default()
        }],
        balance: Balance::PeakEwma,
        kind: CalleeKind::External {
            via: Some("shop".to_owned()),
        },
        dials: vec![PortDial {
            port: 80,
            dial: Some(443),
            tls: Some(ClientTls {
                sni: Some("api.stripe.com".to_owned()),
                sans: strings(["*.stripe.com", "api.stripe.com"]),
                trust: Some("public".to_owned()),
                certificate: Some("ours".to_owned()),
                min: TlsVersion::V1_2,
            }),
        }],
        ..Callee::default()
    }
}

fn routes() -> Vec<Route> {
    let exchange = Exchange {
        idle: Some(Duration::from_mins(5)),
        hedge: Some(Hedge {
            delay: Duration::from_millis(100),
            attempts: 2,
        }),
        ..Exchange::default()
    };
    vec![
        Route {
            name: "gone".to_owned(),
            answer: Some(Answer::Respond(respond(410))),
            ..Route::default()
        },
        Route {
            name: "shop".to_owned(),
            matches: vec![RouteMatch {
                conditions: vec![path("/shop/**")],
            }],
            destinations: vec![Destination {
                target: target("shop", Some("v1"), Some(8080)),
                weight: 1,
                otherwise: vec![target("shop", None, Some(8081))],
                request_headers: edits("q"),
                response_headers: edits("r"),
            }],
            exchange: exchange.clone(),
            filters: filters(),
            exchanges: vec![CalleeExchange {
                service: "shop".to_owned(),
                route: "default".to_owned(),
                exchange,
            }],
            ..Route::default()
        },
        Route {
            name: "to-https".to_owned(),
            answer: Some(Answer::Redirect(Redirect {
                scheme: Some("https".to_owned()),
                host: Some("shop.example".to_owned()),
                port: Some(8443),
                path: Some("/shop/**".to_owned()),
                status: 308,
            })),
            ..Route::default()
        },
    ]
}

fn filters() -> RouteFilters {
    RouteFilters {
        rewrite: Some(Rewrite {
            path: Some("/**".to_owned()),
            host: Some("shop".to_owned()),
        }),
        mirrors: vec![Mirror {
            target: target("shop", Some("v1"), Some(8082)),
            share: 1_000,
        }],
        fault: Some(Fault {
            delay: Some(FaultDelay {
                by: Duration::from_secs(7),
                share: 100,
            }),
            abort: Some(FaultAbort {
                status: 503,
                share: 50,
            }),
            until: Some(1_803_859_200),
        }),
        request_headers: edits("a"),
        response_headers: edits("b"),
        cors: Some(Cors {
            origins: strings(["https://*.shop.example", "https://shop.example"]),
            methods: strings(["DELETE", "PUT"]),
            headers: strings(["x-token"]),
            expose: strings(["x-total"]),
            credentials: true,
            max_age: Some(Duration::from_hours(1)),
        }),
        upgrade: Some(Upgrade::Websocket),
        path_accepts: vec![
            PathAccepts::EncodedSlash,
            PathAccepts::EncodedBackslash,
            PathAccepts::Semicolon,
        ],
        streaming: true,
        sticky: vec![RequestKey::ClientIp],
    }
}
