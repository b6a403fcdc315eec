//! Access gained and lost where more than rules decides: modes of mutual TLS, probes, tokens, services without a
//! proxy, and the listeners and routes of gateways.

use std::collections::BTreeMap;

use mesh_compiler::analysis::entrance::{Door, Refused, is_unguarded};
use mesh_compiler::analysis::request_space::{FieldKind, Point};
use mesh_compiler::diff::{Change, Kept, access};
use mesh_compiler::linked::{LinkedMesh, ServiceId};
use mesh_compiler::trial::{Call, Decision, Trial};
use proptest::prelude::*;

use super::{ELSEWHERE, identity, linked};

/// A policy for whoever may enter `a` and the gateway `g`.
fn policy(a: &str, g: &str) -> String {
    format!(
        r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
service a {{ port 80; endpoints {{ static "10.0.0.4:80" }}; {a} }}
service b {{ port 80; endpoints {{ static "10.0.0.5:80" }}; allow g }}
gateway g {{ {g} }}
jwt shop {{ issuer "https://shop.test"; audience "x" "y"; jwks file="keys/public.jwks.json" }}
jwt partner {{ issuer "https://partner.test"; jwks file="keys/public.jwks.json" }}
"#
    )
}

fn one_of(options: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(options)
}

fn some_of(options: &'static [&'static str], least: usize) -> impl Strategy<Value = String> {
    prop::sample::subsequence(options, least..=options.len()).prop_map(|some| some.join("; "))
}

const TOKENS: &[&str] = &[
    "",
    "",
    "require jwt shop",
    "require jwt shop { not { path \"/b\" } }",
    "require jwt partner { method GET }",
];

fn any_service() -> impl Strategy<Value = String> {
    let rules: &[&str] = &[
        "allow web",
        "allow any { path \"/a\" }",
        "allow unauthenticated",
        "allow unauthenticated { method GET }",
        "allow any { claim sub \"7\" }",
        "deny { path \"/b\" }",
    ];
    let modes = one_of(&[
        "",
        "",
        "mtls permissive",
        "mtls permissive",
        "mtls off",
        "unmeshed",
    ]);
    let probes = one_of(&[
        "",
        "probe \"/healthz\"",
        "probe \"/healthz\" { peer-ip \"10.0.0.0/8\" }",
    ]);
    let ports = one_of(&[
        "",
        "port 81",
        "port 81 { mtls off }",
        "port 81 protocol=tcp",
        "port 81 protocol=tls { mtls permissive }",
    ]);
    (modes, ports, some_of(rules, 0), probes, one_of(TOKENS))
        .prop_map(|(mode, port, rules, probe, token)| [mode, port, &rules, probe, token].join("; "))
}

fn any_gateway() -> impl Strategy<Value = String> {
    let listeners: &[&str] = &[
        "listen 80 { host \"a.example\" }",
        "listen 80 { host \"*.b.example\" }",
        "listen 81",
    ];
    let rules: &[&str] = &[
        "allow unauthenticated",
        "allow unauthenticated { method GET }",
        "deny { path \"/b\" }",
    ];
    let routes: &[&str] = &[
        "route all { to b }",
        "route near { match { path \"/b\" }; to b }",
        "route gone { match { path \"/a\" }; respond 410 }",
        "route asked { match { path \"/healthz\" \"/a\"; method GET }; to b; require jwt shop }",
    ];
    (
        some_of(listeners, 1),
        some_of(rules, 0),
        some_of(routes, 0),
        one_of(TOKENS),
    )
        .prop_map(|(listeners, rules, routes, token)| {
            [&listeners, &rules, &routes, token].join("; ")
        })
}

