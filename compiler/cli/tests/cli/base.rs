//! `meshc check --base`

use std::fs;

use insta::assert_snapshot;

use crate::support::Fixture;

const WEB: &str = "service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a }\n";

fn with(rules: &str) -> String {
    format!(
        "mesh m {{ trust-domain \"m.example\" }}\n{WEB}service a {{\n    port 80\n    endpoints {{ static \"10.0.0.2:80\" }}\n    {rules}\n}}\n"
    )
}

fn committed(rules: &str) -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", with(rules));
    fixture.commit();
    fixture
}

#[test]
fn what_changes_from_a_commit_is_shown_with_a_request() {
    let fixture = committed("allow web { path \"/a/*\" }");
    fixture.write("policy/mesh.kdl", with("allow web { path \"/a/**\" }"));
    assert_snapshot!(
        fixture
            .meshc(&["check", "policy", "--base", "HEAD"])
            .shown()
    );
    // Without a base there is nothing to say about it.
    let run = fixture.meshc(&["check", "policy", "--format", "json"]);
    assert!(!run.stdout.contains("MSH0810"), "{}", run.stdout);
}

#[test]
fn what_no_order_delivers_safely_fails() {
    let fixture = committed("allow web");
    let moved = with("allow web").replace(
        "port 80; endpoints { static \"10.0.0.1:80\" }",
        "port 80; endpoints { static \"10.0.0.1:80\" }; identity \"spiffe://m.example/front\"",
    );
    fixture.write("policy/mesh.kdl", moved);
    let run = fixture.meshc(&["check", "policy", "--base", "main"]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(
        run.stdout.contains("MSH0704") && run.stdout.contains("MSH1108"),
        "{}",
        run.stdout
    );
}

#[test]
fn the_same_files_change_nothing() {
    let fixture = committed("allow web");
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD", "--deny", "note"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    fixture.write(
        "policy/mesh.kdl",
        format!("// a comment\n{}", with("allow web")),
    );
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD"]);
    assert!(run.stdout.contains("MSH1109"), "{}", run.stdout);
}

#[test]
fn a_base_that_is_not_there_says_what_to_do() {
    let fixture = committed("allow web");
    let run = fixture.meshc(&["check", "policy", "--base", "origin/main"]);
    assert_eq!(run.code, Some(2));
    assert_snapshot!(run.shown());
    fixture.write(".git/shallow", format!("{}\n", "1".repeat(40)));
    let run = fixture.meshc(&["check", "policy", "--base", "v1"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr.contains("git fetch --unshallow"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_can_t_be_compared_is_counted_as_skipped() {
    let fixture = committed("allow wbe");
    fixture.write("policy/mesh.kdl", with("allow web"));
    for format in ["human", "github"] {
        let run = fixture.meshc(&["check", "policy", "--base", "HEAD", "--format", format]);
        let why = "the policies of `HEAD` have errors of their own";
        assert!(run.stdout.contains(why), "{}", run.stdout);
    }
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD", "--format", "json"]);
    let skipped = run.json()["skipped"].as_array().unwrap().clone();
    let codes: Vec<&str> = skipped
        .iter()
        .map(|each| each["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains(&"MSH0810"), "{codes:?}");
    let compared = skipped.iter().find(|each| each["code"] == "MSH0810");
    assert!(
        compared.unwrap()["reason"]
            .as_str()
            .unwrap()
            .contains("errors of their own")
    );
}

#[test]
fn a_root_that_moved_is_compared_with_where_it_was() {
    let fixture = committed("allow web { path \"/a/*\" }");
    fs::rename(fixture.path("policy"), fixture.path("mesh")).unwrap();
    fixture.write("mesh/mesh.kdl", with("allow web { path \"/a/**\" }"));
    let run = fixture.meshc(&["check", "mesh", "--base", "HEAD"]);
    assert!(run.stdout.contains("MSH0810"), "{}", run.stdout);
    assert!(
        run.stderr
            .contains("the policy root moved: `policy` of `HEAD` is compared with `mesh`"),
        "{}",
        run.stderr
    );
    // A second root beside the first was not moved from there.
    fixture.write("policy/mesh.kdl", with("allow web"));
    let run = fixture.meshc(&["check", "mesh", "--base", "HEAD"]);
    assert!(
        run.stdout.contains("`HEAD` has no policies in `mesh`"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("checks not made for that: MSH0117"),
        "{}",
        run.stdout
    );
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn of_several_roots_that_are_gone_none_is_taken() {
    let fixture = committed("allow web");
    fixture.write("other/mesh.kdl", with("allow web"));
    fixture.commit();
    fs::rename(fixture.path("policy"), fixture.path("mesh")).unwrap();
    fs::remove_dir_all(fixture.path("other")).unwrap();
    let run = fixture.meshc(&["check", "mesh", "--base", "HEAD"]);
    assert_eq!(run.code, Some(2), "{}", run.stdout);
    assert!(run.stderr.contains("`other`, `policy`"), "{}", run.stderr);
}

#[test]
fn a_base_that_means_nothing_is_as_good_as_a_warning() {
    let fixture = committed("allow wbe");
    fixture.write("policy/mesh.kdl", with("allow web"));
    let check = ["check", "policy", "--base", "HEAD"];
    // Whoever mends it gets through.
    let run = fixture.meshc(&check);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    assert!(
        run.stdout.contains("(MSH0101 policy/mesh.kdl:"),
        "{}",
        run.stdout
    );
    let run = fixture.meshc(&[&check[..], &["--deny", "warning"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stdout);
}

#[test]
fn an_environment_that_is_new_has_no_base_and_the_others_have() {
    let fixture = committed("allow web");
    let text =
        with("allow web { path \"/a\" }").replace("trust-domain", "environment prod; trust-domain");
    fixture.write("policy/mesh.kdl", text);
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD"]);
    assert!(
        run.stdout
            .contains("`HEAD` has no environment `prod` (in prod)."),
        "{}",
        run.stdout
    );
    assert!(
        !run.stdout.contains("errors of their own"),
        "{}",
        run.stdout
    );
}

#[test]
fn outside_of_a_repository_there_is_no_base() {
    let fixture = Fixture::empty();
    fixture.write("policy/mesh.kdl", with("allow web"));
    let run = fixture.meshc(&["check", "policy", "--base", "HEAD"]);
    assert_eq!(run.code, Some(2), "{}", run.stdout);
}
