//! What people are told about traffic settings: pools, exchanges, and what routes do. Each snapshot is
//! a whole area; read it when it changes.

use mesh_compiler::test_util::{all, findings_in, in_service, service};

#[test]
fn pools() {
    insta::assert_snapshot!(in_service(&[
        "limits connections=100 pending=64 requests=1000 retries=3 requests-per-connection=1000 body=\"1MiB\"",
        "limits connections=0",
        "limits body=64",
        "limits body=\"64kb\"",
        "limits body=\"2048MiB\"",
        "limits none connections=5",
        "limits",
        "limits conections=5",
        "limits requests=1000 adaptive=\"25%\"",
        "limits adaptive=\"0%\"",
        "limits adaptive=25",
        "outlier consecutive-5xx=5 every=\"10s\" eject=\"30s\" max-ejected=\"50%\"",
        "outlier every=\"10s\"",
        "outlier consecutive-local=5 success-rate-deviations=1.9 failure-percentage=\"85%\" min-hosts=3 min-requests=50",
        "outlier success-rate-deviations=2",
        "outlier success-rate-deviations=0",
        "outlier success-rate-deviations=\"1.9\"",
        "outlier failure-percentage=\"0%\"",
        "outlier min-hosts=3",
        "outlier consecutive-5xx=5 max-ejected=50",
        "health-check \"/healthz\" every=\"5s\" timeout=\"1s\" healthy=2 unhealthy=3",
        "health-check /healthz",
        "health-check \"healthz\"",
        "health-check \"/a/**\"",
        "health-check tpc",
        "health-check tcp every=\"1s\" timeout=\"2s\"",
        "health-check every=\"1s\"",
        "balance ring-hash { per header X-User; per cookie session ttl=\"1h\" }",
        "balance ring-hash",
        "balance maglev { per header }",
        "balance maglev { per path p }",
        "balance maglev { per caller; per caller }",
        "balance maglev { per caller ttl=\"1h\" }",
        "balance least-request { per caller }",
        "balance least-request choices=1",
        "balance random choices=3",
        "balance peak-ewma slow-start=\"30s\"",
        "balance none slow-start=\"30s\"",
        "locality zone region min-healthy=\"50%\" { else b c from=a; else none }",
        "locality zone zone",
        "locality { else b }",
        "locality zone { else none; else b }",
        "locality min-healthy=\"50%\"",
        "locality \"zone\"",
        "subset v1 { labels version=v1; limits connections=5; limits connections=6 }",
        "subset v1 { labels version=v1; retry-budget \"20%\" }",
    ]));
}

/// A route of a service with these lines in it.
fn routes(lines: &[&str]) -> String {
    let policies: Vec<String> = lines
        .iter()
        .map(|lines| {
            service(&format!(
                "subset v1 {{ labels version=v1 }}\n    route r {{ {lines} }}"
            ))
        })
        .collect();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    all(&policies)
}

