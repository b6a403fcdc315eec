//! What people are told about traffic settings: pools, exchanges, and what routes do. Each snapshot is
//! a whole area; read it when it changes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

use std::fmt::Write as _;

use mesh_compiler::test_util::findings;

/// Findings of each policy, one under the other.
fn all(policies: &[&str]) -> String {
    let mut text = String::new();
    for policy in policies {
        let found = findings(policy);
        let found = if found.is_empty() {
            "nothing\n"
        } else {
            &found
        };
        writeln!(text, "## {policy}\n{found}").unwrap();
    }
    text
}

/// A service with these lines in it, beside two others.
fn service(lines: &str) -> String {
    format!(
        "service a {{\n    port 80\n    {lines}\n}}\nservice b {{ port 80 }}\npolicy p {{ timeout \"2s\" }}\n"
    )
}

fn in_service(lines: &[&str]) -> String {
    let policies: Vec<String> = lines.iter().map(|lines| service(lines)).collect();
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    all(&policies)
}

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
        "outlier consecutive-5xx=5 every=\"10s\" eject=\"30s\" max-ejected=\"50%\"",
        "outlier every=\"10s\"",
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
