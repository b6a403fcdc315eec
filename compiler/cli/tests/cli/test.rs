//! `meshc test`

use insta::assert_snapshot;

use crate::support::Fixture;

#[test]
fn failed_tests_say_what_went_otherwise() {
    let fixture = Fixture::with_policy();
    fixture.write(
        "policy/tests/wrong.test.kdl",
        "test \"all to v2\" {\n    request GET \"/api/items\" from=web to=api\n    expect allowed to=v2\n}\ntest \"anyone writes\" { request POST \"/api/a\" from=web to=api; expect allowed }\ntest \"halves\" { request GET \"/api/a\" from=web to=api; expect split { to v1 share=\"50%\"; to v2 share=\"50%\" } }\n",
    );
    assert_snapshot!(fixture.meshc(&["test", "policy"]).shown());
}

#[test]
fn results_are_complete_for_programs() {
    let run = Fixture::with_policy().meshc(&["test", "policy", "--format", "json"]);
    assert_eq!(run.code, Some(0));
    assert_snapshot!(serde_json::to_string_pretty(&run.json()).unwrap());
}

#[test]
fn a_path_may_bring_its_query_along() {
    let fixture = Fixture::with_policy();
    fixture.write(
        "policy/tests/query.test.kdl",
        "test \"a query is no path\" { request GET \"/api/items?page=2\" from=web to=api; expect allowed }\n",
    );
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

/// Two environments, routes and rules that nobody tests, and a rule whose requests no route takes.
const UNTESTED: &str = r#"
mesh m {
    trust-domain "m.example"
    environment prod
}
service web { port 80; endpoints { static "10.0.0.1:80" }; calls api }
service api {
    port 80
    endpoints { static "10.0.0.2:80" }
    allow web { method GET }
    allow web { method POST; path "/write" }
    deny { header x-stop "1" }
    route one { match { path "/1/**" }; timeout "2s" }
    route two { match { path "/2" } }
    route odd { match { path "/2"; header a "1"; not { header a "1" } } }
}
"#;

fn untested() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", UNTESTED);
    fixture.write(
        "policy/environments/prod/prod.kdl",
        "override mesh m { trust-domain \"prod.example\" }\noverride service api { retry connect-failure attempts=2 }\n",
    );
    fixture.write(
        "policy/a.test.kdl",
        "test \"two\" { request GET \"/2\" from=web to=api; expect allowed route=two attempts=1 }\n",
    );
    fixture
}

#[test]
fn every_environment_is_tested_and_coverage_is_listed() {
    let fixture = untested();
    assert_snapshot!(fixture.meshc(&["test", "policy", "--coverage"]).shown());
    let one = fixture.meshc(&["test", "policy", "--env", "default"]);
    assert_eq!(one.code, Some(0), "{one:?}");
    let least = |share| {
        fixture.meshc(&[
            "test",
            "policy",
            "--env",
            "default",
            "--min-coverage",
            share,
        ])
    };
    assert_eq!(least("33%").code, Some(0));
    assert_eq!(least("34").code, Some(1));
    assert!(least("34").stderr.contains("coverage is too low"));
    assert_eq!(least("101%").code, Some(2));
    assert_snapshot!(
        "junit",
        fixture
            .meshc(&["test", "policy", "--format", "junit"])
            .shown()
    );
}