#[test]
fn actions() {
    insta::assert_snapshot!(routes(&[
        "match { path \"/a/**\" }; redirect scheme=https host=\"b.example\" port=8443 path=\"/b/**\" status=308",
        "redirect",
        "redirect status=301",
        "redirect path=\"/a\" status=200",
        "redirect scheme=htps",
        "redirect host=\"*.b.example\"",
        "redirect host=https://b.example",
        "redirect scheme=https; to v1",
        "redirect scheme=https; respond 404",
        "respond 404 body=\"gone\" { header content-type \"text/plain\" }; timeout \"1s\"; mirror v1",
        "respond 100",
        "respond \"404\"",
        "respond 404 { header content-length \"3\" }",
        "rewrite",
        "match { path \"/a/**\" }; rewrite path=\"/b/**\" host=\"b.internal\"",
        "match { path \"/a/{id}\" }; rewrite path=\"/b/{id}\"",
        "match { path \"/a/*\" }; rewrite path=\"/b/*\"",
        "match { path \"/a\" }; rewrite path=\"/b/**\"",
        "rewrite path=\"/b/{id}\"",
        "rewrite path=\"b\"",
    ]));
    insta::assert_snapshot!(routes(&[
        "mirror v1 share=\"10%\"; mirror service=b",
        "mirror v1 share=10",
        "mirror v2",
        "mirror v1; mirror v1 share=\"5%\"",
        "fault until=\"2027-03-01\" { delay \"7s\" share=\"10%\"; abort 503 share=\"1%\" }",
        "fault",
        "fault until=\"2027-03-01\"",
        "fault until=\"2027-02-30\" { abort 503 }",
        "fault { abort 99 }",
        "fault { dely \"7s\" }",
        "request-headers { set x-a \"1\"; add x-b \"2\"; add x-b \"3\"; remove x-c x-d }",
        "request-headers { }",
        "request-headers { set x-a 007 }",
        "request-headers { set Host \"b\" }",
        "request-headers { set connection \"close\" }",
        "request-headers { set x-a \"1\"; remove x-a }",
        "response-headers { set x-a \"1\"; set X-A \"2\" }",
        "response-headers { set x-a \" 1\" }",
        "to v1 { request-headers { add x-canary \"1\" } }",
        "cors credentials=allow max-age=\"1h\" { origin \"https://shop.example\" \"https://*.b.example:8443\"; method PUT; header x-a; expose x-b }",
        "cors { method PUT }",
        "cors { origin \"shop.example\" }",
        "cors { origin \"https://Shop.example/a\" }",
        "cors credentials=allow { origin \"*\" }",
        "cors credentials=yes { origin \"*\" }",
        "upgrade websocket",
        "upgrade websockets",
        "path-accepts encoded-slash semicolon",
        "path-accepts slash",
        "streaming",
        "streaming yes",
    ]));
    insta::assert_snapshot!(routes(&[
        "to service=b",
        "to service=bb",
        "to service=b port=81",
        "to service=b subset=v1",
        "to v1 service=b",
        "to v1 subset=v1",
        "to b",
        "to v1 { else service=b }",
        "to v1 weight=90; to service=b weight=10",
        "to service=b; to service=b",
    ]));
}

#[test]
fn externals() {
    let inside = [
        "host \"api.stripe.com\"; port 80 protocol=http dial=443 { tls }; allow a",
        "host \"api.stripe.com\"; port 443 protocol=tls; allow a { path \"/v1\" }",
        "port 80",
        "host \"api.stripe.com\"",
        "host \"*.stripe.com\"; port 80",
        "host \"*.stripe.com\"; port 80; endpoints { dns \"api.stripe.com:443\" }",
        "host \"api.stripe.com\"; port 80 81 dial=443",
        "host \"api.stripe.com\"; port 80 { tls client=required }",
        "host \"api.stripe.com\"; port 80 { tls sni=\"stripe.com\" san=\"stripe.com\" trust=public min=\"1.3\" }",
        "host \"api.stripe.com\"; port 80 { tsl }",
        "host \"api.stripe.com\"; port 80; via a",
        "host \"api.stripe.com\"; port 80; via g",
        "host \"api.stripe.com\"; port 80; subset v1 { labels a=b }",
        "host \"api.stripe.com\"; port 80; calls a",
        "host \"api.stripe.com\"; port 80; timeout \"5s\"; limits connections=10; balance random; route r { match { path \"/v1/**\" }; rewrite path=\"/v2/**\" }",
        "host \"api.stripe.com\"; port 80; identity \"spiffe://stripe.example/api\"",
        "host \"a\"; port 80",
        "host \"api.stripe.com\"; port 80; address \"10.0.0.1\" \"10.1.0.0/16\"",
        "host \"api.stripe.com\"; port 80; address \"10.1.0.1/16\"",
        "host \"api.stripe.com\"; port 80; unmeshed",
    ];
    let policies: Vec<String> = inside
        .iter()
        .map(|lines| {
            format!(
                "external x {{\n    {lines}\n}}\nservice a {{ port 80; calls x }}\ngateway g {{ listen 80 }}\n"
            )
        })
        .collect();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    insta::assert_snapshot!(all(&policies));
}

