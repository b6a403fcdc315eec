//! Requests through the engine: what tests of a policy see.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::analysis::routes::RouteFacts;
use mesh_compiler::test_util::{MESH, load, render, sources};
use mesh_compiler::trial::{Call, Decision};
use mesh_compiler::{LinkedMesh, Trial, sample_request};

const POLICIES: &str = r#"
service web { port 80; calls api { timeout "1s" }; calls lone }
service lone { port 80 }
service api {
    port 80
    subset v1 { labels version=v1 }
    subset v2 { labels version=v2 }
    route beta { match { path "/items/**"; cookie beta "1" }; match { path "/items/**"; query beta }; to v2 }
    route items { match { path "/items/**"; not { method DELETE } }; to v1 weight=2; to v2 weight=1 }
    timeout "2s"
    retry connect-failure attempts=2
    allow web { path "/items/**" regex="/b[a-z]+" }
    deny { header x-blocked }
}
"#;

fn mesh(tests: &str) -> LinkedMesh {
    let sources = sources(&[
        ("a.kdl", POLICIES),
        ("a.test.kdl", tests),
        ("mesh.kdl", MESH),
    ]);
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    analysed.mesh.unwrap()
}

/// What each test says about its request.
fn results(tests: &str) -> Vec<String> {
    let mesh = mesh(tests);
    let mut trial = Trial::new(&mesh);
    let run = mesh.tests.iter().map(|test| {
        let report = trial.test(test);
        let failures: Vec<String> = report
            .failures
            .iter()
            .map(|failure| {
                format!(
                    "{}: {} is {}",
                    failure.field, failure.expected, failure.actual
                )
            })
            .collect();
        match &report.outcome {
            Ok(_) if report.passed() => format!("{}: passed", test.name.value),
            Ok(_) => format!("{}: {}", test.name.value, failures.join("; ")),
            Err(error) => format!("{}: {error}", test.name.value),
        }
    });
    run.collect()
}

#[test]
fn what_is_as_expected_passes() {
    let results = results(
        r#"
        test "a" { request GET "/items/1" from=web to=api; expect allowed route=items service=api attempts=2 }
        test "b" { request GET "/items/1" from=web to=api; expect split { to v2 share="33.33%"; to v1 share="66.67%" } }
        test "c" { request GET "/items/1?beta=1" from=web to=api; expect allowed route=beta to=v2 }
        test "d" { request GET "/items/1" from=web to=api { cookie beta "1" }; expect allowed to=v2 }
        test "e" { request DELETE "/items/1" from=web to=api; expect no-route status=404 reason=no_route }
        test "f" { request GET "/items/1" from=web to=api { header X-Blocked "" }; expect denied status=403 reason=authz_denied }
        test "g" { request GET "/items/1" from=lone to=api; expect denied }
        test "h" { request GET "/items/../secret" from=web to=api { query beta "" }; expect no-route }
        test "i" { request GET "/" from=web to=lone; expect denied }
        "#,
    );
    assert_eq!(
        results,
        ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| format!("{name}: passed"))
    );
}

#[test]
fn what_is_otherwise_says_what_is() {
    let results = results(
        r#"
        test "a" { request GET "/items/1" from=web to=api; expect allowed route=beta to=v2 attempts=3 }
        test "b" { request GET "/items/1" from=web to=api; expect split { to v1 share="50%"; to v2 share="50%" } }
        test "c" { request GET "/items/1" from=web to=api; expect denied route=items }
        test "d" { request GET "/items/%2f" from=web to=api; expect denied status=403 reason=authz_denied }
        test "e" { request GET "/items/1" from=web to=api port=81; expect allowed }
        test "f" { request GET "/items/1" from=web to=api host="lone"; expect allowed }
        "#,
    );
    assert_eq!(
        results,
        [
            "a: route: beta is items; to: v2 is v1 v2; attempts: 3 is 2",
            "b: split: v1 50%, v2 50% is v1 66.67%, v2 33.33%",
            "c: decision: denied is allowed",
            "d: status: 403 is 400; reason: authz_denied is bad_request:path_encoded_slash",
            "e: decision: allowed is denied",
            "f: decision: allowed is denied",
        ]
    );
}