#[test]
fn what_is_generated_passes_and_is_written_once() {
    let fixture = untested();
    let generate = || {
        fixture.meshc(&[
            "test",
            "policy",
            "--generate",
            "--out",
            "policy/more.test.kdl",
        ])
    };
    let first = generate();
    assert_eq!(first.code, Some(0), "{first:?}");
    let written = std::fs::read_to_string(fixture.path("policy/more.test.kdl")).unwrap();
    assert_snapshot!("generated", format!("{}---\n{written}", first.stderr));
    let again = generate();
    assert!(again.stderr.starts_with("0 tests written"), "{again:?}");
    assert_eq!(
        std::fs::read_to_string(fixture.path("policy/more.test.kdl")).unwrap(),
        written
    );
    let run = fixture
        .meshc(&["test", "policy", "--format", "json"])
        .json();
    let failed: Vec<_> = run["tests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|test| test["passed"] == false)
        .collect();
    assert_eq!(failed.len(), 1, "only the one that was wrong before");
    assert_eq!(
        run["coverage"]["routes"]["uncovered"],
        serde_json::json!([])
    );
    assert_eq!(
        run["coverage"]["rules"]["uncovered"],
        serde_json::json!(["api: allow web #2"])
    );
    let elsewhere = fixture.meshc(&["test", "policy", "--generate", "--out", "policy/more.kdl"]);
    assert_eq!(elsewhere.code, Some(2), "{elsewhere:?}");
}

/// A test of a `deny` would pass without the rule if anything else refused its request.
#[test]
fn what_is_generated_for_a_deny_fails_without_it() {
    let fixture = Fixture::empty();
    let write = |deny: &str| {
        fixture.write(
            "policy/mesh.kdl",
            format!(
                r#"mesh m {{ trust-domain "m.example" }}
service web {{ port 80; endpoints {{ static "10.0.0.1:80" }}; calls api }}
service bot {{ port 80; endpoints {{ static "10.0.0.3:80" }}; calls api }}
service api {{
    port 80
    endpoints {{ static "10.0.0.2:80" }}
    allow web {{ path "/a/**" }}
    allow bot {{ method GET; path regex="/a/[0-9]+" }}
    {deny}
}}
"#
            ),
        );
    };
    write(r#"deny any { path "/a/admin/**" }; deny bot { header x-debug }"#);
    let args = ["test", "policy", "--generate", "--out", "policy/g.test.kdl"];
    let run = fixture.meshc(&args);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(fixture.meshc(&["test", "policy"]).code, Some(0));
    let failed = || {
        let run = fixture.meshc(&["test", "policy", "--format", "json"]);
        let tests = run.json()["tests"].as_array().unwrap().clone();
        let failed = tests.into_iter().filter(|test| test["passed"] == false);
        let names = failed.map(|test| test["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    write(r#"deny any { path "/a/admin/**" }"#);
    assert_eq!(failed(), ["api: deny bot"]);
    write("");
    assert_eq!(failed(), ["api: deny any", "api: deny bot"]);
}

/// What holds in some environments alone is tested in those, in the layout of `meshc fmt`.
#[test]
fn what_is_generated_says_where_it_holds() {
    let fixture = Fixture::empty();
    fixture.write(
        "policy/mesh.kdl",
        r#"mesh m {
    trust-domain "m.example"
    environment prod
}
service web {
    port 80
    endpoints { static "10.0.0.1:80" }
    calls api
}
service api {
    port 80
    endpoints { static "10.0.0.2:80" version=v1; static "10.0.0.4:80" version=v2 }
    subset a-subset-of-a-rather-long-name { labels version=v1 }
    subset another-one-of-a-rather-long-name { labels version=v2 }
    allow web
    deny any { path "/admin/**" }
    route beta { match { header x-beta "1" }; to another-one-of-a-rather-long-name }
    route rest { to a-subset-of-a-rather-long-name weight=90; to another-one-of-a-rather-long-name weight=10 }
}
"#,
    );
    fixture.write(
        "policy/environments/prod/api.kdl",
        "override service api {\n    remove route rest\n}\n",
    );
    let args = ["test", "policy", "--generate", "--out", "policy/g.test.kdl"];
    let run = fixture.meshc(&args);
    let written = std::fs::read_to_string(fixture.path("policy/g.test.kdl")).unwrap();
    assert_snapshot!(
        "generated_somewhere",
        format!("{}---\n{written}", run.stderr)
    );
    assert_eq!(fixture.meshc(&["test", "policy"]).code, Some(0));
    let formatted = fixture.meshc(&["fmt", "--check", "policy/g.test.kdl"]);
    assert_eq!(formatted.code, Some(0), "{formatted:?}");
}
