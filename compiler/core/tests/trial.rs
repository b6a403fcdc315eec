//! Requests through the engine: what tests of a policy see.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use mesh_compiler::analysis::routes::RouteFacts;
use mesh_compiler::test_util::{MESH, load, render, sources};
use mesh_compiler::trial::{Call, Coverable, Decision};
use mesh_compiler::{LinkedMesh, Trial, sample_request};
use mesh_syntax::SourceSet;

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

/// A mesh without findings.
#[track_caller]
fn linked(sources: &SourceSet) -> LinkedMesh {
    let analysed = load(sources);
    assert_eq!(render(sources, &analysed.diagnostics), "");
    analysed.mesh.unwrap()
}

/// Runs every test of a mesh, all of which pass.
#[track_caller]
fn passing(mesh: &LinkedMesh) -> Trial<'_> {
    let mut trial = Trial::new(mesh);
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(report.passed(), "{}: {:?}", test.name.value, report);
    }
    trial
}

fn mesh(tests: &str) -> LinkedMesh {
    let sources = sources(&[
        ("a.kdl", POLICIES),
        ("a.test.kdl", tests),
        ("mesh.kdl", MESH),
    ]);
    linked(&sources)
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
    let mesh = linked(&sources);
    passing(&mesh);
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
    let mesh = linked(&sources);
    let mut trial = passing(&mesh);
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

/// Nobody stands beside an external: the proxy of the gateway by which requests leave decides.
#[test]
fn a_request_may_leave_the_mesh_by_a_gateway() {
    let sources = sources(&[
        ("mesh.kdl", MESH),
        (
            "a.kdl",
            r#"
            service web { port 80; calls bank }
            external bank {
                host "bank.example"
                port 80 dial=443 { tls }
                allow web out { path "/pay/**" }
                via out
            }
            gateway out {
                listen 80 { host "bank.example" }
                allow unauthenticated { path "/pay/**" "/old/**" "/steal" }
                allow web
                route bank { match { path "/pay/**" "/steal" }; to bank }
                route old { match { path "/old/**" }; rewrite path="/pay/**"; to bank }
            }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "out" {
                request GET "/pay/1" from=unauthenticated to=out host="bank.example"
                expect allowed route=bank service=bank
            }
            test "rewritten before it is judged" {
                request GET "/old/1" from=unauthenticated to=out host="bank.example"
                expect allowed route=old service=bank path="/pay/1"
            }
            test "not that" {
                request GET "/steal" from=unauthenticated to=out host="bank.example"
                expect denied status=403 reason=authz_denied
            }
            test "of a service" {
                request GET "/pay/1" from=web to=out host="bank.example"
                expect allowed
            }
            "#,
        ),
    ]);
    let mesh = linked(&sources);
    let mut trial = passing(&mesh);
    for what in Coverable::all(&mesh) {
        assert!(trial.covering(what).is_some(), "{what:?}");
    }
}

/// Whoever sends it decides, by the rules of the external, of what its route makes of the request.
#[test]
fn a_route_may_lead_out_of_the_mesh() {
    let sources = sources(&[
        ("mesh.kdl", MESH),
        (
            "a.kdl",
            r#"
            service web { port 80; calls api }
            service api {
                port 80
                allow web public
                route pay { match { path "/x/**" }; rewrite path="/pay/**"; to service=bank }
                route rest
            }
            external bank { host "bank.example"; port 80 dial=443 { tls }; allow web public { method GET; path "/pay/**" } }
            gateway public { listen 80; allow unauthenticated; route api { to api } }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "out" { request GET "/x/1" from=web to=api; expect allowed route=pay service=bank path="/pay/1" }
            test "not so" { request POST "/x/1" from=web to=api; expect denied status=403 reason=authz_denied }
            test "out by a gateway" { request GET "/x/1" from=unauthenticated to=public; expect allowed }
            test "not so by a gateway" { request POST "/x/1" from=unauthenticated to=public; expect denied }
            test "in" { request POST "/" from=web to=api; expect allowed route=rest }
            "#,
        ),
    ]);
    passing(&linked(&sources));
}

/// An identity is enough to be judged by the callee; of the caller's side nobody knows.
#[test]
fn whoever_has_only_an_identity_can_be_tested() {
    let sources = sources(&[
        (
            "mesh.kdl",
            r#"mesh m { trust-domain "m.example"; federate "other.example" }"#,
        ),
        (
            "a.kdl",
            r#"
            service web { port 80; calls api }
            service api { port 80; allow web "spiffe://other.example/**" { path "/items/**" } }
            external bank { host "bank.example"; port 80 dial=443 { tls }; allow web }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "of another mesh" {
                request GET "/items/1" from="spiffe://other.example/service/shop" to=api
                expect allowed
            }
            test "not that" {
                request GET "/" from="spiffe://other.example/service/shop" to=api
                expect denied reason=authz_denied
            }
            test "of nobody" { request GET "/items/1" from="spiffe://m.example/service/x" to=api; expect denied }
            test "of a service" {
                request GET "/items/1" from="spiffe://m.example/service/web" to=api
                expect allowed route=default
            }
            test "nothing of the mesh lets it leave" {
                request GET "/" from="spiffe://other.example/service/shop" to=bank
                expect denied
            }
            test "nor lets nobody" { request GET "/" from=unauthenticated to=bank; expect denied }
            "#,
        ),
    ]);
    passing(&linked(&sources));
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
    let mesh = linked(&sources);
    passing(&mesh);
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

/// Everything that a test can say about what happens on the way.
const ON_THE_WAY: &str = r#"
authorizer risk { to guard; timeout "50ms"; on-failure allow }
service web { port 80; calls api; calls db; calls plain }
service guard { port 80; allow api }
service counter { port 80; allow api }
service plain { port 80; allow web }
service db {
    port 5432 protocol=tcp
    port 8443 protocol=tls
    allow web { port 5432 }
    deny web { peer-ip "192.0.2.0/24" }
}
service api {
    port 80
    allow web
    deny web { path "/admin/**" }
    require authorizer risk { path "/v2/**" }
    rate-limit "100/s" via=counter { path "/v2/**" }
    rate-limit "5/10s" { path "/slow/**"; respond 503 }
    route pay {
        match { path "/pay/**" }
        rewrite path="/v2/**" host="inner.example"
        request-headers { set x-kind "pay"; remove x-debug }
        response-headers { remove server; set x-served "mesh"; add vary "x" }
        fault until="2020-01-01" { delay "7s" share="10%"; abort 503 share="1%" }
        timeout "3s"
        retry connect-failure attempts=2 per-try="1s"
    }
    route old { match { path "/old/**" }; redirect path="/new/**" status=308 }
    route gone { match { path "/gone" }; respond 410 body="gone" }
    route pages {
        match { path "/pages/**" }
        cors { origin "https://shop.example"; method GET }
    }
    route rest
}
"#;

fn on_the_way(tests: &str) -> Vec<String> {
    let sources = sources(&[
        ("a.kdl", ON_THE_WAY),
        ("a.test.kdl", tests),
        ("mesh.kdl", MESH),
    ]);
    let mesh = linked(&sources);
    let mut trial = Trial::new(&mesh);
    let run = mesh.tests.iter().map(|test| {
        let report = trial.test(test);
        let failures = report.failures.iter().map(|failure| {
            let because: Vec<&str> = failure
                .because
                .iter()
                .map(|why| why.text.as_str())
                .collect();
            format!(
                "{}: {} is {} ({})",
                failure.field,
                failure.expected,
                failure.actual,
                because.join("; ")
            )
        });
        let failures: Vec<String> = failures.collect();
        format!("{}: {}", test.name.value, failures.join("; "))
    });
    run.collect()
}

#[test]
fn what_happens_on_the_way_can_be_expected() {
    let results = on_the_way(
        r#"
        test "change" {
            request GET "/pay/1" from=web to=api { header x-debug "1"; header x-own "2" }
            expect allowed route=pay rule="allow web" path="/v2/1" host="inner.example" timeout="3s" per-try="1s" authorizer=risk {
                request-header x-kind "pay"
                request-header x-debug none
                request-header x-own "2"
                response-header server none
                response-header x-served "mesh"
                response-header x-served
                delay "7s" share="10%"
                abort 503 share="1%"
            }
        }
        test "limited" { request GET "/pay/1" from=web to=api; expect limited status=429 reason=rate_limited }
        test "limited with its own answer" { request GET "/slow/1" from=web to=api; expect limited status=503 }
        test "redirect" { request GET "/old/1" from=web to=api; expect allowed route=old status=308 location="http://api/new/1" }
        test "respond" { request GET "/gone" from=web to=api; expect allowed status=410 }
        test "preflight" {
            request OPTIONS "/pages/1" from=web to=api { header origin "https://shop.example"; header access-control-request-method "GET" }
            expect allowed route=pages status=204
        }
        test "no timeout said" { request GET "/x" from=web to=api; expect allowed timeout="15s" per-try="15s" attempts=1 path="/x" }
        test "trace" { request TRACE "/x" from=web to=api; expect denied status=405 }
        test "connect" { connect from=web to=db; expect allowed rule="allow web" route=default }
        test "connect elsewhere" { connect from=web to=db port=8443 host="db.example"; expect denied reason=authz_denied }
        test "connect from there" { connect from=web to=db peer-ip="192.0.2.9"; expect denied rule="deny web" }
        test "connect as a stranger" { connect from=guard to=db; expect denied }
        test "connect as nobody" { connect from=unauthenticated to=db; expect denied }
        "#,
    );
    let passed: Vec<&String> = results
        .iter()
        .filter(|result| !result.ends_with(": "))
        .collect();
    assert_eq!(passed, Vec::<&String>::new());
    assert_eq!(results.len(), 13);
}

#[test]
fn what_is_otherwise_on_the_way_says_why() {
    let results = on_the_way(
        r#"
        test "a" { request GET "/pay/1" from=web to=api; expect allowed rule="deny web" route=old path="/pay/1" timeout=none }
        test "b" { request GET "/admin/1" from=web to=api; expect allowed }
        test "c" { request GET "/x" from=web to=api; expect denied }
        test "d" { request GET "/x" from=web to=api; expect limited }
        test "e" { request GET "/x" from=guard to=api; expect allowed }
        test "f" { request GET "/x" from=unauthenticated to=plain; expect allowed }
        test "g" { request GET "/x" from=web to=api; expect allowed route=nothing authorizer=risk { delay "1s"; response-header server none; request-header x-y } }
        test "h" { connect from=web to=db port=8443; expect allowed }
        "#,
    );
    insta::assert_snapshot!(results.join("\n"));
}

#[test]
fn a_request_to_bytes_and_a_connection_to_http_are_mistakes() {
    let sources = sources(&[
        ("a.kdl", ON_THE_WAY),
        (
            "a.test.kdl",
            r#"
            test "a" { request GET "/" from=web to=db; expect allowed }
            test "b" { connect from=web to=api; expect allowed }
            test "c" { connect from=web to=db; request GET "/" from=web to=api; expect split }
            test "d" { request GET "/" from=web to=api; expect allowed authorizer=rsk { to v1 share="10%" } }
            "#,
        ),
        ("mesh.kdl", MESH),
    ]);
    let analysed = load(&sources);
    insta::assert_snapshot!(render(&sources, &analysed.diagnostics));
}

/// Whatever can be covered is, by what is written; whatever is written passes.
#[test]
fn what_is_written_covers_all_that_can_be_reached() {
    let policies = r#"
        gateway public {
            listen 8080 { host "shop.example" }
            listen 8081
            allow unauthenticated
            deny { path "/internal/**" }
            route shop { match { host "shop.example"; path "/shop/**" }; rewrite path="/**"; to api }
            route old { match { path "/old/**" }; redirect path="/new/**" }
            route rest { to other }
        }
        service other { port 80; allow public; allow web { method POST }; deny web { header x-no "1" } }
        service never { port 80; allow other; route one { match { path "/1" } }; route two { match { path "/1" "/2"; method GET } } }
        external bank { host "bank.example"; port 80 protocol=http dial=443 { tls }; allow web { path "/pay" } }
    "#;
    let text = format!("{ON_THE_WAY}\n{policies}").replace("calls db;", "calls db; calls bank;");
    let text = text.replace("allow web\n", "allow web public\n");
    let loaded = |tests: &str| {
        let sources = sources(&[("a.kdl", &text), ("a.test.kdl", tests), ("mesh.kdl", MESH)]);
        let analysed = load(&sources);
        assert_eq!(render(&sources, &analysed.diagnostics), "");
        analysed.mesh.unwrap()
    };
    let empty = loaded("");
    let mut trial = Trial::new(&empty);
    let mut written = String::new();
    let mut missing = Vec::new();
    for (number, what) in (0..).zip(Coverable::all(&empty)) {
        match trial.covering(what) {
            Some(witness) => {
                let test = trial
                    .written_test(&format!("{number:02}"), &witness)
                    .unwrap();
                written.push_str(&test);
            }
            None => missing.push(what),
        }
    }
    insta::assert_snapshot!(written);
    assert_eq!(missing, []);
    let mesh = loaded(&written);
    let mut trial = Trial::new(&mesh);
    let mut left: Vec<Coverable> = Coverable::all(&mesh);
    for test in &mesh.tests {
        let report = trial.test(test);
        assert!(
            report.passed(),
            "{}: {:?}",
            test.name.value,
            report.failures
        );
        let outcome = report.outcome.unwrap();
        left.retain(|what| !what.is_touched(&outcome));
    }
    assert_eq!(left, []);
}

#[test]
fn a_port_may_have_its_own_mode_of_mutual_tls() {
    let sources = sources(&[
        ("mesh.kdl", MESH),
        (
            "a.kdl",
            r#"
            service web { port 80; calls api }
            service api {
                port 80
                port 81 { mtls permissive }
                port 82 { mtls off }
                allow unauthenticated web
            }
            "#,
        ),
        (
            "a.test.kdl",
            r#"
            test "80 plain" { request GET "/" from=unauthenticated to=api port=80; expect denied }
            test "80" { request GET "/" from=web to=api port=80; expect allowed }
            test "81 plain" { request GET "/" from=unauthenticated to=api port=81; expect allowed }
            test "81" { request GET "/" from=web to=api port=81; expect allowed }
            test "82 plain" { request GET "/" from=unauthenticated to=api port=82; expect allowed }
            test "82" { request GET "/" from=web to=api port=82; expect denied }
            "#,
        ),
    ]);
    let mesh = linked(&sources);
    passing(&mesh);
}
