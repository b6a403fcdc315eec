//! What facts claim, against the engine, over generated services: on every request of a world that
//! tells apart whatever the generated conditions tell apart.

use std::collections::BTreeMap;

use mesh_compiler::analysis::access::AccessFacts;
use mesh_compiler::analysis::probe::Probe;
use mesh_compiler::analysis::request_space::{FieldKind, Point};
use mesh_compiler::analysis::routes::RouteFacts;
use mesh_compiler::linked::{LinkedMesh, ServiceId};
use proptest::prelude::*;

use crate::tester::{draw, load, sources};

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "X"];
const PATHS: [&str; 10] = [
    "/", "/ab", "/a", "/a/", "/a/7", "/a/b", "/a/b/c", "/b", "/b/c", "/c",
];
const CALLERS: [&str; 2] = ["web", "other"];
const CONDITIONS: [&str; 17] = [
    "path \"/a\"",
    "path \"/a/*\"",
    "path \"/a/**\"",
    "path \"/a\" \"/b/**\"",
    "path regex=\"/a/[0-9]+\"",
    "path regex=\"/[ab].*\"",
    "method GET",
    "method GET POST",
    "header x",
    "header x \"1\"",
    "header x \"1\" \"2\"",
    "header x regex=\"[12]\"",
    "from web",
    "not { path \"/a/**\" }",
    "not { method GET }",
    "not { header x \"1\" }",
    "not { header x }",
];

/// Every request that the conditions above could tell from another.
fn world() -> Vec<Point> {
    let values: [&[&str]; 8] = [
        &[],
        &["1"],
        &["2"],
        &["3"],
        &["1", "2"],
        &["1", "3"],
        &["2", "3"],
        &["1", "2", "3"],
    ];
    let mut world = Vec::new();
    for method in METHODS {
        for path in PATHS {
            for caller in CALLERS {
                for values in values {
                    world.push(point(method, path, caller, values));
                }
            }
        }
    }
    world
}

fn point(method: &str, path: &str, caller: &str, values: &[&str]) -> Point {
    let mut fields = BTreeMap::new();
    if !values.is_empty() {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        fields.insert((FieldKind::Header, "x".to_owned()), values);
    }
    Point {
        method: method.to_owned(),
        host: "a".to_owned(),
        path: path.to_owned(),
        port: 80,
        from: Some(format!("spiffe://example.test/service/{caller}")),
        client_ip: [10, 0, 0, 9].into(),
        peer_ip: [10, 0, 0, 9].into(),
        fields,
    }
}

fn any_conditions(most: usize, but: &str) -> impl Strategy<Value = String> + use<> {
    let conditions: Vec<_> = CONDITIONS
        .iter()
        .copied()
        .filter(|condition| *condition != but)
        .collect();
    prop::collection::vec(prop::sample::select::<&str>(conditions), 0..=most)
        .prop_map(|conditions| conditions.join("; "))
}

/// A service `a` with two callers, of which one declares its call.
fn any_policy() -> impl Strategy<Value = String> {
    let route = any_conditions(3, "").prop_map(|conditions| match conditions.as_str() {
        "" => String::new(),
        _ => format!("match {{ {conditions} }}"),
    });
    let rule = (
        prop::sample::select(vec![
            "allow web",
            "allow other",
            "allow any",
            "deny",
            "deny web",
        ]),
        any_conditions(2, "from web"),
    );
    let rule = rule.prop_map(|(rule, conditions)| format!("{rule} {{ {conditions} }}"));
    (
        prop::collection::vec(route, 1..5),
        prop::collection::vec(rule, 0..5),
    )
        .prop_map(|(routes, rules)| {
            let routes: Vec<String> = routes
                .iter()
                .enumerate()
                .map(|(index, body)| format!("route r{index} {{ {body} }}"))
                .collect();
            format!(
                "service web {{ port 80; endpoints {{ static \"10.0.0.1:80\" }}; calls a }}\n\
             service other {{ port 80; endpoints {{ static \"10.0.0.2:80\" }} }}\n\
             service a {{\n port 80\n endpoints {{ static \"10.0.0.3:80\" }}\n {}\n {}\n}}",
                routes.join("\n "),
                rules.join("\n "),
            )
        })
}

