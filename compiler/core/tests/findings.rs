//! What people are told, kind by kind, as they see it but for the programs' colours. Each snapshot is
//! a whole area; read it when it changes.

use mesh_compiler::test_util::{all, findings, findings_in, in_service, load, sources};

#[test]
fn words() {
    insta::assert_snapshot!(all(&[
        "servce a { port 80 }",
        "banana a",
        "timeout \"2s\"",
        "service a { port 80; rout x { } }",
        "service a { port 80; match { method GET } }",
        "service a { port 80; timeout \"2s\" conect=\"1s\" }",
        "service a { port 80; calls a timeout=\"1s\" }",
        "service a { port 80; balance least-request since=3 }",
        "service a { port 80 { x } }",
        "test \"x\" { }",
    ]));
}

#[test]
fn words_of_later_releases() {
    insta::assert_snapshot!(all(&[
        "service a { port 80; probe \"/healthz\" }",
        "service a { port 80; allow unauthenticated }",
        "mesh n { trust-domain \"n\"; mtls permissive }",
    ]));
}

#[test]
fn whom_rules_name() {
    insta::assert_snapshot!(in_service(&[
        "allow unauthenticated { client-ip \"10.0.0.1/8\" }",
        "allow unauthentcated",
        "allow team=pay",
        "allow mode=audit",
        "deny team=any",
        "allow b { claim }",
        "allow b { claim role contains=\"x\" sufix=\"y\" }",
        "allow b { client-ip 10.0.0.1 }",
    ]));
    insta::assert_snapshot!(findings_in(&[(
        "mesh.kdl",
        r#"
mesh m {
    trust-domain "m.example"
    team pay { owns "teams/pay/**"; service a c; servce b }
    team pay { service b }
}
service a { port 80; allow team=paw }
service b { port 80; allow team=pay }
"#
    )]));
}

#[test]
fn gateways() {
    let service =
        "service a { port 80; subset v1 { labels version=v1 } }\npolicy patient { timeout \"2s\" }";
    let inside = [
        "listn 80",
        "listen 80 protocl=http",
        "listen 80 { hots \"a.example\" }",
        "listen 80 { host \"https://a.example/\" }",
        "listen 443 { tls }",
        "listen 443 { tls certificate=a client=required }",
        "listen 443 { tls certificate=a trust=b }",
        "listen 443 { tls certificate=a sni=\"a.example\" min=\"1.1\" }",
        "listen 443 { tls certificate=\"secret.pem\" client=requird trust=b }",
        "listen 80 { client-ip forwarded-for }",
        "listen 80 { client-ip peer hops=1 }",
        "listen 80 { client-ip forwarded-for hops=99 }",
        "listen 80\n    listen 80",
        "listen 80 { host \"a.example\" }\n    listen 80 { host \"b.example\" \"a.example\" }",
        "listen 80 { host \"a.example\" }\n    listen 80 { tls certificate=b; host \"b.example\" }",
        "allow unauthenticated",
        "listen 80; port 80",
        "listen 80; use patient",
        "listen 80; route r { }",
        "listen 80; route r { to }",
        "listen 80; route r { to b }",
        "listen 80; route r { to g }",
        "listen 80; route r { to a subset=v2 }",
        "listen 80; route r { to a; to a }",
        "listen 80; route r { match { port 81 }; to a }",
        "listen 80; route r { to a; timeout \"20s\" }",
        "listen 80; delegate pay { path \"/pay/**\" }",
        "listen 80; delegate pay",
        "listen 80; identity \"spiffe://m.example/service/a\"",
    ];
    let policies: Vec<String> = inside
        .iter()
        .map(|lines| format!("gateway g {{\n    {lines}\n}}\n{service}"))
        .collect();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    insta::assert_snapshot!(all(&policies));
    insta::assert_snapshot!(all(&[
        "gateway g { listen 80 }\ngateway g { listen 81 }",
        "gateway g { listen 80 }\nservice g { port 81 }",
        "gateway g { listen 80 }\nservice a { port 80; calls g }",
        "service a { port 80 }\nroute r gateway=a { to a }",
        "service a { port 80 }\ngateway gate { listen 80 }\nroute r gateway=gat { to a }",
        "service a { port 80 }\nroute r { to a }",
        "service a { port 80 }\ngateway g { listen 80; route r { to a } }\nroute r gateway=g { to a }",
        "gateway g { listen 80; identity \"spiffe://m.example/gateway/h\" }\ngateway h { listen 80 }",
    ]));
}

