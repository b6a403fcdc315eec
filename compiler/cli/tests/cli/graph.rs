//! `meshc graph`: the worked examples of the retry model, as policies.
#![expect(clippy::unwrap_used, reason = "a failure is the test's")]

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::Fixture;

/// `s → a → b → c`, with what each called service, the mesh and the last call say.
fn chain(defaults: &str, services: [&str; 3], call: &str) -> Fixture {
    let fixture = Fixture::empty();
    let [a, b, c] = services;
    fixture.write(
        "policy/mesh.kdl",
        format!(
            r#"
mesh m {{ trust-domain "m.example"; refuse amplification=1000 attempts=10; defaults {{ {defaults} }} }}
service s {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls a }}
service a {{ port 80; endpoints {{ static "10.0.0.2:80" }}; allow s; calls b {call}; {a} }}
service b {{ port 80; endpoints {{ static "10.0.0.3:80" }}; allow a; calls c; {b} }}
service c {{ port 80; endpoints {{ static "10.0.0.4:80" }}; allow b; {c} }}
"#
        ),
    );
    fixture
}

fn graph(fixture: &Fixture, args: &[&str]) -> Value {
    let run = fixture.meshc(&[&["graph", "policy", "--format", "json"], args].concat());
    assert_eq!(run.code, Some(0), "{}", run.shown());
    run.json()
}

fn service<'v>(graph: &'v Value, name: &str) -> &'v Value {
    let services = graph["services"].as_array().unwrap();
    services.iter().find(|each| each["name"] == name).unwrap()
}

fn edge<'v>(graph: &'v Value, from: &str, to: &str) -> &'v Value {
    let edges = graph["edges"].as_array().unwrap();
    let between = |edge: &&Value| edge["from"] == from && edge["to"] == to;
    edges.iter().find(between).unwrap()
}

#[track_caller]
fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!(
        (value - expected).abs() < 1e-6 * expected.abs().max(1.0),
        "{value}, not {expected}"
    );
}

const THREE: &str = r#"retry "5xx" reset connect-failure per-try-timeout attempts=3"#;

#[test]
fn tc_f1_f2_f3_tries_multiply() {
    for (attempts, calls, safe) in [
        (3, [3, 9, 27], 0.037_037),
        (4, [4, 16, 64], 0.015_625),
        (6, [6, 36, 216], 0.004_629_6),
    ] {
        let fixture = chain(&format!("retry \"5xx\" attempts={attempts}"), [""; 3], "");
        let graph = graph(&fixture, &[]);
        assert_eq!(graph["entries"], serde_json::json!(["s"]));
        for (name, calls) in ["a", "b", "c"].into_iter().zip(calls) {
            assert_eq!(service(&graph, name)["worst_calls"]["fast"], calls);
        }
        let c = service(&graph, "c");
        assert_eq!(c["worst_class"], "503");
        assert_eq!(c["worst_path"], serde_json::json!(["s", "a", "b", "c"]));
        let safe_utilisation = c["safe_utilisation"].as_f64().unwrap();
        assert!((safe_utilisation - safe).abs() < 1e-6);
        assert_eq!(service(&graph, "s")["worst_calls"]["fast"], 1);
    }
}

#[test]
fn tc_f5_fan_out() {
    let fixture = chain("retry \"5xx\" attempts=3", [""; 3], "per-request=2");
    let graph = graph(&fixture, &[]);
    assert_eq!(service(&graph, "b")["worst_calls"]["fast"], 18);
    assert_eq!(service(&graph, "c")["worst_calls"]["fast"], 54);
    assert_eq!(edge(&graph, "a", "b")["per_request"], 2);
}

#[test]
fn tc_f7_classes() {
    let each = [
        "retry \"5xx\" attempts=3",
        "retry connect-failure attempts=3",
        "retry 503 attempts=3",
    ];
    let graph = graph(&chain("", each, ""), &[]);
    let c = service(&graph, "c");
    assert_eq!(c["worst_calls"]["fast"], 9);
    assert_eq!(c["worst_class"], "503");
}

