//! Gateways that lock out, and routes whose requests are refused at their end, against every request that policies
//! could tell from another, tried as a test would be.

use mesh_compiler::analysis::passage::Passages;
use mesh_compiler::linked::LinkedMesh;
use mesh_compiler::trial::{Call, Decision, Outcome, Trial};
use proptest::prelude::*;

use super::linked;

fn one_of(options: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(options)
}

fn rules(who: &'static str) -> impl Strategy<Value = String> {
    let rules: &[&str] = &[
        "allow WHO",
        "allow WHO { path \"/a/**\" }",
        "allow WHO { path \"/b/**\"; method GET }",
        "allow WHO { header x \"1\" }",
        "allow WHO { not { header x } }",
        "allow WHO { host \"in.test\" }",
        "deny { path \"/a\" }",
        "deny { method POST }",
    ];
    prop::sample::subsequence(rules, 0..=3)
        .prop_map(move |some| some.join("; ").replace("WHO", who))
}

fn route() -> impl Strategy<Value = String> {
    let matches = one_of(&[
        "",
        "match { path \"/a/**\" }",
        "match { path \"/b/**\"; method GET }",
        "match { path \"/a/**\"; header x \"1\" }",
        "match { path \"/a/c\" }",
    ]);
    let rewrites = one_of(&["", "", "rewrite host=\"in.test\"", "REWRITE"]);
    let edits = one_of(&[
        "",
        "",
        "request-headers { set x \"1\" }",
        "request-headers { remove x }",
        "request-headers { add x \"2\" }",
    ]);
    (matches, rewrites, edits).prop_map(|(matches, rewrite, edits)| {
        // What a rewrite writes has to be captured.
        let rewrite = if rewrite == "REWRITE" && !matches.contains("/a/c") {
            "rewrite path=\"/b/**\""
        } else {
            rewrite.trim_start_matches("REWRITE")
        };
        [matches, rewrite, edits].join("; ")
    })
}

fn calls(from: Option<&str>, to: &str) -> Vec<Call> {
    // Whoever comes from outside may ask a listener without hosts for any.
    let hosts: &[Option<&str>] = if from.is_none() {
        &[None, Some("in.test")]
    } else {
        &[None]
    };
    let mut calls = Vec::new();
    for method in ["GET", "POST"] {
        for path in ["/", "/a", "/a/c", "/a/d", "/b", "/b/c"] {
            for headers in [&[][..], &["1"], &["2"], &["1", "2"]] {
                for host in hosts {
                    calls.push(Call {
                        host: host.map(str::to_owned),
                        from: from.map(str::to_owned),
                        to: to.to_owned(),
                        method: method.to_owned(),
                        path: path.to_owned(),
                        headers: headers
                            .iter()
                            .map(|x| ("x".to_owned(), (*x).to_owned()))
                            .collect(),
                        ..Call::default()
                    });
                }
            }
        }
    }
    calls
}

fn tried(mesh: &LinkedMesh, from: Option<&str>, to: &str) -> Result<Vec<Outcome>, TestCaseError> {
    let mut trial = Trial::new(mesh);
    let outcomes = calls(from, to).into_iter().map(|call| trial.run(&call));
    let outcomes: Result<Vec<Outcome>, _> = outcomes.collect();
    outcomes.map_err(|error| TestCaseError::fail(error.to_string()))
}