#[test]
fn what_requests_must_bring() {
    insta::assert_snapshot!(in_service(&[
        "require jwt shop",
        "require jtw shop",
        "require authorizer b",
        "accept authorizer b",
        "require jwt",
        "rate-limit 100",
        "rate-limit \"100/s\" burst=0 on-failure=allow",
        "rate-limit \"100/s\" via=c { per clientip }",
        "rate-limit \"100/s\" { per header; path \"x\" }",
        "probe \"healthz\"",
        "probe \"/healthz\" { peer_ip \"10.0.0.0/8\" }",
        "mtls permisive",
        "telemetry { access-log jsn }",
        "telemetry { access-log json { only { status 5xx 700; slower-than 1 } } }",
        "telemetry { traces share=\"1%\" }",
        "telemetry { traces otlp=\"collector:4317\" }",
        "allow b { grpc \"shop.Cart\" \"/shop.Cart/Add\" \"shop cart/Add\" }",
        "route r { require jwt shop }",
    ]));
    insta::assert_snapshot!(all(&[
        "jwt shop { }",
        "jwt shop { issuer \"i\"; jwks }",
        "jwt shop { issuer \"i\"; jwks file=\"../keys.jwks.json\" }",
        "jwt shop { issuer \"i\"; jwks file=\"keys.json\" }",
        "jwt shop { issuer \"i\"; jwks file=\"keys.jwks.json\" }",
        "jwt shop { issuer \"i\"; jwks file=\"k.jwks.json\" url=\"https://id.example/\" }",
        "jwt shop { issuer \"i\"; jwks url=\"https://user:secret@id.example/\" }",
        "jwt shop { isuer \"i\"; jwks url=\"https://id.example/keys\"; location header=x cookie=y; forward claim=sub }",
        "authorizer a { timeout \"1s\" }",
        "authorizer a { to b protocl=grpc; on-failure alow; body 8 }",
        "mesh n { trust-domain \"n\"; federate n; rollout \"10%\" \"5%\" \"50%\" flip=all }",
        "service a { port 80; allow \"spiffe://other.example/x\" }",
    ]));
    insta::assert_snapshot!(findings_in(&[
        (
            "mesh.kdl",
            "mesh m { trust-domain \"m.example\" }\njwt a { issuer \"i\"; jwks file=\"a.jwks.json\" }\njwt b { issuer \"i\"; jwks file=\"b.jwks.json\" }"
        ),
        (
            "a.jwks.json",
            "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"a\",\"y\":\"b\",\"d\":\"c\"}]}"
        ),
        ("b.jwks.json", "{\"keys\": }"),
    ]));
}

#[test]
fn invariants() {
    let all_of = |claims: &[&str]| -> String {
        let policies: Vec<String> = claims
            .iter()
            .map(|claim| format!("invariant \"as agreed\" {{ {claim} }}\nservice a {{ port 80 }}"))
            .collect();
        all(&policies.iter().map(String::as_str).collect::<Vec<_>>())
    };
    insta::assert_snapshot!(all_of(&[
        "",
        "reaches a",
        "reaches b { only c }",
        "reach a { only a }",
        "isolated { from a }",
        "isolated { from any; to a }",
        "allowed { from a }",
        "denied { from team=x; to a; mehtod GET }",
        "denied { to a b }",
    ]));
}

#[test]
fn values() {
    insta::assert_snapshot!(in_service(&[
        "timeout 10",
        "timeout \"10 s\"",
        "timeout \"1.5s\"",
        "timeout \"0s\"",
        "timeout \"2s\" \"3s\"",
        "port 99999",
        "port \"81\"",
        "port 81 protocol=udp",
        "port 81 protocol=htp",
        "retry 5xy attempts=2",
        "retry connect-failur attempts=2",
        "retry \"reset\" attempts=2",
        "retry 42 attempts=2",
        "retry grpc-17 attempts=2",
        "retry reset attempts=0",
        "retry-budget 20",
        "retry-budget \"120%\"",
        "retry-budget \"20%\" min=5",
        "retry-budget \"20%\" of=active min=\"5/s\"",
        "balance \"least-request\"",
        "subset V_1 { labels version=v1 }",
        "subset any { labels version=v1 }",
        "allow GET,POST",
        "allow b { method GET,POST }",
        "allow b { method get }",
        "allow b { path \"a\" }",
        "allow b { path \"/a/**/b\" }",
        "allow b { path regex=\"(\" }",
        "allow b { header x 007 }",
        "allow b { header host \"a\" }",
        "allow b { peer-ip \"10.0.0.1/8\" }",
        "host \"http://a.example/\"",
        "endpoints { static \"10.0.0.1\" }",
        "endpoints { dns \"10.0.0.1:80\" }",
        "identity \"a\"",
        "facts capacity=100",
    ]));
}