#[test]
fn tc_f10_a_split() {
    let split = r#"
    subset v1 { labels v=v1 }
    subset v2 { labels v=v2 }
    route all { to v1 weight=90; to v2 weight=10 }"#;
    let graph = graph(&chain("retry \"5xx\" attempts=3", ["", "", split], ""), &[]);
    let subsets = &service(&graph, "c")["subsets"];
    assert_eq!(
        (&subsets[0]["name"], &subsets[1]["name"]),
        (&Value::from("v1"), &Value::from("v2"))
    );
    for (index, share) in [24.3, 2.7].into_iter().enumerate() {
        close(&subsets[index]["worst_fast"], 27.0);
        close(&subsets[index]["expected_share"], share);
    }
}

#[test]
fn tc_e1_to_e8_expected_calls() {
    let fixture = chain("retry \"5xx\" attempts=3", [""; 3], "");
    for (rate, expected) in [
        ("0.01", 1.010_101),
        ("0.1", 1.111_111),
        ("0.3", 1.428_571),
        ("0.5", 2.0),
        ("0.9", 9.418_503),
        ("0.99", 23.765_729),
        ("1", 27.0),
    ] {
        let graph = graph(&fixture, &["--failure-rate", rate, "--failing", "c"]);
        close(&service(&graph, "c")["expected_calls"], expected);
        if rate == "0.9" {
            close(&service(&graph, "c")["client_failure"], 0.058_150);
            assert_eq!(service(&graph, "b")["client_failure"], Value::Null);
        }
    }
    let unasked = graph(&fixture, &[]);
    assert_eq!(service(&unasked, "c")["expected_calls"], Value::Null);
}

#[test]
fn tc_b1_b2_budgets() {
    for (budget, at_a, at_c) in [
        ("\"20%\" of=requests min=\"5/s\"", 1.2, 1.728),
        ("\"20%\" of=active min=3", 1.25, 1.953_125),
    ] {
        let fixture = chain(
            &format!("retry \"5xx\" attempts=3; retry-budget {budget}"),
            [""; 3],
            "",
        );
        let graph = graph(&fixture, &[]);
        close(&service(&graph, "a")["budgeted"], at_a);
        close(&service(&graph, "c")["budgeted"], at_c);
        for (name, budgeted) in [("a", at_a), ("c", at_c)] {
            let safe = &service(&graph, name)["safe_utilisation_budgeted"];
            close(safe, 1.0 / budgeted);
        }
        close(&edge(&graph, "b", "c")["alpha"], at_a);
    }
}

#[test]
fn tc_b5_the_minimum_dominates() {
    let facts = "facts replicas=100 load=\"1000/s\"";
    let fixture = chain(
        "retry \"5xx\" attempts=3; retry-budget \"20%\" of=active min=3",
        ["", facts, "facts handling=\"25ms\""],
        "",
    );
    let graph = graph(&fixture, &[]);
    let edge = edge(&graph, "b", "c");
    close(&edge["alpha"], 3.0);
    close(&edge["budget"]["minimum_rate"], 12_000.0);
    assert_eq!(edge["budget"]["min_per_second"], Value::Null);
}

#[test]
fn tc_s1_dead_attempts() {
    let graph = graph(
        &chain(
            "timeout \"2s\"; retry \"5xx\" attempts=3 per-try=\"1s\"",
            [""; 3],
            "",
        ),
        &[],
    );
    assert_eq!(edge(&graph, "b", "c")["dead_attempts"], 1);
}