fn linked(policy: &str) -> Result<(LinkedMesh, ServiceId), String> {
    let sources = sources(policy);
    let analysed = load(&sources);
    let mesh = analysed
        .mesh
        .ok_or_else(|| draw(&sources, &analysed.diagnostics))?;
    let id = mesh.service_named("a").ok_or("no service")?;
    Ok((mesh, id))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn routes_are_what_their_facts_say(policy in any_policy()) {
        let (mesh, id) = linked(&policy).map_err(TestCaseError::fail)?;
        let facts = RouteFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        prop_assert!(facts.unknown.is_empty(), "{:?}\n{policy}", facts.unknown);
        let world = world();
        let count = mesh.service(id).routes.len();
        let mut chosen = vec![false; count];
        let mut admitted = vec![false; count];
        let mut uncovered = false;
        for point in &world {
            match probe.route(point) {
                Some(route) => chosen[route] = true,
                None => uncovered |= probe.is_allowed(point) == Some(true),
            }
            for (route, admitted) in admitted.iter_mut().enumerate() {
                *admitted |= probe.admits(route, point);
            }
        }
        for each in &facts.unreachable {
            prop_assert!(!chosen[each.route], "r{} is chosen\n{policy}", each.route);
            let witness = each.witness.as_ref().ok_or_else(|| TestCaseError::fail(format!("no witness\n{policy}")))?;
            prop_assert!(probe.admits(each.route, witness));
            prop_assert!(probe.route(witness).is_some_and(|winner| winner != each.route));
        }
        for tie in &facts.ties {
            let witness = tie.witness.as_ref().ok_or_else(|| TestCaseError::fail(format!("no witness\n{policy}")))?;
            prop_assert!(probe.admits(tie.first, witness) && probe.admits(tie.second, witness), "{policy}");
        }
        for route in 0..count {
            let unreachable = facts.unreachable.iter().any(|each| each.route == route);
            let tied = facts.ties.iter().any(|tie| tie.first == route || tie.second == route);
            let matches = mesh.service(id).routes[route].matches.len();
            let impossible = matches > 0
                && facts.impossible.iter().filter(|each| each.route == route).count() == matches;
            prop_assert_eq!(impossible, !admitted[route], "r{} impossible?\n{}", route, policy);
            prop_assert!(chosen[route] || unreachable || tied || impossible, "r{route} is never chosen\n{policy}");
        }
        prop_assert_eq!(facts.uncovered.is_some(), uncovered, "{}", policy);
        if let Some(point) = &facts.uncovered {
            prop_assert!(probe.route(point).is_none() && probe.is_allowed(point) == Some(true));
        }
    }

    #[test]
    fn access_rules_are_what_their_facts_say(policy in any_policy()) {
        let (mesh, id) = linked(&policy).map_err(TestCaseError::fail)?;
        let facts = AccessFacts::of(&mesh, id);
        let probe = Probe::of(&mesh, id).expect("what links is what the engine takes");
        let world = world();
        let rules = mesh.service(id).access.len();
        for rule in 0..rules {
            let taken = world.iter().any(|point| probe.takes(rule, point));
            prop_assert_eq!(facts.never.contains(&rule), !taken, "rule {}\n{}", rule, policy);
        }
        // Without what is said to be redundant, nobody gains or loses anything.
        let mut smaller = mesh.clone();
        let idle: Vec<usize> = facts.redundant.iter().map(|each| each.rule).collect();
        let mut index = 0;
        smaller.services[id.index()].access.retain(|_| {
            index += 1;
            !idle.contains(&(index - 1))
        });
        let without = Probe::of(&smaller, id).expect("what links is what the engine takes");
        for point in &world {
            prop_assert_eq!(probe.is_allowed(point), without.is_allowed(point), "{:?}\n{}", point, policy);
        }
        for each in &facts.redundant {
            prop_assert!(each.witness.is_some(), "{policy}");
        }
        let web = mesh.service_named("web").expect("it is in the policy");
        let gets_in = world.iter().any(|point| {
            point.from.as_deref() == Some("spiffe://example.test/service/web")
                && probe.is_allowed(point) == Some(true)
        });
        prop_assert_eq!(facts.lockouts.iter().any(|each| each.caller == web), !gets_in, "{}", policy);
    }
}