#[test]
fn an_explanation_names_rule_and_losers() {
    let mesh = mesh("");
    let caller = mesh.service_named("web").unwrap();
    let callee = mesh.service_named("api").unwrap();
    let request = sample_request(&mesh, caller, callee).unwrap();
    let outcome = Trial::new(&mesh).run(&Call::from(&request)).unwrap();
    assert_eq!(outcome.decision, Decision::Allowed);
    let rule = outcome.rule.unwrap();
    assert_eq!(rule.name, "allow web");
    assert!(rule.source.span().is_some());
    let taken = outcome.route.unwrap();
    assert_eq!(
        taken.exchange.timeout.value.map(|time| time.as_secs()),
        Some(1)
    );
    assert_eq!(outcome.losers.len(), 1);
    let lone = mesh.service_named("lone").unwrap();
    assert_eq!(
        sample_request(&mesh, caller, lone),
        None,
        "nothing allows it"
    );
}

#[test]
fn a_witness_asks_for_a_host_that_can_be_asked_for() {
    let sources = sources(&[
        ("mesh.kdl", MESH),
        (
            "a.kdl",
            r#"
            service web { port 80; calls api }
            service api { port 80; host "*.api.example"; route r { match { header x } }; allow web }
            "#,
        ),
    ]);
    let mesh = load(&sources).mesh.unwrap();
    let api = mesh.service_named("api").unwrap();
    let point = RouteFacts::of(&mesh, api).uncovered.unwrap();
    assert_eq!(point.host, "www.api.example");
}

#[test]
fn rules_see_addresses_claims_and_who_comes_without_a_name() {
    let sources = sources(&[
        (
            "mesh.kdl",
            r#"mesh m { trust-domain "m.example"; team shop { service web } }"#,
        ),
        (
            "a.kdl",
            r#"
            service web { port 80; calls api }
            service other { port 80; calls api }
            service api {
                port 80
                mtls permissive
                allow unauthenticated { client-ip "203.0.113.0/24" }
                allow team=shop { claim role "buyer" }
                deny { peer-ip "192.0.2.0/24" }
            }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "near" { request GET "/" from=unauthenticated to=api client-ip="203.0.113.7"; expect allowed }
            test "far" { request GET "/" from=unauthenticated to=api client-ip="198.51.100.7"; expect denied }
            test "buyer" { request GET "/" from=web to=api { claim role "buyer" }; expect allowed }
            test "seller" { request GET "/" from=web to=api { claim role "seller" }; expect denied }
            test "not of the team" { request GET "/" from=other to=api { claim role "buyer" }; expect denied }
            test "bad neighbour" {
                request GET "/" from=web to=api peer-ip="192.0.2.9" { claim role "buyer" }
                expect denied status=403
            }
            "#,
        ),
    ]);
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    let mesh = analysed.mesh.unwrap();
    let mut trial = Trial::new(&mesh);
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(
            report.passed(),
            "{}: {:?}",
            test.name.value,
            report.failures
        );
    }
}

#[test]
fn a_request_into_a_gateway_goes_on_to_the_services_behind_it() {
    let sources = sources(&[
        (
            "mesh.kdl",
            r#"mesh m { trust-domain "m.example"; team shop { owns "shop/**"; service shop } }"#,
        ),
        (
            "a.kdl",
            r#"
            gateway public {
                listen 8443 { host "shop.example"; tls certificate=shop }
                listen 8080 { host "pay.example" }
                allow unauthenticated { not { client-ip "192.0.2.0/24" } }
                deny { path "/admin/**" }
                delegate shop { path "/shop/**" }
                route split { match { port 8080 }; to pay weight=1; to shop weight=3 }
                route inside { match { path "/inside" }; to pay }
            }
            service pay { port 80; allow public { path "/pay/**" } }
            "#,
        ),
        (
            "shop/shop.kdl",
            r#"
            service shop {
                port 80
                subset v1 { labels version=v1 }
                subset v2 { labels version=v2 }
                route items { match { path "/shop/**" "/pay/**" }; to v1 weight=1; to v2 weight=1; timeout "9s" }
                allow public
            }
            route shop gateway=public { match { path "/shop/**"; port 8443 }; to shop; timeout "3s" }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "in" {
                request GET "/shop/1" from=unauthenticated to=public host="shop.example"
                expect split route=shop service=shop { to v1 share="50%"; to v2 share="50%" }
            }
            test "not from there" {
                request GET "/shop/1" from=unauthenticated to=public host="shop.example" client-ip="192.0.2.1"
                expect denied
            }
            test "not that" { request GET "/admin/x" from=unauthenticated to=public host="shop.example"; expect denied }
            test "no such host" {
                request GET "/shop/1" from=unauthenticated to=public host="other.example"
                expect no-route
            }
            test "no route" { request GET "/" from=unauthenticated to=public host="shop.example"; expect no-route }
            test "the service behind refuses" {
                request GET "/inside" from=unauthenticated to=public host="shop.example"
                expect denied status=403
            }
            test "the service behind has no route" {
                request GET "/x" from=unauthenticated to=public host="pay.example"
                expect denied
            }
            test "another port" {
                request GET "/pay/1" from=unauthenticated to=public host="pay.example"
                expect allowed route=split
            }
            test "as the gateway" { request GET "/shop/1" from=public to=shop; expect allowed route=items }
            test "a service is a client like any other" {
                request GET "/shop/1" from=pay to=public host="shop.example"
                expect denied
            }
            "#,
        ),
    ]);
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    let mesh = analysed.mesh.unwrap();
    let mut trial = Trial::new(&mesh);
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(report.passed(), "{}: {:?}", test.name.value, report);
    }
    let request = Call {
        method: "GET".to_owned(),
        path: "/shop/1".to_owned(),
        to: "public".to_owned(),
        host: Some("shop.example".to_owned()),
        ..Call::default()
    };
    let outcome = trial.run(&request).unwrap();
    let exchange = &outcome.route.unwrap().exchange;
    assert_eq!(exchange.timeout.value.map(|time| time.as_secs()), Some(3));
    assert_eq!(outcome.behind[0].service, "shop");
    assert!(outcome.behind[0].rule.is_some());
}