/// Every request that the policies could tell from another.
fn world() -> Vec<Point> {
    let claims: [&[(&str, &str)]; 6] = [
        &[],
        &[("iss", "https://shop.test"), ("aud", "y")],
        &[("iss", "https://shop.test"), ("aud", "z")],
        &[("iss", "https://partner.test"), ("sub", "7")],
        &[("iss", "https://shop.test"), ("aud", "x"), ("sub", "7")],
        // Two tokens.
        &[
            ("iss", "https://partner.test"),
            ("iss", "https://shop.test"),
            ("aud", "x"),
        ],
    ];
    let mut world = Vec::new();
    for method in ["GET", "POST"] {
        for path in ["/a", "/b", "/c", "/healthz"] {
            for from in [None, Some(identity("web")), Some(ELSEWHERE.to_owned())] {
                for host in ["a.example", "x.b.example", "a"] {
                    for port in [80, 81] {
                        for peer in ["10.0.0.9", "192.0.2.1"] {
                            for claims in claims {
                                let mut fields: BTreeMap<_, Vec<String>> = BTreeMap::new();
                                for (name, value) in claims {
                                    let key = (FieldKind::Claim, (*name).to_owned());
                                    fields.entry(key).or_default().push((*value).to_owned());
                                }
                                world.push(Point {
                                    method: method.to_owned(),
                                    host: host.to_owned(),
                                    path: path.to_owned(),
                                    port,
                                    from: from.clone(),
                                    client_ip: [10, 0, 0, 9].into(),
                                    peer_ip: peer.parse().expect("an address"),
                                    fields,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    world
}

/// What `meshc test` would say of a witness.
fn tried(mesh: &LinkedMesh, id: ServiceId, point: &Point) -> Result<Decision, TestCaseError> {
    let name = mesh.service(id).name.value.clone();
    let from = point.from.as_ref().map(|_| "web".to_owned());
    let witness = point.to_witness(from, name, true);
    let outcome = Trial::new(mesh).run(&Call::from(&witness));
    let outcome = outcome.map_err(|error| TestCaseError::fail(error.to_string()))?;
    // What a gateway answers itself gets nowhere.
    let answered = outcome.answer.is_some();
    Ok(if answered {
        Decision::Denied
    } else {
        outcome.decision
    })
}

fn judged_alike(before: &str, after: &str, name: &str) -> Result<(), TestCaseError> {
    let texts = format!("{name}:\n{before}---\n{after}");
    let ((base, _), (head, _)) = (linked(before)?, linked(after)?);
    let kept = Kept {
        base: base.service_named(name).expect("both have it"),
        head: head.service_named(name).expect("both have it"),
    };
    let door =
        |mesh: &LinkedMesh, id| Door::of(mesh, id).expect("what links is what the engine takes");
    let (old, new) = (door(&base, kept.base), door(&head, kept.head));
    let is_gateway = name == "g";
    let world: Vec<Point> = world()
        .into_iter()
        // Nobody of the mesh calls the gateway, and hosts say nothing at a service.
        .filter(|point| {
            if is_gateway {
                point.from.is_none()
            } else {
                point.host == "a"
            }
        })
        .collect();
    let gains = world
        .iter()
        .find(|point| !old.lets_in(point) && new.lets_in(point));
    let found = access::of(Change::new(&base, &head), kept);
    if let Some(found) = &found {
        prop_assert!(found.unknown.is_none(), "{texts}");
    }
    let gained = found
        .as_ref()
        .map(|found| found.gained.as_slice())
        .unwrap_or_default();
    prop_assert_eq!(
        !gained.is_empty(),
        gains.is_some(),
        "{:?}\n{}",
        gains,
        texts
    );
    for gain in gained {
        let witness = gain.witness.as_ref();
        let witness =
            witness.ok_or_else(|| TestCaseError::fail(format!("no witness: {gain:?}\n{texts}")))?;
        prop_assert!(
            !old.lets_in(witness) && new.lets_in(witness),
            "{witness:?}\n{texts}"
        );
        prop_assert_eq!(new.judge(witness).map(|way| way.is_ok()), Some(true));
        // Where it only adds to what a plaintext peer may do, nobody else is asked.
        if witness
            .from
            .as_deref()
            .is_none_or(|from| from == identity("web"))
        {
            prop_assert_eq!(
                tried(&head, kept.head, witness)?,
                Decision::Allowed,
                "{:?}\n{}",
                witness,
                texts
            );
            prop_assert!(
                tried(&base, kept.base, witness)? != Decision::Allowed,
                "{witness:?}\n{texts}"
            );
        }
    }
    for (from, declared) in [(None, false), (Some(identity("web")), true)] {
        // Whoever calls what has no proxy is nobody to it.
        let sent = |mesh: &LinkedMesh, id, point: &Point| Point {
            from: point
                .from
                .clone()
                .filter(|_| !is_unguarded(mesh.service(id))),
            ..point.clone()
        };
        let loses = world
            .iter()
            .filter(|point| point.from == from)
            .find(|point| {
                let now = new.judge(&sent(&head, kept.head, point));
                // A port that is gone takes its requests with it, at a gateway only its clients notice.
                let is_told = |why| match why {
                    Refused::Answered => false,
                    Refused::Unheard => is_gateway,
                    _ => true,
                };
                old.lets_in(&sent(&base, kept.base, point))
                    && matches!(now, Some(Err(why)) if is_told(why))
            });
        let lost = found.iter().flat_map(|found| &found.lost);
        let lost: Vec<_> = lost
            .filter(|loss| loss.caller.is_some() == declared)
            .collect();
        prop_assert_eq!(!lost.is_empty(), loses.is_some(), "{:?}\n{}", loses, texts);
        for loss in lost {
            let witness = loss.witness.as_ref();
            let witness = witness
                .ok_or_else(|| TestCaseError::fail(format!("no witness: {loss:?}\n{texts}")))?;
            let was = Point {
                from: from.clone(),
                ..witness.clone()
            };
            let was = sent(&base, kept.base, &was);
            prop_assert!(
                old.lets_in(&was) && !new.lets_in(witness),
                "{witness:?}\n{texts}"
            );
            prop_assert!(
                tried(&head, kept.head, witness)? != Decision::Allowed,
                "{witness:?}\n{texts}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(super::cases(96))]

    #[test]
    fn what_enters_a_service_is_gained_and_lost_for_real(before in any_service(), after in any_service()) {
        let g = "listen 80; allow unauthenticated; route all { to b }";
        judged_alike(&policy(&before, g), &policy(&after, g), "a")?;
    }

    #[test]
    fn what_enters_a_gateway_is_gained_and_lost_for_real(before in any_gateway(), after in any_gateway()) {
        judged_alike(&policy("allow web", &before), &policy("allow web", &after), "g")?;
    }
}