#[test]
fn tc_s2_s3_hangs() {
    let fixture = chain(
        &format!("timeout \"3s\"; {THREE} per-try=\"1s\""),
        [""; 3],
        "",
    );
    let found = graph(&fixture, &[]);
    let calls = &service(&found, "c")["worst_calls"];
    assert_eq!(
        *calls,
        serde_json::json!({ "fast": 27, "slow": 27, "slow_propagated": 3 })
    );
    assert_eq!(edge(&found, "s", "a")["slack_ms"], -2000);
    assert_eq!(edge(&found, "a", "b")["slack_ms"], -2000);
    assert_eq!(edge(&found, "b", "c")["slack_ms"], Value::Null);

    let within = |timeout: &str, per_try: &str| {
        format!(
            "timeout \"{timeout}\"; {THREE} per-try=\"{per_try}\" {{ backoff \"1ms\" max=\"1ms\" }}"
        )
    };
    let (a, b, c) = (
        within("3s", "1s"),
        within("900ms", "300ms"),
        within("300ms", "100ms"),
    );
    let found = graph(&chain("", [&a, &b, &c], ""), &[]);
    let calls = &service(&found, "c")["worst_calls"];
    assert_eq!(
        *calls,
        serde_json::json!({ "fast": 27, "slow": 27, "slow_propagated": 27 })
    );
    assert_eq!(edge(&found, "s", "a")["slack_ms"], 100);
    assert_eq!(edge(&found, "a", "b")["slack_ms"], 0);
}

#[test]
fn tc_s6_a_try_longer_than_the_exchange() {
    let fixture = chain(
        "timeout \"15s\"; retry \"5xx\" per-try-timeout attempts=6 per-try=\"16s\"",
        [""; 3],
        "",
    );
    let found = graph(&fixture, &[]);
    assert_eq!(edge(&found, "b", "c")["dead_attempts"], 5);
    assert_eq!(service(&found, "c")["worst_calls"]["slow"], 1);
    assert_eq!(service(&found, "c")["worst_calls"]["slow_propagated"], 1);
    let checked = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let findings = checked["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "MSH0501"));
}

#[test]
fn tc_t1_response_time() {
    let retry = "timeout \"10s\"; retry \"5xx\" attempts=3 per-try=\"1s\" { backoff \"25ms\" max=\"250ms\" }";
    let graph = graph(&chain("", ["", "", retry], ""), &[]);
    assert_eq!(service(&graph, "b")["response_bound_ms"], 3100);
    assert_eq!(service(&graph, "c")["response_bound_ms"], Value::Null);
}

#[test]
fn tc_c2_a_round() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3 } }
service a { port 80; endpoints { static "10.0.0.1:80" }; allow b; calls b }
service b { port 80; endpoints { static "10.0.0.2:80" }; allow a; calls a share="50%" }
"#,
    );
    let graph = graph(&fixture, &[]);
    let cycle = &graph["cycles"][0];
    assert_eq!(cycle["services"], serde_json::json!(["a", "b"]));
    close(&cycle["gain"], 4.5);
    assert_eq!(cycle["bounded"], false);
    let checked = fixture.meshc(&["check", "policy", "--format", "json"]);
    let findings = checked.json()["findings"].clone();
    let error = |finding: &Value| finding["code"] == "MSH0402" && finding["level"] == "error";
    assert!(findings.as_array().unwrap().iter().any(error), "{findings}");
    assert_eq!(service(&graph, "a")["worst_calls"]["fast"], Value::Null);
}

#[test]
fn tc_m1_capacity() {
    // The threshold is 1000/27, between 37 and 38.
    for (load, state) in [
        (300, "vulnerable"),
        (38, "vulnerable"),
        (37, "stable"),
        (1000, "overloaded"),
    ] {
        let facts = format!("facts load=\"{load}/s\" capacity=\"1000/s\"");
        let graph = graph(
            &chain("retry \"5xx\" attempts=3", ["", "", &facts], ""),
            &[],
        );
        assert_eq!(service(&graph, "c")["state"], state);
        assert_eq!(service(&graph, "b")["state"], Value::Null);
    }
}

