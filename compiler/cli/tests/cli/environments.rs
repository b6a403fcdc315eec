//! `meshc` and what stands in `environments/`, in files of teams, and under `suppress`.

use insta::assert_snapshot;

use crate::support::Fixture;

const MESH: &str = "mesh shop {
    trust-domain \"shop.example\"
    environment staging prod
    team money { owns \"teams/money/**\" \"environments/*/money.kdl\"; service pay }
}
service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls pay }
";
const PAY: &str = "service pay {
    port 80
    endpoints { static \"10.0.0.2:80\" }
    timeout \"5s\"
    allow web
}
";

fn fixture() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", MESH);
    fixture.write("policy/teams/money/pay.kdl", PAY);
    fixture.write(
        "policy/environments/staging/mesh.kdl",
        "override mesh shop { trust-domain \"staging.shop.example\" }\n",
    );
    fixture.write(
        "policy/environments/staging/money.kdl",
        "override service pay { timeout \"3s\"; retry reset attempts=2 }\n",
    );
    fixture
}

#[test]
fn every_environment_is_checked_and_named() {
    let fixture = fixture();
    fixture.write(
        "policy/environments/prod/money.kdl",
        "override service pay { remove route old }\n",
    );
    let run = fixture.meshc(&["check", "policy"]);
    assert_snapshot!(run.shown());
    let json = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let environments = |code: &str| {
        let findings = json["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["code"] == code);
        found.unwrap()["environments"].clone()
    };
    assert_eq!(environments("MSH0405"), serde_json::json!(["staging"]));
    assert_eq!(environments("MSH0101"), serde_json::json!(["prod"]));
    let staging = fixture.meshc(&["check", "policy", "--env", "staging"]);
    assert_eq!(staging.code, Some(0), "{}", staging.stdout);
}

#[test]
fn an_environment_that_is_not_there_can_t_be_run_in() {
    let fixture = fixture();
    fixture.commit();
    let all: [&[&str]; 6] = [
        &["check"],
        &["check", "--format", "json"],
        &["build", "--out", "bundle"],
        &["test"],
        &["graph"],
        &[
            "explain",
            "--request",
            "GET /",
            "--from",
            "web",
            "--to",
            "pay",
        ],
    ];
    for command in all {
        let place = ["-C", "policy", "--env", "stagign"];
        let run = fixture.meshc(&[&place, command].concat());
        assert_eq!(run.code, Some(2), "{command:?} {run:?}");
        assert!(
            run.stderr
                .contains("the environment `stagign` is not declared (did you mean `staging`?)"),
            "{command:?} {run:?}"
        );
        assert_eq!(run.stdout, "", "{command:?}");
    }
}

#[test]
fn what_costs_an_outage_comes_first() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        "mesh m { trust-domain \"m.example\" }
service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow any; route r { retry reset attempts=2 } }
service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls b }
service b { port 80; endpoints { static \"10.0.0.3:80\" } }
",
    );
    for format in ["human", "github"] {
        let run = fixture.meshc(&["check", "policy", "--format", format]);
        let at = |code: &str| run.stdout.find(code).unwrap();
        assert!(at("MSH0114") < at("MSH0405"), "{}", run.stdout);
    }
}

#[test]
fn that_nothing_changes_is_said_only_where_nothing_does_anywhere() {
    let fixture = fixture();
    fixture.commit();
    let staging = "policy/environments/staging/money.kdl";
    fixture.write(
        staging,
        "override service pay { timeout \"2s\"; retry reset attempts=2 }\n",
    );
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD"]);
    assert!(!run.stdout.contains("MSH1109"), "{}", run.stdout);
}

#[test]
fn explain_says_which_file_of_the_environment_a_value_is_from() {
    let run = fixture().meshc(&[
        "-C",
        "policy",
        "--env",
        "staging",
        "explain",
        "--request",
        "GET /",
        "--from",
        "web",
        "--to",
        "pay",
        "--format",
        "json",
    ]);
    let timeout = &run.json()["effective"]["timeout"];
    assert_eq!(timeout["value"], "3s");
    assert_eq!(timeout["source"], "environments/staging/money.kdl:1");
}

#[test]
fn a_suppressed_finding_is_counted_and_listed_until_its_day() {
    let fixture = fixture();
    let suppressed = format!(
        "{PAY}suppress MSH0405 at=pay reason=\"two instances\" owner=money until=\"2027-03-01\"\n"
    );
    fixture.write("policy/teams/money/pay.kdl", suppressed);
    let on = |day: &str, format: &str| {
        fixture.meshc(&[
            "check", "policy", "--today", day, "--format", format, "--deny", "warning",
        ])
    };
    let run = on("2027-03-01", "human");
    assert_eq!(run.code, Some(0));
    assert_snapshot!(run.shown());
    let json = on("2027-03-01", "json").json();
    assert_snapshot!(serde_json::to_string_pretty(&json["suppressed"]).unwrap());
    let late = on("2027-03-02", "json");
    assert_eq!(late.code, Some(1));
    assert_eq!(late.json()["suppressed"], serde_json::json!([]));
    let sarif = on("2027-03-01", "sarif").json();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let closed = results
        .iter()
        .filter(|result| result["suppressions"].is_array());
    let closed: Vec<&str> = closed
        .filter_map(|result| result["ruleId"].as_str())
        .collect();
    assert_eq!(closed, ["MSH0405"]);
}

#[test]
fn what_one_environment_uses_is_used() {
    let fixture = fixture();
    fixture.write(
        "policy/teams/money/policies.kdl",
        "policy patient { timeout \"4s\" }\npolicy forgotten { timeout \"3s\" }\n",
    );
    fixture.write(
        "policy/environments/prod/money.kdl",
        "override service pay { use patient }\n",
    );
    let findings = fixture
        .meshc(&["check", "policy", "--format", "json"])
        .json();
    let unused: Vec<&str> = findings["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["code"] == "MSH0018")
        .filter_map(|finding| finding["message"].as_str())
        .collect();
    assert_eq!(unused, ["the policy `forgotten` is not used"]);
}