proptest! {
    #![proptest_config(super::cases(192))]

    #[test]
    fn what_is_called_refused_behind_a_gateway_is(
        first in route(), second in route(), own in route(), entrance in rules("unauthenticated"), rules in rules("g"),
    ) {
        let text = format!(
            r#"gateway g {{ listen 80; {entrance}; route one {{ {first}; to a }}; route two {{ match {{ path "/b/c" }}; {}; to a }} }}
service a {{ port 80; endpoints {{ static "10.0.0.4:80" }}; {rules}; route own {{ {own}; to }} }}
"#,
            second.rsplit("; ").next().unwrap_or_default(),
        );
        let (mesh, _) = linked(&text)?;
        let gateway = mesh.service_named("g").expect("it is in the policy");
        let mut passages = Passages::new(&mesh);
        let refused = passages.refused_behind(gateway);
        let closed = passages.closed(gateway);
        let outcomes = tried(&mesh, None, "g")?;
        for (index, _) in mesh.service(gateway).routes.iter().enumerate() {
            let through = || outcomes.iter().filter(|outcome| {
                outcome.route.as_ref().is_some_and(|taken| taken.id.service == gateway && taken.id.index == index)
            });
            // Those that the gateway lets in, and that a route behind it takes.
            let ends: Vec<bool> = through()
                .flat_map(|outcome| &outcome.behind)
                .filter(|behind| behind.route.is_some())
                .map(|behind| behind.decision == Decision::Allowed)
                .collect();
            let is_refused = !ends.is_empty() && !ends.contains(&true);
            let said = refused.iter().any(|each| each.route.index == index);
            prop_assert_eq!(said, is_refused, "route {}\n{}", index, text);
            let is_closed = closed.iter().any(|each| each.route.is_none_or(|route| route == index));
            if is_closed {
                prop_assert!(through().next().is_none(), "route {}\n{}", index, text);
            }
        }
        if closed.iter().any(|each| each.route.is_none()) {
            let refused = |outcome: &Outcome| outcome.decision != Decision::Allowed;
            prop_assert!(outcomes.iter().all(refused), "{}", text);
        }
    }

    #[test]
    fn what_is_called_refused_where_a_route_leads_is(way in route(), rules in rules("web")) {
        // Sets know nothing of the names by which a service is called.
        let rules = if way.contains("host") { rules } else { rules.replace("host \"in.test\"", "path \"/a\"") };
        let text = format!(
            r#"service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
service a {{ port 80; endpoints {{ static "10.0.0.4:80" }}; allow web; route way {{ {way}; to service=b }} }}
service b {{ port 80; endpoints {{ static "10.0.0.5:80" }}; {rules} }}
"#
        );
        let (mesh, a) = linked(&text)?;
        let (web, b) = (
            mesh.service_named("web").expect("it is in the policy"),
            mesh.service_named("b").expect("it is in the policy"),
        );
        let route = mesh.edge(web, b).and_then(|edge| edge.led.first().copied()).expect("it leads there");
        let said = !Passages::new(&mesh).led(web, b, route).is_empty();
        let outcomes = tried(&mesh, Some("web"), "a")?;
        let ends: Vec<bool> = outcomes
            .iter()
            .filter(|outcome| outcome.route.as_ref().is_some_and(|taken| taken.id == route))
            .map(|outcome| outcome.decision == Decision::Allowed)
            .collect();
        let is_refused = !ends.is_empty() && !ends.contains(&true);
        prop_assert_eq!(said, is_refused, "{}", text);
        prop_assert_eq!(route.service, a);
    }
}

/// The header that the route behind asks for is written by the route before, whose requests must not have it.
#[test]
fn a_refusal_is_found_behind_a_route_that_writes_what_the_next_one_asks_for()
-> Result<(), TestCaseError> {
    let (mesh, _) = linked(
        r#"gateway g {
    listen 80
    allow unauthenticated { not { header x } }
    route one { request-headers { set x "1" }; to a }
    route two { match { path "/b/c" }; to a }
}
service a {
    port 80
    endpoints { static "10.0.0.4:80" }
    route own { match { path "/a/**"; header x "1" }; to }
}
"#,
    )?;
    let gateway = mesh.service_named("g").expect("it is in the policy");
    let refused = Passages::new(&mesh).refused_behind(gateway);
    let routes: Vec<usize> = refused.iter().map(|each| each.route.index).collect();
    assert_eq!(routes, [0]);
    Ok(())
}