#[test]
fn a_gateway_on_the_way_out_tries_too() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3 } }
service web { port 80; endpoints { static "10.0.0.1:80" }; calls bank }
external bank { host "bank.example"; port 80; via egress; allow web egress; retry "5xx" attempts=4 }
gateway egress { listen 8080; allow web; route bank { to bank; retry attempts=3 } }
"#,
    );
    let graph = graph(&fixture, &[]);
    let bank = service(&graph, "bank");
    assert_eq!(bank["worst_calls"]["fast"], 12);
    assert_eq!(
        bank["worst_path"],
        serde_json::json!(["web", "egress", "bank"])
    );
    let checked = fixture.meshc(&["check", "policy"]);
    let storm = "one request to `web` can become 12 calls to `bank` when it fails with 503: retries multiply by 12 (4×3 along web → egress → bank), and the limit is 10";
    assert!(checked.shown().contains(storm), "{}", checked.shown());
}

#[test]
fn side_calls_and_hedges() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3 } }
authorizer guard { to asked }
service s { port 80; endpoints { static "10.0.0.1:80" }; calls a }
service a { port 80; endpoints { static "10.0.0.2:80" }; allow s; require authorizer guard; calls b { hedge "100ms" attempts=2 } }
service b {
    port 80; endpoints { static "10.0.0.3:80" }; allow a; require authorizer guard; hedge "100ms" attempts=4
    route all { mirror service=copy share="10%" }
}
service copy { port 80; endpoints { static "10.0.0.4:80" }; allow a }
service asked { port 80; endpoints { static "10.0.0.5:80" }; allow a b }
"#,
    );
    let graph = graph(&fixture, &[]);
    let calls = |name| &service(&graph, name)["worst_calls"]["fast"];
    // Tries of a retry and of a hedge are the same ones: the larger number counts, and not the product.
    assert_eq!((calls("a"), calls("b")), (&Value::from(3), &Value::from(9)));
    // D11: whoever is asked is asked for each request that those it guards get; a copy is a share of them.
    assert_eq!(calls("asked"), &Value::from(12));
    close(calls("copy"), 0.9);
}

#[test]
fn a_round_that_ends_is_counted() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3; retry-budget "20%" of=requests min="1/s" } }
service s { port 80; endpoints { static "10.0.0.3:80" }; calls a }
service a { port 80; endpoints { static "10.0.0.1:80" }; allow b s; calls b }
service b { port 80; endpoints { static "10.0.0.2:80" }; allow a; calls a share="50%" }
"#,
    );
    let graph = graph(&fixture, &[]);
    let cycle = &graph["cycles"][0];
    assert_eq!(cycle["bounded"], true);
    close(&cycle["gain"], 0.72);
    assert_eq!(cycle["calls"][0]["entry"], "a");
    // (I - M)^-1: 1 / (1 - 0.72), and 1.2 times that.
    close(&cycle["calls"][0]["services"][0][1], 3.571_428_6);
    close(&cycle["calls"][0]["services"][1][1], 4.285_714_3);
}

#[test]
fn one_entry() {
    let fixture = chain("retry \"5xx\" attempts=3", [""; 3], "");
    let graph = graph(&fixture, &["--entry", "b"]);
    assert_eq!(graph["entries"], serde_json::json!(["b"]));
    assert_eq!(service(&graph, "c")["worst_calls"]["fast"], 3);
    assert_eq!(service(&graph, "a")["worst_calls"]["fast"], 0);
    let run = fixture.meshc(&["graph", "policy", "--entry", "x"]);
    assert_eq!(run.code, Some(2));
    let run = fixture.meshc(&["graph", "policy", "--failure-rate", "2"]);
    assert_eq!(run.code, Some(2));
}

