//! `meshc explain`

use insta::assert_snapshot;

use crate::support::Fixture;

#[test]
fn a_request_is_explained_down_to_the_line_that_set_each_value() {
    let fixture = Fixture::with_policy();
    let with = |more: &[&'static str]| {
        let mut args = vec!["explain", "--from", "web", "--to", "api", "--request"];
        args.extend(more);
        fixture.meshc(&args)
    };
    assert_snapshot!("allowed", with(&["GET /api/x/../items"]).shown());
    assert_snapshot!("denied", with(&["POST /api/items"]).shown());
    assert_snapshot!("bad_path", with(&["GET /api/%2f"]).shown());
    let json = with(&["GET /api/items", "--format", "json"]).json();
    assert_snapshot!("json", serde_json::to_string_pretty(&json).unwrap());
    assert_snapshot!(
        "unknown",
        fixture
            .meshc(&[
                "explain",
                "--from",
                "web",
                "--to",
                "x",
                "--request",
                "GET /"
            ])
            .shown()
    );
}

#[test]
fn a_code_has_a_page() {
    let fixture = Fixture::empty();
    let run = fixture.meshc(&["explain", "msh0001"]);
    assert_eq!(run.code, Some(0));
    assert!(run.stdout.starts_with("# MSH0001: "), "{run:?}");
    assert_eq!(fixture.meshc(&["explain", "MSH9999"]).code, Some(2));
    assert_eq!(fixture.meshc(&["explain"]).code, Some(2));
}
