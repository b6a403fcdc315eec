//! `meshc diff`

use insta::assert_snapshot;

use crate::support::Fixture;

const MESH: &str = r#"mesh m { trust-domain "m.example" }
service web { port 80; endpoints { static "10.0.0.1:80" }; calls a }
service other { port 80; endpoints { static "10.0.0.3:80" } }
"#;

const A: &str = r#"service a {
    port 80
    endpoints { static "10.0.0.2:80" version=v1; static "10.0.0.4:80" version=v2 }
    subset v1 { labels version=v1 }
    subset v2 { labels version=v2 }
    route testers { match { header user "tester" }; to v2 }
    route everyone { to v1; timeout "2s" }
    allow web { path "/a/*" }
}
"#;

const CHANGED: &str = r#"service a {
    port 80
    endpoints { static "10.0.0.2:80" version=v1; static "10.0.0.4:80" version=v2 }
    subset v1 { labels version=v1 }
    subset v2 { labels version=v2 }
    route testers { match { header user "tester" }; to v2 }
    route everyone { to v1 weight=90; to v2 weight=10; timeout "3s"; retry reset attempts=2 }
    limits connections=50
    allow web { path "/a/**"; method GET }
    allow other
}
"#;

/// A repository with a change in its work tree.
fn changed(after: &str) -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", MESH);
    fixture.write("policy/a.kdl", A);
    fixture.commit();
    fixture.write("policy/a.kdl", after);
    fixture
}

#[test]
fn a_change_is_told_for_people() {
    let fixture = changed(CHANGED);
    let run = fixture.meshc(&["diff", "HEAD", "-C", "policy"]);
    let commit = fixture.commit();
    let old = fixture.meshc(&["diff", "main~1", "main"]);
    assert_eq!(run.code, Some(0));
    let shown = run.shown();
    let told = shown.split_once("\n\n").unwrap().1;
    assert_eq!(told, old.shown().split_once("\n\n").unwrap().1);
    assert!(
        old.stdout.contains(commit.get(..7).unwrap()),
        "{}",
        old.stdout
    );
    assert_snapshot!(told);
}

#[test]
fn a_comment_on_a_pull_request_is_the_same_each_time() {
    let fixture = changed(CHANGED);
    let run = fixture.meshc(&["diff", "HEAD", "--format", "markdown"]);
    let again = fixture.meshc(&["diff", "HEAD", "--format", "markdown"]);
    assert_eq!(run, again);
    assert_snapshot!(run.shown());
}