#[test]
fn every_edge_says_where_it_is_known_from() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example"; defaults { retry "5xx" attempts=3 } }
gateway public { listen 80 { host "m.example" }; allow unauthenticated; route all { to web; retry "5xx" attempts=2 } }
service web { port 80; endpoints { static "10.0.0.1:80" }; allow public; calls a }
service a {
    port 80
    endpoints { static "10.0.0.2:80" }
    allow web
    route all { mirror service=copy share="10%" }
}
service copy { port 80; endpoints { static "10.0.0.3:80" }; allow web }
service late { port 80; endpoints { static "10.0.0.4:80" }; allow a }
"#,
    );
    fixture.write(
        "policy/inventory.kdl",
        "inventory \"2026-01-01\" { observed web to=a rate=\"50/s\"; observed copy to=late }",
    );
    let graph = graph(&fixture, &[]);
    let known = |from, to| edge(&graph, from, to)["provenance"].clone();
    assert_eq!(
        known("public", "web"),
        serde_json::json!(["routed", "authorized"])
    );
    assert_eq!(
        known("web", "a"),
        serde_json::json!(["declared", "authorized", "observed"])
    );
    assert_eq!(known("a", "late"), serde_json::json!(["authorized"]));
    assert_eq!(known("copy", "late"), serde_json::json!(["observed"]));
    assert_eq!(edge(&graph, "web", "copy")["purpose"], "mirror");
    let entries = graph["entries"].as_array().unwrap();
    assert!(entries.contains(&Value::from("web")) && !entries.contains(&Value::from("public")));
    // The gateway tries twice and the page three times; a tenth of that is copied.
    assert_eq!(service(&graph, "a")["worst_calls"]["fast"], 6);
    assert_eq!(
        service(&graph, "a")["worst_path"],
        serde_json::json!(["public", "web", "a"])
    );
    close(&service(&graph, "copy")["worst_calls"]["fast"], 0.6);
}

#[test]
fn tables_for_people() {
    let fixture = chain(
        &format!("timeout \"3s\"; {THREE} per-try=\"1s\"; retry-budget \"20%\""),
        [""; 3],
        "",
    );
    assert_snapshot!(
        fixture
            .meshc(&["graph", "policy", "--failure-rate", "0.9", "--failing", "c"])
            .shown()
    );
}

#[test]
fn pictures_name_every_service_and_are_the_same_each_time() {
    let fixture = Fixture::with_policy();
    for format in ["dot", "mermaid", "svg", "html"] {
        let run = fixture.meshc(&["graph", "policy", "--format", format]);
        assert_eq!(run.code, Some(0), "{format}: {}", run.stderr);
        assert_eq!(run, fixture.meshc(&["graph", "policy", "--format", format]));
        let tables = fixture
            .meshc(&["graph", "policy", "--format", "json"])
            .json();
        for service in tables["services"].as_array().unwrap() {
            let name = service["name"].as_str().unwrap();
            assert!(
                run.stdout.contains(name),
                "{format} has no {name}: {}",
                run.stdout
            );
        }
    }
}

#[test]
fn graphviz_takes_the_picture() {
    let fixture = Fixture::with_policy();
    let run = fixture.meshc(&["graph", "policy", "--format", "dot"]);
    fixture.write("a.dot", &run.stdout);
    let dot = std::process::Command::new("dot")
        .args(["-Tsvg", "-o"])
        .arg(fixture.path("a.svg"))
        .arg(fixture.path("a.dot"))
        .output();
    match dot {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{errors}");
        }
        Err(_) => eprintln!("skipped: Graphviz (`dot`) is not installed"),
    }
}

#[test]
fn what_is_in_a_round_or_behind_one_is_said() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"
mesh m { trust-domain "m.example" }
service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
service a { port 80; endpoints { static "10.0.0.2:80" }; allow web a; calls a share="50%"; calls b }
service b { port 80; endpoints { static "10.0.0.3:80" }; allow a }
"#,
    );
    let run = fixture.meshc(&["graph", "policy"]);
    assert!(
        run.stdout
            .contains("no greatest number of calls: a and b.\n")
            && run.stdout.contains("\na calls itself: each call brings "),
        "{}",
        run.stdout
    );
    let run = fixture.meshc(&["graph", "policy", "--format", "svg"]);
    let said = run.stdout.matches("no greatest number of calls").count();
    assert!(
        said == 2 && !run.stdout.contains("A thick line"),
        "{}",
        run.stdout
    );
}
