//! Slices survive their bytes, and nothing else decodes to them.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::limits;
use crate::messages::bundle as messages;
use crate::reject::RejectReason;
use crate::testing::{fields, identity, refused};

mod language;

/// A small slice with something in every list that has an order.
pub(crate) fn sample() -> Slice {
    let exchange = Exchange {
        timeout: Some(Duration::from_secs(6)),
        connect_timeout: Duration::from_secs(1),
        retry: Retry {
            attempts: 3,
            causes: vec![RetryCause::Reset, RetryCause::ServerError],
            per_try: Some(Duration::from_secs(2)),
            any_method: false,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        },
        stream_idle: Some(Duration::from_mins(1)),
        max_duration: None,
        ..Exchange::default()
    };
    let to = |subset: &str, weight| Destination {
        target: Target {
            service: "ratings".to_owned(),
            subset: Some(subset.to_owned()),
            ..Target::default()
        },
        weight,
        otherwise: Vec::new(),
        ..Destination::default()
    };
    let mut slice = Slice {
        access: Access {
            services: vec![InboundService {
                service: "reviews".to_owned(),
                ports: vec![Port {
                    number: 9080,
                    protocol: Protocol::Http,
                }],
                rules: vec![AccessRule {
                    name: "allow productpage".to_owned(),
                    effect: Effect::Allow,
                    enforcement: Enforcement::Enforce,
                    who: vec![Principal::SpiffeId(identity("productpage"))],
                    conditions: vec![
                        Condition::Method(vec!["GET".to_owned(), "HEAD".to_owned()]),
                        Condition::Path(vec![PathPattern {
                            kind: PathPatternKind::Template("/reviews/**".to_owned()),
                            ignore_case: false,
                        }]),
                    ],
                }],
                ..InboundService::default()
            }],
            ..Access::default()
        },
        callees: vec![Callee {
            service: "ratings".to_owned(),
            hosts: vec!["ratings".to_owned()],
            ports: vec![Port {
                number: 9080,
                protocol: Protocol::Http,
            }],
            identities: vec![identity("ratings")],
            subsets: ["v1", "v2"]
                .map(|version| Subset {
                    name: version.to_owned(),
                    labels: vec![Label {
                        key: "version".to_owned(),
                        value: version.to_owned(),
                    }],
                    ..Subset::default()
                })
                .to_vec(),
            endpoints: EndpointSource::Discovered,
            routes: vec![Route {
                name: "everyone".to_owned(),
                matches: Vec::new(),
                destinations: vec![to("v1", 90), to("v2", 10)],
                exchange,
                ..Route::default()
            }],
            retry_budget: Some(RetryBudget {
                share: 2_000,
                kind: RetryBudgetKind::Active { min_count: 3 },
            }),
            balance: Balance::LeastRequest,
            ..Callee::default()
        }],
        ..Slice::new(identity("reviews"))
    };
    slice.required_features = feature::required_by(&slice);
    slice
}

fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.-]{0,6}"
}

fn identities() -> impl Strategy<Value = SpiffeId> {
    "[a-z]{1,4}".prop_map(|name| identity(&name))
}

fn principals() -> impl Strategy<Value = Principal> {
    prop_oneof![
        identities().prop_map(Principal::SpiffeId),
        Just(Principal::SpiffePrefix("spiffe://a/b/".to_owned())),
        Just(Principal::Any),
        Just(Principal::Unauthenticated),
    ]
}

fn field_matches() -> impl Strategy<Value = FieldMatch> {
    let kinds = prop_oneof![
        "[ -~]{0,4}".prop_map(StringMatchKind::Exact),
        "[ -~]{1,4}".prop_map(StringMatchKind::Prefix),
        "[ -~]{1,4}".prop_map(StringMatchKind::Suffix),
        "[é-ü]{1,4}".prop_map(StringMatchKind::Contains),
        Just(StringMatchKind::Regex("a.*".to_owned())),
    ];
    let value =
        (kinds, any::<bool>()).prop_map(|(kind, ignore_case)| StringMatch { kind, ignore_case });
    (names(), vec(value, 0..3)).prop_map(|(name, values)| FieldMatch { name, values })
}

