//! `meshc init`

use crate::support::{Fixture, files};

#[test]
fn what_it_writes_checks_clean_and_passes_its_tests() {
    let fixture = Fixture::with_policy();
    let run = fixture.meshc(&["check", "policy", "--deny", "note"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = fixture.meshc(&["test", "policy"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn nothing_is_overwritten() {
    let fixture = Fixture::empty();
    fixture.write("services.kdl", "mine");
    let run = fixture.meshc(&["init", "--name", "shop"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (Some(2), "meshc: ./services.kdl exists already\n")
    );
    assert_eq!(files(&fixture.path("")).len(), 1);
    assert_eq!(
        fixture.meshc(&["init", "new", "--name", "No Name"]).code,
        Some(2)
    );
}
