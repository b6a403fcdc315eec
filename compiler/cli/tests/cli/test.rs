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