fn nets() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    prop_oneof![
        Just(vec!["10.0.0.0/8".parse().unwrap()]),
        Just(vec![
            "fd00::/8".parse().unwrap(),
            "192.168.1.1/32".parse().unwrap()
        ]),
    ]
}

fn conditions() -> impl Strategy<Value = Condition> {
    let path = (names(), any::<bool>(), any::<bool>()).prop_map(|(name, regex, ignore_case)| {
        let kind = if regex {
            PathPatternKind::Regex(format!("/{name}.*"))
        } else {
            PathPatternKind::Template(format!("/{name}/**"))
        };
        PathPattern { kind, ignore_case }
    });
    let leaf = prop_oneof![
        vec("[A-Z]{3,5}", 1..3).prop_map(Condition::Method),
        vec(path, 1..3).prop_map(Condition::Path),
        vec(names(), 1..3).prop_map(Condition::Host),
        vec(1_u16.., 1..3).prop_map(Condition::Port),
        field_matches().prop_map(Condition::Header),
        field_matches().prop_map(Condition::Query),
        field_matches().prop_map(Condition::Cookie),
        field_matches().prop_map(Condition::Claim),
        nets().prop_map(Condition::ClientIp),
        nets().prop_map(Condition::PeerIp),
        vec(principals(), 1..3).prop_map(Condition::From),
    ];
    (leaf, 0..3_u8)
        .prop_map(|(leaf, depth)| (0..depth).fold(leaf, |inner, _| Condition::Not(Box::new(inner))))
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let protocol = prop_oneof![
        Just(Protocol::Http),
        Just(Protocol::Grpc),
        Just(Protocol::Tcp),
        Just(Protocol::Tls),
    ];
    let port = (1_u16.., protocol).prop_map(|(number, protocol)| Port { number, protocol });
    distinct(vec(port, 0..3), |port| port.number)
}

/// Drops all but the first of what has the same key: the format has no room for the others.
fn distinct<T: std::fmt::Debug, K: Ord>(
    lists: impl Strategy<Value = Vec<T>>,
    key: impl Fn(&T) -> K,
) -> impl Strategy<Value = Vec<T>> {
    lists.prop_map(move |mut list| {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|element| seen.insert(key(element)));
        list
    })
}

fn inbound_services() -> impl Strategy<Value = InboundService> {
    (names(), ports(), vec(rules(), 0..3), language::gated()).prop_map(
        |(service, ports, rules, gated)| InboundService {
            service,
            ports,
            rules,
            ..gated
        },
    )
}

fn rules() -> impl Strategy<Value = AccessRule> {
    (
        names(),
        any::<bool>(),
        any::<bool>(),
        vec(principals(), 1..3),
        vec(conditions(), 0..3),
    )
        .prop_map(|(name, deny, audit, who, conditions)| AccessRule {
            name,
            effect: if deny { Effect::Deny } else { Effect::Allow },
            enforcement: if audit {
                Enforcement::Audit
            } else {
                Enforcement::Enforce
            },
            who,
            conditions,
        })
}

fn durations() -> impl Strategy<Value = Duration> {
    (1_u64..100_000).prop_map(Duration::from_millis)
}

