//! Invariants: what reaches what, against reachability by trying every request at every service.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::analysis::entrance::{Door, peers};
use mesh_compiler::analysis::invariant::{Violation, violation};
use mesh_compiler::analysis::request_space::Point;
use mesh_compiler::linked::{LinkedMesh, ServiceId};
use proptest::prelude::*;

use super::{ELSEWHERE, identity, linked};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn any_service() -> impl Strategy<Value = String> {
    let one_of = |options: &'static [&'static str]| prop::sample::select(options);
    let rules: &'static [&'static str] = &[
        "allow a",
        "allow b { method GET }",
        "allow c { path \"/x\" }",
        "allow g",
        "allow unauthenticated { method POST }",
        "deny { path \"/x\" }",
        "deny b",
    ];
    (
        one_of(&["", "", "mtls permissive", "mtls off", "unmeshed"]),
        one_of(&[
            "port 80",
            "port 80",
            "port 80 { mtls permissive }",
            "port 80 protocol=tcp",
        ]),
        one_of(&["", "", "probe \"/healthz\""]),
        one_of(&["", "", "require jwt shop"]),
        prop::sample::subsequence(rules, 0..=2),
    )
        .prop_map(|(mode, port, probe, token, rules)| {
            // What asks for parts of requests is not taken where only bytes come.
            let is_taken = |rule: &&&str| !port.contains("tcp") || !rule.contains('{');
            let rules: Vec<&str> = rules.iter().filter(is_taken).copied().collect();
            let is_of_bytes = port.contains("tcp");
            let [probe, token] = [probe, token].map(|what| if is_of_bytes { "" } else { what });
            [mode, port, probe, token, &rules.join("; ")].join("; ")
        })
}

fn any_mesh() -> impl Strategy<Value = String> {
    let gateway = prop::sample::select(vec![
        "allow a; route all { to c }",
        "allow unauthenticated; route all { to d }",
        "allow a b; route near { match { path \"/x\" }; to b }",
    ]);
    (prop::array::uniform4(any_service()), gateway).prop_map(|(services, gateway)| {
        let mut text = format!("gateway g {{ listen 80; {gateway} }}\n");
        for (number, (name, service)) in NAMES.iter().zip(services).enumerate() {
            let service = format!(
                "service {name} {{ endpoints {{ static \"10.0.0.{number}:80\" }}; {service} }}\n"
            );
            text.push_str(&service);
        }
        text.push_str(
            "jwt shop { issuer \"https://shop.test\"; jwks file=\"keys/public.jwks.json\" }\n",
        );
        text
    })
}

/// Every request of these callers that the rules could tell from another.
fn world(callers: &[Option<String>]) -> Vec<Point> {
    let issuer = (
        mesh_compiler::analysis::request_space::FieldKind::Claim,
        "iss".to_owned(),
    );
    let token: BTreeMap<_, _> = [(issuer, vec!["https://shop.test".to_owned()])].into();
    let mut world = Vec::new();
    for from in callers {
        for method in ["GET", "POST"] {
            for path in ["/x", "/y", "/healthz"] {
                for fields in [BTreeMap::new(), token.clone()] {
                    world.push(Point {
                        method: method.to_owned(),
                        host: "a".to_owned(),
                        path: path.to_owned(),
                        port: 80,
                        from: from.clone(),
                        client_ip: [10, 0, 0, 9].into(),
                        peer_ip: [10, 0, 0, 9].into(),
                        fields,
                    });
                }
            }
        }
    }
    world
}

fn gets_in(mesh: &LinkedMesh, to: ServiceId, callers: &[Option<String>]) -> bool {
    let door = Door::of(mesh, to).expect("what links is what the engine takes");
    world(callers)
        .iter()
        .any(|point| door.admits(point).is_some())
}

/// Whom the callers reach, by every way and however many hops.
fn reached(mesh: &LinkedMesh, from: ServiceId) -> BTreeSet<ServiceId> {
    let calls = |caller: ServiceId, callee: ServiceId| {
        let ends = (mesh.service(caller), mesh.service(callee));
        let leads = match ends.0.gateway() {
            Some(_) => mesh
                .edge(caller, callee)
                .is_some_and(|edge| !edge.routed.is_empty()),
            None => true,
        };
        leads && caller != callee && gets_in(mesh, callee, &peers(ends.0, ends.1))
    };
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(caller) = waiting.pop() {
        for callee in mesh.service_ids() {
            if callee != from && calls(caller, callee) && reached.insert(callee) {
                waiting.push(callee);
            }
        }
    }
    reached
}

proptest! {
    #![proptest_config(super::cases(64))]

    #[test]
    fn what_is_isolated_reaches_nobody_by_trying(policy in any_mesh()) {
        for from in NAMES {
            for to in NAMES.iter().filter(|to| **to != from) {
                let text = format!("invariant \"apart\" {{ isolated {{ from {from}; to {to} }} }}\n{policy}");
                let (mesh, _) = linked(&text)?;
                let [from, to] = [from, to].map(|name| mesh.service_named(name).expect("it is there"));
                let claim = &mesh.invariants[0].claims[0];
                let found = violation(&mesh, claim).expect("it is small");
                prop_assert_eq!(found.is_some(), reached(&mesh, from).contains(&to), "{:?}\n{}", found, text);
                let Some(Violation::Path { services, ways, witness, certain }) = found else { continue };
                prop_assert!(certain && witness.is_some(), "{text}");
                prop_assert_eq!(services.len(), ways.len() + 1);
                prop_assert_eq!((services[0], services[services.len() - 1]), (from, to));
            }
        }
    }

    #[test]
    fn who_alone_reaches_is_alone_by_trying(policy in any_mesh()) {
        for to in NAMES {
            let text = format!("invariant \"alone\" {{ reaches {to} {{ only a b }} }}\n{policy}");
            let (mesh, _) = linked(&text)?;
            let id = mesh.service_named(to).expect("it is there");
            let claim = &mesh.invariants[0].claims[0];
            let found = violation(&mesh, claim).expect("it is small");
            let known = ["a", "b", to];
            let others = mesh.services.iter().filter(|service| !known.contains(&service.name.value.as_str()));
            let others = others.flat_map(|service| &service.identities);
            let mut others: Vec<Option<String>> = others.map(|identity| Some(identity.to_string())).collect();
            others.extend([None, Some(ELSEWHERE.to_owned())]);
            prop_assert_eq!(found.is_some(), gets_in(&mesh, id, &others), "{:?}\n{}", found, text);
            let Some(Violation::Request { witness, way, .. }) = found else { continue };
            let witness = witness.ok_or_else(|| TestCaseError::fail(format!("no witness\n{text}")))?;
            let door = Door::of(&mesh, id).expect("what links is what the engine takes");
            prop_assert!(way.is_some() && door.admits(&witness) == way, "{text}");
            prop_assert!(others.contains(&witness.from) || !known.iter().any(|name| witness.from == Some(identity(name))), "{text}");
        }
    }
}