#[test]
fn everything_is_there_for_programs() {
    let fixture = changed(CHANGED);
    let run = fixture.meshc(&["diff", "HEAD", "--format", "json", "--exit-code"]);
    assert_eq!(run.code, Some(1));
    let out = run.json();
    assert_eq!(out["no_change"], false);
    assert_eq!(out["routes"][0]["service"], "a");
    assert_eq!(out["routes"][0]["after"]["to"][1]["weight"], 10);
    assert_eq!(out["access"][0]["change"], "gained");
    assert_eq!(out["access"][0]["witness"]["to"], "a");
    assert_eq!(out["amplification"][0]["after"], 2);
    assert!(out["slices"][0]["bytes"].as_u64().unwrap() > 0);
    assert!(
        out["slices"][0]["after"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(out["unsafe_skew"].as_array().unwrap().len(), 0);
    let fields: Vec<&str> = out["timeouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["attempts", "causes", "timeout"], "{out}");
}

#[test]
fn what_moves_only_text_is_no_change() {
    let moved = format!(
        "// why\n{}",
        A.replace("    port 80\n", "    port 80 // the usual\n\n")
    );
    let fixture = changed(&moved);
    let run = fixture.meshc(&["diff", "HEAD", "--exit-code"]);
    assert_eq!(run.code, Some(0));
    assert!(
        run.stdout
            .contains("No change: the files differ, and mean the same."),
        "{}",
        run.stdout
    );
    let run = fixture.meshc(&["diff", "HEAD", "--format", "markdown"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""));
    let run = fixture.meshc(&["diff", "HEAD", "HEAD"]);
    assert!(
        run.stdout.contains("the policy files are the same"),
        "{}",
        run.stdout
    );
}

#[test]
fn tests_of_what_is_new_pass_with_the_new_and_fail_with_the_old() {
    let fixture = changed(CHANGED);
    let file = "policy/new.test.kdl";
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", file]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    fixture.write("policy/a.kdl", A);
    let run = fixture.meshc(&["test", "policy", "--format", "json"]);
    assert_eq!(run.code, Some(1));
    let tests = run.json()["tests"].as_array().unwrap().clone();
    assert!(
        !tests.is_empty() && tests.iter().all(|test| test["passed"] == false),
        "{tests:?}"
    );
    // Nothing is written over.
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", file]);
    assert!(
        run.code == Some(0) && run.stderr.contains("no test to write"),
        "{}",
        run.stderr
    );
    fixture.write("policy/a.kdl", CHANGED);
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", file]);
    assert!(
        run.code == Some(2) && run.stderr.contains("not there yet"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_side_without_policies_is_everything_added_or_removed() {
    let fixture = Fixture::empty();
    fixture.write("README.md", "no policies yet");
    fixture.commit();
    fixture.write("policy/mesh.kdl", MESH);
    fixture.write("policy/a.kdl", A);
    let run = fixture.meshc(&["diff", "HEAD", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let out = run.json();
    assert_eq!(out["base"]["root"], serde_json::Value::Null);
    let changes = |out: &serde_json::Value| -> Vec<String> {
        let all = out["services"].as_array().unwrap();
        all.iter()
            .map(|one| {
                format!(
                    "{} {}",
                    one["change"].as_str().unwrap(),
                    one["name"].as_str().unwrap()
                )
            })
            .collect()
    };
    assert_eq!(changes(&out), ["added a", "added other", "added web"]);
    fixture.commit();
    let run = fixture.meshc(&["diff", "HEAD", "HEAD~1", "--format", "json"]);
    assert_eq!(
        changes(&run.json()),
        ["removed a", "removed other", "removed web"]
    );
    let run = fixture.meshc(&["diff", "HEAD~1", "HEAD~1"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("policy root"), "{}", run.stderr);
}

#[test]
fn a_root_that_moved_is_compared_with_where_it_was() {
    let fixture = changed(A);
    std::fs::rename(fixture.path("policy"), fixture.path("mesh")).unwrap();
    let run = fixture.meshc(&["diff", "HEAD"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.contains("moved from `policy` to `mesh`") && run.stdout.contains("No change"),
        "{}",
        run.stdout
    );
}

#[test]
fn environments_are_compared_one_by_one() {
    let fixture = changed(A);
    fixture.write(
        "policy/mesh.kdl",
        MESH.replace("e\" }", "e\"; environment prod }"),
    );
    let prod = "environments/prod/p.kdl";
    fixture.write(
        &format!("policy/{prod}"),
        "override mesh m { trust-domain \"p.example\" }\noverride service a { timeout \"4s\" }\n",
    );
    fixture.commit();
    fixture.write(
        &format!("policy/{prod}"),
        "override mesh m { trust-domain \"p.example\" }\noverride service a { timeout \"5s\" }\n",
    );
    fixture.write(
        "policy/mesh.kdl",
        MESH.replace("e\" }", "e\"; environment prod staging }"),
    );
    fixture.write(
        "policy/environments/staging/p.kdl",
        "override mesh m { trust-domain \"s.example\" }\n",
    );
    let run = fixture.meshc(&["diff", "HEAD", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let out = run.json();
    assert_eq!(out["environments_added"][0], "staging");
    assert_eq!(out["environments"].as_array().unwrap().len(), 3);
    assert_eq!(out["timeouts"][0]["environments"][0], "prod", "{out}");
    let run = fixture.meshc(&["diff", "HEAD", "--env", "default"]);
    assert!(!run.stdout.contains("5s"), "{}", run.stdout);
    let run = fixture.meshc(&["diff", "HEAD", "--env", "nowhere"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("nowhere"), "{}", run.stderr);
}

#[test]
fn what_is_wrong_with_either_side_says_what_to_do() {
    let fixture = changed(&A.replace("allow web", "allow wbe"));
    let run = fixture.meshc(&["diff", "HEAD"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stdout.is_empty()
            && run.stderr.contains("did you mean")
            && run.stderr.contains("work tree"),
        "{}",
        run.stderr
    );
    let broken = fixture.commit();
    let run = fixture.meshc(&["diff", &broken, "HEAD~1"]);
    assert!(
        run.code == Some(2) && run.stderr.contains(&broken),
        "{}",
        run.stderr
    );
    let run = fixture.meshc(&["diff", "origin/main"]);
    assert!(
        run.code == Some(2) && run.stderr.contains("git fetch origin"),
        "{}",
        run.stderr
    );
    fixture.write(".git/shallow", format!("{}\n", "1".repeat(40)));
    let run = fixture.meshc(&["diff", "origin/main"]);
    assert!(
        run.stderr
            .contains("git fetch --depth=1 origin main:refs/remotes/origin/main"),
        "{}",
        run.stderr
    );
}

#[test]
fn histories_without_a_common_commit_are_said() {
    let fixture = changed(CHANGED);
    let first = fixture.commit();
    let git = git2::Repository::open(fixture.path(".")).unwrap();
    let tree = git.head().unwrap().peel_to_tree().unwrap();
    let who = git2::Signature::new("a", "a@example.org", &git2::Time::new(0, 0)).unwrap();
    git.commit(Some("refs/heads/forced"), &who, &who, "x", &tree, &[])
        .unwrap();
    let run = fixture.meshc(&["diff", "forced", "main", "--merge-base"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("no commit in common"), "{}", run.stderr);
    let run = fixture.meshc(&["diff", "forced", "main"]);
    assert!(run.stdout.contains("No change"), "{}", run.stdout);
    // What only the base changed since is left out.
    fixture.write("policy/a.kdl", A);
    fixture.commit();
    let run = fixture.meshc(&["diff", "main", &first, "--merge-base"]);
    assert!(run.stdout.contains("No change"), "{}", run.stdout);
}

#[test]
fn what_cannot_be_asked_says_what_can() {
    let fixture = changed(CHANGED);
    let refused = |arguments: &[&str], advice: &str| {
        let run = fixture.meshc(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stdout);
        assert!(run.stderr.contains(advice), "{}", run.stderr);
    };
    refused(&["diff", "main..ff"], "`meshc diff main ff`");
    refused(&["diff", "main..."], "`meshc diff --merge-base main HEAD`");
    refused(
        &["diff", "HEAD", "HEAD", "--env", "nope"],
        "environment `nope`",
    );
    refused(&["diff", "HEAD", "--env", "nope"], "environment `nope`");
    refused(
        &["diff", "HEAD", "--write-tests", "policy/new.kdl"],
        ".test.kdl",
    );
}

#[test]
fn tests_go_to_the_standard_output_alone() {
    let fixture = changed(CHANGED);
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", "-"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("test "), "{}", run.stdout);
    fixture.write("policy/new.test.kdl", &run.stdout);
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn calls_are_counted_as_the_graph_counts_them() {
    let fixture = changed(CHANGED);
    let calls = MESH.replace("calls a }", "calls a per-request=3 }");
    fixture.write("policy/mesh.kdl", &calls);
    let found = fixture.meshc(&["diff", "HEAD", "--format", "json"]).json();
    let graph = fixture.meshc(&["graph", "policy", "--format", "json"]);
    let graph = graph.json();
    let services = graph["services"].as_array().unwrap();
    let a = services.iter().find(|one| one["name"] == "a").unwrap();
    assert_eq!(found["amplification"][0]["after"], 6);
    assert_eq!(found["amplification"][0]["after"], a["worst_calls"]["fast"]);
    let settings = found["settings"].as_array().unwrap();
    assert!(settings.iter().any(|one| one["setting"] == "calls"));
}

/// A mesh of three environments, of which the second has a longer timeout.
fn with_environments(prod: &str) -> Fixture {
    let fixture = changed(A);
    let mesh = MESH.replace("e\" }", "e\"; environment prod staging }");
    fixture.write("policy/mesh.kdl", mesh);
    fixture.write("policy/environments/prod/p.kdl", prod);
    fixture.write(
        "policy/environments/staging/p.kdl",
        "override mesh m { trust-domain \"s.example\" }\n",
    );
    fixture
}

#[test]
fn an_environment_that_comes_or_goes_is_told_whole() {
    let fixture = with_environments("override mesh m { trust-domain \"p.example\" }\n");
    let told = |arguments: &[&str]| fixture.meshc(arguments).json();
    let new = told(&["diff", "HEAD", "--format", "json"]);
    fixture.commit();
    let gone = told(&["diff", "HEAD", "HEAD~1", "--format", "json"]);
    assert_eq!(
        new["environments_added"],
        serde_json::json!(["prod", "staging"])
    );
    assert_eq!(gone["environments_removed"], new["environments_added"]);
    for (found, change) in [(&new, "gained"), (&gone, "lost")] {
        let access = found["access"].as_array().unwrap();
        let told = |name: &str| {
            access.iter().any(|one| {
                one["change"] == change
                    && one["from"] == "web"
                    && one["environments"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|own| own == name)
            })
        };
        assert!(told("prod") && told("staging"), "{found}");
        assert_eq!(found["slices"].as_array().unwrap().len(), 6, "{found}");
        assert_eq!(found["guards"], serde_json::json!([]));
    }
    // What holds everywhere is new there alone.
    let run = fixture.meshc(&["diff", "HEAD~1", "--write-tests", "policy/new.test.kdl"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let tests = std::fs::read_to_string(fixture.path("policy/new.test.kdl")).unwrap();
    assert!(tests.contains("    environment prod staging\n"), "{tests}");
    assert_eq!(
        tests.matches("test ").count(),
        tests.matches("environment ").count()
    );
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn a_test_of_what_some_environments_change_is_for_these() {
    let override_of = |timeout: &str| {
        format!(
            "override mesh m {{ trust-domain \"p.example\" }}\noverride service a {{ route everyone {{ to v1; timeout \"{timeout}\" }} }}\n"
        )
    };
    let fixture = with_environments(&override_of("4s"));
    fixture.commit();
    fixture.write("policy/environments/prod/p.kdl", override_of("5s"));
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", "-"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.contains("environment prod\n") && run.stdout.contains("timeout=\"5s\""),
        "{}",
        run.stdout
    );
    fixture.write("policy/new.test.kdl", &run.stdout);
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    fixture.write("policy/environments/prod/p.kdl", override_of("4s"));
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    // What is asked of one environment is written so that it holds in the others too.
    fixture.write("policy/environments/prod/p.kdl", override_of("6s"));
    std::fs::remove_file(fixture.path("policy/new.test.kdl")).unwrap();
    let run = fixture.meshc(&["diff", "HEAD", "--env", "prod", "--write-tests", "-"]);
    assert!(run.stdout.contains("environment prod\n"), "{}", run.stdout);
}

#[test]
fn another_answer_gives_a_test_that_tells_them_apart() {
    let answering = |body: &str| {
        A.replace(
            "route everyone { to v1; timeout \"2s\" }",
            &format!("route everyone {{ respond 200 body=\"{body}\" }}"),
        )
    };
    let fixture = changed(&answering("before"));
    fixture.commit();
    fixture.write("policy/a.kdl", answering("after"));
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", "policy/new.test.kdl"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    fixture.write("policy/a.kdl", answering("before"));
    let run = fixture.meshc(&["test", "policy"]);
    assert!(
        run.code == Some(1) && run.stdout.contains("after"),
        "{}",
        run.stdout
    );
}

#[test]
fn lost_tests_and_another_inventory_are_told() {
    let fixture = changed(A);
    let test = |expect: &str| {
        format!(
            "test \"web\" {{ request GET \"/a/1\" from=web to=a; expect {expect} }}\n// again\ntest \"other\" {{\n    request GET \"/a/1\" from=other to=a\n    expect denied\n}}\n"
        )
    };
    let inventory = |count: u32| {
        format!("inventory \"2026-11-01\" {{ service a {{ instances {count} version=v1 }} }}\n")
    };
    fixture.write("policy/a.test.kdl", test("allowed"));
    fixture.write("policy/inventory.kdl", inventory(3));
    fixture.commit();
    fixture.write(
        "policy/a.test.kdl",
        "test \"web\" {\n    request GET \"/a/1\" from=web to=a\n    expect allowed\n}\n",
    );
    fixture.write("policy/inventory.kdl", inventory(5));
    let found = fixture.meshc(&["diff", "HEAD", "--format", "json"]).json();
    let guards: Vec<String> = found["guards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one["setting"], one["before"], one["after"]))
        .collect();
    assert_eq!(guards.len(), 3, "{guards:?}");
    assert!(
        guards[0].contains("\"test\"") && guards[0].contains("from=other"),
        "{guards:?}"
    );
    assert!(guards[1].contains("5 instances version=v1"), "{guards:?}");
}

#[test]
fn without_a_work_tree_two_commits_are_compared() {
    let fixture = changed(CHANGED);
    fixture.commit();
    let from = fixture.path(".git");
    git2::build::RepoBuilder::new()
        .bare(true)
        .clone(from.to_str().unwrap(), &fixture.path("bare.git"))
        .unwrap();
    let run = fixture.meshc(&["diff", "main~1", "-C", "bare.git"]);
    assert_eq!(run.code, Some(2), "{}", run.stdout);
    assert!(
        run.stderr.contains("bare") && run.stderr.contains("meshc diff main~1 HEAD"),
        "{}",
        run.stderr
    );
    let run = fixture.meshc(&["diff", "main~1", "HEAD", "-C", "bare.git"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("Access gained"), "{}", run.stdout);
}

#[test]
fn a_repository_without_a_commit_says_so() {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", MESH);
    git2::Repository::init(fixture.path(".")).unwrap();
    for arguments in [
        &["diff", "HEAD"][..],
        &["check", "policy", "--base", "HEAD"],
    ] {
        let run = fixture.meshc(arguments);
        assert_eq!(run.code, Some(2), "{}", run.stdout);
        assert!(
            run.stderr.contains("has none yet; commit"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn what_git_ignores_is_no_policy() {
    let fixture = changed(A);
    fixture.write(".gitignore", "draft.kdl\nout/\n");
    fixture.write("policy/draft.kdl", "service draft { port 80 }\n");
    fixture.write("policy/out/more.kdl", "nonsense\n");
    let run = fixture.meshc(&["diff", "HEAD"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.contains("No change"), "{}", run.stdout);
    assert!(
        run.stderr
            .contains("policy/draft.kdl, policy/out/more.kdl are not read"),
        "{}",
        run.stderr
    );
    let run = fixture.meshc(&["check", "policy", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    // What could be committed counts, though nobody added it yet.
    fixture.write("policy/new.kdl", "nonsense\n");
    let run = fixture.meshc(&["check", "policy"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    // Whoever names an ignored folder means it.
    fixture.write("out/mesh.kdl", "mesh m { trust-domain \"m.example\" }\n");
    let run = fixture.meshc(&["check", "out"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn another_host_of_a_listener_moves_requests() {
    let listening = |host: &str| {
        format!(
            r#"mesh m {{ trust-domain "m.example" }}
gateway edge {{
    listen 80 {{ host "{host}" }}
    allow unauthenticated
    route to-https {{ redirect scheme=https }}
}}
"#
        )
    };
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", listening("old.example"));
    fixture.commit();
    fixture.write("policy/mesh.kdl", listening("new.example"));
    let found = fixture.meshc(&["diff", "HEAD", "--format", "json"]).json();
    let moved: Vec<(bool, bool, &str)> = found["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let host = one["witness"]["host"].as_str().unwrap();
            (one["before"].is_null(), one["after"].is_null(), host)
        })
        .collect();
    assert!(
        moved.contains(&(true, false, "new.example"))
            && moved.contains(&(false, true, "old.example")),
        "{moved:?}"
    );
    let run = fixture.meshc(&["diff", "HEAD", "--write-tests", "policy/new.test.kdl"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}