#[test]
fn missing_and_twice() {
    insta::assert_snapshot!(in_service(&[
        "timeout",
        "retry",
        "subset v1",
        "route r { match { path } }",
        "route r { match { path case=ignore } }",
        "allow",
        "deny b { not { method GET; path \"/a\" } }",
        "timeout \"1s\"; timeout \"2s\"",
        "port 80",
        "route r; route r",
        "subset v { labels a=b }; subset v { labels a=c }",
        "subset b { labels a=b }",
        "use p; use p",
        "calls b; calls b",
        "retry none reset",
        "endpoints { kubernetes namespace=x; static \"10.0.0.1:80\" }",
        "endpoints { static \"10.0.0.1:80\" \"10.0.0.1:80\" }",
        "port 81; endpoints { static \"10.0.0.1:9000\" }",
    ]));
}

#[test]
fn definitions() {
    let mesh = "mesh m { trust-domain \"m.example\" }";
    insta::assert_snapshot!(
        [
            findings_in(&[("a.kdl", "service a { port 80 }")]),
            findings_in(&[("a.kdl", mesh), ("b.kdl", mesh)]),
            findings_in(&[("a.kdl", "mesh m { }")]),
            findings("service a { port 80 }\nservice a { port 81 }"),
            findings("service a"),
            findings_in(&[
                ("environments/prod/a.kdl", "override service a { timeout \"1s\" }"),
                ("mesh.kdl", mesh),
            ]),
            findings_in(&[
                ("a.test.kdl", "test \"x\" { request GET \"/\" from=a to=b }"),
                ("mesh.kdl", mesh),
            ]),
            findings_in(&[
                (
                    "a.test.kdl",
                    "test \"x\" { request GET \"/\" from=a to=b; expect denid }\ntest \"y\" { request GET \"/\" from=a to=b; expect split }"
                ),
                ("mesh.kdl", mesh),
            ]),
        ]
        .join("\n")
    );
}

#[test]
fn references() {
    insta::assert_snapshot!(in_service(&[
        "calls bb",
        "calls nobody",
        "calls p",
        "use b",
        "use pp",
        "allow p",
        "calls b route=x",
        "route r { to v1 }",
        "subset v1 { labels x=y }; route r { to v2 }",
        "route r { to b }",
        "route r { match { port 81 } }",
        "route r { match { from nobody } }",
    ]));
}