fn exchanges() -> impl Strategy<Value = Exchange> {
    let cause = prop_oneof![
        Just(RetryCause::ConnectFailure),
        Just(RetryCause::Refused),
        Just(RetryCause::Reset),
        Just(RetryCause::ResetBeforeRequest),
        Just(RetryCause::PerTryTimeout),
        (100_u16..600).prop_map(RetryCause::Status),
        Just(RetryCause::ServerError),
        Just(RetryCause::Gateway),
        (1_u8..17).prop_map(RetryCause::GrpcStatus),
    ];
    let retry = (
        1_u32..5,
        vec(cause, 0..4),
        option::of(durations()),
        any::<bool>(),
        0_u64..100,
    )
        .prop_map(|(attempts, causes, per_try, any_method, base)| Retry {
            attempts,
            causes,
            per_try,
            any_method,
            backoff_base: Duration::from_millis(base),
            backoff_max: Duration::from_millis(base * 10),
        });
    (
        option::of(durations()),
        durations(),
        retry,
        option::of(durations()),
        option::of(durations()),
        option::of(durations()),
        option::of(language::hedges()),
    )
        .prop_map(
            |(timeout, connect_timeout, retry, stream_idle, max_duration, idle, hedge)| Exchange {
                timeout,
                connect_timeout,
                retry,
                stream_idle,
                max_duration,
                idle,
                hedge,
            },
        )
}

fn targets() -> impl Strategy<Value = Target> {
    (names(), option::of(names()), option::of(1_u16..)).prop_map(|(service, subset, port)| Target {
        service,
        subset,
        port,
    })
}

fn routes() -> impl Strategy<Value = Route> {
    let destination = (
        targets(),
        1_u32..100,
        vec(targets(), 0..2),
        language::header_edits(),
    )
        .prop_map(
            |(target, weight, otherwise, (request, response))| Destination {
                target,
                weight,
                otherwise,
                request_headers: request,
                response_headers: response,
            },
        );
    let destinations = distinct(vec(destination, 1..3), |to| to.target.clone());
    let matches = vec(
        vec(conditions(), 0..3).prop_map(|conditions| RouteMatch { conditions }),
        0..3,
    );
    let ends = prop_oneof![
        3 => destinations.prop_map(|destinations| (destinations, None)),
        1 => language::answers().prop_map(|answer| (Vec::new(), Some(answer))),
    ];
    (names(), matches, ends, exchanges(), language::filters()).prop_map(
        |(name, matches, (destinations, answer), exchange, filters)| Route {
            name,
            matches,
            destinations,
            exchange,
            answer,
            filters,
            ..Route::default()
        },
    )
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let label = (names(), "[a-z]{0,3}").prop_map(|(key, value)| Label { key, value });
    distinct(vec(label, 0..3), |label| label.key.clone())
}

fn callees() -> impl Strategy<Value = Callee> {
    let address = prop_oneof![
        any::<SocketAddr>()
            .prop_filter("an address to dial", |address| address.port() != 0)
            .prop_map(|address| SocketAddr::new(address.ip(), address.port()))
            .prop_map(EndpointAddress::Static),
        (names(), 1_u16..).prop_map(|(name, port)| EndpointAddress::Dns { name, port }),
    ];
    let endpoint =
        (address, 1_u16.., labels()).prop_map(|(address, port, labels)| DeclaredEndpoint {
            address,
            port,
            labels,
        });
    let endpoints = prop_oneof![
        vec(endpoint, 0..3).prop_map(EndpointSource::Declared),
        Just(EndpointSource::Discovered),
    ];
    let budget = prop_oneof![
        (0_u64..9, durations(), durations()).prop_map(|(min_count, min_per, window)| {
            RetryBudgetKind::Requests {
                min_count,
                min_per,
                window,
            }
        }),
        (0_u64..9).prop_map(|min_count| RetryBudgetKind::Active { min_count }),
    ];
    let budget = (0_u32..=10_000, budget).prop_map(|(share, kind)| RetryBudget { share, kind });
    let subset = (names(), labels(), option::of(language::subset_pools()))
        .prop_map(|(name, labels, pool)| Subset { name, labels, pool });
    (
        (
            names(),
            vec(names(), 0..3),
            ports(),
            vec(identities(), 0..3),
        ),
        distinct(vec(subset, 0..3), |subset| subset.name.clone()),
        endpoints,
        distinct(vec(routes(), 1..3), |route| route.name.clone()),
        option::of(budget),
        language::dialled(),
    )
        .prop_map(
            |(
                (service, hosts, ports, identities),
                subsets,
                endpoints,
                routes,
                retry_budget,
                dialled,
            )| Callee {
                service,
                hosts,
                ports,
                identities,
                subsets,
                endpoints,
                routes,
                retry_budget,
                ..dialled
            },
        )
}