#[test]
fn a_deny_of_all_at_ports_of_bytes() {
    insta::assert_snapshot!(findings_in(&[
        (
            "mesh.kdl",
            "mesh m { trust-domain \"m.example\"; defaults { deny { path \"/admin/**\" }; deny { peer-ip \"192.0.2.0/24\" }; allow any { method GET } } }",
        ),
        (
            "a.kdl",
            "service web { port 80 }\nservice db { port 5432 protocol=tcp }\nservice queue { port 5672 protocol=tcp }\nservice both { port 80; port 81 protocol=tcp }",
        ),
    ]));
}

#[test]
fn ports_of_bytes() {
    insta::assert_snapshot!(in_service(&[
        "port 5432 protocol=tcp",
        "port 5432 protocol=udp",
        "port 5432 dial=5433",
        "port 5432 dial=5433; unmeshed",
        "port 5432 { tls }",
        "address \"10.0.0.1\"",
        "address \"10.0.0.1:80\"",
        "calls b { listen \"127.0.0.1:15432\" }",
    ]));
    let bytes = |lines: &str, calls: &str| {
        format!(
            "service db {{\n    port 5432 protocol=tcp\n    {lines}\n}}\nservice a {{ port 80; calls db {{ {calls} }} }}\nexternal x {{ host \"x.example\"; port 80 }}\n"
        )
    };
    let policies = [
        bytes("allow a", "listen \"127.0.0.1:15432\""),
        bytes("allow a", "listen \"0.0.0.0:15432\""),
        bytes("allow a", "listen \"10.0.0.1:15432\""),
        bytes("allow a", "listen \"15432\""),
        bytes(
            "port 5433 protocol=tcp; allow a",
            "listen \"127.0.0.1:15432\"",
        ),
        bytes("allow a { method GET }", "timeout \"1s\""),
        bytes("allow a { port 5432; not { header x } }", "timeout \"1s\""),
        bytes("port 80; allow a { port 80; method GET }", "timeout \"1s\""),
        bytes("port 80; allow a { method GET }", "timeout \"1s\""),
        bytes("route r { match { path \"/a\" } }", "timeout \"1s\""),
        bytes(
            "route r { match { peer-ip \"10.0.0.0/8\" }; cors { origin \"*\" } }",
            "timeout \"1s\"",
        ),
        bytes("retry \"5xx\" attempts=2", "timeout \"1s\""),
        bytes("retry connect-failure attempts=2", "timeout \"1s\""),
        bytes("hedge \"1s\"", "timeout \"1s\""),
        bytes("allow x", "timeout \"1s\""),
        "service a { port 80; address \"10.0.0.1\" }\nservice b { port 80; address \"10.0.0.1\" }"
            .to_owned(),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    insta::assert_snapshot!(all(&policies));
}

#[test]
fn hedges() {
    let levels = |callee: &str, calls: &str| {
        format!(
            "service a {{ port 80; calls b {{ {calls} }} }}\nservice b {{ port 80; {callee}; allow a }}"
        )
    };
    let policies = [
        service("hedge \"100ms\" attempts=3"),
        service("hedge \"100ms\" attempts=1"),
        service("hedge 100"),
        service("hedge none attempts=2"),
        service("timeout \"1s\" idle=\"5m\""),
        levels("hedge \"100ms\"", "hedge \"200ms\""),
        levels("hedge \"100ms\"", "hedge none"),
        levels("hedge \"100ms\"", "hedge \"50ms\""),
        levels("hedge \"100ms\"", "hedge attempts=3"),
        levels("timeout \"1s\"", "hedge \"50ms\""),
        levels("timeout \"1s\" idle=\"1m\"", "timeout idle=\"2m\""),
        "policy p { limits connections=1 }\npolicy q { limits connections=2 pending=1 }\nservice a { port 80; use p q }"
            .to_owned(),
        "policy p { limits connections=1 }\npolicy q { limits pending=1 }\nservice a { port 80; use p q }"
            .to_owned(),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    insta::assert_snapshot!(all(&policies));
}