#[test]
fn weights() {
    let subsets = "subset v1 { labels v=a }; subset v2 { labels v=b };";
    let routes = [
        "to v1 weight=90; to v2",
        "to v1 weight=0; to v2 weight=0",
        "to v1 weight=100",
        "to v1 weight=0",
        "to v1 weight=1; to v1 weight=2",
        "to v1; to v2",
        "to v1 weight=\"90%\"; to v2 weight=10",
    ];
    let lines: Vec<String> = routes
        .iter()
        .map(|to| format!("{subsets}\n    route r {{ {to} }}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    insta::assert_snapshot!(in_service(&lines));
}

#[test]
fn identities_and_hosts() {
    insta::assert_snapshot!(in_service(&[
        "identity \"spiffe://other.example/a\"",
        "identity \"spiffe://m.example/mesh/distributor/main\"",
        "identity \"spiffe://m.example/service/b\"",
        "allow \"spiffe://other.example/**\"",
        "host \"b\"",
    ]));
}

#[test]
fn levels() {
    let callee = "service b { port 80; timeout \"2s\"; retry reset \"5xx\" attempts=2 per-try=\"1s\"; CALLEE allow a }";
    let caller = |callee_says: &str, calls: &str| {
        format!(
            "service a {{ port 80; calls b {{ {calls} }} }}\n{}",
            callee.replace("CALLEE", callee_says)
        )
    };
    let policies = [
        "policy p { timeout \"1s\" }\npolicy q { timeout \"2s\" }\nservice a { port 80; use p q }"
            .to_owned(),
        "service a { port 80; retry reset attempts=9 }".to_owned(),
        "service a { port 80; retry attempts=2 }".to_owned(),
        "service a { port 80; retry reset }".to_owned(),
        caller("", "timeout \"1s\"; retry reset 503 attempts=2"),
        caller("", "timeout \"3s\""),
        caller("", "timeout none"),
        caller(
            "",
            "retry reset refused attempts=3 per-try=\"2s\" methods=any { backoff \"1ms\" }",
        ),
        caller(
            "callers-may-extend timeout attempts causes per-try;",
            "timeout \"3s\"; retry refused attempts=3 per-try=\"2s\"",
        ),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    insta::assert_snapshot!(all(&policies));
}

#[test]
fn a_name_that_may_be_in_an_unreadable_file_is_not_missed() {
    let found = findings_in(&[
        ("a.kdl", "service a { port 80; calls b }"),
        ("b.kdl", "service b { port 80"),
        ("mesh.kdl", "mesh m { trust-domain \"m.example\" }"),
    ]);
    assert!(found.contains("MSH0001"), "{found}");
    assert!(!found.contains("MSH0101"), "{found}");
}

#[test]
fn an_environment_must_be_declared() {
    let sources = sources(&[(
        "mesh.kdl",
        "mesh m { trust-domain \"m.example\"; environment staging prod }",
    )]);
    let load = |environment| {
        mesh_compiler::load(mesh_compiler::Input {
            sources: &sources,
            environment,
            root_path: "",
        })
    };
    assert!(load("prod").mesh.is_some());
    let undeclared = load("prd");
    assert!(undeclared.mesh.is_none());
    insta::assert_snapshot!(mesh_compiler::test_util::render(
        &sources,
        &undeclared.diagnostics
    ));
}

#[test]
fn a_clean_mesh_is_silent() {
    let sources = sources(&[("mesh.kdl", "mesh m { trust-domain \"m.example\" }")]);
    let analysed = load(&sources);
    assert!(analysed.diagnostics.is_empty());
    assert!(analysed.mesh.is_some());
}

#[test]
fn none_takes_away_all_that_a_lower_level_sets() {
    let policy = "service a { port 80; endpoints { static \"10.0.0.1:80\" }; health-check none; outlier none; locality none }";
    let mesh = "mesh m { trust-domain \"m.example\"; defaults { health-check \"/live\" every=\"2s\"; outlier consecutive-5xx=5 every=\"1s\"; locality zone min-healthy=\"50%\" } }";
    assert_eq!(findings_in(&[("a.kdl", policy), ("mesh.kdl", mesh)]), "");
}

#[test]
fn a_service_of_several_ports_is_led_to_by_one_of_them() {
    insta::assert_snapshot!(findings(
        "service a { port 80; port 81; endpoints { static \"10.0.0.1:80\" } }
service b { port 82; endpoints { static \"10.0.0.2:82\" }; route all { to { else service=a }; mirror service=a } }
authorizer door { to a }
gateway g {
    listen 8080
    allow unauthenticated
    route one { match { path \"/one\" }; to a }
    route two { match { path \"/two\" }; to b { else a } }
    route three { match { path \"/three\" }; to a port=81 }
}
"
    ));
}

#[test]
fn endpoints_of_two_services() {
    let two = |one: &str, other: &str| {
        format!(
            "service a {{ port 80; endpoints {{ {one} }} }}\nservice b {{ port 81; endpoints {{ {other} }} }}"
        )
    };
    insta::assert_snapshot!(all(&[
        &two(
            "static \"10.0.0.1:80\"",
            "static \"10.0.0.2:81\" \"10.0.0.1:80\""
        ),
        &two("dns \"a.test:80\"", "dns \"a.test:80\""),
        &two("static \"10.0.0.1:80\"", "static \"10.0.0.1:81\""),
        &two(
            "static \"10.0.0.1:80\"",
            "static \"10.0.0.1:80\" }; unmeshed; subset s { labels v=x"
        ),
    ]));
}