fn accesses() -> impl Strategy<Value = Access> {
    let external = (names(), vec(rules(), 0..3))
        .prop_map(|(service, rules)| OutboundService { service, rules });
    (
        distinct(vec(inbound_services(), 0..3), |service| {
            service.service.clone()
        }),
        distinct(vec(external, 0..2), |external| external.service.clone()),
        distinct(vec(language::jwts(), 0..2), |jwt| jwt.name.clone()),
        distinct(vec(language::authorizers(), 0..2), |each| each.name.clone()),
    )
        .prop_map(|(services, externals, jwts, authorizers)| Access {
            services,
            externals,
            jwts,
            authorizers,
        })
}

pub(crate) fn slices() -> impl Strategy<Value = Slice> {
    (
        identities(),
        accesses(),
        distinct(vec(callees(), 0..3), |callee| callee.service.clone()),
        distinct(vec(language::gateways(), 0..2), |gateway| {
            gateway.name.clone()
        }),
        distinct(vec(language::telemetry(), 0..2), |each| {
            each.service.clone()
        }),
    )
        .prop_map(|(identity, access, callees, gateways, telemetry)| {
            let mut slice = Slice {
                access,
                callees,
                gateways,
                telemetry,
                ..Slice::new(identity)
            };
            slice.required_features = feature::required_by(&slice);
            slice
        })
}

/// Changes that make most slices ones that the format has no room for, and one that changes nothing.
fn damages() -> impl Strategy<Value = fn(&mut Slice)> {
    let damages: Vec<fn(&mut Slice)> = vec![
        |_| {},
        |slice| slice.callees.reverse(),
        |slice| slice.callees.extend(slice.callees.first().cloned()),
        |slice| slice.required_features.push("telepathy".to_owned()),
        |slice| slice.required_features.push(String::new()),
        |slice| {
            for callee in &mut slice.callees {
                callee.service.push('\u{7}');
            }
        },
        |slice| {
            for callee in &mut slice.callees {
                callee.hosts = vec!["x".repeat(limits::TEXT_BYTES_MAX + 1)];
            }
        },
        |slice| {
            for service in &mut slice.access.services {
                service.service.clear();
            }
        },
        |slice| {
            for rule in slice
                .access
                .services
                .iter_mut()
                .flat_map(|service| &mut service.rules)
            {
                let leaf = Condition::Method(vec!["get".to_owned()]);
                rule.conditions.push(Condition::Not(Box::new(leaf)));
            }
        },
        |slice| {
            for route in slice
                .callees
                .iter_mut()
                .flat_map(|callee| &mut callee.routes)
            {
                route.exchange.connect_timeout += Duration::from_nanos(1);
            }
        },
    ];
    prop::sample::select(damages)
}