#[test]
fn a_request_without_the_token_that_it_must_bring_is_refused() {
    let sources = sources(&[
        ("mesh.kdl", MESH),
        (
            "a.kdl",
            r#"
            jwt shop { issuer "https://id.example"; jwks url="https://id.example/keys" }
            gateway public {
                listen 8080
                allow unauthenticated
                route home { match { path "/" }; to web }
                route cart { match { path "/cart/**" }; to web; require jwt shop }
            }
            service web {
                port 80
                allow public
                require jwt shop { path "/cart/pay" }
                probe "/healthz"
            }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "open" { request GET "/" from=unauthenticated to=public; expect allowed route=home }
            test "closed" {
                request GET "/cart/1" from=unauthenticated to=public
                expect denied status=401 reason=jwt_invalid
            }
            test "with a token" {
                request GET "/cart/1" from=unauthenticated to=public { claim sub "x" }
                expect allowed route=cart
            }
            test "at the service" { request GET "/cart/pay" from=public to=web; expect denied status=401 }
            test "a probe" { request GET "/healthz" from=unauthenticated to=web; expect allowed }
            test "no probe" { request GET "/healthz/x" from=unauthenticated to=web; expect denied status=403 }
            "#,
        ),
    ]);
    let analysed = load(&sources);
    assert_eq!(render(&sources, &analysed.diagnostics), "");
    let mesh = analysed.mesh.unwrap();
    let mut trial = Trial::new(&mesh);
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(report.passed(), "{}: {:?}", test.name.value, report);
    }
}

#[test]
fn what_is_written_from_a_witness_passes() {
    let request = |method: &str, path: &str, from: Option<&str>| mesh_syntax::Witness {
        method: method.to_owned(),
        path: path.to_owned(),
        from: from.map(str::to_owned),
        to: "api".to_owned(),
        ..mesh_syntax::Witness::default()
    };
    let beta = mesh_syntax::Witness {
        query: vec![("beta".to_owned(), "\"1\" & \\".to_owned())],
        headers: vec![("x-1".to_owned(), "\t".to_owned())],
        ..request("GET", "/items/1", Some("web"))
    };
    let witnesses = [
        request("GET", "/items/1", Some("web")),
        beta,
        request("DELETE", "/items/1", Some("web")),
        request("GET", "/items/1", Some("lone")),
        request("GET", "/", None),
        request("GET", "/items/%2f", Some("web")),
    ];
    let empty = mesh("");
    let mut trial = Trial::new(&empty);
    let written: Vec<String> = (0..)
        .zip(&witnesses)
        .map(|(number, witness)| trial.written_test(&format!("{number}"), witness).unwrap())
        .collect();
    let written = written.concat();
    insta::assert_snapshot!(written);
    assert!(
        results(&written)
            .iter()
            .all(|result| result.ends_with(": passed"))
    );
}