/// As a program that has every feature reads it.
fn decode(bytes: &[u8]) -> Result<Slice, Rejection> {
    Slice::decode_with(bytes, feature::KNOWN)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is encoded decodes, and to what encodes to the same.
    #[test]
    fn round_trip(slice in slices()) {
        let bytes = slice.encode();
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!(decoded.encode(), bytes);
        prop_assert_eq!(decoded.identity, slice.identity);
        prop_assert_eq!(decoded.callees.len(), slice.callees.len());
    }

    /// The verdict without bytes is the verdict on the bytes, to the word.
    #[test]
    fn recoding_is_encoding_and_decoding(slice in slices(), damage in damages()) {
        let mut slice = slice;
        damage(&mut slice);
        for features in [feature::KNOWN, &[]] {
            prop_assert_eq!(
                slice.recode_with(features).map(|recoded| recoded.value),
                Slice::decode_with(&slice.encode(), features)
            );
        }
    }

    /// A slice is read where its parts are.
    #[test]
    fn recoding_in_parts(slice in slices(), damage in damages()) {
        let mut slice = slice;
        damage(&mut slice);
        let callees: Result<Vec<_>, _> = slice.callees.iter().map(Callee::recode).collect();
        let frame = Slice { callees: Vec::new(), ..slice.clone() };
        let parts = frame.recode_with(feature::KNOWN).ok().zip(callees.ok());
        let names: std::collections::BTreeSet<_> =
            slice.callees.iter().map(|callee| &callee.service).collect();
        let whole = slice.recode_with(feature::KNOWN);
        prop_assert_eq!(
            parts.is_some() && names.len() == slice.callees.len(),
            whole.is_ok()
        );
        if let (Some((frame, callees)), Ok(whole)) = (parts, whole) {
            // The number of the field, and up to four bytes for the length.
            let most: usize = callees.iter().map(|callee| callee.bytes + 5).sum();
            prop_assert!(whole.bytes <= frame.bytes + most);
            let read: Vec<_> = callees.into_iter().map(|callee| callee.value).collect();
            let mut expected = read;
            expected.sort_by(|a, b| a.service.cmp(&b.service));
            prop_assert_eq!(whole.value.callees, expected);
        }
    }

    /// The order in which a compiler found things is not in the bytes.
    #[test]
    fn order_of_sets_does_not_matter(slice in slices()) {
        let bytes = slice.encode();
        let mut turned = slice;
        turned.callees.reverse();
        turned.access.services.reverse();
        turned.access.externals.reverse();
        turned.access.jwts.reverse();
        turned.access.authorizers.reverse();
        turned.gateways.reverse();
        turned.telemetry.reverse();
        for service in &mut turned.access.services {
            service.rules.reverse();
            service.ports.reverse();
            service.listeners.reverse();
            service.mtls.reverse();
            service.requirements.reverse();
            service.rate_limits.reverse();
            service.probes.reverse();
        }
        for callee in &mut turned.callees {
            callee.routes.reverse();
            callee.hosts.reverse();
            callee.dials.reverse();
            callee.listeners.reverse();
            callee.pool.hash_keys.reverse();
            callee.pool.health_checks.reverse();
            for route in &mut callee.routes {
                route.filters.mirrors.reverse();
                route.filters.path_accepts.reverse();
                route.filters.request_headers.set.reverse();
                route.filters.request_headers.remove.reverse();
            }
        }
        prop_assert_eq!(turned.encode(), bytes);
    }

    /// Two byte strings never decode to one value: whatever a flipped bit still decodes to encodes
    /// to exactly the flipped bytes. (That it is another slice than the signed one is for the
    /// proof to find: see acceptance.)
    #[test]
    fn one_bit_flipped(slice in slices(), place in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = slice.encode();
        bytes[place.index(slice.encode().len())] ^= 1_u8 << bit;
        if let Ok(other) = decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other.encode(), slice.encode());
        }
    }

    /// A slice cut anywhere is refused, or what is left is whole in itself.
    #[test]
    fn truncated(slice in slices(), place in any::<prop::sample::Index>()) {
        let bytes = slice.encode();
        let cut = &bytes[..place.index(bytes.len())];
        if let Ok(other) = decode(cut) {
            prop_assert_eq!(other.encode(), cut);
            let parts = |slice: &Slice| {
                slice.callees.len() + slice.gateways.len() + slice.telemetry.len()
            };
            prop_assert!(parts(&other) < parts(&slice));
        }
    }

    /// Fields in another order are the same message to protobuf, and refused here.
    #[test]
    fn fields_reordered(slice in slices(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let bytes = slice.encode();
        let mut parts = fields(&bytes);
        let (a, b) = (a.index(parts.len()), b.index(parts.len()));
        parts.swap(a, b);
        let swapped = parts.concat();
        prop_assert_eq!(decode(&swapped).is_ok(), swapped == bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(slice) = decode(&bytes) {
            prop_assert_eq!(slice.encode(), bytes);
        }
    }
}

/// Changes the sample's message, and expects that it is then no slice.
#[track_caller]
fn check(reason: RejectReason, change: impl FnOnce(&mut messages::Slice)) {
    let mut message = messages::Slice::decode(sample().encode().as_slice()).unwrap();
    change(&mut message);
    refused(Slice::decode(&message.encode_to_vec()), reason);
}

#[track_caller]
fn non_canonical(change: impl FnOnce(&mut messages::Slice)) {
    check(RejectReason::NonCanonical, change);
}

fn rule(message: &mut messages::Slice) -> &mut messages::AccessRule {
    &mut message.access.as_mut().unwrap().services[0].rules[0]
}

#[test]
fn enums_that_are_unspecified_or_unknown() {
    for value in [0, 9, -1] {
        non_canonical(|slice| rule(slice).effect = value);
        non_canonical(|slice| rule(slice).enforcement = value);
        non_canonical(|slice| slice.callees[0].balance = value);
        non_canonical(|slice| slice.callees[0].source = value);
        non_canonical(|slice| slice.callees[0].ports[0].protocol = value);
        non_canonical(|slice| {
            let budget = slice.callees[0].retry_budget.as_mut().unwrap();
            budget.kind = value;
        });
        non_canonical(|slice| {
            let retry = retry(slice);
            retry.causes = vec![messages::RetryCause {
                kind: Some(messages::retry_cause::Kind::Failure(value)),
            }];
        });
        non_canonical(|slice| {
            let retry = retry(slice);
            retry.causes = vec![messages::RetryCause {
                kind: Some(messages::retry_cause::Kind::StatusClass(value)),
            }];
        });
    }
}

fn retry(slice: &mut messages::Slice) -> &mut messages::Retry {
    let exchange = slice.callees[0].routes[0].exchange.as_mut().unwrap();
    exchange.retry.as_mut().unwrap()
}

#[test]
fn missing_messages_and_unset_oneofs() {
    non_canonical(|slice| slice.access = None);
    non_canonical(|slice| slice.callees[0].routes[0].exchange = None);
    non_canonical(|slice| {
        let exchange = slice.callees[0].routes[0].exchange.as_mut().unwrap();
        exchange.retry = None;
    });
    non_canonical(|slice| rule(slice).who[0].kind = None);
    non_canonical(|slice| rule(slice).conditions[0].kind = None);
    non_canonical(|slice| retry(slice).causes[0].kind = None);
}

#[test]
fn lists_that_do_not_ascend() {
    non_canonical(|slice| slice.required_features.swap(0, 1));
    non_canonical(|slice| slice.callees.push(slice.callees[0].clone()));
    non_canonical(|slice| slice.callees[0].subsets.swap(0, 1));
    non_canonical(|slice| slice.callees[0].routes[0].destinations.swap(0, 1));
    non_canonical(|slice| rule(slice).conditions.swap(0, 1));
    non_canonical(|slice| retry(slice).causes.swap(0, 1));
    non_canonical(|slice| {
        let who = rule(slice).who[0].clone();
        rule(slice).who.push(who);
    });
    non_canonical(|slice| {
        use messages::condition::Kind;
        let Some(Kind::Method(methods)) = &mut rule(slice).conditions[0].kind else {
            panic!("the sample's first condition is on methods");
        };
        methods.values.swap(0, 1);
    });
}

#[test]
fn counts_and_numbers_out_of_bounds() {
    non_canonical(|slice| slice.callees[0].ports[0].number = 0);
    non_canonical(|slice| slice.callees[0].ports[0].number = 65_536);
    non_canonical(|slice| retry(slice).attempts = 0);
    non_canonical(|slice| retry(slice).backoff_base_ms = 251);
    non_canonical(|slice| retry(slice).per_try_ms = Some(0));
    non_canonical(|slice| retry(slice).per_try_ms = Some(u64::MAX));
    non_canonical(|slice| slice.callees[0].routes.clear());
    non_canonical(|slice| slice.callees[0].routes[0].destinations.clear());
    non_canonical(|slice| {
        for to in &mut slice.callees[0].routes[0].destinations {
            to.weight = 0;
        }
    });
    non_canonical(|slice| rule(slice).who.clear());
    non_canonical(|slice| {
        let label = |n: usize| messages::Label {
            key: format!("{n:04}"),
            value: String::new(),
        };
        slice.callees[0].subsets[0].labels = (0..=limits::LABELS_MAX).map(label).collect();
    });
    non_canonical(|slice| {
        let endpoint = messages::DeclaredEndpoint {
            address: Some(messages::declared_endpoint::Address::Static(
                "10.0.0.7:9080".to_owned(),
            )),
            port: 9080,
            labels: Vec::new(),
        };
        // The source is discovery.
        slice.callees[0].endpoints = vec![endpoint];
    });
}

#[test]
fn texts_that_are_not_what_they_should_be() {
    non_canonical(|slice| slice.identity = "spiffe://bookshop.example".to_owned());
    non_canonical(|slice| slice.callees[0].service = String::new());
    non_canonical(|slice| slice.callees[0].service = "a\nb".to_owned());
    non_canonical(|slice| slice.callees[0].service = "a".repeat(limits::NAME_BYTES_MAX + 1));
    for (net, valid) in [
        ("10.0.0.0/8", true),
        ("10.0.0.1/8", false),
        ("010.0.0.0/8", false),
        ("10.0.0.0", false),
        ("::ffff:10.0.0.0/104", true),
        ("FD00::/8", false),
        ("fd00:0::/8", false),
    ] {
        let mut message = messages::Slice::decode(sample().encode().as_slice()).unwrap();
        rule(&mut message).conditions = vec![messages::Condition {
            kind: Some(messages::condition::Kind::PeerIp(messages::Strings {
                values: vec![net.to_owned()],
            })),
        }];
        let decoded = Slice::decode(&message.encode_to_vec());
        assert_eq!(decoded.is_ok(), valid, "{net}: {decoded:?}");
    }
    for (prefix, valid) in [
        ("spiffe://a/", true),
        ("spiffe://a/b/", true),
        ("spiffe://a/b", false),
        ("spiffe://a//", false),
        ("/", false),
    ] {
        let mut message = messages::Slice::decode(sample().encode().as_slice()).unwrap();
        rule(&mut message).who[0].kind =
            Some(messages::principal::Kind::SpiffePrefix(prefix.to_owned()));
        let decoded = Slice::decode(&message.encode_to_vec());
        assert_eq!(decoded.is_ok(), valid, "{prefix}: {decoded:?}");
    }
}

#[test]
fn conditions_nested_too_deep() {
    let nest = |depth| {
        let mut slice = sample();
        let leaf = Condition::Method(vec!["GET".to_owned()]);
        let nested = (0..depth).fold(leaf, |inner, _| Condition::Not(Box::new(inner)));
        slice.access.services[0].rules[0].conditions = vec![nested];
        Slice::decode(&slice.encode())
    };
    assert!(nest(limits::CONDITION_DEPTH_MAX).is_ok());
    refused(
        nest(limits::CONDITION_DEPTH_MAX + 1),
        RejectReason::NonCanonical,
    );
}

/// Nested by hand, since nothing of ours encodes it: the decoder's own bound holds the stack.
#[test]
fn nested_without_end() {
    let wrap = |tag: u8, inner: &[u8]| {
        let mut bytes = vec![tag << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut bytes).unwrap();
        bytes.extend_from_slice(inner);
        bytes
    };
    let not = |inner: Vec<u8>, _| wrap(12, &inner);
    let condition = (0..10_000).fold(Vec::new(), not);
    let rules = wrap(3, &wrap(5, &condition));
    let access = wrap(4, &wrap(1, &rules));
    let bytes = [&[0x08, 0x01], access.as_slice()].concat();
    refused(Slice::decode(&bytes), RejectReason::NonCanonical);
}

#[test]
fn format_and_features_come_first() {
    check(RejectReason::UnknownFeature, |slice| slice.format = 2);
    check(RejectReason::UnknownFeature, |slice| {
        slice.required_features = vec!["telepathy".to_owned()];
        // Damage that would be found next.
        slice.access = None;
    });
    // A field of a later release, announced by a feature.
    let mut later = sample();
    later.required_features = vec!["later".to_owned()];
    let bytes = [later.encode(), vec![0x9a, 0x06, 0x01, 0x00]].concat();
    refused(Slice::decode(&bytes), RejectReason::UnknownFeature);
    refused(
        Slice::decode_with(&bytes, &["later"]),
        RejectReason::NonCanonical,
    );
    refused(
        Slice::decode_with(&sample().encode(), &[]),
        RejectReason::UnknownFeature,
    );
}

#[test]
fn other_encodings_of_the_same_message() {
    let bytes = sample().encode();
    assert!(Slice::decode(&bytes).is_ok());
    let unknown_field = [bytes.as_slice(), &[0x78, 0x01]].concat();
    refused(Slice::decode(&unknown_field), RejectReason::NonCanonical);
    let repeated_field = [&[0x08, 0x01], bytes.as_slice()].concat();
    refused(Slice::decode(&repeated_field), RejectReason::NonCanonical);
    assert_eq!(bytes[..2], [0x08, 0x01]);
    let long_varint = [&[0x08, 0x81, 0x00], &bytes[2..]].concat();
    refused(Slice::decode(&long_varint), RejectReason::NonCanonical);
}

#[test]
fn sizes() {
    refused(
        Slice::decode(&vec![0; limits::SLICE_BYTES_MAX + 1]),
        RejectReason::TooLarge,
    );
    let bytes = sample().encode();
    refused(
        Slice::decode(&bytes[..bytes.len() - 1]),
        RejectReason::Truncated,
    );
    refused(
        Slice::decode(&[0x08, 0x01, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]),
        RejectReason::Truncated,
    );
}

/// The one bound that is on bytes holds where there are none.
#[test]
fn recoding_what_is_too_large() {
    let mut slice = sample();
    let Some(callee) = slice.callees.first().cloned() else {
        panic!("the sample has a callee");
    };
    let host = "h".repeat(limits::TEXT_BYTES_MAX);
    while slice.encode().len() <= limits::SLICE_BYTES_MAX {
        let many = 1 + slice.callees.len();
        slice.callees.extend((0..many).map(|number| Callee {
            service: format!("more-{many}-{number}"),
            hosts: vec![host.clone()],
            ..callee.clone()
        }));
    }
    let recoded = slice
        .recode_with(feature::KNOWN)
        .map(|recoded| recoded.value);
    assert_eq!(recoded, decode(&slice.encode()));
    refused(recoded, RejectReason::TooLarge);
}

#[test]
fn durations_are_rounded_up() {
    let mut slice = sample();
    slice.callees[0].routes[0].exchange.connect_timeout = Duration::from_nanos(1_000_001);
    let decoded = Slice::decode(&slice.encode()).unwrap();
    let exchange = &decoded.callees[0].routes[0].exchange;
    assert_eq!(exchange.connect_timeout, Duration::from_millis(2));
}

#[test]
fn same_access_is_byte_equality() {
    let mut other = sample();
    other.callees.clear();
    assert_eq!(other.access.encode(), sample().access.encode());
    other.access.services[0].rules[0].name = "allow someone".to_owned();
    assert_ne!(other.access.encode(), sample().access.encode());
}
